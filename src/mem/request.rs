//! How much may requests hold beside blocks? Documents, pages, small bodies, large heads and snapshots of directories share one amount
//! of memory, whatever the load: who needs some takes a `Lease` of so many bytes first, and waits where there is no room. Small leases
//! have a part of it to themselves, and so have all others against what anybody may send: each rank has a queue of its own.
//!
//! A core keeps a little of what it was given (`REQUEST_SHARE_SIZE_MAX`), so that a lease costs it no cache line that others write.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use crate::limits::{REQUEST_SHARE_SIZE_MAX, SMALL_LEASE_SIZE_MAX, SMALL_LEASES_SHARE, STRANGERS_SHARE};

/// What all cores and helpers together may hold.
#[derive(Debug)]
pub struct RequestMemory {
    size: usize,
    free: AtomicUsize,
    /// Who waits for room, on any core.
    waiting: AtomicUsize,
    waits: AtomicU64,
    refusals: AtomicU64,
}

/// One core's part in it. Clones share it; it cannot leave its thread.
#[derive(Clone)]
pub struct Room {
    shared: Rc<Shared>,
}

struct Shared {
    memory: Arc<RequestMemory>,
    /// Bytes that are this core's and nobody's.
    kept: Cell<usize>,
    share_size: usize,
    /// What strangers hold here, and may.
    strangers: Cell<usize>,
    strangers_max: usize,
    queues: [RefCell<Queue>; 3],
}

/// Who has what of the memory to himself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// At most `SMALL_LEASE_SIZE_MAX`: down to the last byte.
    Small,
    /// Not what the small ones have to themselves.
    Large,
    /// What a connection sends before anybody knows who it is: together they have a part of it at most.
    Stranger,
}

#[derive(Default)]
struct Queue {
    /// Those that wait, oldest first, each with the ticket that its future knows it by.
    waiting: VecDeque<(u64, Waker)>,
    next_ticket: u64,
}

/// Some bytes that may be held. Given back when dropped.
pub struct Lease {
    room: Rc<Shared>,
    size: usize,
    is_strangers: bool,
}

impl RequestMemory {
    /// So many bytes.
    pub fn new(size: usize) -> Arc<Self> {
        let (waiting, waits, refusals) = Default::default();
        Arc::new(Self { size, free: AtomicUsize::new(size), waiting, waits, refusals })
    }

    /// All bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Bytes that nobody has.
    pub fn free(&self) -> usize {
        self.free.load(Ordering::Relaxed)
    }

    /// Takes bytes, for one who gives them back by `give`.
    pub fn try_take(&self, size: usize) -> bool {
        self.take_down_to(self.size / SMALL_LEASES_SHARE, size)
    }

    /// Takes bytes if no fewer than `rest` are left.
    fn take_down_to(&self, rest: usize, size: usize) -> bool {
        let take = |free: usize| free.checked_sub(size).filter(|left| *left >= rest);
        // The bytes are counted, not handed over: no other memory is ordered by this.
        self.free.try_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Gives back what `try_take` took.
    pub fn give(&self, size: usize) {
        let before = self.free.fetch_add(size, Ordering::Relaxed);
        debug_assert!(before + size <= self.size, "more came back than was taken");
    }

    /// Whether somebody waits for room: who holds some without need should give it back.
    pub fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// One request was refused for want of room.
    pub fn count_refusal(&self) {
        self.refusals.fetch_add(1, Ordering::Relaxed);
    }

    /// How often somebody waited for room, and how often in vain.
    pub fn waits_and_refusals(&self) -> (u64, u64) {
        (self.waits.load(Ordering::Relaxed), self.refusals.load(Ordering::Relaxed))
    }
}

impl Room {
    /// The part of one of `cores` cores.
    pub fn new(memory: Arc<RequestMemory>, cores: usize) -> Self {
        // What all cores keep is a small part of all.
        let share_size = (memory.size / (16 * cores.max(1))).min(REQUEST_SHARE_SIZE_MAX);
        // Counted by each core for itself: nearly every head is a stranger's, and writes to no cache line of others.
        let strangers_max = memory.size / (STRANGERS_SHARE * cores.max(1));
        let (kept, strangers) = Default::default();
        Self { shared: Rc::new(Shared { memory, kept, share_size, strangers, strangers_max, queues: Default::default() }) }
    }

    /// Nothing yet, to grow later with what a connection sends before anybody knows who it is.
    pub fn none_for_stranger(&self) -> Lease {
        self.lease(0, true)
    }

    /// `size` bytes, if there is room and nobody waits for it.
    pub fn try_take(&self, size: usize) -> Option<Lease> {
        let rank = Rank::of(size);
        (self.shared.queue(rank).borrow().waiting.is_empty() && self.shared.take(size, rank)).then(|| self.lease(size, false))
    }

    /// `size` bytes, as soon as there is room. Whoever holds some already must not wait for more.
    pub fn take(&self, size: usize) -> Take<'_> {
        self.take_as(Rank::of(size), size)
    }

    /// The same with those of this rank, whatever the size.
    pub fn take_as(&self, rank: Rank, size: usize) -> Take<'_> {
        Take { room: self, size, rank, ticket: None }
    }

    /// Whether somebody waits for room, here or elsewhere.
    pub fn is_wanted(&self) -> bool {
        self.shared.memory.is_wanted()
    }

    /// One request was refused for want of room.
    pub fn count_refusal(&self) {
        self.shared.memory.count_refusal();
    }

    /// Has those look again that wait: other cores have given something back, perhaps. What this core keeps goes to them.
    pub fn look_again(&self) {
        if self.is_wanted() {
            self.shared.give(0);
        }
    }

    fn lease(&self, size: usize, is_strangers: bool) -> Lease {
        Lease { room: self.shared.clone(), size, is_strangers }
    }
}

impl Shared {
    fn queue(&self, rank: Rank) -> &RefCell<Queue> {
        &self.queues[rank as usize]
    }

    fn take(&self, size: usize, rank: Rank) -> bool {
        if rank == Rank::Stranger {
            let strangers = self.strangers.get() + size;
            let is_taken = strangers <= self.strangers_max && self.take_bytes(size, rank);
            if is_taken {
                self.strangers.set(strangers);
            }
            return is_taken;
        }
        self.take_bytes(size, rank)
    }

    fn take_bytes(&self, size: usize, rank: Rank) -> bool {
        let kept = self.kept.get();
        if kept >= size {
            self.kept.set(kept - size);
            return true;
        }
        if rank != Rank::Small {
            return self.memory.try_take(size);
        }
        let missing = size - kept;
        // Some more for the next, where there is plenty.
        for extra in [self.share_size, 0] {
            if self.memory.take_down_to(0, missing + extra) {
                self.kept.set(extra);
                return true;
            }
        }
        false
    }

    fn give_of(&self, size: usize, is_strangers: bool) {
        if is_strangers {
            self.strangers.update(|strangers| strangers - size);
        }
        self.give(size);
    }

    fn give(&self, size: usize) {
        let kept = self.kept.get() + size;
        let is_wanted = self.memory.is_wanted();
        let keeps = if is_wanted { 0 } else { self.share_size };
        if kept > 2 * keeps {
            self.memory.give(kept - keeps);
            self.kept.set(keeps);
        } else {
            self.kept.set(kept);
        }
        if is_wanted {
            self.wake_first();
        }
    }

    fn wake_first(&self) {
        for queue in &self.queues {
            if let Some((_, waker)) = queue.borrow().waiting.front() {
                waker.wake_by_ref();
            }
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.memory.give(self.kept.get());
    }
}

impl Lease {
    /// Its bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether somebody waits for room: who holds some without need should give it back.
    pub fn is_wanted(&self) -> bool {
        self.room.memory.is_wanted()
    }

    /// Takes another one of the same core in.
    pub fn add(&mut self, mut other: Self) {
        if other.is_strangers && !self.is_strangers {
            other.becomes_known();
        }
        if self.is_strangers && !other.is_strangers {
            self.becomes_known();
        }
        self.size += std::mem::take(&mut other.size);
    }

    /// Whoever it is for has said who it is.
    pub fn becomes_known(&mut self) {
        if std::mem::take(&mut self.is_strangers) {
            self.room.strangers.update(|strangers| strangers - self.size);
        }
    }

    /// With whom it waits, if it has to grow to `size` bytes.
    pub fn rank(&self, size: usize) -> Rank {
        if self.is_strangers { Rank::Stranger } else { Rank::of(size) }
    }

    /// Makes it a lease of `size` bytes. False: there is no room for so many, and it is what it was.
    pub fn resize(&mut self, size: usize) -> bool {
        if size > self.size && !self.room.take(size - self.size, self.rank(size)) {
            return false;
        }
        let before = std::mem::replace(&mut self.size, size);
        if before > size {
            self.room.give_of(before - size, self.is_strangers);
        }
        true
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.size > 0 {
            self.room.give_of(self.size, self.is_strangers);
        }
    }
}

/// Waits for room.
pub struct Take<'a> {
    room: &'a Room,
    size: usize,
    rank: Rank,
    ticket: Option<u64>,
}

impl Rank {
    fn of(size: usize) -> Self {
        if size > SMALL_LEASE_SIZE_MAX { Self::Large } else { Self::Small }
    }
}

impl Future for Take<'_> {
    type Output = Lease;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Lease> {
        let (room, shared) = (self.room, &*self.room.shared);
        let mut queue = shared.queue(self.rank).borrow_mut();
        let is_first = match self.ticket {
            None => queue.waiting.is_empty(),
            Some(ticket) => queue.waiting.front().is_some_and(|(waiting, _)| *waiting == ticket),
        };
        if is_first && shared.take(self.size, self.rank) {
            if self.ticket.take().is_some() {
                queue.waiting.pop_front();
                shared.memory.waiting.fetch_sub(1, Ordering::Relaxed);
            }
            drop(queue);
            // There may be room for the next as well.
            shared.wake_first();
            return Poll::Ready(room.lease(self.size, self.rank == Rank::Stranger));
        }
        match self.ticket {
            None => {
                let ticket = queue.next_ticket;
                queue.next_ticket += 1;
                queue.waiting.push_back((ticket, context.waker().clone()));
                self.ticket = Some(ticket);
                shared.memory.waiting.fetch_add(1, Ordering::Relaxed);
                shared.memory.waits.fetch_add(1, Ordering::Relaxed);
            }
            Some(ticket) => {
                if let Some(entry) = queue.waiting.iter_mut().find(|(waiting, _)| *waiting == ticket) {
                    entry.1.clone_from(context.waker());
                }
            }
        }
        Poll::Pending
    }
}

impl Drop for Take<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let shared = &self.room.shared;
            shared.queue(self.rank).borrow_mut().waiting.retain(|(waiting, _)| *waiting != ticket);
            shared.memory.waiting.fetch_sub(1, Ordering::Relaxed);
            shared.wake_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::pin::pin;

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn who_finds_no_room_waits_in_order_for_what_comes_back() {
        let memory = RequestMemory::new(100);
        let room = Room::new(memory.clone(), 1);
        let held = room.try_take(80).unwrap();
        let (mut large, mut small) = (pin!(room.take(50)), pin!(room.take(10)));
        assert!(poll(large.as_mut()).is_pending() && memory.is_wanted());
        assert!(poll(small.as_mut()).is_pending(), "nobody is overtaken");
        assert!(room.try_take(1).is_none());
        drop(held);
        let Poll::Ready(large) = poll(large.as_mut()) else { panic!("there is room") };
        let Poll::Ready(small) = poll(small.as_mut()) else { panic!("there is room") };
        assert!(!memory.is_wanted());
        assert_eq!(memory.waits_and_refusals(), (2, 0));
        drop((large, small));
        // What the core keeps is for its next requests.
        assert!(memory.free() >= 100 - 2 * room.shared.share_size);
    }

    /// Whatever waits for much: small ones have their part.
    #[test]
    fn large_ones_do_not_hold_up_small_ones() {
        let memory = RequestMemory::new(64 << 20);
        let room = Room::new(memory.clone(), 1);
        let large = 12 << 20;
        let held: Vec<Lease> = std::iter::from_fn(|| room.try_take(large)).collect();
        assert_eq!(held.len(), 4);
        let mut waiting = pin!(room.take(large));
        assert!(poll(waiting.as_mut()).is_pending());
        let mut grown = room.try_take(SMALL_LEASE_SIZE_MAX).unwrap();
        let small: Vec<Lease> = std::iter::from_fn(|| room.try_take(SMALL_LEASE_SIZE_MAX)).collect();
        assert!(small.len() > 20, "{}", small.len());
        drop(small);
        assert!(!grown.resize(large), "a small one that grows is none");
        drop(held);
        assert!(poll(waiting.as_mut()).is_ready());
    }

    /// Whatever anybody sends: those who are known have the rest.
    #[test]
    fn strangers_hold_up_nobody_who_is_known() {
        let memory = RequestMemory::new(64 << 20);
        let room = Room::new(memory.clone(), 1);
        let mut strangers: Vec<Lease> = (0..100).map(|_| room.none_for_stranger()).collect();
        let grown = strangers.iter_mut().filter_map(|lease| lease.resize(1 << 20).then_some(())).count();
        assert_eq!(grown, 32);
        let mut waiting = pin!(room.take_as(Rank::Stranger, 1));
        assert!(poll(waiting.as_mut()).is_pending());
        let large = room.try_take(12 << 20).expect("it is not behind strangers");
        let small = room.try_take(1 << 10).expect("nor is a small one");
        // Nor is it the other way round: what the known hold is not the strangers'.
        strangers.truncate(10);
        assert!(poll(waiting.as_mut()).is_ready());
        drop((large, small));
        strangers.clear();
        let cached = room.try_take(32 << 20).expect("half of it");
        let mut stranger = room.none_for_stranger();
        assert!(stranger.resize(1 << 20), "a cache that has its half keeps no head out");
        drop(cached);
        // Who says who it is is none.
        let known: Vec<Lease> = (0..40)
            .filter_map(|_| {
                let mut lease = room.none_for_stranger();
                lease.resize(1 << 20).then(|| lease.becomes_known())?;
                Some(lease)
            })
            .collect();
        assert_eq!(known.len(), 40);
        assert_eq!(room.shared.strangers.get(), 1 << 20);
        stranger.add(room.try_take(5).expect("there is room"));
        assert_eq!(room.shared.strangers.get(), 0, "with what is known, it is known");
        drop((stranger, known));
        assert_eq!(room.shared.strangers.get(), 0);
    }

    #[test]
    fn who_gives_up_waiting_lets_the_next_have_it() {
        let memory = RequestMemory::new(100);
        let room = Room::new(memory.clone(), 1);
        let held = room.try_take(90).unwrap();
        let mut large = Box::pin(room.take(50));
        let mut small = pin!(room.take(10));
        assert!(poll(large.as_mut()).is_pending() && poll(small.as_mut()).is_pending());
        drop(large);
        assert!(poll(small.as_mut()).is_ready());
        drop(held);
        assert!(!memory.is_wanted());
    }

    /// What one core keeps for its next requests goes back when another waits.
    #[test]
    fn a_core_keeps_nothing_that_another_one_waits_for() {
        let memory = RequestMemory::new(1000);
        let (one, other) = (Room::new(memory.clone(), 2), Room::new(memory.clone(), 2));
        let held = one.try_take(500).unwrap();
        let mut waiting = pin!(other.take(1000));
        assert!(poll(waiting.as_mut()).is_pending());
        drop(held);
        assert!(poll(waiting.as_mut()).is_ready());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Take(usize, usize),
        Resize(usize, usize),
        Drop(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..3_usize, 0..400_usize).prop_map(|(core, size)| Step::Take(core, size)),
            (0..20_usize, 0..400_usize).prop_map(|(index, size)| Step::Resize(index, size)),
            (0..20_usize).prop_map(Step::Drop),
        ]
    }

    proptest! {
        /// However three cores take and give, no more is held than there is, and all of it comes back.
        #[test]
        fn no_more_is_held_than_there_is(steps in proptest::collection::vec(step(), 0..200)) {
            const SIZE: usize = 1000;
            let memory = RequestMemory::new(SIZE);
            let rooms: Vec<Room> = (0..3).map(|_| Room::new(memory.clone(), 3)).collect();
            let mut leases: Vec<Lease> = Vec::new();
            for step in steps {
                match step {
                    Step::Take(core, size) => leases.extend(rooms[core].try_take(size)),
                    Step::Resize(index, size) => {
                        if let Some(lease) = leases.get_mut(index) {
                            let before = lease.size();
                            let expected = if lease.resize(size) { size } else { before };
                            prop_assert_eq!(lease.size(), expected);
                        }
                    }
                    Step::Drop(index) => drop((index < leases.len()).then(|| leases.swap_remove(index))),
                }
                let held: usize = leases.iter().map(Lease::size).sum();
                prop_assert!(held + memory.free() <= SIZE);
            }
            drop((leases, rooms));
            prop_assert_eq!(memory.free(), SIZE);
        }
    }
}
