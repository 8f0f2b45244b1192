//! The life of a core's connections: accept, wait idle without a buffer, receive a head, hand the exchange to the service,
//! keep or end the connection.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::certificates::TlsSettings;
use super::exchange::{Arrival, Exchange, Measured, ReceivedHead, leased, with_scratch};
use super::tls::Tls;
use super::transport::Transport;
use super::watch::{Interrupt, Timeouts, Watched, Watchers};
use crate::http::{self, HeadError, Parsed};
use crate::io::{Listener, Shutdown, Socket, sleep, spawn};
use crate::limits::{ACCEPT_PAUSE, HEAD_SIZE_MAX, PIPELINE_TURN_MAX, RECEIVE_SIZE, STRANGER_ROOM_WAIT, UNLEASED_SIZE_MAX};
use crate::mem::{Lease, Room};
use crate::metrics::record;

/// What becomes of a connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The next request may follow: the body was read to its end.
    Keep,
    /// It ends, after the client had a chance to read the answer.
    Close,
    /// It ends at once: the answer was cut off.
    Abort,
}

/// One listener of this core.
pub struct Listening {
    /// The socket.
    pub listener: Listener,
    /// With these, its connections speak TLS.
    pub tls: Option<Arc<TlsSettings>>,
    /// Where room for large heads comes from.
    pub room: Room,
}

/// Accepts connections and serves them until the listener is shut down. A connection lives by the timeouts that held when it
/// was accepted.
pub async fn serve<S>(listening: Listening, watchers: Watchers, timeouts: Arc<ArcSwap<Timeouts>>, service: Rc<S>)
where
    S: for<'a> AsyncFn(&'a mut Exchange) -> After + 'static,
{
    loop {
        match listening.listener.try_accept() {
            Ok((socket, peer)) => {
                record::accepted();
                let Ok(transport) = prepare(socket, listening.tls.as_deref()) else { continue };
                let (room, timeouts, service) = (listening.room.clone(), timeouts.load_full(), service.clone());
                let watched = watchers.admit().await;
                let connection = async move { connection(transport, peer, watched, &room, timeouts, service).await };
                // TLS and heads are read outside of any request's guard: a panic there ends this connection, not the core.
                spawn(guarded(connection));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if listening.listener.readable().await.is_err() {
                    return;
                }
            }
            Err(error) => match error.raw_os_error() {
                // The listener was shut down.
                Some(libc::EINVAL | libc::EBADF) => return,
                // EMFILE, ENFILE, ENOBUFS, ENOMEM: others go on and will free some; try again without spinning.
                _ => {
                    record::accepting_paused();
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

fn prepare(socket: OwnedFd, tls: Option<&TlsSettings>) -> io::Result<Transport> {
    // Answers are written whole; waiting to fill a segment only adds delay.
    rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
    let socket = Socket::from_tcp(socket)?;
    match tls {
        None => Ok(Transport::Plain(socket)),
        Some(settings) => Ok(Transport::Tls(Box::new(Tls::new(socket, settings.server())?))),
    }
}

/// One connection over the simulated network, from its first byte to its end: for the tests of rooms above.
#[cfg(test)]
pub async fn simulate<S>(end: crate::io::sim::End, service: Rc<S>)
where
    S: for<'a> AsyncFn(&'a mut Exchange) -> After + 'static,
{
    const LONG: Duration = Duration::from_secs(60);
    let timeouts = Timeouts { head: LONG, idle: LONG, body_stall: LONG, total: LONG, rate_min: 0 };
    let transport = Transport::Plain(Socket::Sim(end));
    let room = Room::new(crate::mem::RequestMemory::new(1 << 20), 1);
    connection(transport, None, Watchers::new(1).admit().await, &room, Arc::new(timeouts), service).await;
}

/// One connection's life. Its idle state holds the socket and its place among the watched, nothing else: everything that a
/// request needs lives in the box of its exchange.
pub(super) async fn connection<S>(
    transport: Transport,
    peer: Option<SocketAddr>,
    watched: Watched,
    room: &Room,
    timeouts: Arc<Timeouts>,
    service: Rc<S>,
) where
    S: for<'a> AsyncFn(&'a mut Exchange) -> After + 'static,
{
    let mut line = Line { transport, watched, pending: Vec::new(), lease: room.none_for_stranger() };
    if line.transport.has_handshake() && !handshake(&mut line, &timeouts).await {
        record::refused();
        return line.transport.shutdown(Shutdown::Write);
    }
    let mut turn = 0;
    loop {
        if line.pending.is_empty() {
            turn = 0;
            match line.watched.wait_idle(line.transport.readable(), timeouts.idle).await {
                Ok(Ok(())) => {}
                _ => return line.transport.shutdown(Shutdown::Write),
            }
        } else if turn == PIPELINE_TURN_MAX {
            // A pipeline of warm requests would never wait for anything: go through the ring once. A client that takes no answers
            // is given up here as anywhere.
            turn = 0;
            if !matches!(line.watched.wait(line.transport.writable(), timeouts.body_stall, None).await, Ok(Ok(()))) {
                return;
            }
        }
        turn += 1;
        match Box::pin(exchange(line, peer, room, timeouts.clone(), &service)).await {
            Some(kept) => line = kept,
            None => return,
        }
    }
}

/// Shakes hands once the client's first byte is there, within the time that a head may take. Whether it succeeded.
async fn handshake(line: &mut Line, timeouts: &Timeouts) -> bool {
    if !matches!(line.watched.wait_idle(line.transport.readable(), timeouts.idle).await, Ok(Ok(()))) {
        return false;
    }
    let started = Instant::now();
    loop {
        match line.transport.try_handshake() {
            Ok(()) => return true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let left = timeouts.head.saturating_sub(started.elapsed());
                if !matches!(line.watched.wait(line.transport.readable(), left, None).await, Ok(Ok(()))) {
                    return false;
                }
            }
            Err(_) => return false,
        }
    }
}

/// A connection between two requests.
struct Line {
    transport: Transport,
    watched: Watched,
    /// What arrived behind the last request.
    pending: Vec<u8>,
    /// Keeps room for that.
    lease: Lease,
}

/// Receives one request and has it served. `None` when the connection is over.
async fn exchange<S>(
    mut line: Line,
    peer: Option<SocketAddr>,
    room: &Room,
    timeouts: Arc<Timeouts>,
    service: &Rc<S>,
) -> Option<Line>
where
    S: for<'a> AsyncFn(&'a mut Exchange) -> After + 'static,
{
    let started = Instant::now();
    let Some((arrival, head_size)) = receive_head(&mut line, room, &timeouts, started).await else {
        line.transport.shutdown(Shutdown::Write);
        return None;
    };
    let Line { transport, watched, pending: buffer, lease } = line;
    // The head stays until the request ends, what came behind it only until it is taken.
    let (bytes, behind, prefetched_from) = match buffer.len() - head_size {
        0 => (buffer, Vec::new(), 0),
        _ => (buffer[..head_size].to_vec(), buffer, head_size),
    };
    let arrival = match arrival {
        Ok(head) => Arrival::Request(ReceivedHead { head: Rc::new(head), bytes: Rc::new(bytes) }),
        Err(refusal) => refusal,
    };
    let mut exchange = Exchange {
        transport,
        watched,
        timeouts,
        peer,
        arrival,
        buffer: behind,
        prefetched_from,
        lease,
        started,
        body_received: 0,
        body_waited: Duration::ZERO,
        body_silent: Duration::ZERO,
        send_waited: Duration::ZERO,
        body_is_done: false,
        body_is_lost: false,
        bytes_sent: 0,
        measured: Measured::default(),
    };
    let after = match guarded(service(&mut exchange)).await {
        Ok(after) => after,
        Err(Panicked) => Box::pin(after_panic(&mut exchange, service)).await,
    };
    match after {
        // An answer under TLS may still be on its way out.
        After::Keep if exchange.flush().await.is_err() => None,
        After::Keep if !exchange.drains() || !exchange.prefetched().is_empty() => {
            let pending = match exchange.prefetched() {
                // What old clients send behind a body (RFC 9112 section 2.2) begins no request: the connection is idle.
                b"\r\n" => Vec::new(),
                prefetched => prefetched.to_vec(),
            };
            exchange.watched.ends_request();
            let (held, mut lease) = (leased(0, pending.len()), exchange.lease);
            let _ = lease.resize(held);
            Some(Line { transport: exchange.transport, watched: exchange.watched, pending, lease })
        }
        After::Keep | After::Close => {
            exchange.linger().await;
            None
        }
        After::Abort => {
            exchange.abort();
            None
        }
    }
}

/// A panic in a request's task is answered 500 when nothing has left yet; the core lives on.
async fn after_panic<S>(exchange: &mut Exchange, service: &Rc<S>) -> After
where
    S: for<'a> AsyncFn(&'a mut Exchange) -> After + 'static,
{
    let Arrival::Request(head) = exchange.arrival() else { return After::Abort };
    if exchange.bytes_sent() > 0 {
        return After::Abort;
    }
    exchange.arrival = Arrival::Panicked(head);
    guarded(service(exchange)).await.unwrap_or(After::Abort)
}

type Head = (Result<http::Head, Arrival>, usize);

/// Receives until the head is whole. `None`: the client ended without having sent a byte.
async fn receive_head(line: &mut Line, room: &Room, timeouts: &Timeouts, started: Instant) -> Option<Head> {
    let Line { transport, watched, pending: buffer, lease } = line;
    loop {
        if !buffer.is_empty() {
            match http::parse(buffer) {
                Ok(Parsed::Complete { head, size }) => {
                    let held = if buffer.len() > size { buffer.len() } else { 0 };
                    let left = timeouts.head.saturating_sub(started.elapsed());
                    let has_room = has_room(room, watched, lease, leased(size, held), left).await;
                    return Some((if has_room { Ok(head) } else { Err(Arrival::NoRoom) }, size));
                }
                Ok(Parsed::Partial) if buffer.len() >= HEAD_SIZE_MAX => {
                    return Some((Err(Arrival::Refused(HeadError::HeadTooLarge)), buffer.len()));
                }
                Ok(Parsed::Partial) => {}
                Err(error) => return Some((Err(Arrival::Refused(error)), buffer.len())),
            }
        }
        // Much at once where there is room for it, else what a connection may hold without.
        let most = match lease.resize(buffer.len() + RECEIVE_SIZE) {
            true => RECEIVE_SIZE,
            false => UNLEASED_SIZE_MAX.saturating_sub(buffer.len()),
        };
        if most == 0 {
            let left = timeouts.head.saturating_sub(started.elapsed());
            if has_room(room, watched, lease, buffer.len() + RECEIVE_SIZE, left).await {
                continue;
            }
            return Some((Err(Arrival::NoRoom), buffer.len()));
        }
        let received = with_scratch(|scratch| {
            let count = transport.try_receive(&mut scratch[..most])?;
            buffer.extend_from_slice(&scratch[..count]);
            Ok::<usize, io::Error>(count)
        });
        let _ = lease.resize(leased(0, buffer.len()));
        match received {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let left = timeouts.head.saturating_sub(started.elapsed());
                match watched.wait(transport.readable(), left, None).await {
                    Ok(Ok(())) => {}
                    // An empty line before a request (RFC 9112 section 2.2) is none that could be answered.
                    Err(Interrupt::Expired) if !buffer.is_empty() && !b"\r\n".starts_with(buffer.as_slice()) => {
                        return Some((Err(Arrival::TimedOut), buffer.len()));
                    }
                    _ => return None,
                }
            }
            Err(_) => return None,
        }
    }
}

/// Whether there is room for `size` bytes, or soon will be. What is held already is given back by who waits for too long.
async fn has_room(room: &Room, watched: &Watched, lease: &mut Lease, size: usize, timeout: Duration) -> bool {
    if lease.resize(size) {
        return true;
    }
    let take = room.take_as(lease.rank(size), size.saturating_sub(lease.size()));
    let more = Box::pin(watched.wait(take, STRANGER_ROOM_WAIT.min(timeout), None)).await;
    let has_room = more.map(|more| lease.add(more)).is_ok();
    if !has_room {
        room.count_refusal();
    }
    has_room
}

/// The task of a request panicked.
struct Panicked;

/// `future`, with a panic in it as a value.
///
/// Not an async function: that would keep room for `future` beside its box.
fn guarded<F: Future>(future: F) -> CatchUnwind<F> {
    CatchUnwind(Box::pin(future))
}

struct CatchUnwind<F>(Pin<Box<F>>);

impl<F: Future> Future for CatchUnwind<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // After a panic the future is dropped and never polled again, so nothing sees its broken state.
        match catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(context))) {
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    }
}
