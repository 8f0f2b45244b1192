//! One request and its answer on a connection: what the rooms above see of the network.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::transport::Transport;
use super::watch::{Interrupt, Timeouts, Watched};
use crate::http;
use crate::io::{Shutdown, within};
use crate::limits::{
    CLIENT_LOOK_INTERVAL, HEAD_PARSED_FACTOR, LINGER_DURATION, LINGER_SIZE_MAX, RATE_GRACE, RECEIVE_SIZE, UNLEASED_SIZE_MAX,
};
use crate::mem::Lease;
use crate::metrics::record::{self, ErrorClass, Operation};

/// How often, in the time that a client has to take something, it is looked whether it did.
const WAIT_SLICES: u32 = 4;

/// One request and its answer.
pub struct Exchange {
    pub(super) transport: Transport,
    pub(super) watched: Watched,
    pub(super) timeouts: Arc<Timeouts>,
    pub(super) peer: Option<SocketAddr>,
    pub(super) arrival: Arrival,
    /// What arrived behind the head, let go when all of it is taken; `prefetched_from` says where the rest begins.
    pub(super) buffer: Vec<u8>,
    pub(super) prefetched_from: usize,
    /// Keeps room for a large head, and for `buffer`.
    pub(super) lease: Lease,
    pub(super) started: Instant,
    pub(super) body_received: u64,
    /// For how long the body was waited for. What the client waits for us does not count against its rate.
    pub(super) body_waited: Duration,
    /// For how long nothing of the body has come, in waits that were interrupted.
    pub(super) body_silent: Duration,
    /// For how long the client was waited for to take what was sent.
    pub(super) send_waited: Duration,
    pub(super) body_is_done: bool,
    pub(super) body_is_lost: bool,
    pub(super) bytes_sent: u64,
    pub(super) measured: Measured,
}

/// What the metrics are told of a request when it is answered.
#[derive(Default)]
pub(super) struct Measured {
    operation: Operation,
    /// When the first byte of an answer left that takes more than one call.
    first_byte: Option<Instant>,
}

/// What arrived on the connection.
#[derive(Clone)]
pub enum Arrival {
    /// A request with a well-formed head.
    Request(ReceivedHead),
    /// A head that is refused.
    Refused(http::HeadError),
    /// A head that did not come in time.
    TimedOut,
    /// A large head for which no memory came free.
    NoRoom,
    /// The service panicked while it served this request; nothing of an answer has left.
    Panicked(ReceivedHead),
}

/// Bytes for which a connection needs room that has a head of `head_size` bytes, and holds so many besides.
pub(super) fn leased(head_size: usize, held_size: usize) -> usize {
    let head = if head_size > UNLEASED_SIZE_MAX { head_size * HEAD_PARSED_FACTOR } else { 0 };
    let held = if held_size > UNLEASED_SIZE_MAX { held_size } else { 0 };
    head + held
}

/// A request head together with the bytes that it points into. Clones share them.
#[derive(Clone)]
pub struct ReceivedHead {
    pub(super) head: Rc<http::Head>,
    pub(super) bytes: Rc<Vec<u8>>,
}

/// When a wait on the network is to be interrupted, so that the waiter can give back its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stall {
    /// The waiter holds nothing worth giving back.
    Ignore,
    /// After this long, `Stalled` comes back.
    After(Duration),
}

/// Why receiving a body failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiveError {
    /// The client is gone, or ended its side.
    Ended,
    /// It sent nothing for too long, too slowly, or all in all for too long.
    TimedOut,
    /// See `Stall`.
    Stalled,
}

/// Why sending failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendError {
    /// The client is gone.
    Gone,
    /// It took nothing for too long, too slowly, or all in all for too long.
    TimedOut,
    /// See `Stall`.
    Stalled,
}

impl ReceivedHead {
    /// The request.
    pub fn request(&self) -> http::Request<'_> {
        http::Request::new(&self.head, &self.bytes)
    }
}

thread_local! {
    /// Where heads are received before their size is known: one for the core, used between two awaits only.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; RECEIVE_SIZE]);
}

/// Where to receive what nobody keeps.
pub(super) fn with_scratch<T>(receive: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| receive(scratch))
}

impl Exchange {
    /// What arrived.
    pub fn arrival(&self) -> Arrival {
        self.arrival.clone()
    }

    /// The client's address.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Whether it came over TLS.
    pub fn is_encrypted(&self) -> bool {
        self.transport.has_handshake()
    }

    /// When the request's first byte was seen.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Bytes of answer that have left.
    pub fn bytes_sent(&self) -> u64 {
        self.bytes_sent
    }

    /// Which operation the request turned out to be, for the metrics.
    pub fn counts_as(&mut self, operation: Operation) {
        self.measured.operation = operation;
    }

    /// Counts the request: all of its answer has left that will.
    pub fn answered(&self, error: Option<ErrorClass>) {
        let whole = self.started.elapsed();
        let first_byte = self.measured.first_byte.map_or(whole, |instant| instant - self.started);
        record::answered(self.measured.operation, first_byte, whole, error);
    }

    /// Whether an answer should say `Connection: close`: the server drains, or the connection is beyond the limit.
    pub fn drains(&self) -> bool {
        self.watched.drains()
    }

    /// Whether the request can be served: beyond the limit of connections only if somebody idle could go for it.
    pub fn may_be_served(&self) -> bool {
        self.watched.may_be_served()
    }

    /// Whether the connection is none beyond the limit.
    pub fn has_place(&self) -> bool {
        self.watched.has_place()
    }

    /// The request's signature held: until it is answered, its connection is closed for nobody.
    pub fn signature_held(&mut self) {
        self.lease.becomes_known();
        self.watched.begins_request();
    }

    /// Raw bytes of the body received so far.
    pub fn body_received(&self) -> u64 {
        self.body_received
    }

    /// The body was read to its end: what follows is the next request.
    pub fn finish_body(&mut self) {
        self.body_is_done = true;
    }

    /// See `finish_body`.
    pub fn body_is_done(&self) -> bool {
        self.body_is_done
    }

    /// The body will not be received to its end: its client has ended, or was given up.
    pub fn body_is_lost(&self) -> bool {
        self.body_is_lost
    }

    /// What has arrived behind the head and was not yet taken.
    pub fn prefetched(&self) -> &[u8] {
        &self.buffer[self.prefetched_from..]
    }

    /// Receives bytes of the body into `into`, at least one: first what came with the head, then from the network.
    pub async fn receive(&mut self, into: &mut [u8], stall: Stall) -> Result<usize, ReceiveError> {
        let count = self.take_prefetched(into);
        if count > 0 {
            return Ok(count);
        }
        loop {
            match self.transport.try_receive(into) {
                Ok(count) if count > 0 => {
                    self.body_received += count as u64;
                    self.body_silent = Duration::ZERO;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_readable(stall).await?,
                Ok(_) | Err(_) => return Err(self.lost(ReceiveError::Ended)),
            }
        }
    }

    fn lost(&mut self, error: ReceiveError) -> ReceiveError {
        self.body_is_lost = true;
        error
    }

    /// Waits until something can be received without waiting. A transfer calls this before it takes a block.
    pub async fn wait_readable(&mut self, stall: Stall) -> Result<(), ReceiveError> {
        if !self.prefetched().is_empty() {
            return Ok(());
        }
        if self.started.elapsed() > self.timeouts.total || self.is_below_rate(self.body_waited, self.body_received) {
            return Err(self.lost(ReceiveError::TimedOut));
        }
        let since = Instant::now();
        let stall_left = self.timeouts.body_stall.saturating_sub(self.body_silent);
        let timeout = stall_left.min(self.timeouts.total.saturating_sub(self.started.elapsed()));
        let waited = self.watched.wait(self.transport.readable(), timeout, stall.after()).await;
        self.body_waited += since.elapsed();
        match waited {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.lost(ReceiveError::Ended)),
            Err(Interrupt::Expired | Interrupt::Displaced) => Err(self.lost(ReceiveError::TimedOut)),
            Err(Interrupt::Nudged) => {
                self.body_silent += since.elapsed();
                Err(ReceiveError::Stalled)
            }
        }
    }

    /// Puts back bytes that were received but belong to the next request: before what is still to be taken.
    pub fn put_back(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.buffer = [bytes, self.prefetched()].concat();
            self.prefetched_from = 0;
            // They are here, whether there is room or not: hardly ever more than some lines.
            let _ = self.lease.resize(self.leased());
            self.body_received = self.body_received.saturating_sub(bytes.len() as u64);
        }
    }

    /// Sends all of `bytes`.
    pub async fn send(&mut self, mut bytes: &[u8], more: bool) -> Result<(), SendError> {
        while !bytes.is_empty() {
            let count = self.send_some(bytes, more, Stall::Ignore).await?;
            bytes = &bytes[count..];
        }
        if more { Ok(()) } else { self.flush().await }
    }

    /// Sends at least one byte of `bytes`.
    pub async fn send_some(&mut self, bytes: &[u8], more: bool, stall: Stall) -> Result<usize, SendError> {
        loop {
            match self.transport.try_send(bytes, more) {
                Ok(count) => {
                    self.sent(count, more || count < bytes.len());
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_writable(stall).await?,
                Err(_) => return Err(SendError::Gone),
            }
        }
    }

    /// Sends what there is room for now, which may be nothing.
    pub fn send_now(&mut self, bytes: &[u8], more: bool) -> Result<usize, SendError> {
        match self.transport.try_send(bytes, more) {
            Ok(count) => {
                self.sent(count, more || count < bytes.len());
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(_) => Err(SendError::Gone),
        }
    }

    /// Whether `send_file_some` works on this connection.
    pub fn sends_files(&self) -> bool {
        self.transport.sends_files()
    }

    /// Sends at least one byte of `file`'s cached pages from `offset`, at most `count`. `Ok(0)`: the file ends there.
    pub async fn send_file_some(&mut self, file: BorrowedFd<'_>, offset: &mut u64, count: usize) -> Result<usize, SendError> {
        loop {
            match self.transport.try_send_file(file, offset, count) {
                Ok(count) => {
                    self.sent(count, true);
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_writable(Stall::Ignore).await?,
                Err(_) => return Err(SendError::Gone),
            }
        }
    }

    /// Waits until something can be sent. Goes through the ring even when there is room, so it is also how a long answer
    /// lets the core's other connections run.
    pub async fn wait_writable(&mut self, stall: Stall) -> Result<(), SendError> {
        let since = Instant::now();
        let waited = self.wait_for_room(since, stall).await;
        self.send_waited += since.elapsed();
        waited
    }

    /// The socket has room again when a third of its buffer is free. A slow client may take longer for that than one that takes
    /// nothing is given, so the wait is cut in slices, and a slice in which something was acknowledged begins it anew.
    async fn wait_for_room(&mut self, since: Instant, stall: Stall) -> Result<(), SendError> {
        let (mut taken_at, mut queued) = (since, 0);
        loop {
            let total_left = self.timeouts.total.saturating_sub(self.started.elapsed());
            if total_left.is_zero() || self.is_below_rate(self.send_waited + since.elapsed(), self.bytes_sent) {
                return Err(SendError::TimedOut);
            }
            let slice = (self.timeouts.body_stall / WAIT_SLICES).min(total_left);
            match self.watched.wait(self.transport.writable(), slice, stall.after()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(_)) => return Err(SendError::Gone),
                Err(Interrupt::Nudged) => return Err(SendError::Stalled),
                Err(Interrupt::Displaced) => return Err(SendError::TimedOut),
                Err(Interrupt::Expired) => {}
            }
            let before = std::mem::replace(&mut queued, self.transport.unacknowledged());
            if queued < before {
                taken_at = Instant::now();
            } else if taken_at.elapsed() >= self.timeouts.body_stall {
                return Err(SendError::TimedOut);
            }
        }
    }

    /// What `work` gives; `None` when the client has left before that, which is looked for now and then. Bytes behind the request do
    /// not count as leaving, nor do they hide it.
    pub async fn unless_client_leaves<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        loop {
            match within(CLIENT_LOOK_INTERVAL, work.as_mut()).await {
                None if self.transport.peer_has_left() => return None,
                None => {}
                done => return done,
            }
        }
    }

    /// Waits until everything that was accepted has left. Only TLS holds anything back.
    pub(super) async fn flush(&mut self) -> Result<(), SendError> {
        loop {
            match self.transport.try_flush() {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_writable(Stall::Ignore).await?,
                Err(_) => return Err(SendError::Gone),
            }
        }
    }

    /// Ends the connection so that the client sees the answer: our side first, then, for a moment, what it still sends is
    /// dropped. Closing with unread bytes would send a reset, which can overtake the answer (RFC 9112 section 9.6).
    pub(super) async fn linger(&mut self) {
        if self.transport.try_flush().is_err() && self.flush().await.is_err() {
            return;
        }
        self.transport.shutdown(Shutdown::Write);
        let (mut dropped, since) = (0, Instant::now());
        while dropped < LINGER_SIZE_MAX && since.elapsed() < LINGER_DURATION {
            match with_scratch(|waste| self.transport.try_receive(waste)) {
                Ok(0) => return,
                Ok(count) => dropped += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let wait = self.watched.wait(self.transport.readable(), LINGER_DURATION, None);
                    if !matches!(wait.await, Ok(Ok(()))) {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    }

    /// Ends the connection at once: the client must not take what it got for a whole answer.
    pub fn abort(&mut self) {
        self.transport.shutdown(Shutdown::Both);
    }

    /// Bytes have left. The clock is read for the first of them only where more follow: an answer that leaves in one piece ends
    /// when it begins.
    fn sent(&mut self, count: usize, more: bool) {
        self.bytes_sent += count as u64;
        if more && self.measured.first_byte.is_none() {
            self.measured.first_byte = Some(Instant::now());
        }
    }

    fn take_prefetched(&mut self, into: &mut [u8]) -> usize {
        let count = self.prefetched().len().min(into.len());
        into[..count].copy_from_slice(&self.buffer[self.prefetched_from..][..count]);
        self.prefetched_from += count;
        self.body_received += count as u64;
        if self.prefetched_from == self.buffer.len() {
            // A client that stalls now must not cost what it has sent already.
            self.buffer = Vec::new();
            self.prefetched_from = 0;
            let _ = self.lease.resize(self.leased());
        }
        count
    }

    /// Bytes for which there must be room now.
    pub(super) fn leased(&self) -> usize {
        let head_size = match &self.arrival {
            Arrival::Request(head) | Arrival::Panicked(head) => head.bytes.len(),
            Arrival::Refused(_) | Arrival::TimedOut | Arrival::NoRoom => 0,
        };
        leased(head_size, self.buffer.len())
    }

    /// Whether the client was waited for longer than so many bytes are worth.
    fn is_below_rate(&self, waited: Duration, bytes: u64) -> bool {
        waited > RATE_GRACE && (bytes as f64) < waited.as_secs_f64() * self.timeouts.rate_min as f64
    }
}

impl Stall {
    fn after(self) -> Option<Duration> {
        match self {
            Self::Ignore => None,
            Self::After(duration) => Some(duration),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::io::sim::{Death, Wire};
    use crate::io::{Helpers, Socket, run_core};
    use crate::mem::{RequestMemory, Room};
    use crate::net::serve::{After, connection};
    use crate::net::watch::Watchers;

    fn room() -> Room {
        Room::new(RequestMemory::new(1 << 20), 1)
    }

    /// Runs `service` on the first request of a wire.
    fn serve_one(wire: Rc<Wire>, rate_min: u64, service: impl for<'a> AsyncFn(&'a mut Exchange) -> After + 'static) {
        run_core(Helpers::start(1, || ()).unwrap(), || async move {
            let long = Duration::from_secs(600);
            let timeouts = Timeouts { head: long, idle: long, body_stall: long, total: long, rate_min };
            let watched = Watchers::new(1).admit().await;
            connection(Transport::Plain(Socket::Sim(wire.end())), None, watched, &room(), Arc::new(timeouts), Rc::new(service))
                .await;
        })
        .unwrap();
    }

    const HEAD: &str = "PUT /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n";

    /// A minute in which the server had no block for its client, and a minute in which the client was waited for.
    #[test]
    fn only_time_in_which_the_body_was_waited_for_counts_against_its_rate() {
        let outcomes = Rc::new(RefCell::new(Vec::new()));
        let seen = outcomes.clone();
        let wire = Wire::new([HEAD, "body"].concat().into_bytes(), usize::MAX, Death::Fin, 64 * 1024);
        wire.slow(HEAD.len());
        serve_one(wire, 1000, async move |exchange: &mut Exchange| {
            let minute = Duration::from_secs(60);
            exchange.started = exchange.started.checked_sub(minute).unwrap();
            let received = exchange.receive(&mut [0; 3], Stall::Ignore).await;
            seen.borrow_mut().push(received);
            exchange.body_waited += minute;
            let waited = exchange.wait_readable(Stall::Ignore).await;
            seen.borrow_mut().push(waited.map(|()| 0));
            After::Abort
        });
        assert_eq!(*outcomes.borrow(), [Ok(3), Err(ReceiveError::TimedOut)]);
    }

    /// What came with the head does not stay until the request ends.
    #[test]
    fn bytes_that_were_taken_are_let_go() {
        let wire = Wire::new([HEAD, "body"].concat().into_bytes(), usize::MAX, Death::Fin, 64 * 1024);
        let sizes = Rc::new(RefCell::new(Vec::new()));
        let seen = sizes.clone();
        serve_one(wire, 0, async move |exchange: &mut Exchange| {
            let Arrival::Request(head) = exchange.arrival() else { return After::Abort };
            for _ in 0..2 {
                exchange.receive(&mut [0; 2], Stall::Ignore).await.unwrap();
                seen.borrow_mut().push((exchange.buffer.capacity() > 0, head.bytes.len()));
            }
            After::Abort
        });
        assert_eq!(*sizes.borrow(), [(true, HEAD.len()), (false, HEAD.len())]);
    }

    /// A chunked body whose end comes in one segment with the requests behind it, taken into a buffer that is smaller.
    #[test]
    fn what_is_put_back_stands_before_what_was_not_taken() {
        const BODY: &str = "0\r\n\r\n";
        let first = format!("PUT /1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{BODY}");
        let second = "GET /2 HTTP/1.1\r\nHost: h\r\n\r\n";
        let third = "GET /3 HTTP/1.1\r\nHost: h\r\n\r\n";
        let request = [first.as_str(), second, third].concat().into_bytes();
        let seen = Rc::new(RefCell::new(Vec::new()));
        let targets = seen.clone();
        run_core(Helpers::start(1, || ()).unwrap(), || async move {
            let wire = Wire::new(request, usize::MAX, Death::Fin, 64 * 1024);
            let long = Duration::from_secs(600);
            let timeouts = Timeouts { head: long, idle: long, body_stall: long, total: long, rate_min: 0 };
            let service = Rc::new(async move |exchange: &mut Exchange| {
                let Arrival::Request(head) = exchange.arrival() else { return After::Abort };
                targets.borrow_mut().push(String::from_utf8_lossy(head.request().target()).into_owned());
                if targets.borrow().len() == 1 {
                    let mut into = [0; 12];
                    let count = exchange.receive(&mut into, Stall::Ignore).await.unwrap();
                    assert_eq!(count, into.len());
                    exchange.put_back(&into[BODY.len()..]);
                    assert_eq!(exchange.body_received(), BODY.len() as u64);
                    exchange.finish_body();
                }
                After::Keep
            });
            let watched = Watchers::new(1).admit().await;
            connection(Transport::Plain(Socket::Sim(wire.end())), None, watched, &room(), Arc::new(timeouts), service).await;
        })
        .unwrap();
        assert_eq!(*seen.borrow(), ["/1", "/2", "/3"]);
    }
}
