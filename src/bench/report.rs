//! What is said in the end: a page for people, and JSON whose shape stays (`FORMAT`; the README describes it).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::phase::Outcome;
use super::settings::{Operation, Settings};
use super::tally::{ErrorKind, OperationTally, Tally};

/// The version of the JSON's shape: fields may be added to it, and none is removed or changed without another number.
const FORMAT: u32 = 1;
/// The share of its threads' time from which a client may be what was measured.
const CLIENT_BUSY: f64 = 0.85;
const MIB: f64 = 1024.0 * 1024.0;
const GIB: f64 = 1024.0 * MIB;

/// What a run found.
#[derive(Debug)]
pub struct Report {
    settings: Arc<Settings>,
    tally: Tally,
    client_cpu: Duration,
    is_interrupted: bool,
    /// Why it could not go on to its end.
    lost: Option<String>,
    pub(super) server: Option<ServerCost>,
    /// Why what was put is still there.
    pub(super) clean_up: Option<String>,
}

/// What the server's processes used.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerCost {
    pub cpu_seconds: f64,
    pub peak_bytes: u64,
}

impl ErrorKind {
    /// One line.
    pub(super) fn summary(&self) -> String {
        if self.status == 0 { format!("{}: {}", self.example, self.code) } else { self.example.clone() }
    }
}

impl Report {
    pub(super) fn new(settings: &Arc<Settings>, outcome: Outcome, client_cpu: Duration, is_interrupted: bool) -> Self {
        let (settings, Outcome { tally, lost }) = (Arc::clone(settings), outcome);
        Self { settings, tally, client_cpu, is_interrupted, lost, server: None, clean_up: None }
    }

    /// Whether anything went wrong: an error, a lost server, objects left behind.
    pub fn has_failed(&self) -> bool {
        self.tally.error_count() > 0 || self.lost.is_some() || self.clean_up.is_some() || self.requests() == 0
    }

    /// The documented JSON, in one line.
    pub fn to_json(&self) -> String {
        // Numbers, texts and lists of them: nothing that could fail.
        serde_json::to_string(&self.document()).unwrap_or_default()
    }

    fn operations(&self) -> impl Iterator<Item = (Operation, &OperationTally)> {
        Operation::ALL.into_iter().filter_map(|operation| Some((operation, self.tally.operation(operation)?)))
    }

    fn requests(&self) -> u64 {
        self.operations().map(|(_, of)| of.requests).sum()
    }

    fn bytes(&self) -> u64 {
        self.operations().map(|(_, of)| of.bytes).sum()
    }

    fn seconds(&self) -> f64 {
        self.tally.elapsed.as_secs_f64()
    }

    fn is_client_busy(&self) -> bool {
        self.client_cpu.as_secs_f64() > CLIENT_BUSY * self.seconds() * self.settings.threads as f64
    }

    fn document(&self) -> Document<'_> {
        let (settings, seconds) = (&*self.settings, self.seconds());
        let errors = |operation: Operation| {
            self.tally.errors.iter().filter(|kind| kind.operation == operation).map(|kind| kind.count).sum()
        };
        let operations =
            self.operations().map(|(operation, of)| OperationDocument::new(operation, of, errors(operation), seconds));
        Document {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION"),
            operation: settings.operation_name(),
            endpoint: &settings.endpoint,
            bucket: &settings.bucket,
            connections: settings.connections,
            threads: settings.threads,
            rate: settings.rate,
            payload: settings.payload.name(),
            size: settings.put_size(),
            range: settings.range,
            seconds,
            is_interrupted: self.is_interrupted,
            requests: self.requests(),
            errors: self.tally.error_count(),
            bytes: self.bytes(),
            requests_per_s: per(self.requests() as f64, seconds),
            mib_per_s: per(self.bytes() as f64 / MIB, seconds),
            reopened: self.tally.reopened,
            unsent: self.tally.unsent,
            lost: self.lost.as_deref(),
            clean_up: self.clean_up.as_deref(),
            operations: operations.collect(),
            error_kinds: self.tally.errors.iter().map(ErrorDocument::new).collect(),
            client: self.client(),
            server: self.server.map(|cost| self.server_document(cost)),
        }
    }

    fn client(&self) -> ClientDocument {
        let cpu_seconds = self.client_cpu.as_secs_f64();
        ClientDocument {
            cpu_seconds,
            cpu_us_per_request: per(cpu_seconds * 1e6, self.requests() as f64),
            busy_share: per(cpu_seconds, self.seconds() * self.settings.threads as f64),
        }
    }

    fn server_document(&self, cost: ServerCost) -> ServerDocument<'_> {
        ServerDocument {
            pids: &self.settings.server_pids,
            cpu_seconds: cost.cpu_seconds,
            cpu_seconds_per_1000_requests: per(cost.cpu_seconds * 1000.0, self.requests() as f64),
            cpu_seconds_per_gib: per(cost.cpu_seconds * GIB, self.bytes() as f64),
            peak_rss_bytes: cost.peak_bytes,
        }
    }
}

/// The rate of `amount`, 0 where there is nothing to divide by.
fn per(amount: f64, unit: f64) -> f64 {
    if unit > 0.0 { amount / unit } else { 0.0 }
}

#[derive(Serialize)]
struct Document<'a> {
    format: u32,
    version: &'a str,
    operation: &'a str,
    endpoint: &'a str,
    bucket: &'a str,
    connections: usize,
    threads: usize,
    rate: Option<u64>,
    payload: &'a str,
    size: u64,
    range: Option<u64>,
    seconds: f64,
    #[serde(rename = "interrupted")]
    is_interrupted: bool,
    requests: u64,
    errors: u64,
    bytes: u64,
    requests_per_s: f64,
    mib_per_s: f64,
    reopened: u64,
    unsent: u64,
    lost: Option<&'a str>,
    clean_up: Option<&'a str>,
    operations: Vec<OperationDocument>,
    error_kinds: Vec<ErrorDocument<'a>>,
    client: ClientDocument,
    server: Option<ServerDocument<'a>>,
}

#[derive(Serialize)]
struct OperationDocument {
    operation: &'static str,
    requests: u64,
    errors: u64,
    bytes: u64,
    keys: u64,
    requests_per_s: f64,
    mib_per_s: f64,
    first_byte_us: LatencyDocument,
    total_us: LatencyDocument,
}

#[derive(Serialize)]
struct LatencyDocument {
    mean: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    p99_9: f64,
    max: f64,
}

#[derive(Serialize)]
struct ErrorDocument<'a> {
    operation: &'static str,
    status: u16,
    code: &'a str,
    count: u64,
    example: &'a str,
}

#[derive(Serialize)]
struct ClientDocument {
    cpu_seconds: f64,
    cpu_us_per_request: f64,
    busy_share: f64,
}

#[derive(Serialize)]
struct ServerDocument<'a> {
    pids: &'a [u32],
    cpu_seconds: f64,
    cpu_seconds_per_1000_requests: f64,
    cpu_seconds_per_gib: f64,
    peak_rss_bytes: u64,
}

impl OperationDocument {
    fn new(operation: Operation, of: &OperationTally, errors: u64, seconds: f64) -> Self {
        Self {
            operation: operation.name(),
            requests: of.requests,
            errors,
            bytes: of.bytes,
            keys: of.keys,
            requests_per_s: per(of.requests as f64, seconds),
            mib_per_s: per(of.bytes as f64 / MIB, seconds),
            first_byte_us: LatencyDocument::new(&of.first_byte),
            total_us: LatencyDocument::new(&of.total),
        }
    }
}

impl LatencyDocument {
    /// Microseconds of a histogram of nanoseconds.
    fn new(histogram: &Histogram<u64>) -> Self {
        let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        let (mean, max) = (histogram.mean() / 1000.0, histogram.max() as f64 / 1000.0);
        Self { mean, p50: at(0.5), p90: at(0.9), p99: at(0.99), p99_9: at(0.999), max }
    }
}

impl<'a> ErrorDocument<'a> {
    fn new(kind: &'a ErrorKind) -> Self {
        let ErrorKind { operation, status, code, count, example } = kind;
        Self { operation: operation.name(), status: *status, code, count: *count, example }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let document = self.document();
        let loops = match document.rate {
            Some(rate) => format!("{rate} requests/s intended"),
            None => "as fast as answers come".to_owned(),
        };
        writeln!(f, "{} against {}/{}", document.operation, document.endpoint, document.bucket)?;
        writeln!(f, "  {} connections, {} threads, {loops}, {:.2} s", document.connections, document.threads, document.seconds)?;
        if document.is_interrupted {
            writeln!(f, "  interrupted before its time")?;
        }
        for operation in &document.operations {
            write_operation(f, operation)?;
        }
        let client = &document.client;
        writeln!(
            f,
            "  client  {:.2} s CPU, {:.2} µs/request, {:.0} % of its threads",
            client.cpu_seconds,
            client.cpu_us_per_request,
            client.busy_share * 100.0
        )?;
        if let Some(server) = &document.server {
            writeln!(
                f,
                "  server  {:.2} s CPU, {:.4} s per 1000 requests, {:.3} s per GiB, peak {:.1} MiB",
                server.cpu_seconds,
                server.cpu_seconds_per_1000_requests,
                server.cpu_seconds_per_gib,
                server.peak_rss_bytes as f64 / MIB
            )?;
        }
        self.write_troubles(f)
    }
}

impl Report {
    fn write_troubles(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_client_busy() {
            writeln!(f, "  note    the client was busy nearly all the time, and may be what was measured: more --threads")?;
        }
        if self.tally.unsent > 0 {
            writeln!(
                f,
                "  behind  {} requests were due and never sent: the server did not keep up with the rate",
                self.tally.unsent
            )?;
        }
        if self.tally.reopened > 0 {
            writeln!(f, "  reopened {} connections that the server had closed", self.tally.reopened)?;
        }
        for kind in &self.tally.errors {
            writeln!(f, "  error   {} times {}", kind.count, kind.summary())?;
        }
        if self.tally.errors_of_other_kinds > 0 {
            writeln!(f, "  error   {} times something else", self.tally.errors_of_other_kinds)?;
        }
        if let Some(lost) = &self.lost {
            writeln!(f, "  lost    {lost}")?;
        }
        if let Some(reason) = &self.clean_up {
            writeln!(f, "  left    objects below {}/{}: {reason}", self.settings.bucket, self.settings.prefix)?;
        }
        Ok(())
    }
}

fn write_operation(f: &mut fmt::Formatter<'_>, of: &OperationDocument) -> fmt::Result {
    write!(f, "  {:<7} {} requests, {:.0}/s, {:.1} MiB/s", of.operation, of.requests, of.requests_per_s, of.mib_per_s)?;
    if of.keys > 0 {
        write!(f, ", {} keys", of.keys)?;
    }
    writeln!(f, "{}", if of.errors > 0 { format!(", {} errors", of.errors) } else { String::new() })?;
    for (name, latency) in [("first byte", &of.first_byte_us), ("total", &of.total_us)] {
        writeln!(
            f,
            "    {name:<10} p50 {}  p90 {}  p99 {}  p99.9 {}  max {}",
            time(latency.p50),
            time(latency.p90),
            time(latency.p99),
            time(latency.p99_9),
            time(latency.max)
        )?;
    }
    Ok(())
}

/// Microseconds with the unit that reads best.
fn time(us: f64) -> String {
    match us {
        _ if us < 1_000.0 => format!("{us:.0} µs"),
        _ if us < 1_000_000.0 => format!("{:.2} ms", us / 1_000.0),
        _ => format!("{:.2} s", us / 1_000_000.0),
    }
}
