//! Distributions with fixed buckets: recording is an index computed from the value's bits, and one addition.
//!
//! A bucket counts what is at most its bound, as Prometheus' `le` has it.

use std::time::Duration;

use super::counter::Counter;
use crate::limits::{BARRIER_BATCH_SIZES, LATENCY_BOUND_MAX_LOG2, LATENCY_BOUND_MIN_LOG2};

/// Two bounds for each doubling, 2^n and 1.5 × 2^n nanoseconds, from 4 µs to 69 s; above the last, one bucket for the rest.
pub const LATENCY_BUCKETS: usize = 2 * (LATENCY_BOUND_MAX_LOG2 - LATENCY_BOUND_MIN_LOG2) as usize + 2;

/// How long things take.
pub struct Latency {
    buckets: [Counter; LATENCY_BUCKETS],
    sum_ns: Counter,
}

impl Latency {
    /// Counts one that took `duration`.
    pub fn record(&self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(ns)].add(1);
        self.sum_ns.add(ns);
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(Counter::get).sum()
    }

    /// How long all of them took.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_ns.get())
    }

    /// Bound in nanoseconds and count of each bucket, ascending; the last has no bound.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        self.buckets.iter().enumerate().map(|(index, count)| (bound_ns(index), count.get()))
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| Counter::default()), sum_ns: Counter::default() }
    }
}

/// The first bucket whose bound is not less than `ns`.
fn bucket(ns: u64) -> usize {
    // What is exactly a bound is counted by it, so what matters is the place of the value just below.
    let below = ns.saturating_sub(1);
    if below >> LATENCY_BOUND_MIN_LOG2 == 0 {
        return 0;
    }
    let log2 = below.ilog2();
    let is_upper_half = (below >> (log2 - 1)) & 1;
    let index = 2 * (log2 - LATENCY_BOUND_MIN_LOG2) as usize + is_upper_half as usize + 1;
    index.min(LATENCY_BUCKETS - 1)
}

fn bound_ns(index: usize) -> Option<u64> {
    let doublings = index / 2;
    let power = 1 << (LATENCY_BOUND_MIN_LOG2 as usize + doublings);
    (index < LATENCY_BUCKETS - 1).then_some(if index.is_multiple_of(2) { power } else { power / 2 * 3 })
}

/// How many at once: one bucket for each of 1 to `N` - 1, and one for more. With `BY_DOUBLING`, one for each power of two.
pub struct Sizes<const N: usize, const BY_DOUBLING: bool = false> {
    buckets: [Counter; N],
    sum: Counter,
}

impl<const N: usize, const BY_DOUBLING: bool> Sizes<N, BY_DOUBLING> {
    /// Counts one of `size`; one of nothing counts as 1.
    pub fn record(&self, size: u64) {
        let below = size.saturating_sub(1);
        let index = if BY_DOUBLING { u64::from(u64::BITS - below.leading_zeros()) } else { below };
        self.buckets[usize::try_from(index).unwrap_or(usize::MAX).min(N - 1)].add(1);
        self.sum.add(size);
    }

    /// The sum of all sizes.
    pub fn sum(&self) -> u64 {
        self.sum.get()
    }

    /// Bound and count of each bucket, ascending; the last has no bound.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let bound = |index: usize| if BY_DOUBLING { 1 << index } else { index as u64 + 1 };
        self.buckets.iter().enumerate().map(move |(index, count)| ((index < N - 1).then(|| bound(index)), count.get()))
    }
}

impl<const N: usize, const BY_DOUBLING: bool> Default for Sizes<N, BY_DOUBLING> {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| Counter::default()), sum: Counter::default() }
    }
}

/// The barrier of a volume; written by its thread.
#[repr(align(128))]
#[derive(Default)]
pub struct BarrierCells {
    /// Changes that one barrier made durable.
    pub batch: Sizes<BARRIER_BATCH_SIZES, true>,
    /// How long the filesystem took.
    pub sync: Latency,
}

impl BarrierCells {
    /// Counts one barrier.
    pub fn record(&self, changes: u64, sync: Duration) {
        self.batch.record(changes);
        self.sync.record(sync);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition: the bucket is the first whose bound is at least the value.
    fn bucket_by_definition(ns: u64) -> usize {
        let bounds = (12..36).flat_map(|log2| [1_u64 << log2, 3 << (log2 - 1)]).chain([1 << 36]);
        bounds.take_while(|bound| *bound < ns).count()
    }

    #[test]
    fn a_value_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        assert_eq!(LATENCY_BUCKETS, 50);
        let corners = (0..64).flat_map(|log2| [1_u64 << log2, 3 << log2.min(62)]).flat_map(|at| [at - 1, at, at + 1, at / 3 * 2]);
        for ns in corners.chain([0, u64::MAX]) {
            assert_eq!(bucket(ns), bucket_by_definition(ns), "{ns} ns");
        }
        let mut ns = 1;
        while ns < 1 << 40 {
            assert_eq!(bucket(ns), bucket_by_definition(ns), "{ns} ns");
            ns += ns / 97 + 1;
        }
    }

    #[test]
    fn bounds_ascend_from_four_microseconds_to_a_minute() {
        let bounds: Vec<_> = Latency::default().buckets().map(|(bound, _)| bound).collect();
        assert_eq!(bounds[..4], [Some(4096), Some(6144), Some(8192), Some(12288)]);
        assert_eq!(bounds[bounds.len() - 2..], [Some(1 << 36), None]);
        assert!(bounds[..bounds.len() - 1].is_sorted());
    }

    #[test]
    fn count_and_sum_are_those_of_what_was_recorded() {
        let latency = Latency::default();
        for ns in [0, 4096, 4097, 6144, 1_000_000_000, 100_000_000_000] {
            latency.record(Duration::from_nanos(ns));
        }
        let counts: Vec<_> = latency.buckets().filter(|(_, count)| *count > 0).collect();
        let second = 1_u64 << 30;
        assert_eq!(counts, [(Some(4096), 2), (Some(6144), 2), (Some(second), 1), (None, 1)]);
        assert_eq!((latency.count(), latency.sum()), (6, Duration::from_nanos(101_000_014_337)));
    }

    #[test]
    fn sizes_have_a_bucket_each_or_for_each_doubling() {
        let streams = Sizes::<17>::default();
        for size in [1, 1, 16, 17, 99] {
            streams.record(size);
        }
        let found: Vec<_> = streams.buckets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(found, [(Some(1), 2), (Some(16), 1), (None, 2)]);
        assert_eq!(streams.sum(), 134);
        let batch = Sizes::<5, true>::default();
        for size in [1, 2, 3, 4, 5, 8, 9, 1000] {
            batch.record(size);
        }
        let found: Vec<_> = batch.buckets().collect();
        assert_eq!(found, [(Some(1), 1), (Some(2), 1), (Some(4), 2), (Some(8), 2), (None, 2)]);
    }
}
