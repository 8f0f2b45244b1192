//! How do bytes go to and fro? A non-blocking socket, in the clear or under TLS. What nobody looks at is thrown away inside
//! the kernel: `MSG_TRUNC` takes TCP's bytes off the queue without copying them (tcp(7)).

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType};
use rustls::ClientConnection;

use super::endpoint::Endpoint;

/// One connection.
pub enum Transport {
    Plain(OwnedFd),
    Tls(Box<Session>),
}

/// A TLS session on its socket.
pub struct Session {
    socket: OwnedFd,
    state: ClientConnection,
}

/// What came of receiving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    Bytes(usize),
    /// The peer has ended.
    End,
    /// Nothing has arrived.
    Later,
}

impl Transport {
    /// Begins to connect; `handshake` says when it is done.
    pub fn connect(endpoint: &Endpoint) -> io::Result<Self> {
        let family = rustix::net::SocketAddrAny::from(endpoint.address).address_family();
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
        match rustix::net::connect(&socket, &endpoint.address) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let Some(tls) = &endpoint.tls else { return Ok(Self::Plain(socket)) };
        let state = ClientConnection::new(tls.config.clone(), tls.name.clone()).map_err(io::Error::other)?;
        Ok(Self::Tls(Box::new(Session { socket, state })))
    }

    pub fn socket(&self) -> BorrowedFd<'_> {
        match self {
            Self::Plain(socket) => socket.as_fd(),
            Self::Tls(session) => session.socket.as_fd(),
        }
    }

    /// Goes on connecting, once the socket is ready; whether requests can be sent now.
    pub fn handshake(&mut self) -> io::Result<bool> {
        rustix::net::sockopt::socket_error(self.socket())??;
        match self {
            Self::Plain(_) => Ok(true),
            Self::Tls(session) => session.handshake(),
        }
    }

    /// Whether something waits for room in the socket that `send` has taken already, or a handshake has to say something.
    pub fn wants_write(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(session) => session.state.wants_write(),
        }
    }

    /// Sends as much as fits, 0 when nothing does.
    pub fn send(&mut self, slices: &[IoSlice]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                let sent = match slices {
                    [one] => rustix::net::send(&*socket, one, flags),
                    _ => rustix::net::sendmsg(&*socket, slices, &mut SendAncillaryBuffer::default(), flags),
                };
                nothing_for_now(sent.map_err(io::Error::from), 0)
            }
            Self::Tls(session) => session.send(slices),
        }
    }

    /// Sends what `send` has taken and kept.
    pub fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(session) => session.flush(),
        }
    }

    /// Receives into memory.
    pub fn receive(&mut self, into: &mut [u8]) -> io::Result<Received> {
        match self {
            Self::Plain(socket) => {
                let received = rustix::net::recv(&*socket, into, RecvFlags::DONTWAIT);
                received_of(received.map(|(_, count)| count))
            }
            Self::Tls(session) => session.receive(into),
        }
    }

    /// Receives and forgets at most as many bytes as `scratch` has, which hold nothing of use afterwards.
    pub fn discard(&mut self, scratch: &mut [u8]) -> io::Result<Received> {
        match self {
            Self::Plain(socket) => {
                let received = rustix::net::recv(&*socket, scratch, RecvFlags::DONTWAIT | RecvFlags::TRUNC);
                received_of(received.map(|(_, count)| count))
            }
            Self::Tls(session) => session.receive(scratch),
        }
    }

    /// Whether more may have arrived behind `count` bytes when `room` were asked for: a short answer of TCP means that its
    /// queue was empty, TLS holds what it has decrypted.
    pub fn may_hold_more(&self, count: usize, room: usize) -> bool {
        match self {
            Self::Plain(_) => count == room,
            Self::Tls(_) => true,
        }
    }
}

impl Session {
    fn handshake(&mut self) -> io::Result<bool> {
        self.flush()?;
        while self.state.is_handshaking() {
            match self.take()? {
                Received::Bytes(_) => self.flush()?,
                Received::Later => return Ok(false),
                Received::End => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed in the TLS handshake")),
            }
        }
        Ok(true)
    }

    fn send(&mut self, slices: &[IoSlice]) -> io::Result<usize> {
        let taken = self.state.writer().write_vectored(slices)?;
        self.flush()?;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.state.wants_write() {
            match self.state.write_tls(&mut Wire(&self.socket)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                result => result?,
            };
        }
        Ok(())
    }

    fn receive(&mut self, into: &mut [u8]) -> io::Result<Received> {
        loop {
            match self.state.reader().read(into) {
                Ok(0) => return Ok(Received::End),
                Ok(count) => return Ok(Received::Bytes(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // No close_notify: an end all the same, and the length of the body tells whether it was one.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Received::End),
                Err(error) => return Err(error),
            }
            match self.take()? {
                Received::Bytes(_) => {}
                // `reader` has nothing, and nothing more will come.
                other => return Ok(other),
            }
        }
    }

    /// Takes records off the socket.
    fn take(&mut self) -> io::Result<Received> {
        let received = match self.state.read_tls(&mut Wire(&self.socket)) {
            Ok(0) => Received::End,
            Ok(count) => Received::Bytes(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Received::Later),
            Err(error) => return Err(error),
        };
        if let Err(error) = self.state.process_new_packets() {
            // The alert that says why; the connection is lost either way.
            let _ = self.flush();
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("TLS: {error}")));
        }
        Ok(received)
    }
}

/// The socket, as rustls wants to see it.
struct Wire<'a>(&'a OwnedFd);

impl Read for Wire<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::net::recv(self.0, into, RecvFlags::DONTWAIT).map(|(_, count)| count)?)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(self.0, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
    }

    fn write_vectored(&mut self, slices: &[IoSlice]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        Ok(rustix::net::sendmsg(self.0, slices, &mut SendAncillaryBuffer::default(), flags)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn nothing_for_now<T>(result: io::Result<T>, nothing: T) -> io::Result<T> {
    match result {
        // A signal is as good as a full socket: readiness is asked for again.
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(nothing),
        result => result,
    }
}

fn received_of(result: rustix::io::Result<usize>) -> io::Result<Received> {
    let received = result.map(|count| if count == 0 { Received::End } else { Received::Bytes(count) });
    nothing_for_now(received.map_err(io::Error::from), Received::Later)
}
