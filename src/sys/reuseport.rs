//! Which listener of a group gets a connection? A program of classic BPF decides it in the kernel (socket(7),
//! SO_ATTACH_REUSEPORT_CBPF, Linux 4.5). SO_INCOMING_CPU is not used: among sockets with SO_REUSEPORT it had no effect from
//! Linux 4.6 to 6.1, and it cannot leave loopback out.

use std::os::fd::{AsFd, AsRawFd};

use super::check;
use super::errno::{Errno, Result};

/// Offsets of <linux/filter.h> that read what is known about a packet instead of its bytes.
const ABOUT_PACKET: u32 = 0xffff_f000;
const INTERFACE: u32 = ABOUT_PACKET + 8;
const CPU: u32 = ABOUT_PACKET + 36;
/// No listener has this rank: the kernel then chooses by hash, as without a program.
const BY_HASH: u32 = u32::MAX;

/// Connections whose packets come by one of `interfaces` (their numbers) go to the listener of the CPU that processes them:
/// the first listener of the group to that of `cpus[0]`, and so on in the order in which they began to listen. All others are
/// spread by hash.
pub fn follow_packets(listener: impl AsFd, interfaces: &[u32], cpus: &[usize]) -> Result<()> {
    let code = program(interfaces, cpus).ok_or(Errno::INVAL)?;
    let length = libc::c_ushort::try_from(code.len()).map_err(|_| Errno::INVAL)?;
    // The kernel only reads it.
    let filter = libc::sock_fprog { len: length, filter: code.as_ptr().cast_mut() };
    let fd = listener.as_fd().as_raw_fd();
    let size = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: `filter` and the `code` it points to live until the call returns, with their true sizes; the kernel copies them.
    let result =
        unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF, (&raw const filter).cast(), size) };
    check(result.into()).map(drop)
}

/// Load the interface, jump over the refusal if it is one of ours; load the CPU, and answer its rank. `None` for more interfaces than
/// a jump reaches.
fn program(interfaces: &[u32], cpus: &[usize]) -> Option<Vec<libc::sock_filter>> {
    let step = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let is = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    let mut code = vec![step(load, 0, 0, INTERFACE)];
    for (i, interface) in interfaces.iter().enumerate() {
        code.push(step(is, u8::try_from(interfaces.len() - i).ok()?, 0, *interface));
    }
    code.push(step(answer, 0, 0, BY_HASH));
    code.push(step(load, 0, 0, CPU));
    for (rank, cpu) in cpus.iter().enumerate() {
        code.push(step(is, 0, 1, u32::try_from(*cpu).ok()?));
        code.push(step(answer, 0, 0, u32::try_from(rank).ok()?));
    }
    code.push(step(answer, 0, 0, BY_HASH));
    Some(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::cpu;
    use std::net::{SocketAddr, TcpStream};

    const CONNECTIONS: usize = 64;

    /// A listener for each of `cpus`, all on one port.
    fn group(cpus: &[usize]) -> (Vec<socket2::Socket>, SocketAddr) {
        let mut address: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let mut listen = |_| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_reuse_port(true).unwrap();
            socket.bind(&address.into()).unwrap();
            socket.listen(512).unwrap();
            socket.set_nonblocking(true).unwrap();
            address = socket.local_addr().unwrap().as_socket().unwrap();
            socket
        };
        (cpus.iter().map(&mut listen).collect(), address)
    }

    /// Connects from a thread that stays on `cpu`, and counts what each listener got.
    fn connect_from(cpu: usize, listeners: &[socket2::Socket], address: SocketAddr) -> Vec<usize> {
        let client = std::thread::spawn(move || {
            cpu::pin(cpu).unwrap();
            (0..CONNECTIONS).map(|_| TcpStream::connect(address).unwrap()).collect::<Vec<_>>()
        });
        let _connections = client.join().unwrap();
        listeners.iter().map(|listener| std::iter::from_fn(|| listener.accept().ok()).count()).collect()
    }

    fn loopback() -> u32 {
        std::fs::read_to_string("/sys/class/net/lo/ifindex").unwrap().trim().parse().unwrap()
    }

    /// On loopback packets arrive on the CPU that sends them, so that a client's place chooses the listener.
    #[test]
    fn connections_go_where_their_packets_are() {
        let cpus = cpu::available().unwrap();
        let (listeners, address) = group(&cpus);
        follow_packets(&listeners[0], &[loopback()], &cpus).unwrap();
        for (rank, cpu) in cpus.iter().enumerate() {
            let mut expected = vec![0; cpus.len()];
            expected[rank] = CONNECTIONS;
            assert_eq!(connect_from(*cpu, &listeners, address), expected);
        }
    }

    /// The trap: one client of this machine would have all its connections on one core.
    #[test]
    fn packets_of_other_interfaces_are_spread_as_ever() {
        let cpus = [cpu::available().unwrap()[0]; 4];
        let (listeners, address) = group(&cpus);
        follow_packets(&listeners[0], &[loopback() + 1000], &cpus).unwrap();
        let counts = connect_from(cpus[0], &listeners, address);
        assert_eq!(counts.iter().sum::<usize>(), CONNECTIONS);
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    }

    #[test]
    fn as_many_interfaces_as_a_jump_reaches() {
        assert!(program(&[7; 255], &[0]).is_some());
        assert!(program(&[7; 256], &[0]).is_none());
        assert_eq!(program(&[], &[]).unwrap().len(), 4);
    }
}
