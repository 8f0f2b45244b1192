//! MD5 across the connections of a core. The MD5 of one object is a chain that no CPU can shorten; the chains of several
//! uploads run side by side in SIMD lanes. Whatever is waiting at the end of a turn is advanced together; a lone stream is
//! never made to wait for company.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::digest::lanes::{LANES_MAX, advance_md5};
use crate::digest::{Job, Md5};
use crate::io::{BlockSlice, spawn, turn};
use crate::limits::HASH_STEP_SIZE;
use crate::metrics::record;

thread_local! {
    static BATCH: Rc<Batch> = Rc::new(Batch::default());
}

/// The MD5 of one upload, fed with slices of its blocks. The blocks stay leased until they are hashed.
pub struct Md5Stream {
    stream: Rc<RefCell<Stream>>,
}

#[derive(Default)]
struct Stream {
    md5: Md5,
    waiting: VecDeque<BlockSlice>,
    /// How much of the first waiting slice is hashed.
    done: usize,
    is_queued: bool,
    /// Woken when no more than `enough` slices wait.
    waiter: Option<Waker>,
    enough: usize,
}

#[derive(Default)]
struct Batch {
    queue: RefCell<VecDeque<Rc<RefCell<Stream>>>>,
    is_running: RefCell<bool>,
}

impl Md5Stream {
    /// A stream that has hashed nothing yet.
    pub fn new() -> Self {
        Self { stream: Rc::default() }
    }

    /// Appends `slice`, to be hashed soon.
    pub fn push(&self, slice: BlockSlice) {
        if slice.bytes().is_empty() {
            return;
        }
        let mut stream = self.stream.borrow_mut();
        stream.waiting.push_back(slice);
        if !std::mem::replace(&mut stream.is_queued, true) {
            drop(stream);
            BATCH.with(|batch| batch.enqueue(self.stream.clone()));
        }
    }

    /// Appends bytes that are hashed at once. Waits for what was pushed before them.
    pub async fn update(&self, bytes: &[u8]) {
        self.drained().await;
        self.stream.borrow_mut().md5.update(bytes);
    }

    /// The MD5 of everything that was appended.
    pub async fn finish(self) -> [u8; 16] {
        self.drained().await;
        std::mem::take(&mut self.stream.borrow_mut().md5).finish()
    }

    /// Waits until fewer than `count` slices wait: an upload whose disk is faster than its hash must not lease the whole arena.
    pub async fn fewer_than(&self, count: usize) {
        self.at_most(count.saturating_sub(1)).await;
    }

    async fn drained(&self) {
        self.at_most(0).await;
    }

    async fn at_most(&self, count: usize) {
        poll_fn(|context| {
            let mut stream = self.stream.borrow_mut();
            if stream.waiting.len() > count {
                stream.enough = count;
                stream.waiter = Some(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }
}

impl Default for Md5Stream {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    fn enqueue(self: &Rc<Self>, stream: Rc<RefCell<Stream>>) {
        self.queue.borrow_mut().push_back(stream);
        if !self.is_running.replace(true) {
            spawn(self.clone().run());
        }
    }

    /// Hashes until nothing waits. Between two steps the core takes a turn through the ring, in which other connections
    /// receive, and bring company.
    async fn run(self: Rc<Self>) {
        loop {
            turn().await;
            let mut streams: Vec<_> = {
                let mut queue = self.queue.borrow_mut();
                let count = queue.len().min(LANES_MAX);
                queue.drain(..count).collect()
            };
            if streams.is_empty() {
                self.is_running.replace(false);
                return;
            }
            record::md5_step(streams.len());
            step(&streams);
            for stream in streams.drain(..) {
                self.settle(stream);
            }
        }
    }

    /// Queues a stream again, or tells its owner that all is hashed.
    fn settle(&self, stream: Rc<RefCell<Stream>>) {
        let mut state = stream.borrow_mut();
        if state.waiting.len() <= state.enough
            && let Some(waiter) = state.waiter.take()
        {
            waiter.wake();
        }
        if state.waiting.is_empty() {
            state.is_queued = false;
        } else {
            drop(state);
            self.queue.borrow_mut().push_back(stream);
        }
    }
}

/// Advances each stream by at most `HASH_STEP_SIZE`.
fn step(streams: &[Rc<RefCell<Stream>>]) {
    let mut states: Vec<_> = streams.iter().map(|stream| stream.borrow_mut()).collect();
    let mut jobs: Vec<Job<'_, Md5>> = Vec::with_capacity(states.len());
    for state in &mut states {
        let Stream { md5, waiting, done, .. } = &mut **state;
        if let Some(slice) = waiting.front() {
            let bytes = &slice.bytes()[*done..];
            jobs.push(Job { hash: md5, bytes: &bytes[..bytes.len().min(HASH_STEP_SIZE)] });
        }
    }
    advance_md5(&mut jobs);
    for state in &mut states {
        let hashed = state.waiting.front().map_or(0, |slice| (slice.bytes().len() - state.done).min(HASH_STEP_SIZE));
        state.done += hashed;
        if state.waiting.front().is_some_and(|slice| state.done == slice.bytes().len()) {
            state.waiting.pop_front();
            state.done = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Helpers, run_core};
    use crate::limits::{BLOCK_SIZE, HUGE_PAGE_SIZE};
    use crate::mem::Arena;

    /// Oracle: the `md-5` crate. Streams of different lengths, fed in different pieces, side by side.
    #[test]
    fn many_streams_side_by_side_hash_as_each_alone() {
        run_core(Helpers::start(1, || ()).unwrap(), || async {
            let arena = Arena::new(4 * HUGE_PAGE_SIZE).unwrap();
            let mut expected = Vec::new();
            let mut tasks = Vec::new();
            for index in 0..arena.block_count() {
                let mut block = arena.try_take().unwrap();
                let length = BLOCK_SIZE - index * 4097;
                for (at, byte) in block.bytes_mut().iter_mut().enumerate() {
                    *byte = (at * 31 + index) as u8;
                }
                let tail = vec![index as u8; index * 3];
                use md5::Digest;
                let mut oracle = md5::Md5::new();
                oracle.update(&block.bytes()[..length]);
                oracle.update(&tail);
                expected.push(oracle.finalize().to_vec());
                tasks.push(spawn(async move {
                    let (stream, block) = (Md5Stream::new(), Rc::new(block));
                    let middle = length / 3;
                    stream.push(BlockSlice::new(block.clone(), 0, middle));
                    stream.fewer_than(1).await;
                    stream.push(BlockSlice::new(block, middle, length));
                    stream.update(&tail).await;
                    stream.finish().await.to_vec()
                }));
            }
            for (task, expected) in tasks.into_iter().zip(expected) {
                assert_eq!(task.await, expected);
            }
            assert_eq!(arena.free_count(), arena.block_count(), "every block came back");
        })
        .unwrap();
    }
}
