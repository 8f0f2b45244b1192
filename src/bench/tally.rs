//! What came of the requests: counts, latencies and errors of one thread in one phase, and their sum.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::settings::Operation;
use crate::limits::BENCH_ERROR_KINDS_MAX;

/// Significant digits of a latency: percentiles are right to 0.1 %.
const LATENCY_DIGITS: u8 = 3;
/// The longest latency told apart from longer ones, in nanoseconds: an hour.
const LATENCY_MAX_NS: u64 = 3_600_000_000_000;

/// Everything of one phase.
#[derive(Debug, Default)]
pub struct Tally {
    by_operation: [Option<Box<OperationTally>>; Operation::ALL.len()],
    pub errors: Vec<ErrorKind>,
    /// Errors of more kinds than are told apart.
    pub errors_of_other_kinds: u64,
    /// Connections that were opened again after the server had closed or broken them.
    pub reopened: u64,
    /// Requests of an open loop that were due and never sent.
    pub unsent: u64,
    /// From the start of the phase to its last answer.
    pub elapsed: Duration,
}

/// The answers of one operation that were as they should be.
#[derive(Debug)]
pub struct OperationTally {
    pub requests: u64,
    /// Payload bytes: of a GET received, of a PUT sent.
    pub bytes: u64,
    /// Keys that listings named.
    pub keys: u64,
    pub first_byte: Histogram<u64>,
    pub total: Histogram<u64>,
}

/// Errors that look alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorKind {
    pub operation: Operation,
    /// 0 without an answer.
    pub status: u16,
    /// S3's code, or what happened.
    pub code: String,
    pub count: u64,
    /// The request and the answer of the first of them.
    pub example: String,
}

/// A good answer.
#[derive(Clone, Copy, Debug)]
pub struct Success {
    pub first_byte: Duration,
    pub total: Duration,
    pub bytes: u64,
    pub keys: u64,
}

impl Tally {
    pub fn success(&mut self, operation: Operation, success: Success) {
        let Some(tally) = self.operation_mut(operation) else { return };
        tally.requests += 1;
        tally.bytes += success.bytes;
        tally.keys += success.keys;
        tally.first_byte.saturating_record(nanoseconds(success.first_byte));
        tally.total.saturating_record(nanoseconds(success.total));
    }

    /// `example` is only asked for when the kind is new.
    pub fn error(&mut self, operation: Operation, status: u16, code: &str, example: impl FnOnce() -> String) {
        let same = |kind: &&mut ErrorKind| kind.operation == operation && kind.status == status && kind.code == code;
        if let Some(kind) = self.errors.iter_mut().find(same) {
            kind.count += 1;
        } else if self.errors.len() < BENCH_ERROR_KINDS_MAX {
            self.errors.push(ErrorKind { operation, status, code: code.to_owned(), count: 1, example: example() });
        } else {
            self.errors_of_other_kinds += 1;
        }
    }

    /// Adds another thread's.
    pub fn add(&mut self, other: Self) {
        for operation in Operation::ALL {
            let Some(theirs) = other.operation(operation) else { continue };
            let Some(ours) = self.operation_mut(operation) else { continue };
            ours.requests += theirs.requests;
            ours.bytes += theirs.bytes;
            ours.keys += theirs.keys;
            // Both have the same bounds, so that this cannot fail.
            let _ = ours.first_byte.add(&theirs.first_byte);
            let _ = ours.total.add(&theirs.total);
        }
        for kind in other.errors {
            let count = kind.count;
            self.error(kind.operation, kind.status, &kind.code, || kind.example);
            // One is counted already.
            let same =
                |ours: &&mut ErrorKind| ours.operation == kind.operation && ours.status == kind.status && ours.code == kind.code;
            match self.errors.iter_mut().find(same) {
                Some(ours) => ours.count += count - 1,
                None => self.errors_of_other_kinds += count - 1,
            }
        }
        self.errors_of_other_kinds += other.errors_of_other_kinds;
        self.reopened += other.reopened;
        self.unsent += other.unsent;
        self.elapsed = self.elapsed.max(other.elapsed);
    }

    pub fn operation(&self, operation: Operation) -> Option<&OperationTally> {
        self.by_operation[operation.index()].as_deref()
    }

    pub fn error_count(&self) -> u64 {
        self.errors.iter().map(|kind| kind.count).sum::<u64>() + self.errors_of_other_kinds
    }

    fn operation_mut(&mut self, operation: Operation) -> Option<&mut OperationTally> {
        let place = &mut self.by_operation[operation.index()];
        if place.is_none() {
            *place = OperationTally::new().map(Box::new);
        }
        place.as_deref_mut()
    }
}

impl OperationTally {
    /// `None` only for bounds that a histogram refuses, which these are not.
    pub fn new() -> Option<Self> {
        let histogram = || Histogram::new_with_max(LATENCY_MAX_NS, LATENCY_DIGITS).ok();
        Some(Self { requests: 0, bytes: 0, keys: 0, first_byte: histogram()?, total: histogram()? })
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn success(ms: u64) -> Success {
        Success { first_byte: Duration::from_millis(ms) / 2, total: Duration::from_millis(ms), bytes: 10, keys: 1 }
    }

    /// Nearest rank over 1 to 1,000 ms; 0.1 % is what the histogram promises.
    #[test]
    fn percentiles_are_those_of_the_values() {
        let mut tally = Tally::default();
        for ms in (1..=1000).rev() {
            tally.success(Operation::Get, success(ms));
        }
        let get = tally.operation(Operation::Get).unwrap();
        assert_eq!((get.requests, get.bytes, get.keys), (1000, 10_000, 1000));
        for (quantile, ms) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (0.999, 999.0), (1.0, 1000.0)] {
            for (histogram, factor) in [(&get.total, 1.0), (&get.first_byte, 0.5)] {
                let found = histogram.value_at_quantile(quantile) as f64 / 1e6;
                assert!((found / (ms * factor) - 1.0).abs() < 0.002, "{quantile}: {found}");
            }
        }
    }

    #[test]
    fn a_sum_loses_nothing() {
        let (mut one, mut two) = (Tally::default(), Tally::default());
        one.success(Operation::Get, success(1));
        two.success(Operation::Get, success(3));
        two.success(Operation::Put, success(2));
        one.error(Operation::Get, 503, "SlowDown", || "first".to_owned());
        for _ in 0..3 {
            two.error(Operation::Get, 503, "SlowDown", || "second".to_owned());
        }
        two.error(Operation::Put, 503, "SlowDown", || "third".to_owned());
        one.add(two);
        let counts = |operation| one.operation(operation).map(|of| (of.requests, of.total.len()));
        assert_eq!((counts(Operation::Get), counts(Operation::Put), counts(Operation::Head)), (Some((2, 2)), Some((1, 1)), None));
        let kinds: Vec<_> = one.errors.iter().map(|kind| (kind.operation, kind.count, kind.example.as_str())).collect();
        assert_eq!(kinds, [(Operation::Get, 4, "first"), (Operation::Put, 1, "third")]);
        assert_eq!(one.error_count(), 5);
    }

    #[test]
    fn kinds_are_bounded_and_every_error_is_counted() {
        let (mut one, mut two) = (Tally::default(), Tally::default());
        for n in 0..BENCH_ERROR_KINDS_MAX + 5 {
            one.error(Operation::Get, 500, &n.to_string(), String::new);
        }
        two.error(Operation::Get, 500, "another", String::new);
        two.error(Operation::Get, 500, "another", String::new);
        one.add(two);
        assert_eq!(one.errors.len(), BENCH_ERROR_KINDS_MAX);
        assert_eq!(one.error_count(), BENCH_ERROR_KINDS_MAX as u64 + 7);
    }
}
