//! How fast is a server? The load client of `sluice bench`: S3 requests against any endpoint, cheap enough not to be what
//! is measured.
//!
//! The story: [`run`] puts what it needs on the server, lets every thread (`worker`) warm up, measures, and clears up; each of
//! these is a [`phase::Phase`] that all threads go through together, so that a phase begins and ends without a request in
//! flight, and the CPU seconds around it are those of its requests. What is sent next is for `workload`, when for `pace`; a
//! request is signed once and replayed (`request`), its answer is taken apart by `answer` and its body thrown away unread
//! where nobody looks at it (`transport`). Latencies and errors go to a `tally` of each thread, which the `report` adds up.
//!
//! May import every floor below; uses `auth`, `digest`, `http`, `body` and `sys`. Limits: the `BENCH_*` constants. Every loop ends
//! with its phase, by its deadline, or when the server is gone.

mod answer;
mod connection;
mod control;
mod crew;
mod endpoint;
mod keys;
mod pace;
mod payload;
mod phase;
mod process;
mod report;
mod request;
mod settings;
mod setup;
mod tally;
mod transport;
mod worker;
mod workload;

#[cfg(test)]
mod request_tests;

pub use report::Report;
pub use settings::{Credentials, Operation, PayloadMode, Settings, Source, Trust};
pub use setup::run;

use std::fmt;

/// Why a run ended without a measurement.
#[derive(Debug)]
pub enum BenchError {
    /// The request was for something impossible; says what to ask for instead.
    Usage(String),
    /// The endpoint could not be reached, or was lost.
    Unreachable(String),
    /// The server did not do what the measurement needs first.
    Refused(String),
    /// This machine did not.
    System { doing: &'static str, problem: String },
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(problem) | Self::Unreachable(problem) | Self::Refused(problem) => f.write_str(problem),
            Self::System { doing, problem } => write!(f, "{doing}: {problem}"),
        }
    }
}

impl BenchError {
    fn system(doing: &'static str, problem: impl fmt::Display) -> Self {
        Self::System { doing, problem: problem.to_string() }
    }
}
