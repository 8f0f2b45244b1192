//! One connection: it sends a request, takes the answer apart as it arrives, and says when it is complete. It never waits and
//! keeps no time of its own but that of its request.

use std::io::IoSlice;
use std::rc::Rc;
use std::time::Instant;

use super::answer::{BadAnswer, BodyEnd, Head, Interest};
use super::endpoint::Endpoint;
use super::payload::Payload;
use super::request::Request;
use super::transport::{Received, Transport};
use super::workload::Task;
use crate::body::{AwsChunked, Decoder};
use crate::http::Framing;
use crate::limits::{BENCH_DISCARD_SIZE, BENCH_RECEIVE_SIZE};

/// Calls of send or receive for one connection before the others have their turn.
const CALLS_PER_TURN: usize = 16;

/// What the connections of one thread share.
pub struct Space {
    /// What is looked at is received here.
    buffer: Vec<u8>,
    /// Address space, never touched on plain sockets: what the kernel throws away needs a length.
    scratch: Vec<u8>,
    pub payload: std::sync::Arc<Payload>,
}

impl Space {
    pub fn new(payload: std::sync::Arc<Payload>) -> Self {
        Self { buffer: vec![0; BENCH_RECEIVE_SIZE], scratch: vec![0; BENCH_DISCARD_SIZE], payload }
    }
}

/// A connection, open or not.
#[derive(Default)]
pub struct Connection {
    pub transport: Option<Transport>,
    is_ready: bool,
    pub exchange: Option<Exchange>,
    /// The beginning of a head whose end has not arrived.
    held: Vec<u8>,
}

/// A request on its way and what has come back.
pub struct Exchange {
    pub task: Task,
    pub request: Rc<Request>,
    /// A header that this sending alone has, with the empty line.
    tail: Vec<u8>,
    length: u64,
    sent: u64,
    /// The latency counts from here.
    pub intended: Instant,
    /// When something last was sent or received.
    pub progress: Instant,
    first_byte: Option<Instant>,
    head: Option<Head>,
    body: Body,
    /// Bytes of the body so far.
    received: u64,
    pub interest: Interest,
    /// Bytes that a good answer has, where that is known.
    pub expected: Option<u64>,
    /// What a good answer is worth looking at for.
    interest_if_good: fn() -> Interest,
}

enum Body {
    Length(u64),
    Chunked(Box<Decoder>),
    UntilClose,
}

/// A complete answer.
pub struct Answer {
    pub exchange: Exchange,
    pub head: Head,
    pub first_byte: Instant,
    pub end: Instant,
}

impl Answer {
    /// Bytes of the body.
    pub fn received(&self) -> u64 {
        self.exchange.received
    }

    /// Whether the connection can take another request.
    pub fn keeps_alive(&self) -> bool {
        !self.head.closes && self.exchange.sent == self.exchange.length
    }
}

/// What came of a turn.
pub enum Turn {
    /// Nothing more for now.
    Wait,
    /// The connection can take its first request.
    Ready,
    Answered(Box<Answer>),
    /// It is of no use any more, for this reason.
    Broken(String),
}

impl Exchange {
    pub fn new(
        task: Task,
        request: Rc<Request>,
        tail: Vec<u8>,
        payload: &Payload,
        intended: Instant,
        expected: Option<u64>,
        interest_if_good: fn() -> Interest,
    ) -> Self {
        let length = request.length(&tail, payload);
        let (body, interest) = (Body::Length(0), Interest::Length);
        Self {
            task,
            request,
            tail,
            length,
            sent: 0,
            intended,
            // Not the intended time, which may lie far back when an open loop is behind.
            progress: Instant::now(),
            first_byte: None,
            head: None,
            body,
            received: 0,
            interest,
            expected,
            interest_if_good,
        }
    }

    /// Takes the beginning of the body, which came with the head; false if more came than belongs to it.
    fn begin_body(&mut self, head: Head, rest: &mut [u8]) -> Result<(), BadAnswer> {
        self.interest = if head.status < 300 { (self.interest_if_good)() } else { Interest::Error(Vec::new()) };
        self.body = match head.body {
            BodyEnd::Framed(Framing::None) => Body::Length(0),
            BodyEnd::Framed(Framing::Length(length)) => Body::Length(length),
            BodyEnd::Framed(Framing::Chunked) => Body::Chunked(Box::new(Decoder::new(Framing::Chunked, AwsChunked::None, None))),
            BodyEnd::Close => Body::UntilClose,
        };
        self.head = Some(head);
        self.feed(rest)
    }

    /// Takes bytes of the body.
    fn feed(&mut self, bytes: &mut [u8]) -> Result<(), BadAnswer> {
        let (payload, consumed) = match &mut self.body {
            Body::Length(remaining) => {
                let size = usize::try_from(*remaining).unwrap_or(usize::MAX).min(bytes.len());
                *remaining -= size as u64;
                (size, size)
            }
            Body::Chunked(decoder) => {
                let decoded = decoder.decode(bytes, &mut ()).map_err(|_| BadAnswer("a body that is not chunked as HTTP says"))?;
                (decoded.payload, decoded.consumed)
            }
            Body::UntilClose => (bytes.len(), bytes.len()),
        };
        self.received += payload as u64;
        self.interest.feed(&bytes[..payload]);
        if consumed < bytes.len() { Err(BadAnswer("bytes behind the answer")) } else { Ok(()) }
    }

    fn is_complete(&self) -> bool {
        match &self.body {
            _ if self.head.is_none() => false,
            Body::Length(remaining) => *remaining == 0,
            Body::Chunked(decoder) => decoder.is_finished(),
            Body::UntilClose => false,
        }
    }
}

impl Connection {
    /// Begins to connect.
    pub fn open(&mut self, endpoint: &Endpoint) -> std::io::Result<()> {
        self.close();
        self.transport = Some(Transport::connect(endpoint)?);
        Ok(())
    }

    /// Ends it; what was under way is lost.
    pub fn close(&mut self) {
        *self = Self::default();
    }

    /// Whether it stands: it takes requests, or has one.
    pub fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Whether it is open or about to be.
    pub fn is_open(&self) -> bool {
        self.transport.is_some()
    }

    /// Whether room in the socket is waited for.
    pub fn wants_write(&self) -> bool {
        let unsent = self.exchange.as_ref().is_some_and(|exchange| exchange.sent < exchange.length);
        match &self.transport {
            Some(Transport::Plain(_)) => !self.is_ready || unsent,
            // A handshake waits for room only while it has something to say.
            Some(transport @ Transport::Tls(_)) => {
                (self.is_ready && unsent) || transport.wants_write() || !self.is_ready && !self.has_begun()
            }
            None => false,
        }
    }

    /// Whether the TCP connection stands: there is a peer.
    fn has_begun(&self) -> bool {
        self.transport.as_ref().is_some_and(|transport| rustix::net::getpeername(transport.socket()).is_ok())
    }

    /// Begins a request.
    pub fn begin(&mut self, exchange: Exchange, space: &Space) -> Turn {
        self.exchange = Some(exchange);
        match self.send(space) {
            Ok(()) => Turn::Wait,
            Err(error) => Turn::Broken(format!("sending failed: {error}")),
        }
    }

    /// Goes on, once the socket is readable or writable.
    pub fn turn(&mut self, space: &mut Space) -> Turn {
        let Some(transport) = &mut self.transport else { return Turn::Wait };
        if !self.is_ready {
            return match transport.handshake() {
                Ok(true) => {
                    self.is_ready = true;
                    Turn::Ready
                }
                Ok(false) => Turn::Wait,
                Err(error) => Turn::Broken(format!("cannot connect: {error}")),
            };
        }
        if self.exchange.is_none() {
            return self.idle_turn(space);
        }
        // A server that refuses an upload answers and closes before it has read all: its answer is still there to be read.
        let cut = self.send(space).err();
        match (self.receive(space), cut) {
            (Turn::Wait, Some(error)) => Turn::Broken(format!("sending failed: {error}")),
            (turn, _) => turn,
        }
    }

    /// Nothing may arrive between requests but the end, or what TLS says to itself.
    fn idle_turn(&mut self, space: &mut Space) -> Turn {
        let Some(transport) = &mut self.transport else { return Turn::Wait };
        match transport.flush().and_then(|()| transport.receive(&mut space.buffer)) {
            Ok(Received::Later) => Turn::Wait,
            Ok(Received::Bytes(_)) => Turn::Broken("bytes without a request".to_owned()),
            Ok(Received::End) => Turn::Broken("closed between requests".to_owned()),
            Err(error) => Turn::Broken(error.to_string()),
        }
    }

    fn send(&mut self, space: &Space) -> std::io::Result<()> {
        let (Some(transport), Some(exchange)) = (&mut self.transport, &mut self.exchange) else { return Ok(()) };
        if transport.wants_write() {
            transport.flush()?;
        }
        for _ in 0..CALLS_PER_TURN {
            if exchange.sent == exchange.length {
                break;
            }
            let sent = match exchange.request.only_head() {
                Some(head) => transport.send(&[IoSlice::new(&head[usize::try_from(exchange.sent).unwrap_or(head.len())..])])?,
                None => transport.send(&exchange.request.slices(&exchange.tail, &space.payload, exchange.sent))?,
            };
            if sent == 0 {
                break;
            }
            exchange.sent += sent as u64;
            // The clock is asked where an upload goes on, not for each small request.
            if exchange.sent < exchange.length {
                exchange.progress = Instant::now();
            }
        }
        Ok(())
    }

    fn receive(&mut self, space: &mut Space) -> Turn {
        for _ in 0..CALLS_PER_TURN {
            match self.receive_once(space) {
                Ok(Step::Again) => {}
                Ok(Step::Wait) => return Turn::Wait,
                Ok(Step::Complete) => return self.answered(),
                Err(reason) => return Turn::Broken(reason),
            }
        }
        Turn::Wait
    }

    fn receive_once(&mut self, space: &mut Space) -> Result<Step, String> {
        let (Some(transport), Some(exchange)) = (&mut self.transport, &mut self.exchange) else { return Ok(Step::Wait) };
        let held = self.held.len();
        let (received, room) = match (&exchange.body, &exchange.interest, &exchange.head) {
            (_, _, None) => {
                let room = space.buffer.len().saturating_sub(held);
                let (before, rest) = space.buffer.split_at_mut(held);
                before.copy_from_slice(&self.held);
                (transport.receive(rest), room)
            }
            (Body::Length(remaining), Interest::Length, _) => {
                // TLS has to decrypt into memory: better into little of it.
                let space = if matches!(transport, Transport::Plain(_)) { &mut space.scratch } else { &mut space.buffer };
                let room = usize::try_from(*remaining).unwrap_or(usize::MAX).min(space.len());
                (transport.discard(&mut space[..room]), room)
            }
            (Body::Length(remaining), ..) => {
                let room = usize::try_from(*remaining).unwrap_or(usize::MAX).min(space.buffer.len());
                (transport.receive(&mut space.buffer[..room]), room)
            }
            _ => (transport.receive(&mut space.buffer), space.buffer.len()),
        };
        let count = match received.map_err(|error| error.to_string())? {
            Received::Bytes(count) => count,
            Received::Later => return Ok(Step::Wait),
            Received::End => return ended(exchange, held),
        };
        exchange.progress = Instant::now();
        let again = if transport.may_hold_more(count, room) { Step::Again } else { Step::Wait };
        let taken = match (&exchange.head, &mut exchange.body, &exchange.interest) {
            (None, ..) => {
                exchange.first_byte.get_or_insert(exchange.progress);
                self.take_head(space, held + count)?
            }
            (Some(_), Body::Length(remaining), Interest::Length) => {
                *remaining = remaining.saturating_sub(count as u64);
                exchange.received += count as u64;
                true
            }
            _ => exchange.feed(&mut space.buffer[..count]).map(|()| true).map_err(|bad| bad.0.to_owned())?,
        };
        let is_complete = taken && self.exchange.as_ref().is_some_and(Exchange::is_complete);
        Ok(if is_complete { Step::Complete } else { again })
    }

    /// Reads the head in the first `size` bytes of the buffer; whether it was all there.
    fn take_head(&mut self, space: &mut Space, size: usize) -> Result<bool, String> {
        let Some(exchange) = &mut self.exchange else { return Ok(false) };
        let mut from = 0;
        loop {
            let head = Head::read(&space.buffer[from..size], exchange.request.method).map_err(|bad| bad.0.to_owned())?;
            match head {
                Some(head) if head.is_interim() => from += head.size,
                Some(head) => {
                    self.held.clear();
                    let body_from = from + head.size;
                    exchange.begin_body(head, &mut space.buffer[body_from..size]).map_err(|bad| bad.0.to_owned())?;
                    return Ok(true);
                }
                None => {
                    self.held.clear();
                    self.held.extend_from_slice(&space.buffer[from..size]);
                    return Ok(false);
                }
            }
        }
    }

    fn answered(&mut self) -> Turn {
        let Some(mut exchange) = self.exchange.take() else { return Turn::Wait };
        let Some(head) = exchange.head.take() else { return Turn::Wait };
        let (first_byte, end) = (exchange.first_byte.unwrap_or(exchange.progress), exchange.progress);
        Turn::Answered(Box::new(Answer { exchange, head, first_byte, end }))
    }
}

enum Step {
    Again,
    Wait,
    Complete,
}

/// The peer has ended: that may be where the body ends.
fn ended(exchange: &Exchange, held: usize) -> Result<Step, String> {
    match (&exchange.head, &exchange.body) {
        (None, _) if held == 0 => Err("closed without an answer".to_owned()),
        (None, _) => Err("closed in the head of the answer".to_owned()),
        (Some(_), Body::UntilClose) => Ok(Step::Complete),
        (Some(_), _) => Err("closed in the body of the answer".to_owned()),
    }
}
