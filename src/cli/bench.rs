//! `sluice bench`: what was asked for, and what is printed.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::base::secret::Secret;
use crate::bench::{self, BenchError, Credentials, Operation, PayloadMode, Settings, Source, Trust};
use crate::config::{Cores, values};
use crate::server::{EXIT_RUNTIME, EXIT_USAGE, Signals};

/// Measure an S3 endpoint: throughput, latencies, and what they cost
#[derive(Args)]
#[command(
    after_help = "Without --key-file or --list-existing it puts the objects it needs below --prefix, makes the bucket where it is missing, \
                  and takes both away again. Requests are signed once and replayed.\n\n\
                  put writes a new key each time, or with --objects N the same N keys in turn; delete deletes each prepared object once; \
                  list asks for a page behind a random key; mixed is 45 % get, 30 % head, 15 % put, 10 % delete.\n\n\
                  With --rate a request is sent at its time whatever became of the one before, and its latency counts from that \
                  time: a server that stalls cannot hide it.\n\n\
                  Keys: --access-key and --secret-key, else AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN), else \
                  SLUICE_ROOT_ACCESS_KEY and SLUICE_ROOT_SECRET_KEY.\n\n\
                  Ctrl-C ends the measurement, prints the report and clears up; a second one ends at once. Exit codes: 0, 1 for \
                  any error (a server that is gone and objects left behind are some), 2 for a wrong command line."
)]
pub(super) struct Arguments {
    /// What each request does
    #[arg(value_enum)]
    operation: Wanted,
    /// The server: http://HOST:PORT or https://HOST:PORT
    #[arg(long, value_name = "URL", env = "AWS_ENDPOINT_URL", default_value = "http://127.0.0.1:9000")]
    endpoint: String,
    /// The bucket; made, and deleted in the end, where it is missing
    #[arg(long, default_value = "sluice-bench")]
    bucket: String,
    /// Access key
    #[arg(long, value_name = "KEY")]
    access_key: Option<String>,
    /// Secret key; others can see it on a command line, and not in the environment
    #[arg(long, value_name = "KEY")]
    secret_key: Option<String>,
    /// Region that requests are signed for
    #[arg(long, env = "AWS_REGION", default_value = "us-east-1", value_parser = values::region)]
    region: String,
    /// https: believe any certificate
    #[arg(long, conflicts_with = "ca_file")]
    insecure: bool,
    /// https: believe these authorities (PEM) instead of the system's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Bytes of an object, such as 4KiB or 10MiB [default: 4KiB]
    #[arg(long, value_parser = values::size)]
    size: Option<u64>,
    /// Objects to prepare, or keys to put in turn [default: 1000; put: a new key each time]
    #[arg(long, value_name = "N")]
    objects: Option<u64>,
    /// What all keys begin with
    #[arg(long, default_value = "sluice-bench/")]
    prefix: String,
    /// Folders to spread the keys over
    #[arg(long, value_name = "N", default_value_t = 1)]
    folders: u64,
    /// Use the keys in this file, one a line, and prepare nothing
    #[arg(long, value_name = "FILE", conflicts_with = "list_existing")]
    key_file: Option<PathBuf>,
    /// Use what the bucket holds below --prefix, and prepare nothing
    #[arg(long)]
    list_existing: bool,
    /// put: how the signature covers the body
    #[arg(long, value_enum, default_value_t = PayloadWanted::Unsigned)]
    payload: PayloadWanted,
    /// get: only so many bytes, at a random multiple of them
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    range: Option<u64>,
    /// get: the ETag has to be the one that the object had before
    #[arg(long)]
    verify: bool,
    /// list: keys of a page
    #[arg(long, value_name = "N", default_value_t = 1000)]
    max_keys: u64,
    /// Connections, and so requests at a time
    #[arg(long, value_name = "N", default_value_t = 64)]
    connections: usize,
    /// Threads that share the connections [default: 1, or one for each of --cores]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// CPUs to pin the threads to, such as 0,2-5
    #[arg(long, value_name = "LIST", value_parser = cores)]
    cores: Option<CoreList>,
    /// Requests a second, sent at their times (open loop), instead of as fast as answers come
    #[arg(long, value_name = "N")]
    rate: Option<u64>,
    /// How long to measure
    #[arg(long, default_value = "10s", value_parser = values::timeout)]
    duration: Duration,
    /// How long to do the same before, unmeasured; 0 for not at all
    #[arg(long, default_value = "1s", value_parser = duration_or_zero)]
    warmup: Duration,
    /// How long a request may go without a byte before it has failed
    #[arg(long, default_value = "60s", value_parser = values::timeout)]
    timeout: Duration,
    /// Leave the objects and the bucket behind
    #[arg(long)]
    keep: bool,
    /// A process of the server on this machine, whose CPU time and memory to report; may be given several times
    #[arg(long, value_name = "PID")]
    server_pid: Vec<u32>,
    /// Print JSON instead of the page for people
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Wanted {
    Get,
    Put,
    #[value(alias = "stat")]
    Head,
    List,
    Delete,
    Mixed,
}

#[derive(Clone, Copy, ValueEnum)]
enum PayloadWanted {
    /// UNSIGNED-PAYLOAD
    Unsigned,
    /// The SHA-256 of the body
    Signed,
    /// Signed chunks of 64 KiB, as warp sends them over http
    Streaming,
}

/// A list of CPUs; a name of its own, because clap takes a bare `Vec` for an option that repeats.
#[derive(Clone)]
struct CoreList(Vec<usize>);

fn cores(text: &str) -> Result<CoreList, values::Remedy> {
    match values::cores(text)? {
        Cores::List(list) => Ok(CoreList(list)),
        Cores::Auto => Err("write CPU numbers and ranges such as 0,2-5"),
    }
}

fn duration_or_zero(text: &str) -> Result<Duration, values::Remedy> {
    if matches!(text, "0" | "0s") { Ok(Duration::ZERO) } else { values::timeout(text) }
}

/// Measures, and prints what came of it.
pub(super) fn run(arguments: Arguments) -> ExitCode {
    let is_json = arguments.json;
    let stop = Arc::new(AtomicBool::new(false));
    let outcome = arguments.settings().and_then(|settings| {
        watch_signals(&stop)?;
        bench::run(settings, &stop, &progress)
    });
    let (text, code) = match &outcome {
        Ok(report) if is_json => (report.to_json() + "\n", report.has_failed()),
        Ok(report) => (report.to_string(), report.has_failed()),
        Err(error) => {
            // Nothing is left to be done when standard error is closed.
            let _ = writeln!(std::io::stderr(), "sluice: {error}");
            return ExitCode::from(if matches!(error, BenchError::Usage(_)) { EXIT_USAGE } else { EXIT_RUNTIME });
        }
    };
    if std::io::stdout().write_all(text.as_bytes()).is_err() || code {
        return ExitCode::from(EXIT_RUNTIME);
    }
    ExitCode::SUCCESS
}

/// One line a second for whoever sits there.
fn progress(line: &str) {
    if std::io::stderr().is_terminal() {
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

/// The first signal ends the measurement, the second the process.
fn watch_signals(stop: &Arc<AtomicBool>) -> Result<(), BenchError> {
    let (sender, events) = mpsc::channel();
    let watched = Signals::block().and_then(|signals| signals.forward(sender));
    watched.map_err(|fatal| BenchError::Refused(fatal.to_string()))?;
    let stop = Arc::clone(stop);
    let thread = std::thread::Builder::new().name("stop".to_owned());
    let spawned = thread.spawn(move || {
        if events.recv().is_ok() {
            stop.store(true, Ordering::Relaxed);
        }
        // Kept to the end: what sends into it ends the process at the second signal.
        while events.recv().is_ok() {}
    });
    spawned.map(drop).map_err(|error| BenchError::Refused(format!("starting a thread: {error}")))
}

impl Arguments {
    fn settings(self) -> Result<Settings, BenchError> {
        let credentials = credentials(self.access_key, self.secret_key)?;
        let cores = self.cores.map_or_else(Vec::new, |list| list.0);
        let threads = self.threads.unwrap_or(cores.len().max(1));
        Ok(Settings {
            operation: match self.operation {
                Wanted::Get => Some(Operation::Get),
                Wanted::Put => Some(Operation::Put),
                Wanted::Head => Some(Operation::Head),
                Wanted::List => Some(Operation::List),
                Wanted::Delete => Some(Operation::Delete),
                Wanted::Mixed => None,
            },
            endpoint: self.endpoint,
            trust: match self.ca_file {
                Some(path) => Trust::File(path),
                None if self.insecure => Trust::Nobody,
                None => Trust::System,
            },
            region: self.region,
            credentials,
            bucket: self.bucket,
            prefix: self.prefix,
            folders: self.folders,
            objects: self.objects,
            size: self.size,
            source: match self.key_file {
                Some(path) => Source::KeyFile(path),
                None if self.list_existing => Source::Existing,
                None => Source::Prepared,
            },
            payload: match self.payload {
                PayloadWanted::Unsigned => PayloadMode::Unsigned,
                PayloadWanted::Signed => PayloadMode::Signed,
                PayloadWanted::Streaming => PayloadMode::Streaming,
            },
            range: self.range,
            verify: self.verify,
            max_keys: self.max_keys,
            connections: self.connections,
            threads,
            cores,
            rate: self.rate,
            warmup: self.warmup,
            duration: self.duration,
            timeout: self.timeout,
            keep: self.keep,
            server_pids: self.server_pid,
        })
    }
}

/// From the flags, else from the environment: never one half from each.
fn credentials(access_key: Option<String>, secret_key: Option<String>) -> Result<Credentials, BenchError> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let missing = || {
        let remedy =
            "no keys to sign with: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give --access-key and --secret-key";
        BenchError::Usage(remedy.to_owned())
    };
    let pair = |access: Option<String>, secret: Option<String>| match (access, secret) {
        (Some(access_key), Some(secret)) => Ok(Some((access_key, Secret::new(secret)))),
        (None, None) => Ok(None),
        _ => Err(missing()),
    };
    if let Some((access_key, secret_key)) = pair(access_key, secret_key)? {
        return Ok(Credentials { access_key, secret_key, session_token: None });
    }
    if let Some((access_key, secret_key)) = pair(variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY"))? {
        return Ok(Credentials { access_key, secret_key, session_token: variable("AWS_SESSION_TOKEN").map(Secret::new) });
    }
    let root = pair(variable("SLUICE_ROOT_ACCESS_KEY"), variable("SLUICE_ROOT_SECRET_KEY"))?;
    let (access_key, secret_key) = root.ok_or_else(missing)?;
    Ok(Credentials { access_key, secret_key, session_token: None })
}
