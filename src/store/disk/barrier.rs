//! When is it durable? One barrier for everything published before it (DESIGN §5, step 4).
//!
//! A publisher takes a ticket after its change is visible. The leader closes the batch, *changes the `.sluice`
//! directory* and fsyncs that directory. On ext4 with a journal and on XFS, both of which have one journal for the whole
//! filesystem, that makes durable whatever was published before it. Fsync of a member of the batch would not do: when a
//! foreign commit falls into the middle of the batch, that member's transaction is already over, and fsync returns without
//! the later ones.
//!
//! The leader is a thread of the barrier's own, or a publisher who may block and finds nobody leading: that saves two hops
//! between threads. One leads at a time; what is published meanwhile is the next batch.
//!
//! After the fsync the directory is changed once more, only to see that it can be. On XFS fsync of a directory answers success
//! after the filesystem has shut down over a failed log write, which unpins what never reached the disk (`xfs_dir_fsync` looks
//! no further, Linux 6.18); on ext4 it does for a transaction that somebody else's commit has aborted. A change that is still
//! taken proves that the log stood when the fsync returned.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::metrics::record::{self, BarrierCells};
use crate::sys;

/// Place of a change in the order of publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// The volume failed: an fsync returned an error. Never retried for success: after a failed fsync, ext4 reports success for
/// pages that never reached the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeFailed;

/// The barrier of one volume, shared by all cores.
pub struct Barrier {
    shared: Arc<Shared>,
}

struct Shared {
    /// `.sluice`.
    directory: ArcSwap<OwnedFd>,
    method: Method,
    /// Changes published so far.
    published: AtomicU64,
    /// Changes known to be durable.
    durable: AtomicU64,
    failed: AtomicBool,
    state: Mutex<State>,
    wanted: Condvar,
    cells: BarrierCells,
}

struct State {
    waiting: Vec<(Ticket, Waker)>,
    /// The highest ticket that somebody waits for.
    wanted: u64,
    /// Somebody carries a barrier out.
    is_led: bool,
    closed: bool,
}

/// How a barrier is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Change `.sluice`, then fsync it, and see that the filesystem still stands.
    ChangedDirectory,
    /// Everything was synced before and at its publication: only see that the filesystem still stands.
    Alive,
    /// No barrier at all: `durability = relaxed`.
    Nothing,
}

impl Barrier {
    /// Starts the barrier thread of a volume. `directory` is its `.sluice`.
    pub fn start(directory: OwnedFd, method: Method) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            directory: ArcSwap::from_pointee(directory),
            method,
            published: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            state: Mutex::new(State { waiting: Vec::new(), wanted: 0, is_led: false, closed: false }),
            wanted: Condvar::new(),
            cells: BarrierCells::default(),
        });
        if method == Method::Nothing {
            shared.durable.store(u64::MAX, Ordering::Release);
        } else {
            let shared = shared.clone();
            std::thread::Builder::new().name("barrier".into()).spawn(move || shared.lead_when_wanted())?;
        }
        Ok(Self { shared })
    }

    /// From now on this is `.sluice`, which somebody had removed.
    pub fn use_directory(&self, directory: OwnedFd) {
        self.shared.directory.store(Arc::new(directory));
    }

    /// Records that a change has become visible. Called after the publishing call returned.
    pub fn published(&self) -> Ticket {
        Ticket(self.shared.published.fetch_add(1, Ordering::AcqRel) + 1)
    }

    /// The ticket of what has been seen so far: a verb that changed nothing still waits until what it saw is durable. That may
    /// have become visible a moment before its own ticket was given out, or through POSIX, so it takes a barrier of its own.
    pub fn observed(&self) -> Ticket {
        self.published()
    }

    /// Waits until the change of `ticket` survives a power cut.
    pub async fn durable(&self, ticket: Ticket) -> Result<(), VolumeFailed> {
        self.all_durable(ticket, 1).await
    }

    /// Waits for `ticket` on behalf of `count` requests, of which it is the last. Those that then ask for themselves find it done:
    /// a wait is counted once for each request that had to wait.
    pub async fn all_durable(&self, ticket: Ticket, count: usize) -> Result<(), VolumeFailed> {
        let has_to_wait = self.shared.durable.load(Ordering::Acquire) < ticket.0;
        let since = Instant::now();
        let durable = Durable { shared: &self.shared, ticket, asked: false }.await;
        if has_to_wait {
            let waited = since.elapsed();
            (0..count).for_each(|_| record::barrier_waited(waited));
        }
        durable
    }

    /// Carries a barrier out on this thread, unless another thread is at it or there is nothing to do. For publishers that may
    /// block, after their last publication: who then waits finds it done. A failure is told to whoever waits. Answers how long it took.
    pub fn lead(&self) -> Option<Duration> {
        #[cfg(feature = "seams")]
        if super::seams::leaves_the_lead() {
            return None;
        }
        let state = self.shared.lock();
        let is_done = self.shared.durable.load(Ordering::Acquire) >= self.shared.published.load(Ordering::Acquire);
        if state.is_led || is_done || self.has_failed() {
            return None;
        }
        let since = Instant::now();
        drop(self.shared.lead(state));
        Some(since.elapsed())
    }

    /// Whether an fsync has failed: nothing is acknowledged any more, reads go on.
    pub fn has_failed(&self) -> bool {
        self.shared.failed.load(Ordering::Acquire)
    }

    /// Marks the volume as failed: a file's own fsync (`durability = strict`) returned an error.
    pub fn fail(&self) {
        self.shared.fail();
    }

    /// What the barriers did so far.
    pub fn cells(&self) -> &BarrierCells {
        &self.shared.cells
    }
}

impl Drop for Barrier {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wanted.notify_one();
    }
}

impl Shared {
    /// The barrier thread's life: while somebody waits and nobody leads, lead.
    fn lead_when_wanted(&self) {
        let mut state = self.lock();
        while !state.closed && !self.failed.load(Ordering::Acquire) {
            if state.is_led || state.wanted <= self.durable.load(Ordering::Acquire) {
                state = self.wanted.wait(state).unwrap_or_else(PoisonError::into_inner);
            } else {
                state = self.lead(state);
            }
        }
    }

    /// One barrier: close the batch, sync, wake everybody in it. The caller has seen, under the lock, that nobody leads.
    fn lead<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.is_led = true;
        drop(state);
        let leading = Leading { shared: self, is_over: false };
        // Closed here: what is published from now on belongs to the next barrier.
        let batch = self.published.load(Ordering::Acquire);
        let started = Instant::now();
        let synced = sync(&self.directory.load(), self.method);
        self.cells.record(batch - self.durable.load(Ordering::Relaxed), started.elapsed());
        match synced {
            Ok(()) => {
                self.durable.store(batch, Ordering::Release);
                self.wake(|ticket| ticket.0 <= batch);
            }
            Err(errno) => {
                tracing::error!(%errno, "fsync failed: the volume takes no more changes, reads go on");
                self.fail();
            }
        }
        leading.end()
    }

    fn fail(&self) {
        self.failed.store(true, Ordering::Release);
        self.wake(|_| true);
    }

    fn wake(&self, is_done: impl Fn(&Ticket) -> bool) {
        let mut state = self.lock();
        let (done, waiting) = std::mem::take(&mut state.waiting).into_iter().partition(|(ticket, _)| is_done(ticket));
        state.waiting = waiting;
        drop(state);
        let done: Vec<(Ticket, Waker)> = done;
        for (_, waker) in done {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody carries a barrier out. If he panics, which costs a helper its visit and not its life, nobody knows what is durable:
/// the volume has failed, and nobody waits for a leader who is gone.
struct Leading<'a> {
    shared: &'a Shared,
    is_over: bool,
}

impl<'a> Leading<'a> {
    fn end(mut self) -> MutexGuard<'a, State> {
        self.is_over = true;
        let mut state = self.shared.lock();
        state.is_led = false;
        // Who asked meanwhile left it to us to wake the barrier thread.
        if state.wanted > self.shared.durable.load(Ordering::Acquire) {
            self.shared.wanted.notify_one();
        }
        state
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.shared.lock().is_led = false;
            self.shared.fail();
        }
    }
}

/// Makes durable what was published before.
fn sync(directory: &OwnedFd, method: Method) -> Result<(), sys::Errno> {
    let whole = || {
        if method == Method::ChangedDirectory {
            sys::path::touch(directory)?;
            #[cfg(feature = "seams")]
            super::seams::pause();
            sys::file::sync(directory)?;
        }
        sys::path::touch(directory)
    };
    #[cfg(feature = "seams")]
    return super::seams::sync(whole);
    #[cfg(not(feature = "seams"))]
    whole()
}

struct Durable<'a> {
    shared: &'a Shared,
    ticket: Ticket,
    asked: bool,
}

impl Future for Durable<'_> {
    type Output = Result<(), VolumeFailed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let (shared, ticket) = (self.shared, self.ticket);
        if shared.failed.load(Ordering::Acquire) {
            return Poll::Ready(Err(VolumeFailed));
        }
        if shared.durable.load(Ordering::Acquire) >= ticket.0 {
            return Poll::Ready(Ok(()));
        }
        let mut state = shared.lock();
        // The leader may have finished between the look above and the lock.
        if shared.failed.load(Ordering::Acquire) {
            return Poll::Ready(Err(VolumeFailed));
        }
        if shared.durable.load(Ordering::Acquire) >= ticket.0 {
            return Poll::Ready(Ok(()));
        }
        state.waiting.push((ticket, context.waker().clone()));
        state.wanted = state.wanted.max(ticket.0);
        if !self.asked {
            self.asked = true;
            if !state.is_led {
                shared.wanted.notify_one();
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(barrier: &Barrier, ticket: Ticket) {
        let mut durable = std::pin::pin!(barrier.durable(ticket));
        let mut context = Context::from_waker(Waker::noop());
        while durable.as_mut().poll(&mut context).is_pending() {
            std::thread::yield_now();
        }
    }

    /// A key is seen to be gone before the DELETE that removed it has its ticket: who answers for what he saw may not rely on
    /// the tickets given out so far.
    #[test]
    fn what_was_seen_is_made_durable_by_a_barrier_that_begins_later() {
        let (_top, barrier) = fixture();
        wait(&barrier, barrier.published());
        let before = barrier.cells().sync.count();
        wait(&barrier, barrier.observed());
        assert!(barrier.cells().sync.count() > before);
    }

    fn fixture() -> (tempfile::TempDir, Barrier) {
        let top = tempfile::tempdir().unwrap();
        let directory = sys::path::open_root(top.path().as_os_str().as_encoded_bytes()).unwrap();
        (top, Barrier::start(directory, Method::ChangedDirectory).unwrap())
    }

    #[test]
    fn a_publisher_who_leads_has_nothing_left_to_wait_for() {
        let (_top, barrier) = fixture();
        assert_eq!(barrier.lead(), None, "nothing was published");
        let ticket = barrier.published();
        assert!(barrier.lead().is_some());
        let mut durable = std::pin::pin!(barrier.durable(ticket));
        assert!(durable.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        assert_eq!((barrier.cells().sync.count(), barrier.lead()), (1, None));
    }

    /// Leaders on several threads, and publishers who only wait: each ticket becomes durable, none waits for ever.
    #[test]
    fn leaders_and_waiters_take_turns() {
        const TICKETS: u64 = 40;
        let (_top, barrier) = fixture();
        std::thread::scope(|scope| {
            for leads in [true, true, false, false] {
                let barrier = &barrier;
                scope.spawn(move || {
                    for _ in 0..TICKETS {
                        let ticket = barrier.published();
                        if leads {
                            barrier.lead();
                        }
                        wait(barrier, ticket);
                    }
                });
            }
        });
        assert_eq!(barrier.shared.durable.load(Ordering::Acquire), 4 * TICKETS);
        // The last leader wakes who waits first, and lets go of the lead then.
        let lets_go = || {
            (0..10_000).any(|_| {
                !barrier.shared.lock().is_led || {
                    std::thread::sleep(Duration::from_millis(1));
                    false
                }
            })
        };
        assert!(lets_go());
    }

    #[test]
    fn a_leader_who_panics_leaves_nobody_waiting() {
        let (_top, barrier) = fixture();
        let ticket = barrier.published();
        barrier.shared.lock().is_led = true;
        let mut durable = std::pin::pin!(barrier.durable(ticket));
        assert!(durable.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending(), "it leaves the lead to who has it");
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _leading = Leading { shared: &barrier.shared, is_over: false };
            panic!("on purpose");
        }));
        assert!(panicked.is_err() && barrier.has_failed() && !barrier.shared.lock().is_led);
        assert_eq!(durable.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Err(VolumeFailed)));
    }

    /// What a failed barrier leaves is nobody's to lead.
    #[test]
    fn nobody_leads_a_failed_volume() {
        let (_top, barrier) = fixture();
        barrier.fail();
        let ticket = barrier.published();
        assert_eq!(barrier.lead(), None);
        let mut durable = std::pin::pin!(barrier.durable(ticket));
        assert_eq!(durable.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Err(VolumeFailed)));
    }
}
