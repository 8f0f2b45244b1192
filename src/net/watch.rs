//! Deadlines of one core's connections, kept by one sweep instead of a timer each: a 4 KiB request then costs no timer, and
//! an idle connection no timer's memory. Deadlines are as coarse as the sweep, which is fine for timeouts of seconds.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

use crate::io;
use crate::limits::SWEEP_INTERVAL;
use crate::metrics::record;

/// The connections of one core.
#[derive(Clone, Default)]
pub struct Watchers {
    connections: Rc<RefCell<Slab<Rc<Watch>>>>,
}

/// The deadlines of one connection.
pub struct Watch {
    /// When the connection has waited too long.
    deadline: Cell<Instant>,
    /// When a wait should be interrupted so that the waiter can give back what it holds.
    nudge_at: Cell<Option<Instant>>,
    waiter: RefCell<Option<Waker>>,
    /// The sweep found one of them passed. Waiters look at the clock only then.
    is_due: Cell<bool>,
    /// The server drains: an idle connection ends now.
    ends_when_idle: Cell<bool>,
    is_idle: Cell<bool>,
}

/// A connection's place among the watched; leaves when dropped.
pub struct Watched {
    watch: Rc<Watch>,
    index: usize,
    watchers: Watchers,
}

/// Why a wait ended before what it waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// The deadline has passed, or the server drains and the connection was idle.
    Expired,
    /// The wait was long enough to give back what the waiter holds; it may wait on.
    Nudged,
}

impl Watchers {
    /// Watches a new connection.
    pub fn enter(&self) -> Watched {
        let watch = Rc::new(Watch {
            deadline: Cell::new(Instant::now() + Duration::from_secs(60)),
            nudge_at: Cell::new(None),
            waiter: RefCell::new(None),
            is_due: Cell::new(false),
            ends_when_idle: Cell::new(false),
            is_idle: Cell::new(false),
        });
        let index = self.connections.borrow_mut().insert(watch.clone());
        record::connections_open(self.count());
        Watched { watch, index, watchers: self.clone() }
    }

    /// Connections being watched.
    pub fn count(&self) -> usize {
        self.connections.borrow().len()
    }

    /// Wakes waiters whose time has come, for as long as the core runs.
    pub async fn sweep(self) {
        loop {
            io::sleep(SWEEP_INTERVAL).await;
            let now = Instant::now();
            for (_, watch) in self.connections.borrow().iter() {
                if watch.has_passed(now) {
                    watch.is_due.set(true);
                    watch.wake();
                }
            }
        }
    }

    /// From now on idle connections end, and busy ones end when they become idle.
    pub fn drain(&self) {
        for (_, watch) in self.connections.borrow().iter() {
            watch.ends_when_idle.set(true);
            watch.wake();
        }
    }
}

impl Watch {
    fn has_passed(&self, now: Instant) -> bool {
        now >= self.deadline.get() || self.nudge_at.get().is_some_and(|at| now >= at)
    }

    fn wake(&self) {
        if let Some(waker) = self.waiter.borrow_mut().take() {
            waker.wake();
        }
    }

    fn interrupt(&self) -> Option<Interrupt> {
        if self.is_idle.get() && self.ends_when_idle.get() {
            return Some(Interrupt::Expired);
        }
        if !self.is_due.get() {
            return None;
        }
        let now = Instant::now();
        if now >= self.deadline.get() {
            return Some(Interrupt::Expired);
        }
        self.nudge_at.get().is_some_and(|at| now >= at).then_some(Interrupt::Nudged)
    }
}

impl Watched {
    /// Waits for `wanted` at most `timeout`; with `nudge_after`, is interrupted once by then.
    pub async fn wait<T>(
        &self,
        wanted: impl Future<Output = T>,
        timeout: Duration,
        nudge_after: Option<Duration>,
    ) -> Result<T, Interrupt> {
        let now = Instant::now();
        self.watch.is_due.set(false);
        self.watch.deadline.set(now + timeout);
        self.watch.nudge_at.set(nudge_after.map(|after| now + after));
        self.until_interrupted(wanted).await
    }

    /// Waits as an idle connection, which a drain may end.
    pub async fn wait_idle<T>(&self, wanted: impl Future<Output = T>, timeout: Duration) -> Result<T, Interrupt> {
        self.watch.is_due.set(false);
        self.watch.deadline.set(Instant::now() + timeout);
        self.watch.nudge_at.set(None);
        self.watch.is_idle.set(true);
        let result = self.until_interrupted(wanted).await;
        self.watch.is_idle.set(false);
        result
    }

    async fn until_interrupted<T>(&self, wanted: impl Future<Output = T>) -> Result<T, Interrupt> {
        let mut wanted = pin!(wanted);
        let result = std::future::poll_fn(|context| {
            if let Poll::Ready(value) = wanted.as_mut().poll(context) {
                return Poll::Ready(Ok(value));
            }
            if let Some(interrupt) = self.watch.interrupt() {
                return Poll::Ready(Err(interrupt));
            }
            let mut waiter = self.watch.waiter.borrow_mut();
            if !waiter.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                *waiter = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
        self.watch.waiter.borrow_mut().take();
        result
    }

    /// Whether the server drains, so that this connection should not be kept.
    pub fn drains(&self) -> bool {
        self.watch.ends_when_idle.get()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watchers.connections.borrow_mut().remove(self.index);
        record::connections_open(self.watchers.count());
    }
}
