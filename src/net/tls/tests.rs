//! Against rustls' own client over its buffered interface, which the server does not use, on a loopback connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, HandshakeKind, RootCertStore, SignatureScheme, StreamOwned,
    SupportedProtocolVersion,
};
use rustls::{ProtocolVersion, version};
use rustls_pki_types::{CertificateDer, ServerName};

use super::*;
use crate::io::sim::{Death, Wire};
use crate::io::{Helpers, Listener, run_core, sleep, spawn};
use crate::mem::{RequestMemory, Room};
use crate::net::certificates::testing::{Pair, settings};
use crate::net::exchange::{Arrival, Exchange, Stall};
use crate::net::serve::{After, Listening, connection, serve};
use crate::net::transport::Transport;
use crate::net::watch::Watchers;
use crate::net::{Timeouts, TlsSettings};

const LONG: Duration = Duration::from_secs(600);

fn room() -> Room {
    Room::new(RequestMemory::new(1 << 20), 1)
}

fn timeouts(head: Duration) -> Timeouts {
    Timeouts { head, idle: LONG, body_stall: LONG, total: LONG, rate_min: 0 }
}

/// Answers with the request's body. `Connection: close` closes, and `/abort` cuts its answer off.
async fn echo(exchange: &mut Exchange) -> After {
    let Arrival::Request(head) = exchange.arrival() else { return After::Abort };
    let value = |name: &str| head.request().header(name).map(str::to_owned);
    let size: usize = value("content-length").map_or(0, |value| value.parse().unwrap());
    let mut body = vec![0; size];
    let mut received = 0;
    while received < size {
        match exchange.receive(&mut body[received..], Stall::Ignore).await {
            Ok(count) => received += count,
            Err(_) => return After::Abort,
        }
    }
    let is_abort = head.request().target().starts_with(b"/abort");
    let promised = if is_abort { size + 1 } else { size };
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {promised}\r\n\r\n");
    if exchange.send(answer.as_bytes(), size > 0).await.is_err() {
        return After::Abort;
    }
    // As a download does it: what is accepted need not have left.
    let mut rest = &body[..];
    while !rest.is_empty() {
        match exchange.send_some(rest, false, Stall::Ignore).await {
            Ok(count) => rest = &rest[count..],
            Err(_) => return After::Abort,
        }
    }
    match value("connection").as_deref() {
        _ if is_abort => After::Abort,
        Some("close") => After::Close,
        _ => After::Keep,
    }
}

/// A core that serves `echo` for as long as `test` runs. `buffer_size` makes the sockets' buffers small.
fn with_server(tls: &Arc<TlsSettings>, head: Duration, buffer_size: Option<usize>, test: impl FnOnce(SocketAddr)) {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    if let Some(size) = buffer_size {
        let socket = socket2::SockRef::from(&socket);
        socket.set_send_buffer_size(size).unwrap();
        socket.set_recv_buffer_size(size).unwrap();
    }
    socket.set_nonblocking(true).unwrap();
    let (address, handle, tls) = (socket.local_addr().unwrap(), socket.try_clone().unwrap(), tls.clone());
    let core = std::thread::spawn(move || {
        run_core(Helpers::start(1, || ()).unwrap(), || async move {
            let watchers = Watchers::new(100);
            spawn(watchers.clone().sweep());
            let listening = Listening { listener: Listener::new(socket).unwrap(), tls: Some(tls), room: room() };
            serve(listening, watchers.clone(), Arc::new(ArcSwap::from_pointee(timeouts(head))), Rc::new(echo)).await;
            watchers.drain();
            while watchers.count() > 0 {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .unwrap();
    });
    test(address);
    socket2::SockRef::from(&handle).shutdown(std::net::Shutdown::Both).unwrap();
    core.join().unwrap();
}

fn client_config(trusted: &[&Pair], versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    client_config_of(aws_lc_rs::default_provider(), trusted, versions)
}

fn client_config_of(provider: CryptoProvider, trusted: &[&Pair], versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for pair in trusted {
        roots.add(pair.der.clone()).unwrap();
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(versions).unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

type Client = StreamOwned<ClientConnection, TcpStream>;

fn connect(address: SocketAddr, config: &Arc<ClientConfig>, name: &'static str) -> Client {
    let name = ServerName::try_from(name).unwrap();
    StreamOwned::new(ClientConnection::new(config.clone(), name).unwrap(), TcpStream::connect(address).unwrap())
}

/// Sends a request with `body`; `other` are further header lines.
fn request(client: &mut (impl Read + Write), path: &str, other: &str, body: &[u8]) {
    let head = format!("PUT {path} HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n{other}\r\n", body.len());
    client.write_all(head.as_bytes()).unwrap();
    client.write_all(body).unwrap();
    client.flush().unwrap();
}

fn assert_echo(client: &mut (impl Read + Write), body: &[u8]) {
    request(client, "/", "", body);
    let expected = [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat();
    let mut answer = vec![0; expected.len()];
    client.read_exact(&mut answer).unwrap();
    assert!(answer == expected, "the answer is not what was sent");
}

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|index| (index * 31 + index / 251) as u8).collect()
}

fn presented(client: &Client) -> CertificateDer<'static> {
    client.conn.peer_certificates().unwrap()[0].clone().into_owned()
}

#[test]
fn both_versions_carry_http_1_1() {
    let pair = Pair::new(&["a.test"]);
    with_server(&settings(&[&pair]), LONG, None, |address| {
        for (wanted, expected) in [(&version::TLS12, ProtocolVersion::TLSv1_2), (&version::TLS13, ProtocolVersion::TLSv1_3)] {
            let mut client = connect(address, &Arc::new(client_config(&[&pair], &[wanted])), "a.test");
            assert_echo(&mut client, b"one");
            assert_echo(&mut client, &pattern(100_000));
            assert_echo(&mut client, b"");
            assert_eq!(client.conn.protocol_version(), Some(expected));
            assert_eq!(client.conn.alpn_protocol(), Some(b"http/1.1".as_slice()));
        }
    });
}

#[test]
fn the_cheapest_suite_is_chosen_unless_the_client_offers_others_only() {
    use CipherSuite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256};
    let pair = Pair::new(&["a.test"]);
    let negotiated = |offered: &[CipherSuite]| {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites.retain(|suite| offered.contains(&suite.suite()));
        provider.cipher_suites.sort_by_key(|suite| offered.iter().position(|offered| *offered == suite.suite()));
        let config = Arc::new(client_config_of(provider, &[&pair], &[&version::TLS13]));
        let mut chosen = None;
        with_server(&settings(&[&pair]), LONG, None, |address| {
            let mut client = connect(address, &config, "a.test");
            assert_echo(&mut client, &pattern(40_000));
            chosen = client.conn.negotiated_cipher_suite().map(|suite| suite.suite());
        });
        chosen.unwrap()
    };
    let as_openssl = [TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256, TLS13_AES_128_GCM_SHA256];
    assert_eq!(negotiated(&as_openssl), TLS13_AES_128_GCM_SHA256);
    assert_eq!(negotiated(&[TLS13_AES_256_GCM_SHA384]), TLS13_AES_256_GCM_SHA384);
    assert_eq!(negotiated(&[TLS13_CHACHA20_POLY1305_SHA256]), TLS13_CHACHA20_POLY1305_SHA256);
}

/// RFC 7301 section 3.2: no protocol in common is a fatal alert; a client without ALPN is served.
#[test]
fn other_application_protocols_are_refused() {
    let pair = Pair::new(&["a.test"]);
    with_server(&settings(&[&pair]), LONG, None, |address| {
        let mut config = client_config(&[&pair], &[&version::TLS13]);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let error = connect(address, &Arc::new(config.clone()), "a.test").write_all(b"x").unwrap_err();
        assert_eq!(rustls_error(&error), rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol));
        config.alpn_protocols.clear();
        assert_echo(&mut connect(address, &Arc::new(config), "a.test"), b"no ALPN");
    });
}

fn rustls_error(error: &std::io::Error) -> rustls::Error {
    error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).unwrap_or_else(|| panic!("{error:?}")).clone()
}

#[test]
fn the_server_name_chooses_the_certificate() {
    let first = Pair::new(&["first.test", "127.0.0.1"]);
    let (exact, wild) = (Pair::new(&["exact.test"]), Pair::new(&["*.wild.test"]));
    with_server(&settings(&[&first, &exact, &wild]), LONG, None, |address| {
        for version in [&version::TLS12, &version::TLS13] {
            let config = Arc::new(client_config(&[&first, &exact, &wild], &[version]));
            let by_name = [("exact.test", &exact), ("bucket.wild.test", &wild), ("first.test", &first), ("127.0.0.1", &first)];
            for (name, expected) in by_name {
                let mut client = connect(address, &config, name);
                assert_echo(&mut client, name.as_bytes());
                assert_eq!(presented(&client), expected.der, "{name}");
            }
            // A wildcard is for one label (RFC 9525 section 6.3), and a name of nobody gets the first.
            for name in ["a.b.wild.test", "unknown.test"] {
                let error = connect(address, &config, name).write_all(b"x").unwrap_err();
                let text = rustls_error(&error).to_string();
                assert!(text.contains("first.test"), "{name}: {text}");
            }
        }
    });
}

#[test]
fn a_certificate_that_the_client_can_verify_goes_first() {
    let (ecdsa, ed25519) = (Pair::new(&["a.test"]), Pair::ed25519(&["a.test"]));
    with_server(&settings(&[&ecdsa, &ed25519]), LONG, None, |address| {
        let mut provider = aws_lc_rs::default_provider();
        let all = provider.signature_verification_algorithms;
        let only = all.mapping.iter().copied().filter(|(scheme, _)| *scheme == SignatureScheme::ED25519).collect::<Vec<_>>();
        provider.signature_verification_algorithms = WebPkiSupportedAlgorithms { all: all.all, mapping: Vec::leak(only) };
        let only_ed25519 = client_config_of(provider, &[&ecdsa, &ed25519], &[&version::TLS13]);
        let any = client_config(&[&ecdsa, &ed25519], &[&version::TLS13]);
        for (config, expected) in [(only_ed25519, &ed25519), (any, &ecdsa)] {
            let mut client = connect(address, &Arc::new(config), "a.test");
            assert_echo(&mut client, b"x");
            assert_eq!(presented(&client), expected.der);
        }
    });
}

#[test]
fn a_mebibyte_both_ways_through_tiny_socket_buffers() {
    let pair = Pair::new(&["a.test"]);
    for (buffer_size, body_size) in [(4096, 40_000), (48 * 1024, 1024 * 1024)] {
        with_server(&settings(&[&pair]), LONG, Some(buffer_size), |address| {
            for version in [&version::TLS12, &version::TLS13] {
                let mut client = connect(address, &Arc::new(client_config(&[&pair], &[version])), "a.test");
                socket2::SockRef::from(&client.sock).set_recv_buffer_size(buffer_size).unwrap();
                assert_echo(&mut client, &pattern(body_size));
                assert_echo(&mut client, b"and once more");
            }
        });
    }
}

/// A network that carries one byte at a time.
struct ByteWise(TcpStream);

impl Read for ByteWise {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let size = into.len().min(1);
        self.0.read(&mut into[..size])
    }
}

impl Write for ByteWise {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(&bytes[..bytes.len().min(1)])
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

#[test]
fn segments_of_one_byte() {
    let pair = Pair::new(&["a.test"]);
    with_server(&settings(&[&pair]), LONG, None, |address| {
        for version in [&version::TLS12, &version::TLS13] {
            let config = Arc::new(client_config(&[&pair], &[version]));
            let connection = ClientConnection::new(config, ServerName::try_from("a.test").unwrap()).unwrap();
            let stream = TcpStream::connect(address).unwrap();
            stream.set_nodelay(true).unwrap();
            assert_echo(&mut StreamOwned::new(connection, ByteWise(stream)), &pattern(20_000));
        }
    });
}

/// RFC 8446 section 6.1. rustls' client reports an end without close_notify as an error.
#[test]
fn the_end_is_announced_unless_the_answer_was_cut_off() {
    let pair = Pair::new(&["a.test"]);
    with_server(&settings(&[&pair]), LONG, None, |address| {
        for version in [&version::TLS12, &version::TLS13] {
            let config = Arc::new(client_config(&[&pair], &[version]));
            let mut answer = Vec::new();
            let mut client = connect(address, &config, "a.test");
            request(&mut client, "/", "Connection: close\r\n", b"last");
            client.read_to_end(&mut answer).unwrap();
            assert!(answer.ends_with(b"\r\n\r\nlast"));

            // The client ends its side first, and still gets its answer.
            let mut client = connect(address, &config, "a.test");
            request(&mut client, "/", "", b"half");
            client.conn.send_close_notify();
            client.flush().unwrap();
            answer.clear();
            client.read_to_end(&mut answer).unwrap();
            assert!(answer.ends_with(b"\r\n\r\nhalf"));

            let mut client = connect(address, &config, "a.test");
            request(&mut client, "/abort", "", b"cut");
            let error = client.read_to_end(&mut Vec::new()).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{error}");
        }
    });
}

#[test]
fn what_is_not_tls_is_refused_with_an_alert() {
    let pair = Pair::new(&["a.test"]);
    with_server(&settings(&[&pair]), LONG, None, |address| {
        let exchange = |sent: &[u8]| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(sent).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).map(|_| answer)
        };
        let answer = exchange(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
        // RFC 8446 section 5.1: 21 is the content type of an alert.
        assert_eq!(answer.first(), Some(&21), "{answer:?}");
        assert_eq!(exchange(b"").unwrap(), b"");
        assert_eq!(exchange(b"\x16\x03\x01").unwrap(), b"");
        let mut state = 1_u64;
        for _ in 0..500 {
            let mut bytes = *b"\x16\x03\x01\x00\x20\x01\x00\x00\x1c\x03\x03______________________________";
            for byte in bytes.iter_mut() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                if state >> 62 == 0 {
                    *byte = (state >> 40) as u8;
                }
            }
            // Whatever the answer, it is an alert or nothing.
            if let Ok(answer) = exchange(&bytes) {
                assert!(answer.first().is_none_or(|byte| *byte == 21), "{answer:?}");
            }
        }
        let config = Arc::new(client_config(&[&pair], &[&version::TLS13]));
        assert_echo(&mut connect(address, &config, "a.test"), b"still there");
    });
}

#[test]
fn a_handshake_that_stalls_ends_with_the_time_of_a_head() {
    let pair = Pair::new(&["a.test"]);
    with_server(&settings(&[&pair]), Duration::from_millis(50), None, |address| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"\x16\x03\x01\x02").unwrap();
        assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0);
    });
}

#[test]
fn a_reload_is_for_new_connections() {
    let (old, new) = (Pair::new(&["a.test"]), Pair::new(&["a.test"]));
    let tls = settings(&[&old]);
    with_server(&tls, LONG, None, |address| {
        let config = Arc::new(client_config(&[&old, &new], &[&version::TLS13]));
        let mut before = connect(address, &config, "a.test");
        assert_echo(&mut before, b"before");
        tls.reload(&[new.files()]).unwrap();
        assert_echo(&mut before, b"goes on");
        assert_eq!(presented(&before), old.der);
        // Without a session to resume.
        let mut config = (*config).clone();
        config.resumption = Resumption::disabled();
        let config = Arc::new(config);
        let mut after = connect(address, &config, "a.test");
        assert_echo(&mut after, b"after");
        assert_eq!(presented(&after), new.der);
        assert!(tls.reload(&[]).is_err());
        let mut unchanged = connect(address, &config, "a.test");
        assert_echo(&mut unchanged, b"unchanged");
        assert_eq!(presented(&unchanged), new.der);
    });
}

#[test]
fn sessions_are_resumed_on_any_core_without_early_data() {
    let pair = Pair::new(&["a.test"]);
    let tls = settings(&[&pair]);
    for version in [&version::TLS12, &version::TLS13] {
        let mut config = client_config(&[&pair], &[version]);
        config.enable_early_data = true;
        let config = Arc::new(config);
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
            // Each on a core of its own.
            with_server(&tls, LONG, None, |address| {
                let mut client = connect(address, &config, "a.test");
                assert!(client.conn.early_data().is_none());
                assert_echo(&mut client, b"x");
                assert_eq!(client.conn.handshake_kind(), Some(expected));
            });
        }
    }
}

#[test]
fn clients_may_renew_their_keys() {
    let pair = Pair::new(&["a.test"]);
    with_server(&settings(&[&pair]), LONG, None, |address| {
        let mut client = connect(address, &Arc::new(client_config(&[&pair], &[&version::TLS13])), "a.test");
        for round in 0..20 {
            assert_echo(&mut client, &pattern(round * 1000));
            client.conn.refresh_traffic_keys().unwrap();
        }
    });
}

/// Drives a server's end by hand, against `client` on a thread of its own.
fn by_hand<F: Future<Output = ()>>(client: impl FnOnce(Client) + Send + 'static, server: impl FnOnce(Tls) -> F) {
    let pair = Pair::new(&["a.test"]);
    let (tls, listener) = (settings(&[&pair]), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let address = listener.local_addr().unwrap();
    let client = std::thread::spawn(move || {
        client(connect(address, &Arc::new(client_config(&[&pair], &[&version::TLS13])), "a.test"));
    });
    let (socket, _) = listener.accept().unwrap();
    socket.set_nonblocking(true).unwrap();
    run_core(Helpers::start(1, || ()).unwrap(), || async {
        let mut server_end = Tls::new(Socket::from_tcp(socket.into()).unwrap(), tls.server()).unwrap();
        while let Err(error) = server_end.try_handshake() {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            server_end.readable().await.unwrap();
        }
        server(server_end).await;
    })
    .unwrap();
    client.join().unwrap();
}

async fn receive(tls: &mut Tls, into: &mut [u8]) -> usize {
    loop {
        match tls.try_receive(into) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => tls.readable().await.unwrap(),
            result => return result.unwrap(),
        }
    }
}

async fn flush(tls: &mut Tls) {
    while tls.try_flush().is_err() {
        tls.writable().await.unwrap();
    }
}

#[test]
fn what_is_decrypted_is_readable_at_once_and_an_idle_connection_holds_no_buffer() {
    let client = |mut client: Client| {
        client.write_all(&pattern(40_000)).unwrap();
        let mut answer = [0; 9];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"thank you");
        client.conn.send_close_notify();
        client.flush().unwrap();
        assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), 0);
    };
    by_hand(client, |mut tls| async move {
        let mut received = Vec::new();
        while received.len() < 40_000 {
            // Smaller than a record, so that plaintext and whole records wait inside where the socket says nothing of them.
            let mut into = [0; 1000];
            let count = receive(&mut tls, &mut into).await;
            received.extend_from_slice(&into[..count]);
            assert!(tls.held.capacity() <= TLS_HELD_SIZE_MAX + TLS_RECORD_SIZE_MAX);
        }
        assert!(received == pattern(40_000));
        assert_eq!(tls.try_receive(&mut [0; 10]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(tls.try_send(b"thank you", false).unwrap(), 9);
        flush(&mut tls).await;
        assert_eq!((tls.held.capacity(), tls.plain.bytes.capacity(), tls.outgoing.bytes.capacity()), (0, 0, 0));
        assert_eq!(receive(&mut tls, &mut [0; 10]).await, 0);
        tls.shutdown(Shutdown::Write);
    });
}

#[test]
fn what_a_client_does_not_take_is_bounded() {
    let (accepted_sender, accepted) = std::sync::mpsc::channel();
    let client = move |mut client: Client| {
        client.write_all(b"go").unwrap();
        let size: usize = accepted.recv().unwrap();
        let mut taken = vec![0; size];
        client.read_exact(&mut taken).unwrap();
        assert!(taken == pattern(size));
        client.write_all(b"done").unwrap();
    };
    by_hand(client, |mut tls| async move {
        assert_eq!(receive(&mut tls, &mut [0; 2]).await, 2);
        let bytes = pattern(64 * 1024 * 1024);
        let mut sent = 0;
        let error = loop {
            match tls.try_send(&bytes[sent..], true) {
                Ok(count) => sent += count,
                Err(error) => break error,
            }
            assert!(sent < bytes.len(), "a loopback socket holds less");
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert!(!tls.outgoing.is_empty() && tls.outgoing.bytes.capacity() <= TLS_OUTGOING_SIZE_MAX);
        accepted_sender.send(sent).unwrap();
        flush(&mut tls).await;
        assert_eq!(receive(&mut tls, &mut [0; 10]).await, 4);
    });
}

/// A client that dies at any step of the handshake ends the connection, and nothing else.
#[test]
fn a_client_may_die_at_every_step_of_the_handshake() {
    let pair = Pair::new(&["a.test"]);
    let tls = settings(&[&pair]);
    let config = Arc::new(client_config(&[&pair], &[&version::TLS13]));
    let mut hello = Vec::new();
    ClientConnection::new(config, ServerName::try_from("a.test").unwrap()).unwrap().write_tls(&mut hello).unwrap();
    for death in [Death::Fin, Death::Reset] {
        for dies_at in 0.. {
            let wire = Wire::new(hello.clone(), dies_at, death, 200);
            let end = Socket::Sim(wire.end());
            let transport = Transport::Tls(Box::new(Tls::new(end, tls.server()).unwrap()));
            run_core(Helpers::start(1, || ()).unwrap(), || async {
                let watchers = Watchers::new(100);
                connection(transport, None, watchers.admit().await, &room(), Arc::new(timeouts(LONG)), Rc::new(echo)).await;
                assert_eq!(watchers.count(), 0);
            })
            .unwrap();
            if !wire.client_died() {
                // The whole flight of the server arrived: 22 is the content type of a handshake record.
                assert_eq!(wire.to_client.borrow().first(), Some(&22));
                break;
            }
        }
    }
}

/// A conversation in memory, in which the client's byte number `flipped` is damaged on its way. What the server has read.
fn converse(tls: &TlsSettings, config: &Arc<ClientConfig>, flipped: usize) -> (usize, Vec<u8>) {
    let mut client = ClientConnection::new(config.clone(), ServerName::try_from("a.test").unwrap()).unwrap();
    client.writer().write_all(b"hello").unwrap();
    let mut server = Session::new(tls.server()).unwrap();
    let (mut sent, mut held, mut read) = (0, Vec::new(), Vec::new());
    while client.wants_write() {
        let from = held.len();
        let count = client.write_tls(&mut held).unwrap();
        if let Some(byte) = flipped.checked_sub(sent).and_then(|at| held[from..].get_mut(at)) {
            *byte ^= 0x41;
        }
        sent += count;
        let mut outgoing = Vec::new();
        loop {
            let Ok(processed) = server.process(&mut held, &mut [], &mut read, &mut outgoing) else { return (sent, read) };
            held.drain(..processed.consumed);
            if processed.next != Next::Room {
                break;
            }
        }
        let mut answer = &outgoing[..];
        while !answer.is_empty() {
            client.read_tls(&mut answer).unwrap();
            if client.process_new_packets().is_err() {
                return (sent, read);
            }
        }
    }
    (sent, read)
}

/// No damage makes the server panic, or take for the client's what it did not send.
#[test]
fn damage_at_any_byte_is_noticed() {
    let pair = Pair::new(&["a.test"]);
    let tls = settings(&[&pair]);
    for version in [&version::TLS12, &version::TLS13] {
        let mut config = client_config(&[&pair], &[version]);
        config.resumption = Resumption::disabled();
        let config = Arc::new(config);
        let (size, read) = converse(&tls, &config, usize::MAX);
        assert_eq!(read, b"hello");
        for flipped in (0..size).step_by(2) {
            let (_, read) = converse(&tls, &config, flipped);
            assert!(read.is_empty() || read == b"hello", "{flipped}: {read:?}");
        }
    }
}
