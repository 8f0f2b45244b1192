//! A connection's bytes, in the clear or under TLS.

use std::io;
use std::os::fd::BorrowedFd;

use super::tls::Tls;
use crate::io::{Shutdown, Socket};
use crate::metrics::record;

/// What carries a connection's bytes.
pub enum Transport {
    /// TCP.
    Plain(Socket),
    /// TLS over TCP.
    Tls(Box<Tls>),
}

impl Transport {
    /// Whether bytes can flow only after `try_handshake` has succeeded.
    pub fn has_handshake(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Goes on with the handshake; `WouldBlock` until it is done. The next step is due when `readable` says so.
    pub fn try_handshake(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(tls) => tls.try_handshake(),
        }
    }

    /// Receives what has arrived, 0 at the end, `WouldBlock` when there is nothing.
    pub fn try_receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let received = match self {
            Self::Plain(socket) => socket.try_receive(into),
            Self::Tls(tls) => tls.try_receive(into),
        };
        received.inspect(|count| record::received(*count))
    }

    /// Takes as many of `bytes` as there is room for.
    pub fn try_send(&mut self, bytes: &[u8], more: bool) -> io::Result<usize> {
        let sent = match self {
            Self::Plain(socket) => socket.try_send(bytes, more),
            Self::Tls(tls) => tls.try_send(bytes, more),
        };
        sent.inspect(|count| record::sent(*count))
    }

    /// Pushes out what `try_send` took and holds; `WouldBlock` while some is left.
    pub fn try_flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(tls) => tls.try_flush(),
        }
    }

    /// Whether `try_send_file` works here: not where bytes are encrypted on their way.
    pub fn sends_files(&self) -> bool {
        match self {
            Self::Plain(_) => true,
            Self::Tls(_) => false,
        }
    }

    /// Sends from the page cache, see `Socket::try_send_file`.
    pub fn try_send_file(&mut self, file: BorrowedFd<'_>, offset: &mut u64, count: usize) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_send_file(file, offset, count).inspect(|count| record::sent(*count)),
            Self::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// See `Socket::unacknowledged`.
    pub fn unacknowledged(&self) -> usize {
        match self {
            Self::Plain(socket) => socket.unacknowledged(),
            Self::Tls(tls) => tls.unacknowledged(),
        }
    }

    /// See `Socket::peer_has_left`.
    pub fn peer_has_left(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.peer_has_left(),
            Self::Tls(tls) => tls.peer_has_left(),
        }
    }

    /// Waits for something to receive.
    pub async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.readable().await,
            Self::Tls(tls) => tls.readable().await,
        }
    }

    /// Waits for room to send.
    pub async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.writable().await,
            Self::Tls(tls) => tls.writable().await,
        }
    }

    /// Ends one or both directions.
    pub fn shutdown(&mut self, half: Shutdown) {
        match self {
            Self::Plain(socket) => socket.shutdown(half),
            Self::Tls(tls) => tls.shutdown(half),
        }
    }
}
