//! Are the ports free? With SO_REUSEPORT a second listener of the same user binds silently and takes half the connections,
//! so a plain bind is tried first.

use std::net::{SocketAddr, TcpListener};

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::patience::Patience;
use crate::config::Listen;
use crate::limits;
use crate::server::fatal::{Fatal, ListenProblem};

/// Tries every address, and keeps it bound (never listening, so that no connection lands there) until the cores are bound too.
/// Port 0 becomes the port that the kernel chose, so that all cores share it.
///
/// The ring of a process that was killed holds its sockets until the last poll on it has ended, on a thread of the kernel's: a start
/// right behind it finds the port taken, by nobody.
pub fn reserve(listen: &mut [Listen], patience: &Patience) -> Result<Vec<Socket>, Fatal> {
    let mut reserved = Vec::with_capacity(listen.len());
    for one in listen {
        let refused = |error: std::io::Error| Fatal::Listen { listen: *one, problem: problem(&error) };
        let what = format!("the port of {one}");
        let socket = patience.wait_for(&what, || reserve_one(one.address), is_taken).map_err(refused)?;
        let bound = socket.local_addr().map_err(refused)?.as_socket();
        one.address = bound.unwrap_or(one.address);
        reserved.push(socket);
    }
    Ok(reserved)
}

/// The listener for metrics, which no core shares.
pub fn listen_for_metrics(address: SocketAddr, patience: &Patience) -> Result<TcpListener, Fatal> {
    let listen = || {
        let socket = bind(address, false)?;
        socket.listen(limits::METRICS_CONNECTIONS_MAX as i32)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    let what = format!("the port of {address}");
    patience.wait_for(&what, listen, is_taken).map_err(|error| Fatal::MetricsListen { address, problem: problem(&error) })
}

/// A socket bound to `address` beside those of the other cores; its owner calls `listen`. An IPv6 address never takes IPv4
/// with it, as in nginx: so `0.0.0.0:9000` and `[::]:9000` can both be given.
pub fn bind_shared(address: SocketAddr) -> std::io::Result<Socket> {
    bind(address, true)
}

fn reserve_one(address: SocketAddr) -> std::io::Result<Socket> {
    let probe = bind(address, false)?;
    // A bind alone succeeds beside another socket with SO_REUSEADDR that does not listen yet.
    probe.listen(1)?;
    let bound = probe.local_addr()?.as_socket().unwrap_or(address);
    drop(probe);
    bind_shared(bound)
}

fn bind(address: SocketAddr, shared: bool) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Without it, connections in TIME_WAIT keep a restarted server from its port for a minute.
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}

fn is_taken(error: &std::io::Error) -> bool {
    problem(error) == ListenProblem::Taken
}

/// bind(2) and socket(2).
fn problem(error: &std::io::Error) -> ListenProblem {
    match Errno::from_io_error(error).unwrap_or(Errno::IO) {
        Errno::ADDRINUSE => ListenProblem::Taken,
        Errno::ACCESS | Errno::PERM => ListenProblem::Privileged,
        Errno::ADDRNOTAVAIL => ListenProblem::NotLocal,
        Errno::AFNOSUPPORT => ListenProblem::NoFamily,
        other => ListenProblem::Other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Scheme;

    fn listen(address: &str) -> Listen {
        Listen { scheme: Scheme::Http, address: address.parse().expect("address") }
    }

    #[test]
    fn a_reserved_port_is_one_port_for_all_cores() {
        let mut addresses = [listen("127.0.0.1:0")];
        let reserved = reserve(&mut addresses, &Patience::over()).expect("a free port");
        let address = addresses[0].address;
        assert_ne!(address.port(), 0);
        let cores = [bind_shared(address).expect("first core"), bind_shared(address).expect("second core")];
        for core in &cores {
            core.listen(16).expect("listen");
        }
        assert!(std::net::TcpStream::connect(address).is_ok());
        drop(reserved);
    }

    #[test]
    fn a_taken_port_is_refused_even_when_it_is_shared() {
        let first = bind_shared("127.0.0.1:0".parse().expect("address")).expect("bind");
        first.listen(16).expect("listen");
        let address = first.local_addr().expect("address").as_socket().expect("IPv4");
        assert!(bind_shared(address).is_ok(), "this is why the plain bind comes first");
        let refused = reserve(&mut [Listen { scheme: Scheme::Http, address }], &Patience::over()).expect_err("taken");
        assert!(matches!(refused, Fatal::Listen { problem: ListenProblem::Taken, .. }));
        let refused = listen_for_metrics(address, &Patience::over()).expect_err("taken");
        assert!(matches!(refused, Fatal::MetricsListen { problem: ListenProblem::Taken, .. }));
        // 192.0.2.0/24 is TEST-NET-1 (RFC 5737): no machine has it.
        let refused = reserve(&mut [listen("192.0.2.1:9000")], &Patience::start()).expect_err("not local");
        assert!(matches!(refused, Fatal::Listen { problem: ListenProblem::NotLocal, .. }));
    }
}
