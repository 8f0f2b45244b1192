//! A state that one thread publishes and many read: a request sees one state of it from its beginning to its end, however long that
//! takes, and finding it costs a core one load and a count of its own.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What everybody finds who asks.
#[derive(Debug)]
pub struct Published<T> {
    generation: AtomicU64,
    states: Mutex<States<T>>,
    /// Held by who makes the next state of the last.
    changing: Mutex<()>,
}

#[derive(Debug)]
struct States<T> {
    current: Arc<T>,
    /// Earlier ones that somebody may still read. They are dropped by who publishes, never on a core.
    earlier: Vec<Arc<T>>,
}

/// One core's way to it. It stays on its thread.
#[derive(Debug)]
pub struct Reader<T> {
    published: Arc<Published<T>>,
    generation: Cell<u64>,
    snapshot: RefCell<Snapshot<T>>,
}

/// One state, for as long as its owner likes. Counted by the core alone: a count of all cores is a cache line that all write.
#[allow(clippy::redundant_allocation)]
#[derive(Debug)]
pub struct Snapshot<T>(Rc<Arc<T>>);

impl<T> Published<T> {
    /// With its first state.
    pub fn new(state: T) -> Arc<Self> {
        let states = States { current: Arc::new(state), earlier: Vec::new() };
        Arc::new(Self { generation: AtomicU64::new(0), states: Mutex::new(states), changing: Mutex::new(()) })
    }

    /// Replaces the state for all who ask from now on by what `next` makes of it. Of several who change it, each sees what the one
    /// before made.
    pub fn change(&self, next: impl FnOnce(&T) -> T) {
        // It guards no data.
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.lock().current.clone();
        let state = next(&current);
        // It is to end here, if anywhere.
        drop(current);
        self.publish(state);
    }

    /// Replaces the state, and drops those that nobody reads any more.
    fn publish(&self, state: T) {
        let mut states = self.lock();
        let earlier = std::mem::replace(&mut states.current, Arc::new(state));
        states.earlier.push(earlier);
        let unread: Vec<_> = states.earlier.extract_if(.., |earlier| Arc::strong_count(earlier) == 1).collect();
        self.generation.fetch_add(1, Ordering::Relaxed);
        drop(states);
        drop(unread);
    }

    /// A way to it for one core.
    pub fn reader(self: &Arc<Self>) -> Reader<T> {
        let states = self.lock();
        let snapshot = RefCell::new(Snapshot(Rc::new(states.current.clone())));
        let generation = Cell::new(self.generation.load(Ordering::Relaxed));
        Reader { published: self.clone(), generation, snapshot }
    }

    fn lock(&self) -> MutexGuard<'_, States<T>> {
        // It is whole at every instant at which something could panic.
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Reader<T> {
    /// The state of now.
    pub fn snapshot(&self) -> Snapshot<T> {
        // The lock, which who publishes holds while it counts, orders the state; a count that is read late is a state of a moment ago.
        if self.published.generation.load(Ordering::Relaxed) != self.generation.get() {
            self.renew();
        }
        self.snapshot.borrow().clone()
    }

    #[cold]
    fn renew(&self) {
        let states = self.published.lock();
        let renewed = Snapshot(Rc::new(states.current.clone()));
        self.generation.set(self.published.generation.load(Ordering::Relaxed));
        // An earlier state has another owner until it is published again: none ends here.
        drop(self.snapshot.replace(renewed));
    }
}

impl<T> Clone for Snapshot<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Snapshot<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says on which thread it ended.
    struct State {
        number: usize,
        ended: Arc<Mutex<Vec<(usize, std::thread::ThreadId)>>>,
    }

    impl Drop for State {
        fn drop(&mut self) {
            self.ended.lock().unwrap().push((self.number, std::thread::current().id()));
        }
    }

    #[test]
    fn a_snapshot_stays_what_it_was() {
        let published = Published::new(1);
        let reader = published.reader();
        let before = reader.snapshot();
        published.publish(2);
        assert_eq!((*before, *reader.snapshot(), *published.reader().snapshot()), (1, 2, 2));
        published.publish(3);
        assert_eq!((*before, *reader.snapshot()), (1, 3));
    }

    #[test]
    fn a_state_ends_where_it_was_published_and_when_nobody_reads_it() {
        let ended = Arc::new(Mutex::new(Vec::new()));
        let state = |number| State { number, ended: ended.clone() };
        let published = Published::new(state(0));
        let here = std::thread::current().id();
        let (to_core, orders) = std::sync::mpsc::channel::<()>();
        let (to_us, done) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let reader = published.reader();
                let mut held = Some(reader.snapshot());
                for () in orders {
                    drop(held.take());
                    to_us.send(reader.snapshot().number).unwrap();
                }
            });
            while Arc::strong_count(&published.lock().current) == 1 {
                std::thread::yield_now();
            }
            published.publish(state(1));
            assert!(ended.lock().unwrap().is_empty(), "a core reads it");
            to_core.send(()).unwrap();
            assert_eq!(done.recv().unwrap(), 1);
            assert!(ended.lock().unwrap().is_empty(), "a core ends none");
            published.publish(state(2));
            assert_eq!(*ended.lock().unwrap(), [(0, here)]);
            drop(to_core);
        });
        published.publish(state(3));
        assert_eq!(*ended.lock().unwrap(), [(0, here), (1, here), (2, here)]);
    }

    #[test]
    fn of_two_who_change_it_none_is_lost() {
        let published = Published::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..10_000).for_each(|_| published.change(|number| number + 1)));
            }
        });
        assert_eq!(*published.reader().snapshot(), 20_000);
        assert!(published.lock().earlier.is_empty());
    }

    #[test]
    fn a_core_never_goes_back() {
        let published = Published::new(0);
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let (reader, mut last) = (published.reader(), 0);
                        while last < 10_000 {
                            let now = *reader.snapshot();
                            assert!(now >= last);
                            last = now;
                        }
                    })
                })
                .collect();
            (1..=10_000).for_each(|number| published.publish(number));
            readers.into_iter().for_each(|reader| reader.join().unwrap());
        });
        assert!(published.lock().earlier.len() <= 3, "{}", published.lock().earlier.len());
    }
}
