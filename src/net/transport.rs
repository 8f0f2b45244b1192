//! A connection's bytes, in the clear or under TLS.

use std::io;
use std::os::fd::BorrowedFd;

use crate::io::{Shutdown, Socket};

/// What carries a connection's bytes.
pub enum Transport {
    /// TCP.
    Plain(Socket),
}

impl Transport {
    /// Receives what has arrived, 0 at the end, `WouldBlock` when there is nothing.
    pub fn try_receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_receive(into),
        }
    }

    /// Takes as many of `bytes` as there is room for.
    pub fn try_send(&mut self, bytes: &[u8], more: bool) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_send(bytes, more),
        }
    }

    /// Pushes out what `try_send` took and holds; `WouldBlock` while some is left.
    pub fn try_flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
        }
    }

    /// Whether `try_send_file` works here: not where bytes are encrypted on their way.
    pub fn sends_files(&self) -> bool {
        match self {
            Self::Plain(_) => true,
        }
    }

    /// Sends from the page cache, see `Socket::try_send_file`.
    pub fn try_send_file(&mut self, file: BorrowedFd<'_>, offset: &mut u64, count: usize) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_send_file(file, offset, count),
        }
    }

    /// Waits for something to receive.
    pub async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.readable().await,
        }
    }

    /// Waits for room to send.
    pub async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.writable().await,
        }
    }

    /// Ends one or both directions.
    pub fn shutdown(&mut self, half: Shutdown) {
        match self {
            Self::Plain(socket) => socket.shutdown(half),
        }
    }
}
