//! The built binary from outside: exit codes, messages, signals, root keys.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// The command with nothing of the caller's environment that speaks to it.
fn sluice(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SLUICE_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn finish(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (status.code().expect("not ended by a signal"), text(stdout), text(stderr))
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A server that has said where it listens; killed when the test ends.
struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    banner: String,
}

impl Server {
    fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("the binary runs");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut banner = String::new();
        while !banner.contains("  try ") {
            if stdout.read_line(&mut banner).expect("UTF-8") == 0 {
                let mut stderr = String::new();
                child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("UTF-8");
                panic!("no start message, but: {stderr}");
            }
        }
        Self { child, stdout, banner }
    }

    fn on(directory: &Path) -> Self {
        Self::start(&mut sluice(&["serve", path(directory), "--listen", "127.0.0.1:0"]))
    }

    fn address(&self) -> SocketAddr {
        let line = self.banner.lines().find(|line| line.contains("endpoint")).expect("an endpoint");
        let (_, address) = line.split_once("://").expect("a URL");
        address.parse().expect("an address")
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the process is there");
    }

    /// Exit code, the rest of standard output, and standard error.
    fn end(mut self) -> (i32, String, String) {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.stdout.read_to_string(&mut stdout).expect("UTF-8");
        self.child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("UTF-8");
        (self.child.wait().expect("wait").code().expect("not ended by a signal"), stdout, stderr)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already ended, or about to be: both are fine here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn version_has_the_commit() {
    let (code, stdout, _) = finish(&mut sluice(&["--version"]));
    assert_eq!(code, 0);
    let expected = format!("sluice {} (", env!("CARGO_PKG_VERSION"));
    assert!(stdout.starts_with(&expected), "{stdout}");
    let commit = stdout.trim_end().trim_end_matches(')').rsplit('(').next().expect("parenthesis");
    let is_hash = commit.len() >= 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(is_hash || commit == "unknown", "{commit}");
    let head = Command::new("git").args(["-C", env!("CARGO_MANIFEST_DIR"), "rev-parse", "HEAD"]).output();
    if let Some(head) = head.ok().filter(|head| head.status.success()) {
        assert_eq!(commit, String::from_utf8_lossy(&head.stdout).trim());
    }
}

#[test]
fn help_mentions_every_option_and_the_keys() {
    let (code, stdout, _) = finish(&mut sluice(&["serve", "--help"]));
    assert_eq!(code, 0);
    let options = [
        "listen",
        "metrics-listen",
        "cores",
        "config-dir",
        "tls-cert",
        "tls-key",
        "domain",
        "durability",
        "read-mode",
        "region",
        "buffer-memory",
        "request-memory",
        "drain-timeout",
        "log-level",
        "log-requests",
        "head-timeout",
        "idle-timeout",
        "body-stall-timeout",
        "total-timeout",
        "minimum-rate",
        "connections-per-core-max",
        "root-access-key-file",
        "root-secret-key-file",
        "config",
    ];
    for option in options {
        assert!(stdout.contains(&format!("--{option} ")) || stdout.contains(&format!("--{option}[")), "--{option}");
        let variable = format!("[env: SLUICE_{}]", option.replace('-', "_").to_uppercase());
        assert!(stdout.contains(&variable), "{variable}");
    }
    for word in ["SLUICE_ROOT_ACCESS_KEY", "SLUICE_ROOT_SECRET_KEY", "SLUICE_DIRECTORY", "SIGTERM", "78"] {
        assert!(stdout.contains(word), "{word}");
    }
    let (code, stdout, _) = finish(&mut sluice(&["--help"]));
    assert_eq!((code, stdout.contains("serve")), (0, true));
}

#[test]
fn help_of_bench_mentions_what_it_can_do() {
    let (code, stdout, _) = finish(&mut sluice(&["bench", "--help"]));
    assert_eq!(code, 0);
    let options =
        ["endpoint", "bucket", "access-key", "secret-key", "region", "insecure", "ca-file", "size", "objects", "prefix"]
            .into_iter()
            .chain(["folders", "key-file", "list-existing", "payload", "range", "verify", "max-keys", "connections", "threads"])
            .chain(["cores", "rate", "duration", "warmup", "timeout", "keep", "server-pid", "json"]);
    for option in options {
        assert!(stdout.contains(&format!("--{option}")), "--{option}");
    }
    for word in ["get, put, head, list, delete, mixed", "AWS_ACCESS_KEY_ID", "SLUICE_ROOT_ACCESS_KEY", "Ctrl-C", "Exit codes"] {
        assert!(stdout.contains(word), "{word}");
    }
}

#[test]
fn wrong_command_lines_are_2() {
    let cases: [&[&str]; 10] = [
        &["bench"],
        &["bench", "get", "--insecure", "--ca-file", "x"],
        &["bench", "get", "--cores", "auto"],
        &["serve", "/tmp", "--no-such-flag"],
        &["no-such-verb"],
        &["serve", "/tmp", "--region", "a", "--region", "b"],
        &["serve", "/tmp", "--buffer-memory", "plenty"],
        &["serve", "/tmp", "--listen", "example.org:9000"],
        &["serve"],
        &[],
    ];
    for arguments in cases {
        let (code, stdout, stderr) = finish(&mut sluice(arguments));
        assert_eq!(code, 2, "{arguments:?}: {stderr}");
        assert!(stdout.is_empty() && !stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn wrong_configurations_are_78_and_named() {
    let root = tempfile::tempdir().expect("temporary directory");
    let data = root.path().join("data");
    std::fs::create_dir(&data).expect("create");
    let file = root.path().join("sluice.toml");
    std::fs::write(&file, "regoin = 'eu'\n").expect("write");
    let missing = root.path().join("absent");
    let below_missing = missing.join("below");
    let secret = ("SLUICE_ROOT_SECRET_KEY", "12345678");
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a [&'a str]);
    let served = data.join("config");
    let cases: [Case<'_>; 10] = [
        (&[], &[("SLUICE_DURABILITY", "very")], &["SLUICE_DURABILITY", "acked, strict or relaxed"]),
        (&["--config", path(&file)], &[], &["sluice.toml", "regoin", "line 1"]),
        (&[], &[("SLUICE_CONFIG", path(&missing))], &["absent", "No such file"]),
        (&[], &[secret], &["SLUICE_ROOT_ACCESS_KEY"]),
        (&[], &[secret, ("SLUICE_ROOT_ACCESS_KEY", "a/b")], &["environment", "access key"]),
        (&["--tls-cert", "c.pem"], &[], &["--tls-key"]),
        (&["--listen", "https://127.0.0.1:0"], &[], &["https", "--tls-cert"]),
        (&["--config-dir", path(&served)], &[], &["--config-dir", "below .sluice"]),
        (&["--cores", "1023"], &[], &["1023", "taskset"]),
        (&[], &[("SLUICE_DIRECTORY", path(&below_missing))], &["absent", "mkdir"]),
    ];
    for (flags, variables, parts) in cases {
        let mut command = sluice(&[&["serve", "--listen", "127.0.0.1:0"], flags].concat());
        command.env("SLUICE_DIRECTORY", &data).envs(variables.iter().copied());
        let (code, stdout, stderr) = finish(&mut command);
        assert_eq!(code, 78, "{stderr}");
        assert!(stdout.is_empty());
        for part in parts {
            assert!(stderr.contains(part), "{part} is missing in {stderr}");
        }
        assert!(!stderr.contains("12345678"), "a secret was printed");
    }
}

#[test]
fn directories_that_cannot_be_served_are_named() {
    let root = tempfile::tempdir().expect("temporary directory");
    let file = root.path().join("file");
    std::fs::write(&file, "").expect("write");
    let (code, _, stderr) = finish(&mut sluice(&["serve", path(&file)]));
    assert_eq!((code, stderr.contains("not a directory")), (78, true), "{stderr}");

    let server = Server::on(root.path());
    let (code, _, stderr) = finish(&mut sluice(&["serve", path(root.path()), "--listen", "127.0.0.1:0"]));
    assert_eq!((code, stderr.contains("another Sluice")), (1, true), "{stderr}");
    assert!(stderr.contains(&server.child.id().to_string()), "the message names the other process: {stderr}");
}

#[test]
fn a_taken_port_is_named() {
    let (first, second) = (tempfile::tempdir().expect("temporary"), tempfile::tempdir().expect("temporary"));
    let refused = |address: SocketAddr| {
        let listen = address.to_string();
        let (code, _, stderr) = finish(&mut sluice(&["serve", path(second.path()), "--listen", &listen]));
        assert_eq!(code, 1, "{stderr}");
        assert!(stderr.contains(&listen) && stderr.contains("the port is taken"), "{stderr}");
    };
    // Another program, and another Sluice, whose listeners would let ours in silently.
    let other = TcpListener::bind("127.0.0.1:0").expect("bind");
    refused(other.local_addr().expect("address"));
    refused(Server::on(first.path()).address());
}

#[test]
fn flags_win_over_environment_over_file() {
    let root = tempfile::tempdir().expect("temporary directory");
    let file = root.path().join("sluice.toml");
    let directory = root.path().join("from file");
    std::fs::create_dir(&directory).expect("create");
    let text = format!("directory = '{}'\nlisten = '127.0.0.1:0'\nregion = 'from-file'\n", path(&directory));
    std::fs::write(&file, text).expect("write");
    let region = |command: &mut Command| {
        let server = Server::start(command);
        let (_, after) = server.banner.split_once("AWS_REGION=").expect("a region");
        after.split(' ').next().expect("a word").to_owned()
    };
    let serve = ["serve", "--config", path(&file)];
    assert_eq!(region(&mut sluice(&serve)), "from-file");
    assert_eq!(region(sluice(&serve).env("SLUICE_REGION", "")), "from-file");
    assert_eq!(region(sluice(&serve).env("SLUICE_REGION", "from-environment")), "from-environment");
    let flags = [&serve[..], &["--region", "from-flag"]].concat();
    assert_eq!(region(sluice(&flags).env("SLUICE_REGION", "from-environment")), "from-flag");
    assert_eq!(region(sluice(&["serve"]).env("SLUICE_CONFIG", path(&file))), "from-file");
}

#[test]
fn a_generated_pair_is_kept_private_and_never_printed() {
    let root = tempfile::tempdir().expect("temporary directory");
    let stored = root.path().join(".sluice/config/root.toml");
    let server = Server::on(root.path());
    assert!(server.banner.contains("a new pair was generated") && server.banner.contains(path(&stored)), "{}", server.banner);
    server.signal(Signal::TERM);
    let banner = server.banner.clone();
    let (code, stdout, stderr) = server.end();
    assert_eq!(code, 0, "{stderr}");
    let text = std::fs::read_to_string(&stored).expect("the pair");
    let secret = text.rsplit("secret_key = \"").next().and_then(|rest| rest.split('"').next()).expect("a secret");
    assert_eq!(secret.len(), 40);
    for output in [&banner, &stdout, &stderr] {
        assert!(!output.contains(secret), "the secret was printed");
    }
    assert_eq!(std::fs::metadata(&stored).expect("stat").permissions().mode() & 0o777, 0o600);

    let again = Server::on(root.path());
    assert!(again.banner.contains("kept in") && !again.banner.contains("new pair"), "{}", again.banner);
    assert_eq!(std::fs::read_to_string(&stored).expect("the pair"), text);
    drop(again);

    std::fs::set_permissions(&stored, PermissionsExt::from_mode(0o644)).expect("chmod");
    let (code, _, stderr) = finish(&mut sluice(&["serve", path(root.path()), "--listen", "127.0.0.1:0"]));
    assert_eq!((code, stderr.contains("chmod 600")), (78, true), "{stderr}");
}

#[test]
fn given_keys_are_used_and_nothing_is_stored() {
    let root = tempfile::tempdir().expect("temporary directory");
    let file = root.path().join("secret");
    std::fs::write(&file, "correct-horse\n").expect("write");
    let data = root.path().join("data");
    std::fs::create_dir(&data).expect("create");
    let mut command = sluice(&["serve", path(&data), "--listen", "127.0.0.1:0"]);
    command.env("SLUICE_ROOT_ACCESS_KEY", "operator").env("SLUICE_ROOT_SECRET_KEY_FILE", path(&file));
    let server = Server::start(&mut command);
    assert!(server.banner.contains("AWS_ACCESS_KEY_ID=operator"), "{}", server.banner);
    assert!(server.banner.contains(&format!("$(cat {})", path(&file))), "{}", server.banner);
    assert!(!data.join(".sluice/config/root.toml").exists());
}

#[test]
fn sigterm_drains_and_ends_with_0_and_the_log_is_json() {
    let root = tempfile::tempdir().expect("temporary directory");
    for signal in [Signal::TERM, Signal::INT] {
        let server = Server::on(root.path());
        assert!(TcpStream::connect(server.address()).is_ok());
        server.signal(signal);
        let (code, _, stderr) = server.end();
        assert_eq!(code, 0, "{stderr}");
        for line in stderr.lines() {
            assert!(line.starts_with('{') && line.ends_with('}') && line.contains("\"level\":"), "no JSON: {line}");
        }
        assert!(stderr.contains("draining") && stderr.contains("stopped"), "{stderr}");
    }
}

#[test]
fn sighup_takes_over_the_level_and_says_what_needs_a_restart() {
    let root = tempfile::tempdir().expect("temporary directory");
    let file = root.path().join("sluice.toml");
    std::fs::write(&file, "log_level = 'warn'\n").expect("write");
    let mut command = sluice(&["serve", path(root.path()), "--listen", "127.0.0.1:0", "--config", path(&file)]);
    let mut server = Server::start(&mut command);
    let mut stderr = BufReader::new(server.child.stderr.take().expect("piped"));
    let mut expect = |word: &str| {
        let mut line = String::new();
        while !line.contains(word) {
            line.clear();
            assert_ne!(stderr.read_line(&mut line).expect("UTF-8"), 0, "the log ended without {word}");
            assert!(!line.contains("\"INFO\"") || word == "configuration reloaded", "level warn lets {line} pass");
        }
    };
    std::fs::write(&file, "log_level = 'loud'\n").expect("write");
    server.signal(Signal::HUP);
    expect("stays as it was");
    std::fs::write(&file, "log_level = 'info'\nregion = 'elsewhere'\n").expect("write");
    server.signal(Signal::HUP);
    expect("next start");
    expect("configuration reloaded");
    assert!(TcpStream::connect(server.address()).is_ok(), "it serves on");
}

#[test]
fn start_message_survives_a_closed_standard_output() {
    let root = tempfile::tempdir().expect("temporary directory");
    let mut child = sluice(&["serve", path(root.path()), "--listen", "127.0.0.1:0"]).spawn().expect("the binary runs");
    drop(child.stdout.take());
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("serving") {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).expect("UTF-8"), 0, "it did not start");
    }
    kill_process(Pid::from_child(&child), Signal::TERM).expect("the process is there");
    let status = child.wait().expect("wait");
    assert_eq!(status.code(), Some(0));
}

/// The table of `store/names/key.rs`, both ways.
#[test]
fn key_prints_both_ways() {
    let long = "x".repeat(300);
    let long_path = format!(".sluice%+{}/.sluice%={}", &long[..200], &long[200..]);
    let pairs = [
        ("a/b.txt", "a/b.txt"),
        ("a//b", "a/.sluice%e/b"),
        ("../x", ".sluice%dd/x"),
        ("dir/", "dir/"),
        (".sluice", ".sluice%r.sluice"),
        (long.as_str(), long_path.as_str()),
    ];
    for (key, path) in pairs {
        for (arguments, expected) in [(vec!["key", key], path), (vec!["key", "--path", path], key)] {
            let output = std::process::Command::new(env!("CARGO_BIN_EXE_sluice")).args(&arguments).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), expected, "{arguments:?}");
            assert!(output.status.success());
        }
    }
    let refused =
        std::process::Command::new(env!("CARGO_BIN_EXE_sluice")).args(["key", "--path", "a/.sluice%x"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
}
