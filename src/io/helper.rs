//! The helper threads of one core: for calls that block and have no form on the ring that is as cheap (`linkat`, `openat2`
//! of a cold path, `getdents`, `sync_file_range`). Measured in DESIGN §8: ring operations for metadata always hop to a kernel
//! thread each; here one hop carries a whole commit.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::metrics::record::QueueCells;

/// The helpers of one core. Clones share them. The threads end when the last clone is dropped and the queue is empty.
#[derive(Clone)]
pub struct Helpers {
    owner: Arc<Owner>,
}

/// The work panicked; the panic was logged and counted, the helper lives on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HelperPanicked;

type Work = Box<dyn FnOnce() + Send>;

struct Owner {
    queue: Arc<Queue>,
}

struct Queue {
    state: Mutex<QueueState>,
    arrived: Condvar,
    /// Where its length is recorded, under the lock.
    cells: OnceLock<&'static QueueCells>,
}

struct QueueState {
    work: VecDeque<Work>,
    closed: bool,
}

impl Helpers {
    /// Starts `count` threads; `on_start` runs first on each, to place it.
    pub fn start(count: usize, on_start: impl Fn() + Send + Clone + 'static) -> std::io::Result<Self> {
        let state = Mutex::new(QueueState { work: VecDeque::new(), closed: false });
        let queue = Arc::new(Queue { state, arrived: Condvar::new(), cells: OnceLock::new() });
        for index in 0..count {
            let (queue, on_start) = (queue.clone(), on_start.clone());
            std::thread::Builder::new().name(format!("helper-{index}")).spawn(move || {
                on_start();
                queue.serve();
            })?;
        }
        Ok(Self { owner: Arc::new(Owner { queue }) })
    }

    /// Records from now on what waits here.
    pub fn record_in(&self, cells: &'static QueueCells) {
        // Only a second call fails, and then the first one's cells go on.
        let _ = self.owner.queue.cells.set(cells);
    }

    /// Runs `work` on a helper. The queue is bounded by what calls this: each connection waits for its own work, and there
    /// are at most `connections_per_core_max` of them.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, HelperPanicked> {
        let slot = Arc::new(Mutex::new(Slot { result: None, waker: None }));
        let answer = Answer { slot: slot.clone() };
        self.owner.queue.push(Box::new(move || {
            let result = catch_unwind(AssertUnwindSafe(work)).map_err(|_| HelperPanicked);
            let mut slot = lock(&slot);
            slot.result = Some(result);
            let waker = slot.waker.take();
            drop(slot);
            if let Some(waker) = waker {
                waker.wake();
            }
        }));
        answer.await
    }
}

struct Slot<T> {
    result: Option<Result<T, HelperPanicked>>,
    waker: Option<Waker>,
}

struct Answer<T> {
    slot: Arc<Mutex<Slot<T>>>,
}

impl<T> Future for Answer<T> {
    type Output = Result<T, HelperPanicked>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = lock(&self.slot);
        match slot.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Queue {
    fn push(&self, work: Work) {
        let mut state = lock(&self.state);
        state.work.push_back(work);
        if let Some(cells) = self.cells.get() {
            cells.queued.add(1);
            cells.waiting.set(state.work.len() as u64);
        }
        drop(state);
        self.arrived.notify_one();
    }

    fn serve(&self) {
        loop {
            let mut state = lock(&self.state);
            let work = loop {
                if let Some(work) = state.work.pop_front() {
                    if let Some(cells) = self.cells.get() {
                        cells.waiting.set(state.work.len() as u64);
                    }
                    break work;
                }
                if state.closed {
                    return;
                }
                state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
            };
            drop(state);
            work();
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        lock(&self.queue.state).closed = true;
        self.queue.arrived.notify_all();
    }
}

/// Work runs outside of the locks and its panics are caught, so a poisoned lock still guards consistent state.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::{blocking, run_core};
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;

    #[test]
    fn work_is_done_elsewhere_and_a_panic_is_an_answer() {
        let helpers = Helpers::start(2, || ()).unwrap();
        let done = Rc::new(Cell::new(false));
        let seen = done.clone();
        run_core(helpers, || async move {
            let here = std::thread::current().id();
            let there = blocking(|| std::thread::current().id()).await.unwrap();
            assert_ne!(here, there);
            assert_eq!(blocking::<()>(|| panic!("a bug in the work")).await, Err(HelperPanicked));
            assert_eq!(blocking(|| 7).await, Ok(7), "the helper lives on");
            seen.set(true);
        })
        .unwrap();
        assert!(done.get());
    }
}
