//! Who changes this key next? A turn is the right to change one key, given in the order of arrival: a fair lock that is awaited on a
//! core. Uploads and deletes of one key come one after the other, and wait for their turn here, on their cores, before a helper
//! begins: however many clients write one key, and however long each write takes the disk, they hold no helper that others need.
//! The key's lock (`locks`), which makes a change one step, is then free nearly always: others who take it are copies, completions and
//! removals, few at a time and on helpers of their own.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::ThreadId;

use crate::limits::KEY_TURN_SHARDS;

/// The keys of one volume that somebody is about to change.
pub struct KeyTurns {
    /// By the hash of bucket and key: two keys that share it wait for each other once in 2^64.
    shards: Vec<Mutex<HashMap<u64, Line>>>,
    hasher: RandomState,
}

/// Who may go along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Nobody.
    Alone,
    /// Other requests of the same core, whose changes are made one after the other by few visits of a helper.
    With(ThreadId),
}

/// The right to change a key, until it is dropped.
pub struct KeyTurn {
    turns: Arc<KeyTurns>,
    hash: u64,
}

/// Those who have the turn, and those who wait for it.
struct Line {
    holding: usize,
    share: Share,
    waiting: VecDeque<Waiting>,
    /// Tickets of those who have the turn and do not know it yet.
    granted: Vec<u64>,
    tickets: u64,
}

struct Waiting {
    ticket: u64,
    share: Share,
    waker: Waker,
}

/// The wait for a turn.
#[must_use]
pub struct Take {
    turns: Arc<KeyTurns>,
    hash: u64,
    share: Share,
    ticket: Option<u64>,
}

impl KeyTurns {
    /// Nobody has a turn.
    pub fn new() -> Self {
        Self { shards: (0..KEY_TURN_SHARDS).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }

    /// Waits for the turn of one key; in the order of arrival, but for those who share it.
    pub fn take(self: &Arc<Self>, bucket: &str, key: &[u8], share: Share) -> Take {
        Take { turns: self.clone(), hash: self.hasher.hash_one((bucket, key)), share, ticket: None }
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, HashMap<u64, Line>> {
        // No panic is possible while it is held.
        self.shards[hash as usize % self.shards.len()].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of those who had the turn has done.
    fn leave(&self, hash: u64) {
        let mut shard = self.shard(hash);
        let Some(line) = shard.get_mut(&hash) else { return };
        line.holding -= 1;
        let woken = if line.holding == 0 { line.admit() } else { Vec::new() };
        if line.holding == 0 {
            shard.remove(&hash);
        }
        drop(shard);
        woken.into_iter().for_each(Waker::wake);
    }
}

impl Default for KeyTurns {
    fn default() -> Self {
        Self::new()
    }
}

impl Line {
    fn new(share: Share) -> Self {
        Self { holding: 0, share, waiting: VecDeque::new(), granted: Vec::new(), tickets: 0 }
    }

    /// Whether a newcomer need not wait.
    fn is_open_to(&self, share: Share) -> bool {
        self.holding == 0 || (share != Share::Alone && share == self.share && self.waiting.is_empty())
    }

    /// Gives the turn to the first who waits, and to those behind him who share it.
    fn admit(&mut self) -> Vec<Waker> {
        let mut woken = Vec::new();
        while let Some(next) = self.waiting.front() {
            if self.holding > 0 && (next.share == Share::Alone || next.share != self.share) {
                break;
            }
            let Some(Waiting { ticket, share, waker }) = self.waiting.pop_front() else { break };
            self.share = share;
            self.holding += 1;
            self.granted.push(ticket);
            woken.push(waker);
        }
        woken
    }
}

impl Future for Take {
    type Output = KeyTurn;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<KeyTurn> {
        let (hash, share, turns) = (self.hash, self.share, self.turns.clone());
        let mut shard = turns.shard(hash);
        let line = shard.entry(hash).or_insert_with(|| Line::new(share));
        let Some(ticket) = self.ticket else {
            if line.is_open_to(share) {
                line.holding += 1;
                drop(shard);
                return Poll::Ready(KeyTurn { turns, hash });
            }
            self.ticket = Some(line.tickets);
            line.waiting.push_back(Waiting { ticket: line.tickets, share, waker: context.waker().clone() });
            line.tickets += 1;
            return Poll::Pending;
        };
        if let Some(at) = line.granted.iter().position(|granted| *granted == ticket) {
            line.granted.swap_remove(at);
            self.ticket = None;
            drop(shard);
            return Poll::Ready(KeyTurn { turns, hash });
        }
        if let Some(waiting) = line.waiting.iter_mut().find(|waiting| waiting.ticket == ticket) {
            waiting.waker.clone_from(context.waker());
        }
        Poll::Pending
    }
}

impl Drop for Take {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut shard = self.turns.shard(self.hash);
        let Some(line) = shard.get_mut(&self.hash) else { return };
        line.waiting.retain(|waiting| waiting.ticket != ticket);
        let Some(at) = line.granted.iter().position(|granted| *granted == ticket) else { return };
        line.granted.swap_remove(at);
        drop(shard);
        self.turns.leave(self.hash);
    }
}

impl Drop for KeyTurn {
    fn drop(&mut self) {
        self.turns.leave(self.hash);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn poll(take: &mut Take, woken: &Arc<Woken>) -> Option<KeyTurn> {
        match Pin::new(take).poll(&mut Context::from_waker(&woken.clone().into())) {
            Poll::Ready(turn) => Some(turn),
            Poll::Pending => None,
        }
    }

    fn lines(turns: &KeyTurns) -> usize {
        turns.shards.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }

    #[test]
    fn one_after_the_other_in_the_order_of_arrival() {
        let (turns, woken) = (Arc::new(KeyTurns::new()), Arc::new(Woken::default()));
        let first = poll(&mut turns.take("bucket", b"key", Share::Alone), &woken).unwrap();
        assert!(poll(&mut turns.take("bucket", b"other", Share::Alone), &woken).is_some(), "another key is free");
        let mut waiting: Vec<_> = (0..3).map(|_| turns.take("bucket", b"key", Share::Alone)).collect();
        assert!(waiting.iter_mut().all(|take| poll(take, &woken).is_none()));
        drop(first);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(poll(&mut turns.take("bucket", b"key", Share::Alone), &woken).is_none(), "nobody comes before those who wait");
        let second = poll(&mut waiting[0], &woken).unwrap();
        assert!(poll(&mut waiting[1], &woken).is_none());
        // Whoever gives up passes it on, waiting or already told.
        drop(waiting.remove(1));
        drop(second);
        drop(waiting.remove(0));
        let last = waiting.pop().map(|mut take| poll(&mut take, &woken).unwrap());
        assert!(last.is_some());
        drop(last);
        assert_eq!(lines(&turns), 0, "nothing is kept of a key that nobody changes");
    }

    #[test]
    fn requests_of_one_core_go_together_until_another_waits() {
        let (turns, woken) = (Arc::new(KeyTurns::new()), Arc::new(Woken::default()));
        let here = Share::With(std::thread::current().id());
        let there = Share::With(std::thread::spawn(|| std::thread::current().id()).join().unwrap());
        let take = |share| turns.take("bucket", b"key", share);
        let ours: Vec<_> = (0..3).map(|_| poll(&mut take(here), &woken).unwrap()).collect();
        let mut theirs = [take(there), take(there)];
        assert!(theirs.iter_mut().all(|take| poll(take, &woken).is_none()));
        let mut late = take(here);
        assert!(poll(&mut late, &woken).is_none(), "or another core would wait for ever");
        drop(ours);
        let theirs = theirs.each_mut().map(|take| poll(take, &woken).unwrap());
        assert!(poll(&mut late, &woken).is_none());
        drop(theirs);
        drop(poll(&mut late, &woken).unwrap());
        assert_eq!(lines(&turns), 0);
    }

    #[test]
    fn each_gets_his_turn_beside_threads_that_give_up() {
        let (turns, inside, done) = (Arc::new(KeyTurns::new()), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (turns, inside, done) = (&turns, &inside, &done);
                scope.spawn(move || {
                    for round in 0..500 {
                        let (woken, mut take) = (Arc::new(Woken::default()), turns.take("bucket", b"key", Share::Alone));
                        let turn = loop {
                            match poll(&mut take, &woken) {
                                None if thread == 0 && round % 3 == 0 => break None,
                                None => std::thread::yield_now(),
                                turn => break turn,
                            }
                        };
                        if turn.is_some() {
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                            inside.fetch_sub(1, Ordering::SeqCst);
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert!(done.into_inner() >= 1500);
        assert_eq!(lines(&turns), 0);
    }
}
