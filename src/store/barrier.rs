//! When is it durable? One barrier for everything published before it (DESIGN §5, step 4).
//!
//! A publisher takes a ticket after its change is visible. The barrier thread closes the batch, *changes the `.sluice`
//! directory* and fsyncs that directory. On ext4 with a journal and on XFS, both of which have one journal for the whole
//! filesystem, that makes durable whatever was published before it. Fsync of a member of the batch would not do: when a
//! foreign commit falls into the middle of the batch, that member's transaction is already over, and fsync returns without
//! the later ones.
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
use std::time::Instant;

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
            published: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            state: Mutex::new(State { waiting: Vec::new(), wanted: 0, closed: false }),
            wanted: Condvar::new(),
            cells: BarrierCells::default(),
        });
        if method == Method::Nothing {
            shared.durable.store(u64::MAX, Ordering::Release);
        } else {
            let shared = shared.clone();
            std::thread::Builder::new().name("barrier".into()).spawn(move || shared.lead(&directory, method))?;
        }
        Ok(Self { shared })
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
    /// The barrier thread's life: while somebody waits, close the batch, sync, wake everybody in it.
    fn lead(&self, directory: &OwnedFd, method: Method) {
        loop {
            let mut state = self.lock();
            while state.wanted <= self.durable.load(Ordering::Acquire) && !state.closed {
                state = self.wanted.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.closed {
                return;
            }
            drop(state);
            // Closed here: what is published from now on belongs to the next barrier.
            let batch = self.published.load(Ordering::Acquire);
            let started = Instant::now();
            let synced = sync(directory, method);
            self.cells.record(batch - self.durable.load(Ordering::Relaxed), started.elapsed());
            if let Err(errno) = synced {
                tracing::error!(%errno, "fsync failed: the volume takes no more changes, reads go on");
                self.fail();
                return;
            }
            self.durable.store(batch, Ordering::Release);
            self.wake(|ticket| ticket.0 <= batch);
        }
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
            shared.wanted.notify_one();
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
        let top = tempfile::tempdir().unwrap();
        let directory = sys::path::open_root(top.path().as_os_str().as_encoded_bytes()).unwrap();
        let barrier = Barrier::start(directory, Method::ChangedDirectory).unwrap();
        wait(&barrier, barrier.published());
        let before = barrier.cells().sync.count();
        wait(&barrier, barrier.observed());
        assert!(barrier.cells().sync.count() > before);
    }
}
