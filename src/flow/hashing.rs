//! MD5 and SHA-256 across the connections of a core. The MD5 of one object is a chain that no CPU can shorten; the chains of several
//! uploads run side by side in SIMD lanes, and eight cost little more than one. So nothing is hashed before it has to be: slices
//! wait, in blocks that their upload may hold, until the lanes are full, or no upload of this core is left that could still bring
//! company, or an upload cannot go on without its hash, or somebody waits for a block. A lone stream is never made to wait.
//! What SHA-256 has to see of a slice goes with its MD5, because the two together cost little more than the SHA-256.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::chunks::{ChunkHashes, Chunks};
use crate::digest::lanes::{LANES_MAX, advance_md5, advance_md5_and_sha256, lanes_available_sha256};
use crate::digest::{Job, Md5, Sha256};
use crate::io::{BlockSlice, spawn, turn};
use crate::limits::HASH_STEP_SIZE;
use crate::mem::{Arena, Block};
use crate::metrics::record;

thread_local! {
    static BATCH: Rc<Batch> = Rc::new(Batch::default());
}

/// The MD5 of one upload, and the SHA-256s of its chunks, fed with slices of its blocks. The blocks stay leased until they are hashed.
pub struct HashStream {
    stream: Rc<RefCell<Stream>>,
    arena: Arena,
}

#[derive(Default)]
struct Stream {
    md5: Md5,
    chunk_hashes: ChunkHashes,
    waiting: VecDeque<Slice>,
    /// How much of the first waiting slice is hashed.
    done: usize,
    is_queued: bool,
    /// A panic came between: nobody knows what is hashed.
    is_lost: bool,
    /// Woken when no more than `enough` slices wait.
    waiter: Option<Waker>,
    enough: usize,
}

struct Slice {
    slice: BlockSlice,
    /// What SHA-256 has to see of it, if anything.
    chunks: Option<Chunks>,
}

/// The streams of one core.
#[derive(Default)]
struct Batch {
    /// Those with slices that wait.
    queue: RefCell<VecDeque<Rc<RefCell<Stream>>>>,
    /// All there are.
    stream_count: Cell<usize>,
    /// Somebody waits for a block: everything is hashed now.
    is_hurried: Cell<bool>,
    is_running: Cell<bool>,
}

/// A block, as soon as one is free. Blocks whose bytes only wait to be hashed are not waited for longer than that takes.
pub(super) async fn take_block(arena: &Arena) -> Block {
    if let Some(block) = arena.try_take() {
        return block;
    }
    BATCH.with(Batch::hurry);
    arena.take().await
}

impl HashStream {
    /// A stream that has hashed nothing yet, of blocks of `arena`.
    pub fn new(arena: &Arena) -> Self {
        BATCH.with(|batch| batch.stream_count.update(|count| count + 1));
        Self { stream: Rc::default(), arena: arena.clone() }
    }

    /// Appends `slice`, to be hashed in time; its SHA-256 too, where there are `chunks`.
    pub fn push(&self, slice: BlockSlice, chunks: Option<Chunks>) {
        assert!(!slice.bytes().is_empty());
        let mut stream = self.stream.borrow_mut();
        if stream.is_lost {
            return;
        }
        stream.waiting.push_back(Slice { slice, chunks });
        let was_queued = std::mem::replace(&mut stream.is_queued, true);
        drop(stream);
        BATCH.with(|batch| {
            if !was_queued {
                batch.queue.borrow_mut().push_back(self.stream.clone());
            }
            if self.arena.is_wanted() {
                batch.hurry();
            }
            batch.start_if_due();
        });
    }

    /// Appends bytes that are hashed at once. Waits for what was pushed before them.
    pub async fn update(&self, bytes: &[u8], chunks: Option<Chunks>) {
        if let Some(chunks) = chunks {
            self.update_sha256(bytes, &chunks).await;
        }
        self.drained().await;
        self.stream.borrow_mut().md5.update(bytes);
    }

    /// Hashes at once what SHA-256 has to see of bytes whose MD5 comes later. Waits for what was pushed before them.
    pub async fn update_sha256(&self, bytes: &[u8], chunks: &Chunks) {
        self.drained().await;
        self.stream.borrow_mut().chunk_hashes.update(bytes, chunks);
    }

    /// The next SHA-256 that is finished and was not taken yet.
    pub fn next_sha256(&self) -> Option<[u8; 32]> {
        self.stream.borrow_mut().chunk_hashes.next()
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

    /// Waits until all is hashed, and every block let go of.
    pub async fn drained(&self) {
        self.at_most(0).await;
    }

    async fn at_most(&self, count: usize) {
        poll_fn(|context| {
            let mut stream = self.stream.borrow_mut();
            if stream.is_lost {
                drop(stream);
                // The panic was logged where it was; here it ends the request that it belongs to.
                resume_unwind(Box::new("the hash of this upload was lost in a panic"));
            }
            if stream.waiting.len() > count {
                stream.enough = count;
                stream.waiter = Some(context.waker().clone());
                drop(stream);
                BATCH.with(|batch| batch.start_if_due());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }
}

impl Drop for HashStream {
    /// What is not hashed yet is not wanted any more. The others see at their next slice that they need not wait for this one.
    fn drop(&mut self) {
        BATCH.with(|batch| {
            batch.queue.borrow_mut().retain(|queued| !Rc::ptr_eq(queued, &self.stream));
            batch.stream_count.update(|count| count - 1);
        });
    }
}

impl Batch {
    fn hurry(self: &Rc<Self>) {
        self.is_hurried.set(true);
        self.start_if_due();
    }

    fn start_if_due(self: &Rc<Self>) {
        if self.is_due() && !self.is_running.replace(true) {
            spawn(self.clone().run());
        }
    }

    fn is_due(&self) -> bool {
        let queue = self.queue.borrow();
        let is_complete = queue.len() >= self.stream_count.get().min(LANES_MAX);
        !queue.is_empty() && (is_complete || self.is_hurried.get() || queue.iter().any(|stream| stream.borrow().waiter.is_some()))
    }

    /// Hashes until nothing is due. Between two steps the core takes a turn through the ring, in which other connections
    /// receive, and bring company.
    async fn run(self: Rc<Self>) {
        loop {
            turn().await;
            if !self.is_due() {
                break;
            }
            let mut streams: Vec<_> = {
                let mut queue = self.queue.borrow_mut();
                let count = queue.len().min(LANES_MAX);
                queue.drain(..count).collect()
            };
            record::md5_step(streams.len());
            // Caught here: this task belongs to no request, and its end would be that of the core.
            let is_stepped = catch_unwind(AssertUnwindSafe(|| step(&streams))).is_ok();
            for stream in streams.drain(..) {
                if !is_stepped {
                    stream.borrow_mut().lose();
                }
                self.settle(stream);
            }
            if self.queue.borrow().is_empty() {
                self.is_hurried.set(false);
            }
        }
        self.is_running.set(false);
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

impl Stream {
    /// Whoever waits for the hash is told, and the blocks are let go of.
    fn lose(&mut self) {
        self.is_lost = true;
        self.waiting.clear();
    }
}

/// Advances each stream by at most `HASH_STEP_SIZE`.
fn step(streams: &[Rc<RefCell<Stream>>]) {
    let mut states: Vec<_> = streams.iter().map(|stream| stream.borrow_mut()).collect();
    let mut md5_jobs: Vec<Job<'_, Md5>> = Vec::with_capacity(states.len());
    let mut sha256_jobs: Vec<Job<'_, Sha256>> = Vec::new();
    // So many pieces of each stream that the lanes are full.
    let piece_count = lanes_available_sha256().div_ceil(states.len());
    for state in &mut states {
        let Stream { md5, chunk_hashes, waiting, done, .. } = &mut **state;
        let Some(Slice { slice, chunks }) = waiting.front() else { continue };
        let bytes = slice.bytes();
        let size = step_size(bytes, *done);
        md5_jobs.push(Job { hash: md5, bytes: &bytes[*done..*done + size] });
        if let Some(chunks) = chunks {
            if *done == 0 {
                chunk_hashes.begin(chunks, bytes.len());
            }
            let is_last = *done + size == bytes.len();
            let sha256_size = if is_last { chunk_hashes.rest() } else { chunk_hashes.rest().min(size) };
            chunk_hashes.step(bytes, sha256_size, piece_count, &mut sha256_jobs);
        }
    }
    if sha256_jobs.is_empty() {
        advance_md5(&mut md5_jobs);
    } else {
        advance_md5_and_sha256(&mut md5_jobs, &mut sha256_jobs);
    }
    for state in &mut states {
        let Stream { chunk_hashes, waiting, done, .. } = &mut **state;
        let Some(Slice { slice, chunks }) = waiting.front() else { continue };
        *done += step_size(slice.bytes(), *done);
        let is_done = *done == slice.bytes().len();
        if chunks.is_some() {
            chunk_hashes.stepped();
            if is_done {
                chunk_hashes.end();
            }
        }
        if is_done {
            waiting.pop_front();
            *done = 0;
        }
    }
}

/// How much of `bytes`, of which `done` are hashed, is hashed in one step.
fn step_size(bytes: &[u8], done: usize) -> usize {
    (bytes.len() - done).min(HASH_STEP_SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Helpers, run_core};
    use crate::limits::{BLOCK_SIZE, HUGE_PAGE_SIZE};

    fn on_a_core<F: Future<Output = ()>>(test: impl FnOnce(Arena) -> F) {
        let arena = Arena::new(4 * HUGE_PAGE_SIZE).unwrap();
        run_core(Helpers::start(1, || ()).unwrap(), || test(arena)).unwrap();
    }

    fn slice(arena: &Arena) -> BlockSlice {
        BlockSlice::new(Rc::new(arena.try_take().unwrap()), 0, BLOCK_SIZE)
    }

    /// Turns enough to hash a block many times over.
    async fn turns() {
        for _ in 0..20 * BLOCK_SIZE / HASH_STEP_SIZE {
            turn().await;
        }
    }

    /// Oracle: the `md-5` crate. Streams of different lengths, fed in different pieces, side by side.
    #[test]
    fn many_streams_side_by_side_hash_as_each_alone() {
        on_a_core(|arena| async move {
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
                let stream = HashStream::new(&arena);
                tasks.push(spawn(async move {
                    let block = Rc::new(block);
                    let middle = length / 3;
                    stream.push(BlockSlice::new(block.clone(), 0, middle), None);
                    stream.fewer_than(1).await;
                    stream.push(BlockSlice::new(block, middle, length), None);
                    stream.update(&tail, None).await;
                    stream.finish().await.to_vec()
                }));
            }
            for (task, expected) in tasks.into_iter().zip(expected) {
                assert_eq!(task.await, expected);
            }
            assert_eq!(arena.free_count(), arena.block_count(), "every block came back");
        });
    }

    #[test]
    fn a_lone_stream_is_hashed_at_once_and_one_in_company_when_that_is_there() {
        on_a_core(|arena| async move {
            let first = HashStream::new(&arena);
            first.push(slice(&arena), None);
            turns().await;
            assert_eq!(arena.free_count(), arena.block_count(), "nobody asked for the hash");
            let second = HashStream::new(&arena);
            first.push(slice(&arena), None);
            turns().await;
            assert_eq!(arena.free_count(), arena.block_count() - 1, "the second may still bring a slice");
            second.push(slice(&arena), None);
            turns().await;
            assert_eq!(arena.free_count(), arena.block_count());
            first.push(slice(&arena), None);
            first.drained().await;
        });
    }

    #[test]
    fn nobody_waits_for_a_block_that_only_waits_to_be_hashed() {
        on_a_core(|arena| async move {
            let (first, _second) = (HashStream::new(&arena), HashStream::new(&arena));
            for _ in 0..arena.block_count() {
                first.push(slice(&arena), None);
            }
            turns().await;
            assert_eq!(arena.free_count(), 0);
            drop(take_block(&arena).await);
            // The other way round: somebody waits already when the last block is pushed.
            turns().await;
            let held: Vec<_> = std::iter::from_fn(|| arena.try_take()).collect();
            let waiting = arena.clone();
            let waiter = spawn(async move { drop(take_block(&waiting).await) });
            turns().await;
            for block in held {
                first.push(BlockSlice::new(Rc::new(block), 0, BLOCK_SIZE), None);
            }
            waiter.await;
        });
    }

    /// One upload has chunks that end nowhere. It and who is hashed together with it fail; the core, and all others, go on.
    #[test]
    fn a_panic_costs_the_streams_of_one_step() {
        on_a_core(|arena| async move {
            let (broken, company) = (HashStream::new(&arena), HashStream::new(&arena));
            broken.push(slice(&arena), Some(Chunks { from: 0, ends: vec![2 * BLOCK_SIZE] }));
            company.push(slice(&arena), None);
            let fails = |stream: HashStream| async move { catch(stream.finish()).await.is_err() };
            assert!(fails(broken).await);
            company.push(slice(&arena), None);
            assert!(fails(company).await);
            assert_eq!(arena.free_count(), arena.block_count(), "every block came back");
            let later = HashStream::new(&arena);
            later.push(slice(&arena), None);
            later.finish().await;
        });
    }

    async fn catch<F: Future>(future: F) -> std::thread::Result<F::Output> {
        let mut future = std::pin::pin!(future);
        poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(panic) => Poll::Ready(Err(panic)),
        })
        .await
    }

    #[test]
    fn a_stream_that_ends_early_lets_go_of_its_blocks() {
        on_a_core(|arena| async move {
            let (first, second) = (HashStream::new(&arena), HashStream::new(&arena));
            first.push(slice(&arena), None);
            drop(first);
            assert_eq!(arena.free_count(), arena.block_count());
            second.push(slice(&arena), None);
            turns().await;
            assert_eq!(arena.free_count(), arena.block_count(), "it is alone now");
        });
    }
}
