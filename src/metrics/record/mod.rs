//! What happened, how often, how long did it take? Counters and histograms of each data core, always on.
//!
//! Imports `limits` only, reads no clock and makes no system call. A core's cells are written by its own thread alone, with
//! a plain load and store, and lie on cache lines that no other thread writes: recording takes no lock, and a reader costs the
//! core a cache miss, no more. What belongs to no core (the barrier, the helpers' queues) has cells of its own.
//! Limits: `METRIC_OPERATIONS_MAX` operations; every other set is an enum here, so that the number of series is bounded.
//!
//! Functions here find the cells of the calling thread; on a thread that has none (helpers, tests) they do nothing.

mod cells;
mod counter;
mod histogram;

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use cells::{AtLimit, CoreCells, ErrorClass, Opened, Operation, OperationCells, QueueCells, ReadFrom, RingOperation, Work};
pub use counter::{Counter, Level};
pub use histogram::{BarrierCells, Latency, Sizes};

thread_local! {
    static CELLS: Cell<Option<&'static CoreCells>> = const { Cell::new(None) };
}

/// Panics of this process, whoever's. Rare enough to be shared.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// From now on what this thread does is recorded in `cells`. `thread` is its id, by which its use of the CPU is looked up.
pub fn start_core(cells: &'static CoreCells, thread: u32) {
    cells.thread.set(u64::from(thread));
    CELLS.set(Some(cells));
}

/// The cells of this thread's core.
pub fn cells() -> Option<&'static CoreCells> {
    CELLS.get()
}

/// One request was answered: `first_byte` and `whole` after its first byte was seen.
pub fn answered(operation: Operation, first_byte: Duration, whole: Duration, error: Option<ErrorClass>) {
    let Some(cells) = CELLS.get() else { return };
    let Some(operation) = cells.operations.get(operation.index()) else { return };
    operation.first_byte.record(first_byte);
    operation.whole.record(whole);
    if let Some(error) = error {
        operation.errors[error as usize].add(1);
    }
}

/// Bytes of requests were received.
pub fn received(count: usize) {
    if let Some(cells) = CELLS.get() {
        cells.bytes_received.add(count as u64);
    }
}

/// Bytes of answers were handed to the kernel.
pub fn sent(count: usize) {
    if let Some(cells) = CELLS.get() {
        cells.bytes_sent.add(count as u64);
    }
}

/// A connection was accepted.
pub fn accepted() {
    if let Some(cells) = CELLS.get() {
        cells.connections_accepted.add(1);
    }
}

/// A connection was accepted and ended before a request could be read: its TLS handshake failed.
pub fn refused() {
    if let Some(cells) = CELLS.get() {
        cells.connections_refused.add(1);
    }
}

/// Nobody is accepted for a moment: the process has no descriptor or memory left for another.
pub fn accepting_paused() {
    if let Some(cells) = CELLS.get() {
        cells.accept_pauses.add(1);
    }
}

/// An object's bytes were not those that were stored.
pub fn corrupt() {
    if let Some(cells) = CELLS.get() {
        cells.corrupt.add(1);
    }
}

/// Something was done because the core has as many connections as it may.
pub fn at_limit(what: AtLimit) {
    if let Some(cells) = CELLS.get() {
        cells.at_limit[what as usize].add(1);
    }
}

/// So many connections are open.
pub fn connections_open(count: usize) {
    if let Some(cells) = CELLS.get() {
        cells.connections_open.set(count as u64);
    }
}

/// An object was opened.
pub fn opened(how: Opened) {
    if let Some(cells) = CELLS.get() {
        cells.opens[how as usize].add(1);
    }
}

/// Bytes of objects were read to be sent.
pub fn read(from: ReadFrom, count: usize) {
    if let Some(cells) = CELLS.get() {
        cells.bytes_read[from as usize].add(count as u64);
    }
}

/// So many blocks are leased, of so many.
pub fn blocks(in_use: usize, all: usize) {
    if let Some(cells) = CELLS.get() {
        cells.blocks_in_use.set(in_use as u64);
        cells.blocks.set(all as u64);
    }
}

/// A transfer that holds no block has to wait for one.
pub fn waits_for_block() {
    if let Some(cells) = CELLS.get() {
        cells.block_waits.add(1);
    }
}

/// So many MD5 streams were advanced side by side.
pub fn md5_step(streams: usize) {
    if let Some(cells) = CELLS.get() {
        cells.md5_streams.record(streams as u64);
    }
}

/// A request waited so long for the barrier after its change.
pub fn barrier_waited(duration: Duration) {
    if let Some(cells) = CELLS.get() {
        cells.barrier_wait.record(duration);
    }
}

/// An operation was put on the ring; it leaves when the result is dropped.
pub fn on_ring(operation: RingOperation) -> OnRing {
    if let Some(cells) = CELLS.get() {
        cells.ring_begun[operation as usize].add(1);
    }
    OnRing(operation)
}

/// See `on_ring`.
#[must_use]
pub struct OnRing(RingOperation);

impl Drop for OnRing {
    fn drop(&mut self) {
        if let Some(cells) = CELLS.get() {
            cells.ring_ended[self.0 as usize].add(1);
        }
    }
}

/// Somebody panicked; for the how manieth time.
pub fn panicked() -> u64 {
    PANICS.fetch_add(1, Ordering::Relaxed) + 1
}

/// Panics so far.
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a thread of its own, so that the cells of one test are nobody else's.
    fn on_a_core(work: impl FnOnce() + Send + 'static) -> &'static CoreCells {
        let cells = CoreCells::leak();
        std::thread::spawn(move || {
            start_core(cells, 7);
            work();
        })
        .join()
        .unwrap();
        cells
    }

    #[test]
    fn what_a_core_does_is_in_its_own_cells() {
        let operation = Operation::new(3);
        let one = on_a_core(move || {
            answered(operation, Duration::from_micros(10), Duration::from_micros(20), None);
            answered(operation, Duration::from_micros(10), Duration::from_micros(20), Some(ErrorClass::NotFound));
            received(5);
            received(6);
            sent(7);
            opened(Opened::Helper);
            read(ReadFrom::Disk, 4096);
            connections_open(2);
            connections_open(1);
        });
        let other = on_a_core(|| sent(1));
        assert_eq!((one.thread.get(), one.bytes_received.get(), one.bytes_sent.get()), (7, 11, 7));
        assert_eq!((other.bytes_received.get(), other.bytes_sent.get()), (0, 1));
        assert_eq!(one.operations[3].whole.count(), 2);
        assert_eq!(one.operations[3].whole.sum(), Duration::from_micros(40));
        assert_eq!(one.operations[3].errors[ErrorClass::NotFound as usize].get(), 1);
        assert_eq!(one.operations.iter().map(|operation| operation.whole.count()).sum::<u64>(), 2);
        assert_eq!(one.opens.each_ref().map(Counter::get), [0, 0, 1]);
        assert_eq!(one.bytes_read[ReadFrom::Disk as usize].get(), 4096);
        assert_eq!(one.connections_open.get(), 1);
    }

    #[test]
    fn a_thread_without_cells_records_nothing() {
        sent(1);
        assert!(cells().is_none());
    }

    #[test]
    fn an_operation_is_on_the_ring_until_its_guard_is_dropped() {
        let cells = on_a_core(|| {
            let (first, second) = (on_ring(RingOperation::Poll), on_ring(RingOperation::Poll));
            drop(first);
            std::mem::forget(second);
            drop(on_ring(RingOperation::Write));
        });
        let in_flight = |kind: RingOperation| cells.ring_begun[kind as usize].get() - cells.ring_ended[kind as usize].get();
        assert_eq!((in_flight(RingOperation::Poll), in_flight(RingOperation::Write)), (1, 0));
    }

    #[test]
    fn no_two_cores_share_a_cache_line() {
        // Processors fetch lines of 64 bytes in pairs.
        assert!(align_of::<CoreCells>() >= 128 && size_of::<CoreCells>().is_multiple_of(128));
        assert!(align_of::<QueueCells>() >= 128 && align_of::<BarrierCells>() >= 128);
    }
}
