//! The helper threads of one core: for calls that block and have no form on the ring that is as cheap (`linkat`, `openat2`
//! of a cold path, `getdents`, `sync_file_range`). Measured in DESIGN §8: ring operations for metadata always hop to a kernel
//! thread each; here one hop carries a whole commit.
//!
//! Each kind of work has threads and a queue of its own, so that none can take another's: however many clients list, and however
//! long a directory of a dead mount holds those who read it, a commit finds a thread of its kind. The threads of a kind are
//! started as they are needed, up to its share in `limits`; the first of each at once, so that what may not be started is known
//! at start. Listings run below everything else on the core's CPU (`LIST_HELPERS_NICENESS`).
//!
//! A queue is served in the order of arrival. Where the work says for which client it is, the clients take turns: one with a
//! thousand connections does not keep another's single request waiting for all of them.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use super::reply::reply;
use crate::limits::{
    ASSEMBLE_HELPERS, COMMIT_HELPERS, COPY_HELPERS, HELPER_RETRY_INTERVAL, LIST_HELPERS, LIST_HELPERS_NICENESS, READ_HELPERS,
    REMOVE_HELPERS,
};
use crate::metrics::record::{QueueCells, Work};
use crate::sys;

/// The helpers of one core. Clones share them. The threads end when the last clone is dropped and the queues are empty.
#[derive(Clone)]
pub struct Helpers {
    owner: Arc<Owner>,
}

/// The work panicked; the panic was logged and counted, the helper lives on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HelperPanicked;

type Task = Box<dyn FnOnce() + Send>;

struct Owner {
    /// By `Work`.
    queues: Vec<Arc<Queue>>,
}

struct Queue {
    state: Mutex<QueueState>,
    arrived: Condvar,
    /// Where its length is recorded, under the lock.
    cells: OnceLock<&'static QueueCells>,
    kind: Work,
    threads_max: usize,
    /// What each thread does first, to place itself.
    on_start: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct QueueState {
    waiting: Line,
    threads: usize,
    /// Threads that are at no work: they wait for some, or are about to look for it.
    idle: usize,
    /// The last attempt to start one failed; not before this is it tried again.
    refused_until: Option<Instant>,
    closed: bool,
}

/// What waits, in the order in which it is served.
#[derive(Default)]
struct Line {
    /// Work of nobody in particular: one client among the others.
    common: VecDeque<Task>,
    of_clients: HashMap<IpAddr, VecDeque<Task>>,
    /// Whose turn it is: each who has something waiting stands here once.
    turns: VecDeque<Option<IpAddr>>,
    count: usize,
}

/// How many threads of a core a kind of work may take.
const fn share(kind: Work) -> usize {
    match kind {
        Work::Read => READ_HELPERS,
        Work::Commit => COMMIT_HELPERS,
        Work::Assemble => ASSEMBLE_HELPERS,
        Work::Copy => COPY_HELPERS,
        Work::List => LIST_HELPERS,
        Work::Remove => REMOVE_HELPERS,
    }
}

impl Helpers {
    /// Starts a thread of each kind, and later up to its share, but no more than `threads_max`; `on_start` runs first on each, to
    /// place it.
    pub fn start(threads_max: usize, on_start: impl Fn() + Send + Sync + Clone + 'static) -> std::io::Result<Self> {
        let mut queues = Vec::with_capacity(Work::ALL.len());
        for kind in Work::ALL {
            let queue = Arc::new(Queue {
                state: Mutex::default(),
                arrived: Condvar::new(),
                cells: OnceLock::new(),
                kind,
                threads_max: share(kind).min(threads_max),
                on_start: Box::new(on_start.clone()),
            });
            queue.start_thread()?;
            queues.push(queue);
        }
        Ok(Self { owner: Arc::new(Owner { queues }) })
    }

    /// Records from now on what waits here, by kind.
    pub fn record_in(&self, cells: &'static [QueueCells]) {
        for (queue, cells) in self.owner.queues.iter().zip(cells) {
            // Only a second call fails, and then the first one's cells go on.
            let _ = queue.cells.set(cells);
        }
    }

    /// Runs `work` on a helper. The queue is bounded by what calls this: each connection waits for its own work, and there
    /// are at most `connections_per_core_max` of them.
    pub async fn run<T: Send + 'static>(
        &self,
        kind: Work,
        client: Option<IpAddr>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, HelperPanicked> {
        let (replier, answer) = reply();
        let task = Box::new(move || replier.give(catch_unwind(AssertUnwindSafe(work)).map_err(|_| HelperPanicked)));
        self.owner.queues[kind as usize].push(client, task);
        // A helper drops no task.
        answer.await.unwrap_or(Err(HelperPanicked))
    }
}

impl Queue {
    fn push(self: &Arc<Self>, client: Option<IpAddr>, task: Task) {
        let mut state = lock(&self.state);
        state.waiting.push(client, task);
        if let Some(cells) = self.cells.get() {
            cells.queued.add(1);
            cells.waiting.set(state.waiting.count as u64);
        }
        let wants_thread = state.idle < state.waiting.count
            && state.threads < self.threads_max
            && state.refused_until.is_none_or(|until| Instant::now() >= until);
        drop(state);
        self.arrived.notify_one();
        if wants_thread && let Err(error) = self.start_thread() {
            lock(&self.state).refused_until = Some(Instant::now() + HELPER_RETRY_INTERVAL);
            // The work waits for the threads that there are, of which the first came with the core.
            let kind = Work::NAMES[self.kind as usize];
            tracing::warn!(%error, kind, "a helper thread could not be started: raise ulimit -u, TasksMax= or pids.max");
        }
    }

    fn start_thread(self: &Arc<Self>) -> std::io::Result<()> {
        let queue = self.clone();
        let mut state = lock(&self.state);
        state.threads += 1;
        state.idle += 1;
        drop(state);
        let name = Work::NAMES[self.kind as usize];
        let started = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            (queue.on_start)();
            if queue.kind == Work::List {
                // Refused, a listing is as important as anything else.
                let _ = sys::cpu::yield_to_others(LIST_HELPERS_NICENESS);
            }
            queue.serve();
        });
        if started.is_err() {
            let mut state = lock(&self.state);
            state.threads -= 1;
            state.idle -= 1;
        }
        started.map(drop)
    }

    fn serve(&self) {
        let mut state = lock(&self.state);
        loop {
            let task = loop {
                if let Some(task) = state.waiting.pop() {
                    if let Some(cells) = self.cells.get() {
                        cells.waiting.set(state.waiting.count as u64);
                    }
                    break task;
                }
                if state.closed {
                    return;
                }
                state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
            };
            state.idle -= 1;
            drop(state);
            task();
            state = lock(&self.state);
            state.idle += 1;
        }
    }
}

impl Line {
    fn push(&mut self, client: Option<IpAddr>, task: Task) {
        let queue = match client {
            None => &mut self.common,
            Some(client) => self.of_clients.entry(client).or_default(),
        };
        if queue.is_empty() {
            self.turns.push_back(client);
        }
        queue.push_back(task);
        self.count += 1;
    }

    fn pop(&mut self) -> Option<Task> {
        let client = self.turns.pop_front()?;
        let queue = match client {
            None => &mut self.common,
            Some(client) => self.of_clients.get_mut(&client)?,
        };
        let task = queue.pop_front()?;
        self.count -= 1;
        match (queue.is_empty(), client) {
            (false, _) => self.turns.push_back(client),
            (true, Some(client)) => drop(self.of_clients.remove(&client)),
            (true, None) => {}
        }
        Some(task)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        for queue in &self.queues {
            lock(&queue.state).closed = true;
            queue.arrived.notify_all();
        }
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
    use std::sync::mpsc;

    #[test]
    fn work_is_done_elsewhere_and_a_panic_is_an_answer() {
        let helpers = Helpers::start(2, || ()).unwrap();
        let done = Rc::new(Cell::new(false));
        let seen = done.clone();
        run_core(helpers, || async move {
            let here = std::thread::current().id();
            let there = blocking(Work::Read, || std::thread::current().id()).await.unwrap();
            assert_ne!(here, there);
            assert_eq!(blocking::<()>(Work::Read, || panic!("a bug in the work")).await, Err(HelperPanicked));
            assert_eq!(blocking(Work::Read, || 7).await, Ok(7), "the helper lives on");
            seen.set(true);
        })
        .unwrap();
        assert!(done.get());
    }

    /// All threads of all other kinds are held for ever, and more work waits for them.
    #[test]
    fn no_kind_of_work_takes_the_threads_of_another() {
        for free in Work::ALL {
            let helpers = Helpers::start(usize::MAX, || ()).unwrap();
            let (hold, held) = mpsc::channel::<()>();
            let held = Arc::new(Mutex::new(held));
            run_core(helpers.clone(), || async move {
                for kind in Work::ALL.into_iter().filter(|kind| *kind != free) {
                    for _ in 0..share(kind) + 3 {
                        let (helpers, held) = (helpers.clone(), held.clone());
                        let wait = async move { helpers.run(kind, None, move || lock(&held).recv().is_ok()).await };
                        super::super::spawn(wait);
                    }
                }
                super::super::turn().await;
                for _ in 0..2 * share(free) {
                    assert_eq!(blocking(free, || 7).await, Ok(7), "{free:?}");
                }
                drop(hold);
            })
            .unwrap();
        }
    }

    /// A kind has as many threads as it needs, and no more than its share.
    #[test]
    fn threads_are_started_up_to_the_share() {
        let helpers = Helpers::start(usize::MAX, || ()).unwrap();
        let queue = helpers.owner.queues[Work::List as usize].clone();
        let threads = || lock(&queue.state).threads;
        assert_eq!(threads(), 1);
        let (begun, all_begun) = mpsc::channel();
        let (hold, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        for count in 1..=share(Work::List) + 2 {
            let (begun, held) = (begun.clone(), held.clone());
            queue.push(
                None,
                Box::new(move || {
                    begun.send(()).unwrap();
                    let _ = lock(&held).recv();
                }),
            );
            if count <= share(Work::List) {
                all_begun.recv().unwrap();
            }
            assert_eq!(threads(), count.min(share(Work::List)));
        }
        assert_eq!(lock(&queue.state).waiting.count, 2);
        drop(hold);
        all_begun.recv().unwrap();
        all_begun.recv().unwrap();
    }

    #[test]
    fn clients_take_turns() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut line = Line::default();
        let address = |last: u8| Some(IpAddr::from([192, 0, 2, last]));
        let from = [(address(1), "a"), (address(1), "b"), (address(1), "c"), (None, "x"), (address(2), "m"), (None, "y")];
        for (client, name) in from {
            let order = order.clone();
            line.push(client, Box::new(move || lock(&order).push(name)));
        }
        while let Some(task) = line.pop() {
            task();
        }
        assert_eq!(*lock(&order), ["a", "x", "m", "b", "y", "c"]);
        assert!(line.count == 0 && line.of_clients.is_empty() && line.turns.is_empty());
    }
}
