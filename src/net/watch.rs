//! Deadlines of one core's connections, kept by one sweep instead of a timer each: a 4 KiB request then costs no timer, and
//! an idle connection no timer's memory. Deadlines are as coarse as the sweep, which is fine for timeouts of seconds.
//!
//! And their places: at the limit somebody idle is closed for a newcomer. A stranger goes as soon as another comes; a client who is
//! known by a signature that held goes only for one whose signature holds as well, so that nobody without a key can push it out.
//! Beyond the limit there is a reserve, in which a newcomer can say who it is, and ask for the server's health.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

use super::places::{Idle, Rank};
use crate::io;
use crate::limits::{CONNECTIONS_BEYOND_MAX, CONNECTIONS_BEYOND_TIMEOUT, STRANGER_GRACE, SWEEP_INTERVAL};
use crate::metrics::record::{self, AtLimit};

/// How long a connection may take for what.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// From the first byte of a head to its last.
    pub head: Duration,
    /// Between requests.
    pub idle: Duration,
    /// Between two bytes of a body, in either direction.
    pub body_stall: Duration,
    /// For one request.
    pub total: Duration,
    /// Bytes per second of a request's body, at least, once it runs for a while.
    pub rate_min: u64,
}

/// The connections of one core.
#[derive(Clone)]
pub struct Watchers(Rc<Core>);

struct Core {
    connections: RefCell<Slab<Rc<Watch>>>,
    idle: RefCell<Idle>,
    /// Connections that may have a place.
    places: usize,
    /// Connections that have one, and connections beyond.
    held: Cell<usize>,
    beyond: Cell<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Held,
    /// In the reserve, where a request must be there by then.
    Beyond {
        until: Instant,
    },
    /// Somebody else has it: the connection ends, unless a request of a client is there already.
    Lost,
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
    place: Cell<Place>,
    /// The signature of one of its requests held.
    is_client: Cell<bool>,
    entered: Instant,
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
    /// The connection ends for a newcomer.
    Displaced,
}

impl Watchers {
    /// Nobody yet. So many connections have a place.
    pub fn new(places: usize) -> Self {
        let (connections, idle) = (RefCell::default(), RefCell::new(Idle::new()));
        Self(Rc::new(Core { connections, idle, places, held: Cell::new(0), beyond: Cell::new(0) }))
    }

    /// Watches a new connection. When all places are taken, the stranger who waits for the longest loses its own; where there is
    /// none, or only such as came a moment ago, the newcomer is beyond the limit until it says who it is. There the latest are heard.
    pub async fn admit(&self) -> Watched {
        let core = &*self.0;
        let (place, goes) = match core.is_full() {
            false => (Place::Held, false),
            true if core.stranger_goes() && core.displace(Rank::Stranger) => (Place::Held, true),
            true => {
                let goes = core.beyond.get() >= CONNECTIONS_BEYOND_MAX && core.displace(Rank::Beyond);
                (Place::Beyond { until: Instant::now() + CONNECTIONS_BEYOND_TIMEOUT }, goes)
            }
        };
        let watched = self.enter(place);
        if goes {
            // Within this turn. Not to go on before keeps a flood of newcomers from taking descriptors faster than they come back.
            io::turn().await;
        }
        watched
    }

    fn enter(&self, place: Place) -> Watched {
        let watch = Rc::new(Watch {
            deadline: Cell::new(Instant::now() + Duration::from_secs(60)),
            nudge_at: Cell::new(None),
            waiter: RefCell::new(None),
            is_due: Cell::new(false),
            ends_when_idle: Cell::new(false),
            is_idle: Cell::new(false),
            place: Cell::new(place),
            is_client: Cell::new(false),
            entered: Instant::now(),
        });
        let index = self.0.connections.borrow_mut().insert(watch.clone());
        let rank = if place == Place::Held { Rank::Stranger } else { Rank::Beyond };
        self.0.idle.borrow_mut().enter(index, rank);
        self.0.count(place, 1);
        record::connections_open(self.count());
        Watched { watch, index, watchers: self.clone() }
    }

    /// Connections being watched.
    pub fn count(&self) -> usize {
        self.0.connections.borrow().len()
    }

    /// Wakes waiters whose time has come, for as long as the core runs.
    pub async fn sweep(self) {
        loop {
            io::sleep(SWEEP_INTERVAL).await;
            let now = Instant::now();
            for (_, watch) in self.0.connections.borrow().iter() {
                if watch.has_passed(now) {
                    watch.is_due.set(true);
                    watch.wake();
                }
            }
        }
    }

    /// From now on idle connections end, and busy ones end when they become idle.
    pub fn drain(&self) {
        for (_, watch) in self.0.connections.borrow().iter() {
            watch.ends_when_idle.set(true);
            watch.wake();
        }
    }
}

impl Core {
    fn is_full(&self) -> bool {
        self.held.get() >= self.places
    }

    /// Whether there is a place for a client, or somebody who goes for it.
    fn has_room_for_client(&self) -> bool {
        let idle = self.idle.borrow();
        !self.is_full() || idle.first(Rank::Stranger).is_some() || idle.first(Rank::Client).is_some()
    }

    /// Whether a stranger may go for somebody of whom no more is known. Newcomers must not push each other out before they could say
    /// anything: they have a while for that, unless there are too many.
    fn stranger_goes(&self) -> bool {
        let first = self.idle.borrow().first(Rank::Stranger);
        let connections = self.connections.borrow();
        let is_young = |index| connections.get(index).is_some_and(|watch| watch.entered.elapsed() < STRANGER_GRACE);
        self.beyond.get() >= CONNECTIONS_BEYOND_MAX || !first.is_some_and(is_young)
    }

    /// Ends the longest idle connection of this rank, if there is one.
    fn displace(&self, rank: Rank) -> bool {
        let mut idle = self.idle.borrow_mut();
        let Some(index) = idle.first(rank) else { return false };
        idle.leave(index);
        if let Some(watch) = self.connections.borrow().get(index) {
            self.count(watch.place.replace(Place::Lost), -1);
            watch.wake();
        }
        record::at_limit(AtLimit::Displaced);
        true
    }

    /// One more or one less has such a place.
    fn count(&self, place: Place, by: isize) {
        let count = match place {
            Place::Held => &self.held,
            Place::Beyond { .. } => &self.beyond,
            Place::Lost => return,
        };
        count.set(count.get().saturating_add_signed(by));
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
        if self.place.get() == Place::Lost {
            return Some(Interrupt::Displaced);
        }
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
    /// The connection has said who it is: until its request ends, nobody takes its place. One that has none takes somebody's, if
    /// `may_be_served` has found that this can be.
    pub fn begins_request(&self) {
        let core = &self.watchers.0;
        core.idle.borrow_mut().leave(self.index);
        self.watch.is_client.set(true);
        if !self.has_place() {
            if core.is_full() && !core.displace(Rank::Stranger) {
                core.displace(Rank::Client);
            }
            core.count(self.watch.place.replace(Place::Held), -1);
            core.count(Place::Held, 1);
        }
    }

    /// The connection is between two requests. A stranger always was.
    pub fn ends_request(&self) {
        if self.watch.is_client.get() && self.has_place() {
            self.watchers.0.idle.borrow_mut().enter(self.index, Rank::Client);
        }
    }

    /// Whether the connection is none beyond the limit.
    pub fn has_place(&self) -> bool {
        self.watch.place.get() == Place::Held
    }

    /// Whether the connection has a place, or would get one if its signature held.
    pub fn may_be_served(&self) -> bool {
        self.has_place() || self.watchers.0.has_room_for_client()
    }

    /// As much of `timeout` as somebody beyond the limit has.
    fn patience(&self, timeout: Duration, now: Instant) -> Duration {
        match self.watch.place.get() {
            Place::Beyond { until } => timeout.min(until.saturating_duration_since(now)),
            Place::Held | Place::Lost => timeout,
        }
    }

    /// Waits for `wanted` at most `timeout`; with `nudge_after`, is interrupted once by then.
    pub async fn wait<T>(
        &self,
        wanted: impl Future<Output = T>,
        timeout: Duration,
        nudge_after: Option<Duration>,
    ) -> Result<T, Interrupt> {
        let now = Instant::now();
        self.watch.is_due.set(false);
        self.watch.deadline.set(now + self.patience(timeout, now));
        self.watch.nudge_at.set(nudge_after.map(|after| now + after));
        self.until_interrupted(wanted).await
    }

    /// Waits as an idle connection, which a drain may end.
    pub async fn wait_idle<T>(&self, wanted: impl Future<Output = T>, timeout: Duration) -> Result<T, Interrupt> {
        let now = Instant::now();
        self.watch.is_due.set(false);
        self.watch.deadline.set(now + self.patience(timeout, now));
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

    /// Whether this connection should not be kept: the server drains, or it has no place.
    pub fn drains(&self) -> bool {
        self.watch.ends_when_idle.get() || !self.has_place()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let core = &self.watchers.0;
        core.idle.borrow_mut().leave(self.index);
        core.count(self.watch.place.get(), -1);
        core.connections.borrow_mut().remove(self.index);
        record::connections_open(self.watchers.count());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Helpers, run_core};

    fn on_a_core<F: Future<Output = ()> + 'static>(test: impl FnOnce() -> F) {
        run_core(Helpers::start(1, || ()).unwrap(), test).unwrap();
    }

    /// One after the other, so that the first is idle for the longest.
    async fn clients(watchers: &Watchers, count: usize) -> Vec<Watched> {
        let mut clients = Vec::new();
        for _ in 0..count {
            clients.push(watchers.admit().await);
            clients.last().unwrap().begins_request();
        }
        clients.iter().for_each(Watched::ends_request);
        clients
    }

    #[test]
    fn strangers_go_in_the_order_in_which_they_came_and_before_clients() {
        on_a_core(|| async {
            let watchers = Watchers::new(3);
            let client = clients(&watchers, 1).await.remove(0);
            let (first, second) = (watchers.admit().await, watchers.admit().await);
            second.ends_request();
            io::sleep(STRANGER_GRACE).await;
            let third = watchers.admit().await;
            let waited = first.wait(std::future::pending::<()>(), Duration::from_secs(600), None).await;
            assert_eq!(waited, Err(Interrupt::Displaced));
            let fourth = watchers.admit().await;
            assert!(!second.has_place() && third.has_place() && fourth.has_place() && client.has_place());
        });
    }

    #[test]
    fn newcomers_leave_each_other_the_time_to_say_who_they_are() {
        on_a_core(|| async {
            let watchers = Watchers::new(2);
            let client = clients(&watchers, 1).await.remove(0);
            let first = watchers.admit().await;
            let mut others = Vec::new();
            for _ in 0..CONNECTIONS_BEYOND_MAX {
                others.push(watchers.admit().await);
                assert!(first.has_place() && client.has_place() && others.iter().all(Watched::may_be_served));
            }
            let one_more = watchers.admit().await;
            assert!(one_more.has_place() && !first.has_place(), "too many");
        });
    }

    #[test]
    fn a_client_goes_for_another_client_only() {
        on_a_core(|| async {
            let watchers = Watchers::new(2);
            let clients = clients(&watchers, 2).await;
            let newcomer = watchers.admit().await;
            assert!(clients.iter().all(Watched::has_place) && !newcomer.has_place() && newcomer.drains());
            assert!(newcomer.may_be_served());
            newcomer.begins_request();
            assert!(newcomer.has_place() && !clients[0].has_place() && clients[1].has_place());
            // A request of the one that was to go is there already: it goes on, and the other idle one goes.
            clients[0].begins_request();
            assert!(clients[0].has_place() && !clients[1].has_place());
            // Its place is gone, and nobody is idle.
            assert!(!clients[1].may_be_served() && clients[1].drains());
        });
    }

    #[test]
    fn beyond_the_limit_the_latest_are_heard() {
        on_a_core(|| async {
            let watchers = Watchers::new(1);
            let busy = clients(&watchers, 1).await.remove(0);
            busy.begins_request();
            let mut beyond = Vec::new();
            for _ in 0..CONNECTIONS_BEYOND_MAX + 2 {
                beyond.push(watchers.admit().await);
            }
            let lost = |watched: &Watched| watched.watch.place.get() == Place::Lost;
            assert_eq!(beyond.iter().map(lost).collect::<Vec<_>>()[..3], [true, true, false]);
            assert!(busy.has_place() && !beyond.iter().any(Watched::may_be_served));
            let soon = beyond[2].patience(Duration::from_secs(600), Instant::now());
            assert!(soon <= CONNECTIONS_BEYOND_TIMEOUT && busy.patience(Duration::MAX, Instant::now()) == Duration::MAX);
            drop(busy);
            assert!(beyond[2].may_be_served());
            beyond[2].begins_request();
            assert!(beyond[2].has_place() && !beyond[3].may_be_served());
            drop(beyond);
            assert_eq!((watchers.count(), watchers.0.held.get(), watchers.0.beyond.get()), (0, 0, 0));
        });
    }
}
