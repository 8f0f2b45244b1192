//! Is the peer still there, and how much of what was sent has it not taken?

use std::os::fd::{AsFd, AsRawFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::check;
use super::errno::Result;

/// Bytes in a TCP socket's send queue, acknowledged ones not counted (tcp(7), SIOCOUTQ, which is TIOCOUTQ).
pub fn unacknowledged(socket: impl AsFd) -> Result<usize> {
    let mut size: libc::c_int = 0;
    // SAFETY: the kernel writes one int, to a place that lives until the call returns.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut size) };
    check(result.into())?;
    Ok(usize::try_from(size).unwrap_or(0))
}

/// Whether the other side of a connection has ended (FIN), or the connection (RST, ETIMEDOUT). The kernel tells it whatever lies
/// unread before that: poll(2), POLLRDHUP.
pub fn peer_has_left(socket: impl AsFd) -> bool {
    let mut ends = [PollFd::new(&socket, PollFlags::RDHUP)];
    let told = poll(&mut ends, Some(&Timespec::default()));
    told.is_ok_and(|count| count > 0) && ends[0].revents().intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn what_the_peer_has_no_room_for_is_counted() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut receiver, _) = listener.accept().unwrap();
        assert_eq!(unacknowledged(&sender), Ok(0));
        sender.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while let Ok(count) = sender.write(&[0; 64 * 1024]) {
            sent += count;
        }
        let waiting = unacknowledged(&sender).unwrap();
        assert!(0 < waiting && waiting <= sent);
        receiver.read_exact(&mut vec![0; sent]).unwrap();
        assert_eq!(unacknowledged(&sender), Ok(0));
    }

    #[test]
    fn bytes_that_nobody_has_read_do_not_hide_the_end() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        for resets in [false, true] {
            let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (server, _) = listener.accept().unwrap();
            assert!(!peer_has_left(&server));
            client.write_all(b"the next request").unwrap();
            std::thread::sleep(std::time::Duration::from_millis(5));
            assert!(!peer_has_left(&server), "readable, and still there");
            if resets {
                socket2::SockRef::from(&client).set_linger(Some(std::time::Duration::ZERO)).unwrap();
            }
            drop(client);
            let has_left = (0..1000).any(|_| {
                std::thread::sleep(std::time::Duration::from_millis(1));
                peer_has_left(&server)
            });
            assert!(has_left, "resets: {resets}");
        }
    }

    #[test]
    fn a_file_has_no_send_queue() {
        assert!(unacknowledged(std::fs::File::open("/proc/self/stat").unwrap()).is_err());
    }
}
