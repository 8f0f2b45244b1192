//! Sockets: plain system calls that do not block, and readiness from the ring.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{RecvFlags, SendFlags};

use crate::metrics::record::{self, RingOperation};
use crate::sys;

/// A connected stream: TCP, or the simulated network of the tests.
pub enum Socket {
    /// A real connection.
    Tcp(TcpSocket),
    /// One end of a simulated connection.
    #[cfg(test)]
    Sim(super::sim::End),
}

/// A TCP connection. Dropping it shuts it down first: a poll that is still armed holds the file, and without the shutdown
/// the peer would never see the end.
pub struct TcpSocket {
    stream: monoio::net::TcpStream,
}

/// Which half of a connection to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// We read no more; a waiting reader sees the end.
    Read,
    /// The peer sees the end of what we send.
    Write,
    /// Both.
    Both,
}

impl Socket {
    /// Takes a connected, non-blocking TCP socket.
    pub fn from_tcp(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self::Tcp(TcpSocket { stream: monoio::net::TcpStream::from_std(std::net::TcpStream::from(socket))? }))
    }

    /// Receives what has arrived, 0 at the peer's end. `WouldBlock` when nothing has.
    pub fn try_receive(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => loop {
                match rustix::net::recv(tcp.fd(), &mut *into, RecvFlags::DONTWAIT) {
                    Err(rustix::io::Errno::INTR) => {}
                    result => return Ok(result.map(|(count, _)| count)?),
                }
            },
            #[cfg(test)]
            Self::Sim(end) => end.try_receive(into),
        }
    }

    /// Sends as much of `bytes` as fits; `more` says that something follows at once (no small segment is sent then).
    pub fn try_send(&self, bytes: &[u8], more: bool) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                let flags = if more { flags | SendFlags::MORE } else { flags };
                loop {
                    match rustix::net::send(tcp.fd(), bytes, flags) {
                        Err(rustix::io::Errno::INTR) => {}
                        result => return Ok(result?),
                    }
                }
            }
            #[cfg(test)]
            Self::Sim(end) => end.try_send(bytes),
        }
    }

    /// Sends up to `count` bytes of `file` from `offset` out of the page cache, and moves `offset` on. `Ok(0)` is the end of
    /// the file. The caller has made sure that the pages are there (a cold page would block the core).
    pub fn try_send_file(&self, file: BorrowedFd<'_>, offset: &mut u64, count: usize) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => loop {
                match rustix::fs::sendfile(tcp.fd(), file, Some(offset), count) {
                    Err(rustix::io::Errno::INTR) => {}
                    result => return Ok(result?),
                }
            },
            #[cfg(test)]
            Self::Sim(end) => {
                let mut bytes = vec![0; count.min(64 * 1024)];
                let read = rustix::io::pread(file, &mut bytes, *offset)?;
                let sent = end.try_send(&bytes[..read])?;
                *offset += sent as u64;
                Ok(sent)
            }
        }
    }

    /// Bytes that were sent and that the peer has not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        match self {
            Self::Tcp(tcp) => sys::outgoing::unacknowledged(tcp.fd()).unwrap_or(0),
            #[cfg(test)]
            Self::Sim(_) => 0,
        }
    }

    /// Whether the peer has ended its side, or is gone. It need not have been read up to there: requests that wait to be read do
    /// not hide it.
    pub fn peer_has_left(&self) -> bool {
        match self {
            Self::Tcp(tcp) => sys::outgoing::peer_has_left(tcp.fd()),
            #[cfg(test)]
            Self::Sim(end) => end.peer_has_left(),
        }
    }

    /// Waits until something has arrived, or the peer has ended.
    pub async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(tcp) => {
                let _waiting = record::on_ring(RingOperation::Poll);
                tcp.stream.readable(false).await
            }
            #[cfg(test)]
            Self::Sim(end) => end.readable().await,
        }
    }

    /// Waits until there is room to send.
    pub async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(tcp) => {
                let _waiting = record::on_ring(RingOperation::Poll);
                tcp.stream.writable(false).await
            }
            #[cfg(test)]
            Self::Sim(end) => end.writable().await,
        }
    }

    /// Closes one half or both; a waiter on this socket wakes up.
    pub fn shutdown(&self, half: Shutdown) {
        match self {
            Self::Tcp(tcp) => {
                let how = match half {
                    Shutdown::Read => rustix::net::Shutdown::Read,
                    Shutdown::Write => rustix::net::Shutdown::Write,
                    Shutdown::Both => rustix::net::Shutdown::Both,
                };
                // ENOTCONN: the peer was faster.
                let _ = rustix::net::shutdown(tcp.fd(), how);
            }
            #[cfg(test)]
            Self::Sim(end) => end.shutdown(half),
        }
    }
}

impl TcpSocket {
    fn fd(&self) -> BorrowedFd<'_> {
        super::lease::borrow_socket(&self.stream)
    }
}

impl Drop for TcpSocket {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(self.fd(), rustix::net::Shutdown::Both);
    }
}

/// A listening socket of one core.
pub struct Listener {
    socket: std::net::TcpListener,
    readiness: monoio::net::TcpStream,
}

impl Listener {
    /// Takes a bound, listening, non-blocking socket.
    pub fn new(socket: std::net::TcpListener) -> io::Result<Self> {
        // Only ever polled: monoio's own listener has no readiness, and accepting in a loop by plain calls empties the
        // queue in one turn.
        let readiness = monoio::net::TcpStream::from_std(std::net::TcpStream::from(OwnedFd::from(socket.try_clone()?)))?;
        Ok(Self { socket, readiness })
    }

    /// Waits for a connection to accept.
    pub async fn readable(&self) -> io::Result<()> {
        let _waiting = record::on_ring(RingOperation::Poll);
        self.readiness.readable(false).await
    }

    /// Accepts one connection, non-blocking and close-on-exec; `WouldBlock` when there is none.
    pub fn try_accept(&self) -> io::Result<(OwnedFd, Option<SocketAddr>)> {
        let flags = rustix::net::SocketFlags::NONBLOCK | rustix::net::SocketFlags::CLOEXEC;
        let (socket, address) = rustix::net::acceptfrom_with(self.socket.as_fd(), flags)?;
        Ok((socket, address.and_then(|address| SocketAddr::try_from(address).ok())))
    }
}
