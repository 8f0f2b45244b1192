//! Whose bytes? Each data core owns an arena of aligned blocks on huge pages; a `Block` is the lease of one, and whoever
//! holds it owns its bytes. Blocks are the unit of receiving, digesting, O_DIRECT writing, reading ahead and sending.
//!
//! What requests hold beside blocks is leased as well, of one amount for all cores (`request`).
//!
//! Imports `limits` and `metrics::record` only. Limits: an arena never grows after its start; when it is empty, transfers wait
//! in the order in which they asked, as do requests for theirs. Memory that nobody used for a while goes back to the kernel, some at
//! each look.

#![allow(unsafe_code)]

mod request;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::ptr::NonNull;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::limits::{ARENA_RELEASES_MAX, BLOCK_ALIGN, BLOCK_SIZE, HUGE_PAGE_SIZE};
use crate::metrics::record;

pub use request::{Lease, Rank, RequestMemory, Room};

/// The blocks of one data core. Clones share them; it cannot leave its thread.
#[derive(Clone)]
pub struct Arena {
    shared: Rc<Shared>,
}

struct Shared {
    memory: Mapping,
    state: RefCell<State>,
}

struct State {
    /// Start offsets of the blocks that nobody holds, the next one to be handed out at the end.
    free: Vec<usize>,
    /// The fewest free blocks since `release_idle` looked: so many at the front of `free` were not touched since.
    free_min: usize,
    /// The huge pages that were handed out since they were last given back.
    touched: Vec<bool>,
    /// Those that wait for a block, oldest first, each with the ticket that its future knows it by.
    waiting: VecDeque<(u64, Waker)>,
    next_ticket: u64,
}

/// An anonymous mapping, aligned to huge pages, zeroed by the kernel and populated on first touch.
struct Mapping {
    start: NonNull<u8>,
    size: usize,
}

impl Arena {
    /// Maps `size` bytes, rounded up to whole huge pages. Memory is asked for with transparent huge pages; a kernel
    /// without them serves small pages, at the cost in DESIGN's table ("same without huge pages").
    pub fn new(size: usize) -> std::io::Result<Self> {
        let size = size.max(HUGE_PAGE_SIZE).next_multiple_of(HUGE_PAGE_SIZE);
        let memory = Mapping::new(size)?;
        // Handed out from the end of the list: low addresses first, so that a lightly used arena touches few pages.
        let free: Vec<usize> = (0..size / BLOCK_SIZE).rev().map(|index| index * BLOCK_SIZE).collect();
        record::blocks(0, size / BLOCK_SIZE);
        let (free_min, touched) = (free.len(), vec![false; size / HUGE_PAGE_SIZE]);
        let state = RefCell::new(State { free, free_min, touched, waiting: VecDeque::new(), next_ticket: 0 });
        Ok(Self { shared: Rc::new(Shared { memory, state }) })
    }

    /// A block, when one is free and nobody waits for it.
    pub fn try_take(&self) -> Option<Block> {
        let mut state = self.shared.state.borrow_mut();
        if !state.waiting.is_empty() {
            return None;
        }
        let offset = state.pop()?;
        drop(state);
        Some(self.lease(offset))
    }

    /// A block, as soon as one is free. One block is enough for any transfer to make progress, and a transfer that holds
    /// one never calls this for a second (it uses `try_take`), so waiting cannot deadlock.
    pub fn take(&self) -> Take<'_> {
        Take { arena: self, ticket: None }
    }

    /// Whether somebody waits for a block: who holds one without need should give it back.
    pub fn is_wanted(&self) -> bool {
        !self.shared.state.borrow().waiting.is_empty()
    }

    /// Blocks that nobody holds.
    pub fn free_count(&self) -> usize {
        self.shared.state.borrow().free.len()
    }

    /// All blocks.
    pub fn block_count(&self) -> usize {
        self.shared.memory.size / BLOCK_SIZE
    }

    /// Gives the memory of huge pages back to the kernel of which no block was held since the last call: at most
    /// `ARENA_RELEASES_MAX` of them. How many it were.
    pub fn release_idle(&self) -> usize {
        let mut state = self.shared.state.borrow_mut();
        let mut idle_blocks = vec![0; state.touched.len()];
        let untouched = state.free_min.min(state.free.len());
        for offset in &state.free[..untouched] {
            idle_blocks[offset / HUGE_PAGE_SIZE] += 1;
        }
        let is_idle = |page: &usize| idle_blocks[*page] == HUGE_PAGE_SIZE / BLOCK_SIZE && state.touched[*page];
        let pages: Vec<usize> = (0..idle_blocks.len()).filter(is_idle).take(ARENA_RELEASES_MAX).collect();
        for &page in &pages {
            self.shared.memory.release(page * HUGE_PAGE_SIZE);
            state.touched[page] = false;
        }
        // Low addresses first again, so that a light load gathers on few pages.
        state.free.sort_unstable_by(|one, other| other.cmp(one));
        state.free_min = state.free.len();
        pages.len()
    }

    fn lease(&self, offset: usize) -> Block {
        assert!(offset.is_multiple_of(BLOCK_SIZE) && offset + BLOCK_SIZE <= self.shared.memory.size);
        record::blocks(self.block_count() - self.free_count(), self.block_count());
        // SAFETY: the assertion above keeps the block inside the mapping, which lives as long as `shared`.
        let start = unsafe { self.shared.memory.start.add(offset) };
        Block { start, offset, arena: self.shared.clone() }
    }
}

impl State {
    fn pop(&mut self) -> Option<usize> {
        let offset = self.free.pop()?;
        self.free_min = self.free_min.min(self.free.len());
        self.touched[offset / HUGE_PAGE_SIZE] = true;
        Some(offset)
    }
}

/// Waits for a block.
pub struct Take<'a> {
    arena: &'a Arena,
    ticket: Option<u64>,
}

impl Future for Take<'_> {
    type Output = Block;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Block> {
        let arena = self.arena;
        let mut state = arena.shared.state.borrow_mut();
        let first = match (self.ticket, state.waiting.front()) {
            (None, front) => front.is_none(),
            (Some(ticket), front) => front.is_some_and(|(waiting, _)| *waiting == ticket),
        };
        if first && let Some(offset) = state.pop() {
            if self.ticket.take().is_some() {
                state.waiting.pop_front();
            }
            // A second block may have come back while only the first waiter was woken.
            wake_first(&state);
            drop(state);
            return Poll::Ready(arena.lease(offset));
        }
        match self.ticket {
            None => {
                record::waits_for_block();
                let ticket = state.next_ticket;
                state.next_ticket += 1;
                state.waiting.push_back((ticket, context.waker().clone()));
                self.ticket = Some(ticket);
            }
            Some(ticket) => {
                if let Some(entry) = state.waiting.iter_mut().find(|(waiting, _)| *waiting == ticket) {
                    entry.1 = context.waker().clone();
                }
            }
        }
        Poll::Pending
    }
}

impl Drop for Take<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let mut state = self.arena.shared.state.borrow_mut();
            state.waiting.retain(|(waiting, _)| *waiting != ticket);
            wake_first(&state);
        }
    }
}

fn wake_first(state: &State) {
    if !state.free.is_empty()
        && let Some((_, waker)) = state.waiting.front()
    {
        waker.wake_by_ref();
    }
}

/// The lease of one block of `BLOCK_SIZE` bytes, aligned to `BLOCK_ALIGN`. Its bytes are always initialised (zero, or what
/// an earlier holder left: only ever send what was written in this lease). Given back when dropped.
pub struct Block {
    start: NonNull<u8>,
    offset: usize,
    arena: Rc<Shared>,
}

impl Block {
    /// All bytes of the block.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the lease is exclusive, the mapping outlives it (`arena`), and mapped memory is initialised.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), BLOCK_SIZE) }
    }

    /// All bytes of the block, to write into.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` makes this the only view.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), BLOCK_SIZE) }
    }

    /// The address of the first byte, for the ring.
    pub fn as_ptr(&self) -> *const u8 {
        self.start.as_ptr()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let mut state = self.arena.state.borrow_mut();
        state.free.push(self.offset);
        let count = self.arena.memory.size / BLOCK_SIZE;
        record::blocks(count - state.free.len(), count);
        wake_first(&state);
    }
}

impl Mapping {
    fn new(size: usize) -> std::io::Result<Self> {
        // Map one huge page more than asked and give back the ends, so that the start is aligned.
        let whole = size + HUGE_PAGE_SIZE;
        // SAFETY: a fresh anonymous mapping, no address of ours involved.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                whole,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        let address = address as usize;
        let aligned = address.next_multiple_of(HUGE_PAGE_SIZE);
        let (before, after) = (aligned - address, address + whole - (aligned + size));
        // SAFETY: both ranges lie in the mapping just made, outside of what is kept.
        unsafe {
            if before > 0 {
                libc::munmap(address as *mut _, before);
            }
            if after > 0 {
                libc::munmap((aligned + size) as *mut _, after);
            }
            // Advice: its refusal (a kernel without huge pages) costs speed only.
            libc::madvise(aligned as *mut _, size, libc::MADV_HUGEPAGE);
        }
        prefer_own_node(aligned, size);
        let start = NonNull::new(aligned as *mut u8).ok_or_else(|| std::io::Error::from_raw_os_error(libc::ENOMEM))?;
        assert!((start.as_ptr() as usize).is_multiple_of(BLOCK_ALIGN));
        Ok(Self { start, size })
    }
}

/// Asks for memory of the node on which the calling thread runs, whoever touches a page first: that may also be a kernel thread
/// that finishes a read on another node. A refusal (seccomp, a kernel without NUMA) leaves first touch to decide.
fn prefer_own_node(start: usize, size: usize) -> bool {
    const NODES_MAX: usize = 1024;
    let (mut cpu, mut node) = (0_u32, 0_u32);
    let mut nodes = [0_u64; NODES_MAX / 64];
    // SAFETY: getcpu(2) writes two integers, which live here; its third argument is unused.
    let result = unsafe { libc::syscall(libc::SYS_getcpu, &raw mut cpu, &raw mut node, std::ptr::null_mut::<u8>()) };
    let Some(word) = nodes.get_mut(node as usize / 64).filter(|_| result == 0) else { return false };
    *word = 1 << (node % 64);
    // SAFETY: the range is ours and mapped, the mask lives here; mbind(2) changes where later pages come from, and no byte. It counts
    // its last argument but one from 1.
    unsafe { libc::syscall(libc::SYS_mbind, start, size, libc::MPOL_PREFERRED, nodes.as_ptr(), NODES_MAX + 1, 0) == 0 }
}

impl Mapping {
    /// Drops what the huge page at `offset` holds; it reads as zeros until it is written again. The caller holds none of it.
    fn release(&self, offset: usize) {
        assert!(offset.is_multiple_of(HUGE_PAGE_SIZE) && offset + HUGE_PAGE_SIZE <= self.size);
        // SAFETY: the assertion keeps the range inside the mapping; no lease refers to it, so no reference does.
        unsafe {
            libc::madvise(self.start.as_ptr().add(offset).cast(), HUGE_PAGE_SIZE, libc::MADV_DONTNEED);
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `new` kept; no lease is left, since each holds the `Rc` that owns this.
        unsafe {
            libc::munmap(self.start.as_ptr().cast(), self.size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn blocks_are_aligned_distinct_and_come_back() {
        let arena = Arena::new(HUGE_PAGE_SIZE).unwrap();
        let count = arena.block_count();
        let mut blocks: Vec<Block> = (0..count).map(|_| arena.try_take().unwrap()).collect();
        assert!(arena.try_take().is_none());
        for (index, block) in blocks.iter_mut().enumerate() {
            assert!((block.as_ptr() as usize).is_multiple_of(BLOCK_ALIGN));
            block.bytes_mut().fill(index as u8);
        }
        for (index, block) in blocks.iter().enumerate() {
            assert!(block.bytes().iter().all(|byte| *byte == index as u8));
        }
        drop(blocks);
        assert_eq!(arena.free_count(), count);
    }

    /// /proc/self/numa_maps (numa(7)) has a line for each mapping: its start and its policy.
    #[test]
    fn memory_is_asked_of_the_threads_own_node() {
        let arena = Arena::new(HUGE_PAGE_SIZE).unwrap();
        let mut block = arena.try_take().unwrap();
        block.bytes_mut().fill(1);
        let start = block.as_ptr() as usize;
        let allowed = prefer_own_node(start, HUGE_PAGE_SIZE);
        let Ok(maps) = std::fs::read_to_string("/proc/self/numa_maps") else {
            assert!(!allowed, "a kernel without NUMA has neither");
            return;
        };
        let lines = maps.lines().filter_map(|line| line.split_once(' '));
        let starts = lines.filter_map(|(address, rest)| Some((usize::from_str_radix(address, 16).ok()?, rest)));
        let (_, policy) = starts.filter(|(address, _)| *address <= start).max_by_key(|(address, _)| *address).unwrap();
        assert_eq!(policy.starts_with("prefer"), allowed, "{policy}");
    }

    /// Only whole huge pages of which no block was held between two looks.
    #[test]
    fn idle_memory_goes_back_to_the_kernel() {
        let blocks_per_page = HUGE_PAGE_SIZE / BLOCK_SIZE;
        let arena = Arena::new((ARENA_RELEASES_MAX + 3) * HUGE_PAGE_SIZE).unwrap();
        let mut blocks: Vec<Block> = std::iter::from_fn(|| arena.try_take()).collect();
        blocks.iter_mut().for_each(|block| block.bytes_mut().fill(1));
        let held = blocks.remove(blocks_per_page);
        drop(blocks);
        assert_eq!(arena.release_idle(), 0, "all of it was held since the start");
        assert_eq!(arena.release_idle(), ARENA_RELEASES_MAX);
        let mut again = arena.try_take().unwrap();
        assert!(again.bytes().iter().all(|byte| *byte == 0), "given back");
        again.bytes_mut().fill(2);
        drop(again);
        assert_eq!(arena.release_idle(), 2, "the rest, but for the page of which one is held, and the one used again");
        assert_eq!(arena.release_idle(), 1);
        assert!(held.bytes().iter().all(|byte| *byte == 1));
        drop(held);
        arena.release_idle();
        assert_eq!((arena.release_idle(), arena.release_idle()), (1, 0));
    }

    #[test]
    fn waiters_are_served_in_order_and_a_dropped_waiter_passes_its_turn() {
        let arena = Arena::new(1).unwrap();
        let mut held: Vec<Block> = std::iter::from_fn(|| arena.try_take()).collect();
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = count.clone().into();
        let mut context = Context::from_waker(&waker);
        let (mut first, mut second, mut third) = (Box::pin(arena.take()), Box::pin(arena.take()), Box::pin(arena.take()));
        assert!(first.as_mut().poll(&mut context).is_pending());
        assert!(second.as_mut().poll(&mut context).is_pending());
        assert!(third.as_mut().poll(&mut context).is_pending());
        held.pop();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(second.as_mut().poll(&mut context).is_pending(), "the oldest goes first");
        assert!(arena.try_take().is_none(), "nobody overtakes a waiter");
        drop(first);
        assert!(third.as_mut().poll(&mut context).is_pending());
        let Poll::Ready(block) = second.as_mut().poll(&mut context) else { panic!("second is first now") };
        drop(block);
        assert!(third.as_mut().poll(&mut context).is_ready());
    }
}
