//! A file to the client. Cached pages leave by sendfile(2); the rest is read O_DIRECT into blocks, several ahead of the
//! socket. Before the last bytes leave, the file is looked at once more: if somebody edited it in place meanwhile, the
//! answer is cut off rather than completed with a mixture. And where a whole object passed through our own buffers, it is cut off
//! if that was not what was stored.

use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use super::hashing;
use super::slots::Slots;
use crate::config::ReadMode;
use crate::digest::checksum::{Hasher, Value};
use crate::io::{DirectFile, Work, blocking, turn, within};
use crate::limits::{
    BLOCK_ALIGN, BLOCK_SIZE, BLOCKS_AHEAD_MAX, BLOCKS_PER_TRANSFER_MAX, ROOM_WAIT, SEND_DIRECT_SIZE, SEND_QUANTUM_SIZE,
    STALL_DURATION,
};
use crate::mem::{Arena, Block, Rank, Room};
use crate::metrics::record::{self, ReadFrom};
use crate::net::{Exchange, SendError, Stall};
use crate::sys;

/// Why a download ended early. In each case the connection ends: the head with the length has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// The client.
    Client(SendError),
    /// Reading the file failed.
    Disk(sys::Errno),
    /// The file is shorter than it was, or was edited while it was read.
    Changed,
    /// What was read has not the checksum that it was stored with.
    Corrupt,
}

/// What to send, decided before the first byte.
pub struct SendPlan<'a> {
    /// The open file.
    pub file: &'a OwnedFd,
    /// The same file opened with O_DIRECT, where the filesystem has it.
    pub direct: Option<OwnedFd>,
    /// The first byte.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
    /// Which way.
    pub mode: ReadMode,
    /// Whether the file is still what it was when its ETag was read.
    pub is_unchanged: &'a dyn Fn() -> bool,
    /// The checksum of these bytes, where they are a whole object and have one that costs little.
    pub expected: Option<Value>,
    /// To be compared also if all of it is cached: then it passes through our buffers for that.
    pub always_compares: bool,
}

/// Sends what `plan` says.
pub async fn send_file(exchange: &mut Exchange, arena: &Arena, room: &Room, plan: SendPlan<'_>) -> Result<(), Reading> {
    // What is open for reading without waiting must wait on the ring.
    sys::file::set_blocking(plan.file).map_err(Reading::Disk)?;
    let end = plan.offset + plan.length;
    let mut offset = plan.offset;
    let SendPlan { file, direct, is_unchanged, expected, .. } = plan;
    let mode = if plan.always_compares && expected.is_some() { ReadMode::Direct } else { plan.mode };
    let direct = direct.map(DirectFile::new).transpose().map_err(|_| Reading::Disk(sys::Errno::MFILE))?.map(Rc::new);
    let comparison = expected.map(|expected| Comparison { hasher: Hasher::new(expected.algorithm()), expected, at: offset });
    let mut sender = Sender { exchange, arena, room, file, direct, is_unchanged, comparison, end };
    let result = loop {
        if offset == end {
            break Ok(());
        }
        let quantum_end = end.min(offset - offset % SEND_QUANTUM_SIZE + SEND_QUANTUM_SIZE);
        let step = match sender.look_at_cache(mode, offset, quantum_end).await {
            Cache::All => sender.send_cached(&mut offset, quantum_end).await,
            Cache::Some => sender.send_blocks(&mut offset, quantum_end).await,
            Cache::None => sender.send_blocks(&mut offset, end.min(quantum_end + SEND_DIRECT_SIZE)).await,
            Cache::Unused => sender.send_blocks(&mut offset, end).await,
        };
        if let Err(error) = step {
            break Err(error);
        }
    };
    sender.close().await;
    result
}

struct Sender<'a> {
    exchange: &'a mut Exchange,
    arena: &'a Arena,
    room: &'a Room,
    file: &'a OwnedFd,
    direct: Option<Rc<DirectFile>>,
    is_unchanged: &'a dyn Fn() -> bool,
    comparison: Option<Comparison>,
    end: u64,
}

/// The checksum of what has passed so far.
struct Comparison {
    hasher: Hasher,
    expected: Value,
    /// Where that ends.
    at: u64,
}

impl Sender<'_> {
    /// How much of a range can leave from the page cache without blocking the core.
    async fn look_at_cache(&self, mode: ReadMode, start: u64, end: u64) -> Cache {
        if mode == ReadMode::Direct || !self.exchange.sends_files() {
            return Cache::Unused;
        }
        // cachestat(2) is Linux 6.5; before that, or where it is filtered, nothing says what is cached without touching it.
        let cached = cached_pages(self.file, start, end);
        let pages = end.div_ceil(PAGE_SIZE) - start / PAGE_SIZE;
        let wants_filling = match (mode, cached) {
            (_, Some(cached)) if cached >= pages => return Cache::All,
            (ReadMode::Cached, _) => true,
            // Warm, with holes where the kernel reclaimed: a buffered reader would have kept it warm.
            (_, Some(cached)) => cached >= pages / 2,
            (_, None) => false,
        };
        match (wants_filling, cached) {
            (true, _) if self.fill_cache(start, end).await => Cache::All,
            (_, Some(0) | None) => Cache::None,
            _ => Cache::Some,
        }
    }

    /// Reads what is missing of a range into the page cache, on a helper.
    async fn fill_cache(&self, start: u64, end: u64) -> bool {
        let Ok(file) = self.file.try_clone() else { return false };
        let filled = blocking(Work::Read, move || {
            let mut holes = Vec::new();
            find_holes(&file, start, end, &mut holes);
            for (start, end) in &holes {
                let length = std::num::NonZeroU64::new(end - start);
                let _ = rustix::fs::fadvise(&file, *start, length, rustix::fs::Advice::WillNeed);
            }
            let mut bytes = vec![0; HOLE_SIZE as usize];
            holes.iter().all(|(start, end)| sys::file::read_full_at(&file, &mut bytes[..(end - start) as usize], *start).is_ok())
        });
        filled.await.unwrap_or(false)
    }

    async fn send_cached(&mut self, offset: &mut u64, end: u64) -> Result<(), Reading> {
        // Nobody sees these bytes.
        self.comparison = None;
        while *offset < end {
            if end == self.end && !(self.is_unchanged)() {
                return Err(Reading::Changed);
            }
            let count = usize::try_from(end - *offset).unwrap_or(usize::MAX);
            let sent = self.exchange.send_file_some(self.file.as_fd(), offset, count).await.map_err(Reading::Client)?;
            if sent == 0 {
                return Err(Reading::Changed);
            }
            record::read(ReadFrom::PageCache, sent);
            // A short count: the socket is full. Asking again at once would send crumbs, each as dear as a megabyte; the poll
            // is answered when a good part of the buffer is free. Without a short count it is the other connections' turn.
            if *offset < self.end {
                self.exchange.wait_writable(Stall::Ignore).await.map_err(Reading::Client)?;
            }
        }
        Ok(())
    }

    /// Reads blocks ahead of the socket and sends them. A download that stalls gives its blocks back and reads again.
    async fn send_blocks(&mut self, offset: &mut u64, end: u64) -> Result<(), Reading> {
        let Some(file) = self.direct.clone() else { return self.send_copies(offset, end).await };
        let mut reads = Slots::new(BLOCKS_AHEAD_MAX);
        let mut ahead = *offset;
        let outcome = loop {
            while ahead < end && !reads.is_full() {
                let block = match reads.count() {
                    0 => hashing::take_block(self.arena).await,
                    held => match try_take_ahead(self.arena, held) {
                        Some(block) => block,
                        None => break,
                    },
                };
                let start = ahead - ahead % BLOCK_ALIGN as u64;
                let size = (end - start).min(BLOCK_SIZE as u64);
                // Rounded up: a direct read asks for whole sectors, the file's end cuts it.
                let request = (size as usize).next_multiple_of(BLOCK_ALIGN);
                reads.start(read_block(file.clone(), block, request, start)).await;
                ahead = start + size;
            }
            let Some((result, block)) = reads.next().await else { break Ok(()) };
            let read = match result {
                Ok(read) => read,
                Err(error) => break Err(disk(&error)),
            };
            let block_end = (*offset - *offset % BLOCK_ALIGN as u64 + BLOCK_SIZE as u64).min(end);
            let bytes = match self.what_was_read(&block, read, *offset, block_end) {
                Ok(bytes) => bytes,
                Err(error) => break Err(error),
            };
            match self.send_block(bytes, offset).await {
                // The ring is submitted at the end of a turn. Without one here the disk would wait until all that it has read
                // for all connections is sent, and the core then for the disk.
                Ok(()) if *offset < end => turn().await,
                Ok(()) => {}
                Err(SendError::Stalled) => {
                    drop(block);
                    drain(&mut reads).await;
                    if let Err(error) = self.send_slowly(&file, offset, end).await {
                        break Err(error);
                    }
                    ahead = *offset;
                }
                Err(error) => break Err(Reading::Client(error)),
            }
        };
        drain(&mut reads).await;
        outcome
    }

    /// Takes what was read from `offset` on into the comparison, once, however often it is read; at the end it is decided.
    fn compare(&mut self, bytes: &[u8], offset: u64) -> Result<(), Reading> {
        let Some(comparison) = &mut self.comparison else { return Ok(()) };
        let known = usize::try_from(comparison.at.saturating_sub(offset)).unwrap_or(usize::MAX);
        if let Some(new) = bytes.get(known..) {
            comparison.hasher.update(new);
            comparison.at += new.len() as u64;
        }
        let Some(Comparison { hasher, expected, .. }) = self.comparison.take_if(|comparison| comparison.at == self.end) else {
            return Ok(());
        };
        if hasher.finish() == expected { Ok(()) } else { Err(Reading::Corrupt) }
    }

    /// The bytes from `offset` to `end`, of a block whose read began at the sector of `offset`.
    fn what_was_read<'b>(&mut self, block: &'b Block, read: usize, offset: u64, end: u64) -> Result<&'b [u8], Reading> {
        record::read(ReadFrom::Disk, read);
        let start = offset - offset % BLOCK_ALIGN as u64;
        if start + (read as u64) < end || (end == self.end && !(self.is_unchanged)()) {
            return Err(Reading::Changed);
        }
        let bytes = &block.bytes()[(offset - start) as usize..(end - start) as usize];
        self.compare(bytes, offset)?;
        Ok(bytes)
    }

    /// To a client that had a block for too long: it is waited for without one, and gets about what it takes at once, read for it
    /// then. When it takes a whole block at once, it is no longer slow.
    async fn send_slowly(&mut self, file: &Rc<DirectFile>, offset: &mut u64, end: u64) -> Result<(), Reading> {
        let mut size = SLOW_READ_SIZE_MIN;
        while *offset < end {
            self.exchange.wait_writable(Stall::Ignore).await.map_err(Reading::Client)?;
            let block = hashing::take_block(self.arena).await;
            let start = *offset - *offset % BLOCK_ALIGN as u64;
            let read_end = (start + size as u64).min(end);
            let request = ((read_end - start) as usize).next_multiple_of(BLOCK_ALIGN);
            let (result, block) = read_block(file.clone(), block, request, start).await;
            let read = result.map_err(|error| disk(&error))?;
            let bytes = self.what_was_read(&block, read, *offset, read_end)?;
            let sent = self.exchange.send_now(bytes, read_end < self.end).map_err(Reading::Client)?;
            *offset += sent as u64;
            if sent < bytes.len() {
                size = sent.next_multiple_of(SLOW_READ_SIZE_MIN).clamp(SLOW_READ_SIZE_MIN, BLOCK_SIZE);
            } else if size == BLOCK_SIZE {
                break;
            } else {
                size = (size * 2).min(BLOCK_SIZE);
            }
        }
        Ok(())
    }

    /// A client that takes a little now and then never stalls, and would keep its blocks for as long as it likes. Where others
    /// wait for one, it has as long for a block as one that stalls.
    async fn send_block(&mut self, mut bytes: &[u8], offset: &mut u64) -> Result<(), SendError> {
        let since = Instant::now();
        while !bytes.is_empty() {
            if self.arena.is_wanted() && since.elapsed() > STALL_DURATION {
                return Err(SendError::Stalled);
            }
            let more = *offset + (bytes.len() as u64) < self.end;
            let sent = self.exchange.send_some(bytes, more, Stall::After(STALL_DURATION)).await?;
            bytes = &bytes[sent..];
            *offset += sent as u64;
            // As in `send_cached`.
            if !bytes.is_empty() {
                self.exchange.wait_writable(Stall::After(STALL_DURATION)).await?;
            }
        }
        Ok(())
    }

    /// Where O_DIRECT is refused: buffered reads on a helper, one block at a time.
    async fn send_copies(&mut self, offset: &mut u64, end: u64) -> Result<(), Reading> {
        while *offset < end {
            let file = self.file.try_clone().map_err(|_| Reading::Disk(sys::Errno::MFILE))?;
            let (start, size) = (*offset, (end - *offset).min(COPY_SIZE) as usize);
            let lease = within(ROOM_WAIT, pin!(self.room.take_as(Rank::Large, size))).await;
            let _lease = lease.ok_or(Reading::Disk(sys::Errno::NOMEM))?;
            let copied = blocking(Work::Read, move || {
                let mut bytes = vec![0; size];
                sys::file::read_full_at(&file, &mut bytes, start).map(|count| {
                    bytes.truncate(count);
                    bytes
                })
            });
            let bytes = copied.await.map_err(|_| Reading::Disk(sys::Errno::IO))?.map_err(Reading::Disk)?;
            record::read(ReadFrom::Helper, bytes.len());
            let is_last = start + size as u64 == self.end;
            if bytes.len() < size || (is_last && !(self.is_unchanged)()) {
                return Err(Reading::Changed);
            }
            self.compare(&bytes, start)?;
            self.exchange.send(&bytes, !is_last).await.map_err(Reading::Client)?;
            *offset += size as u64;
        }
        Ok(())
    }

    async fn close(self) {
        if let Some(Ok(file)) = self.direct.map(Rc::try_unwrap) {
            // Only read from: its close has nothing to report.
            let _ = file.close().await;
        }
    }
}

/// What the page cache has of a range.
enum Cache {
    /// All of it.
    All,
    /// Too little.
    Some,
    /// Nothing, or nobody can say.
    None,
    /// It is not to be asked.
    Unused,
}

const PAGE_SIZE: u64 = 4096;
/// Bytes of a hole in the page cache below which it is not looked at more closely.
const HOLE_SIZE: u64 = 64 * 1024;
/// Bytes read at once, at least, for a client that takes little: what a socket to a distant client holds.
const SLOW_READ_SIZE_MIN: usize = 64 * 1024;
/// Bytes read at once where O_DIRECT is refused.
const COPY_SIZE: u64 = 256 * 1024;

fn cached_pages(file: &OwnedFd, start: u64, end: u64) -> Option<u64> {
    sys::file::cache_stat(file, start, end - start).ok().flatten().map(|stat| stat.cached)
}

/// Halves a range until the pieces that are not wholly cached are small: a call for each step is far cheaper than reading, or
/// touching, what is there.
fn find_holes(file: &OwnedFd, start: u64, end: u64, holes: &mut Vec<(u64, u64)>) {
    let pages = end.div_ceil(PAGE_SIZE) - start / PAGE_SIZE;
    if cached_pages(file, start, end).is_some_and(|cached| cached >= pages) {
        return;
    }
    if end - start <= HOLE_SIZE {
        return holes.push((start, end));
    }
    let middle = (start + (end - start) / 2).next_multiple_of(PAGE_SIZE);
    find_holes(file, start, middle, holes);
    find_holes(file, middle, end, holes);
}

/// A block for a download that holds `held`. What is over the usual part of a transfer is taken from plenty only: others may
/// come, and a block is back when its bytes have left.
fn try_take_ahead(arena: &Arena, held: usize) -> Option<Block> {
    let is_plenty = arena.free_count() > arena.block_count() / 2;
    if held < BLOCKS_PER_TRANSFER_MAX || is_plenty { arena.try_take() } else { None }
}

async fn read_block(file: Rc<DirectFile>, block: Block, size: usize, offset: u64) -> (std::io::Result<usize>, Block) {
    file.read(block, size, offset).await
}

fn disk(error: &std::io::Error) -> Reading {
    Reading::Disk(sys::Errno::from_io_error(error).unwrap_or(sys::Errno::IO))
}

/// Waits out what is in flight: a block must not go back to the arena while the kernel writes into it.
async fn drain<F: Future<Output = (std::io::Result<usize>, Block)>>(reads: &mut Slots<F>) {
    while reads.next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_a_transfers_part_comes_from_plenty() {
        let arena = Arena::new(16 * BLOCK_SIZE).unwrap();
        let download = || {
            let mut blocks = Vec::new();
            while blocks.len() < BLOCKS_AHEAD_MAX {
                match try_take_ahead(&arena, blocks.len()) {
                    Some(block) => blocks.push(block),
                    None => break,
                }
            }
            blocks
        };
        let first = download();
        assert_eq!(first.len(), BLOCKS_AHEAD_MAX, "nobody else is there");
        let others = [download(), download()];
        assert_eq!(others.each_ref().map(Vec::len), [BLOCKS_PER_TRANSFER_MAX; 2], "half of all blocks are taken");
        assert!(download().is_empty(), "none is left");
        drop(first);
        assert_eq!(download().len(), BLOCKS_PER_TRANSFER_MAX, "half of them are free again, and no more");
        drop(others);
        assert_eq!(download().len(), BLOCKS_AHEAD_MAX);
    }
}
