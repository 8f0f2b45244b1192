//! A connection under TLS: the same calls as a socket, over rustls' unbuffered connection.
//!
//! Records are received and encrypted in two buffers of the core, not of the connection. A connection keeps only what has to
//! wait: the part of a record that has arrived, plaintext that its reader had no room for, and records that its client did
//! not take yet. While it is idle these are empty and cost nothing.

mod seal;
mod session;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use rustls::ServerConfig;

pub use seal::provider;
use session::{Broken, Next, Session};

use crate::io::{Shutdown, Socket};
use crate::limits::{TLS_BATCH_SIZE, TLS_HELD_SIZE_MAX, TLS_OUTGOING_SIZE_MAX, TLS_RECEIVE_SIZE, TLS_RECORD_SIZE_MAX};

thread_local! {
    /// Where records are received and decrypted: one for the core, used between two awaits only.
    static RECEIVED: RefCell<Vec<u8>> = RefCell::new(vec![0; TLS_RECEIVE_SIZE]);
    /// Where rustls puts what it encrypts. What is sealed by ourselves lies elsewhere, see `seal`.
    static ENCRYPTED: RefCell<Vec<u8>> = RefCell::new(vec![0; TLS_OUTGOING_SIZE_MAX]);
}

/// A connection under TLS.
pub struct Tls {
    socket: Socket,
    session: Session,
    /// Received and not processed.
    held: Vec<u8>,
    /// `held` may have whole records, which the reader had no room for.
    has_records: bool,
    /// Decrypted and not read.
    plain: Pending,
    /// Encrypted and not taken by the socket.
    outgoing: Pending,
    /// The client's side is over.
    ended: bool,
    /// Nothing can be sent or received any more.
    broken: bool,
}

/// Bytes that wait, of which some at the front are already gone.
#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    from: usize,
}

impl Tls {
    /// A connection on which nothing has happened yet.
    pub fn new(socket: Socket, server: Arc<ServerConfig>) -> io::Result<Self> {
        let session = Session::new(server).map_err(|broken| refuse(&broken))?;
        Ok(Self {
            socket,
            session,
            held: Vec::new(),
            has_records: false,
            plain: Pending::default(),
            outgoing: Pending::default(),
            ended: false,
            broken: false,
        })
    }

    /// Goes on with the handshake; `WouldBlock` until it is done.
    pub fn try_handshake(&mut self) -> io::Result<()> {
        if self.broken {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if self.session.is_handshaking() {
            self.try_flush()?;
            self.receive(&mut [], 0)?;
            if self.session.is_handshaking() {
                return Err(if self.ended { io::ErrorKind::UnexpectedEof } else { io::ErrorKind::WouldBlock }.into());
            }
        }
        Ok(())
    }

    /// Decrypts what has arrived; 0 when the client has ended, `WouldBlock` when there is nothing.
    pub fn try_receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let taken = self.plain.take_into(into);
        if taken == into.len() {
            return Ok(taken);
        }
        if self.broken {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let filled = self.receive(into, taken)?;
        if filled == 0 && !self.ended { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(filled) }
    }

    /// Encrypts and sends; how many bytes of plaintext were accepted. `WouldBlock` while earlier records wait for the client.
    pub fn try_send(&mut self, bytes: &[u8], more: bool) -> io::Result<usize> {
        self.settle()?;
        self.try_flush_some()?;
        ENCRYPTED.with_borrow_mut(|buffer| {
            let mut accepted = 0;
            while accepted < bytes.len() && self.outgoing.is_empty() {
                let batch = &bytes[accepted..bytes.len().min(accepted + TLS_BATCH_SIZE)];
                let size = self.session.encrypt(&mut self.held, batch, buffer).map_err(|broken| self.fail(&broken))?;
                accepted += batch.len();
                let more = more || accepted < bytes.len();
                self.send_records(&buffer[..size], more)?;
                seal::with_sealed(|records| self.send_records(records, more))?;
            }
            Ok(accepted)
        })
    }

    /// Sends records, behind those that wait, and keeps what the socket does not take.
    fn send_records(&mut self, records: &[u8], more: bool) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let sent = match self.outgoing.is_empty() {
            true => match self.socket.try_send(records, more) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                result => result?,
            },
            false => 0,
        };
        self.outgoing.put(&records[sent..]);
        Ok(())
    }

    /// Pushes out what waits; `WouldBlock` while some is left.
    pub fn try_flush(&mut self) -> io::Result<()> {
        self.try_flush_some()?;
        self.outgoing.release();
        Ok(())
    }

    /// Waits for something to receive; at once when something already waits. During the handshake each side in turn waits for
    /// the other, so while a flight of ours is on its way out there is nothing to receive.
    pub async fn readable(&self) -> io::Result<()> {
        if !self.plain.is_empty() || self.has_records || self.ended || self.broken {
            return Ok(());
        }
        if self.session.is_handshaking() && !self.outgoing.is_empty() {
            return self.socket.writable().await;
        }
        self.socket.readable().await
    }

    /// Waits for room to send.
    pub async fn writable(&self) -> io::Result<()> {
        self.socket.writable().await
    }

    /// See `Socket::unacknowledged`.
    pub fn unacknowledged(&self) -> usize {
        self.socket.unacknowledged()
    }

    /// See `Socket::peer_has_left`.
    pub fn peer_has_left(&self) -> bool {
        self.socket.peer_has_left()
    }

    /// Ends one or both directions. Only an end of our sending is announced (close_notify, RFC 8446 section 6.1): after an
    /// answer that was cut off, its absence tells the client so.
    pub fn shutdown(&mut self, half: Shutdown) {
        match half {
            Shutdown::Write => self.send_close_notify(),
            Shutdown::Both => self.broken = true,
            Shutdown::Read => {}
        }
        self.socket.shutdown(half);
    }

    /// Receives and decrypts until `into`, of which `filled` is taken, is full or nothing is left. With an empty `into`, one
    /// record of application data ends it.
    fn receive(&mut self, into: &mut [u8], filled: usize) -> io::Result<usize> {
        let received = RECEIVED.with_borrow_mut(|buffer| self.receive_through(buffer, into, filled));
        // Replies of the protocol (tickets, renewed keys, an alert). Whoever sends or receives next tries again.
        let _ = self.try_flush();
        received
    }

    fn receive_through(&mut self, buffer: &mut [u8], into: &mut [u8], mut filled: usize) -> io::Result<usize> {
        let (mut from, mut to) = (0, self.held.len());
        buffer[..to].copy_from_slice(&self.held);
        let mut is_drained = false;
        let result = loop {
            if self.has_records {
                match self.process(&mut buffer[from..to], &mut into[filled..]) {
                    Ok((consumed, count)) => (from, filled) = (from + consumed, filled + count),
                    Err(error) => break Err(error),
                }
            }
            if self.has_records || self.ended || is_drained {
                break Ok(filled);
            }
            buffer.copy_within(from..to, 0);
            (from, to) = (0, to - from);
            // As much as the reader has room for, so that little is left over to hold; one record at least.
            let wanted = (into.len() - filled).max(TLS_RECORD_SIZE_MAX).min(buffer.len() - to);
            match self.socket.try_receive(&mut buffer[to..][..wanted]) {
                Ok(0) => self.ended = true,
                Ok(count) => (to, self.has_records, is_drained) = (to + count, true, count < wanted),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => is_drained = true,
                Err(error) => {
                    self.broken = true;
                    break Err(error);
                }
            }
        };
        self.hold(&buffer[from..to]);
        match result {
            // What was decrypted before the failure is handed out first; the next call fails.
            Err(_) if filled > 0 => Ok(filled),
            result => result,
        }
    }

    fn process(&mut self, records: &mut [u8], into: &mut [u8]) -> io::Result<(usize, usize)> {
        let processed = self.session.process(records, into, &mut self.plain.bytes, &mut self.outgoing.bytes);
        let processed = processed.map_err(|broken| self.fail(&broken))?;
        self.has_records = processed.next == Next::Room;
        self.ended |= processed.next == Next::Ended;
        let is_held_too_long = !self.has_records && records.len() - processed.consumed > TLS_HELD_SIZE_MAX;
        if is_held_too_long || self.outgoing.len() > TLS_OUTGOING_SIZE_MAX {
            return Err(self.fail(&Broken::OutOfTurn));
        }
        Ok((processed.consumed, processed.filled))
    }

    /// rustls lets us write when it has seen everything that was received: moves it to `plain`. There is little of it.
    fn settle(&mut self) -> io::Result<()> {
        while self.has_records && !self.broken {
            let mut records = std::mem::take(&mut self.held);
            let (consumed, _) = self.process(&mut records, &mut [])?;
            records.drain(..consumed);
            self.hold(&records);
        }
        if self.broken { Err(io::ErrorKind::InvalidData.into()) } else { Ok(()) }
    }

    /// Keeps received bytes for the next time; none take no memory.
    fn hold(&mut self, records: &[u8]) {
        let records = if self.ended || self.broken { &[] } else { records };
        self.held.clear();
        match records.is_empty() {
            true => self.held = Vec::new(),
            false => {
                self.held.reserve_exact(records.len());
                self.held.extend_from_slice(records);
            }
        }
    }

    /// Pushes out what waits, and keeps its memory for what follows.
    fn try_flush_some(&mut self) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            let sent = self.socket.try_send(self.outgoing.waiting(), false)?;
            self.outgoing.advance(sent);
        }
        Ok(())
    }

    fn send_close_notify(&mut self) {
        if self.session.is_handshaking() || self.settle().is_err() || self.try_flush().is_err() {
            return;
        }
        let mut alert = [0; 512];
        if let Ok(size) = self.session.encrypt_close_notify(&mut self.held, &mut alert) {
            // With no room for it the client sees an end without it, which the length of the answer makes up for.
            let _ = self.socket.try_send(&alert[..size], false);
        }
    }

    fn fail(&mut self, broken: &Broken) -> io::Error {
        self.broken = true;
        self.has_records = false;
        refuse(broken)
    }
}

fn refuse(broken: &Broken) -> io::Error {
    tracing::debug!(%broken, "TLS connection ends");
    io::ErrorKind::InvalidData.into()
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.from == self.bytes.len()
    }

    fn len(&self) -> usize {
        self.bytes.len() - self.from
    }

    fn waiting(&self) -> &[u8] {
        &self.bytes[self.from..]
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes.reserve_exact(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    fn advance(&mut self, count: usize) {
        self.from += count;
        if self.is_empty() {
            self.bytes.clear();
            self.from = 0;
        }
    }

    /// Gives the memory back when nothing waits.
    fn release(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }

    fn take_into(&mut self, into: &mut [u8]) -> usize {
        let count = self.len().min(into.len());
        into[..count].copy_from_slice(&self.waiting()[..count]);
        self.advance(count);
        self.release();
        count
    }
}
