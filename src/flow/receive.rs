//! A body into memory, or into a file: receive into a block, decode the framing in place, digest, write that block, several
//! in flight. Whatever goes wrong, what is in flight is waited out before the error is returned.

use std::rc::Rc;
use std::time::Instant;

use super::chunks::Chunks;
use super::hashing::{self, HashStream};
use super::payload::{Digests, Mismatch, Payload};
use super::slots::Slots;
use crate::body::{BodyError, Decoder};
use crate::digest::Md5;
use crate::digest::checksum::Value;
use crate::io::{BlockSlice, DirectFile};
use crate::limits::{BLOCK_ALIGN, BLOCK_SIZE, BLOCKS_PER_TRANSFER_MAX, CHUNK_ENDS_MAX, RECEIVE_SIZE, ROOM_WAIT, STALL_DURATION};
use crate::mem::{Arena, Block, Lease};
use crate::net::{Exchange, ReceiveError, Stall};
use crate::sys::Errno;

/// Why an upload failed. Nothing of it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferError {
    /// The client is gone, or ended its side in the middle of the body.
    Ended,
    /// It sent nothing for too long, or too slowly.
    TimedOut,
    /// The framing is broken, or of another length than was said.
    Body(BodyError),
    /// The body is not what was said of it.
    Mismatch(Mismatch),
    /// More bytes than this verb takes.
    TooLarge,
    /// Writing failed.
    Disk(Errno),
    /// The file was taken away from this writer (`Target::is_closed`).
    Closed,
    /// It would take more memory than there is, or takes it for too long from others that wait.
    NoRoom,
}

/// A body in memory.
pub struct Received {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Keeps room for them.
    pub lease: Lease,
    /// Its MD5, where the request said what it had to be. Otherwise it is left to whoever has several bodies to hash together.
    pub md5: Option<[u8; 16]>,
    /// Its checksums: those that were sent, or the computed one.
    pub checksums: Vec<Value>,
}

/// A body in a file.
pub struct ReceivedFile {
    /// Its bytes' number.
    pub size: u64,
    /// The end that has no aligned length, still to be written at `size - tail.len()`, counted from the target's start.
    pub tail: Vec<u8>,
    /// Its digests.
    pub digests: Digests,
}

/// Where a body goes.
pub struct Target<'a> {
    /// The file.
    pub file: Rc<DirectFile>,
    /// Its first byte's place there, aligned.
    pub offset: u64,
    /// More bytes than this are refused.
    pub size_max: u64,
    /// Asked before each write: whether somebody closed the place to this writer.
    pub is_closed: &'a dyn Fn() -> bool,
}

/// Memory for a body that is received whole.
pub struct Whole {
    /// More bytes than this are refused.
    pub size_max: usize,
    /// Its length, where that is known.
    pub size: Option<u64>,
    /// Bytes that are held for each of its own.
    pub factor: usize,
}

impl Whole {
    /// Bytes that a lease must have for it to begin.
    pub fn leased_at_first(&self) -> usize {
        self.allocated_at_first() * self.factor
    }

    fn allocated_at_first(&self) -> usize {
        let size = self.size.map_or(RECEIVE_SIZE, |size| usize::try_from(size).unwrap_or(usize::MAX).min(self.size_max));
        // Framing stands between the payload until it is decoded away: room for it behind.
        size + FRAMING_ROOM
    }
}

/// Receives a body into memory of which a `lease` is there.
pub async fn receive_into_memory(
    exchange: &mut Exchange,
    mut decoder: Box<Decoder>,
    mut payload: Box<Payload>,
    whole: Whole,
    mut lease: Lease,
) -> Result<Received, TransferError> {
    let mut bytes = vec![0; whole.allocated_at_first()];
    let mut filled = 0;
    let since = Instant::now();
    while !decoder.is_finished() {
        // What it holds cannot be set aside: where others wait for room, it has as long as they have.
        if lease.is_wanted() && since.elapsed() > ROOM_WAIT {
            return Err(TransferError::NoRoom);
        }
        if bytes.len() - filled < FRAMING_ROOM {
            if !lease.resize((bytes.len() + RECEIVE_SIZE) * whole.factor) {
                return Err(TransferError::NoRoom);
            }
            bytes.resize(bytes.len() + RECEIVE_SIZE, 0);
        }
        let wanted = decoder.raw_wanted().min(bytes.len() - filled);
        if wanted == 0 {
            return Err(TransferError::Ended);
        }
        let count = match exchange.receive(&mut bytes[filled..filled + wanted], Stall::After(STALL_DURATION)).await {
            // A client that does not send gives way to those that do.
            Err(ReceiveError::Stalled) if lease.is_wanted() => return Err(TransferError::NoRoom),
            Err(ReceiveError::Stalled) => continue,
            received => received.map_err(interrupted)?,
        };
        let fresh = &mut bytes[filled..filled + count];
        let decoded = decoder.decode(fresh, &mut *payload).map_err(TransferError::Body)?;
        exchange.put_back(&fresh[decoded.consumed..]);
        payload.absorb(&fresh[..decoded.payload]).map_err(TransferError::Mismatch)?;
        filled += decoded.payload;
        if filled > whole.size_max {
            return Err(TransferError::TooLarge);
        }
    }
    bytes.truncate(filled);
    let md5 = payload.expects_md5().then(|| Md5::of(&bytes));
    let checksums = payload.finish(md5).map_err(TransferError::Mismatch)?;
    Ok(Received { bytes, lease, md5, checksums })
}

/// Room for chunk lines and trailers behind a payload that is received whole; where they take more, it grows.
const FRAMING_ROOM: usize = 512;

/// Receives a body into a file.
pub async fn receive_into_file(
    exchange: &mut Exchange,
    arena: &Arena,
    decoder: Box<Decoder>,
    mut payload: Box<Payload>,
    target: Target<'_>,
) -> Result<ReceivedFile, TransferError> {
    let chunks = payload.hash_elsewhere().then(Chunks::default);
    let file = target.file.clone();
    let mut upload = Filling {
        exchange,
        arena,
        decoder,
        payload,
        hashes: HashStream::new(arena),
        offset: target.offset,
        target,
        current: None,
        filled: 0,
        chunks,
        held_since: Instant::now(),
        carried: Vec::new(),
    };
    let mut writes = Slots::new(BLOCKS_PER_TRANSFER_MAX - 1);
    let outcome = upload.run(&mut writes, write_block).await;
    // Also after an error: a block must not go back while the kernel reads it, nor the file while it is written.
    let mut written = Ok(());
    while let Some(result) = writes.next().await {
        written = written.and(result);
    }
    let received = match outcome.and(written) {
        Ok(()) => upload.finish().await,
        Err(error) => {
            drop(upload);
            Err(error)
        }
    };
    let closed = close(file).await;
    received.and_then(|received| closed.map(|()| received))
}

/// Closes the ring's descriptor: on filesystems that flush at close, its error is a lost write.
async fn close(file: Rc<DirectFile>) -> Result<(), TransferError> {
    let Ok(file) = Rc::try_unwrap(file) else { return Ok(()) };
    file.close().await.map_err(|error| TransferError::Disk(Errno::from_io_error(&error).unwrap_or(Errno::IO)))
}

async fn write_block(file: Rc<DirectFile>, slice: BlockSlice, offset: u64) -> Result<(), TransferError> {
    let (result, _slice) = file.write_all(slice, offset).await;
    result.map_err(|error| TransferError::Disk(Errno::from_io_error(&error).unwrap_or(Errno::IO)))
}

struct Filling<'a> {
    exchange: &'a mut Exchange,
    arena: &'a Arena,
    decoder: Box<Decoder>,
    payload: Box<Payload>,
    hashes: HashStream,
    target: Target<'a>,
    /// Where the current block goes.
    offset: u64,
    current: Option<Block>,
    /// Payload bytes in the current block.
    filled: usize,
    /// What SHA-256 has to see of the current block, or of what was carried; `None` where it is not asked for.
    chunks: Option<Chunks>,
    /// Since when the current block is held.
    held_since: Instant,
    /// Less than `BLOCK_ALIGN` bytes that a stalled upload kept when it gave its block back.
    carried: Vec<u8>,
}

impl Filling<'_> {
    async fn run<F, W>(&mut self, writes: &mut Slots<F>, write: W) -> Result<(), TransferError>
    where
        F: Future<Output = Result<(), TransferError>>,
        W: Fn(Rc<DirectFile>, BlockSlice, u64) -> F,
    {
        while !self.decoder.is_finished() {
            let mut block = match self.current.take() {
                Some(block) => block,
                None => self.take_block(writes).await?,
            };
            let wanted = self.decoder.raw_wanted().min(BLOCK_SIZE - self.filled);
            if wanted == 0 {
                return Err(TransferError::Ended);
            }
            let room = &mut block.bytes_mut()[self.filled..self.filled + wanted];
            let count = match self.exchange.receive(room, Stall::After(STALL_DURATION)).await {
                Ok(count) => count,
                Err(ReceiveError::Stalled) => {
                    self.give_back(block, writes, &write).await?;
                    continue;
                }
                Err(error) => return Err(interrupted(error)),
            };
            self.digest(&mut block, count)?;
            if self.chunks.as_ref().is_some_and(|chunks| chunks.ends.len() > CHUNK_ENDS_MAX) {
                self.hash_chunks(&block).await?;
            }
            if self.is_dripping() {
                self.give_back(block, writes, &write).await?;
                continue;
            }
            self.current = Some(block);
            if self.filled == BLOCK_SIZE {
                self.write_current(BLOCK_SIZE, writes, &write).await?;
            }
        }
        // The aligned front of the last block; its tail is written buffered, at the commit.
        let aligned = self.filled / BLOCK_ALIGN * BLOCK_ALIGN;
        if let Some(block) = &self.current {
            self.carried = block.bytes()[aligned..self.filled].to_vec();
        }
        self.write_current(aligned, writes, &write).await
    }

    /// A client that sends a little now and then never stalls, and would keep its block for good. Where others wait for one,
    /// it has as long for a block as one that stalls.
    fn is_dripping(&self) -> bool {
        !self.decoder.is_finished()
            && self.filled < BLOCK_SIZE
            && self.arena.is_wanted()
            && self.held_since.elapsed() > STALL_DURATION
    }

    /// Decodes `count` fresh bytes behind those that are there, and digests their payload.
    fn digest(&mut self, block: &mut Block, count: usize) -> Result<(), TransferError> {
        let fresh = &mut block.bytes_mut()[self.filled..self.filled + count];
        let decoded = self.decoder.decode(fresh, &mut *self.payload).map_err(TransferError::Body)?;
        self.exchange.put_back(&fresh[decoded.consumed..]);
        let payload = &fresh[..decoded.payload];
        match &mut self.chunks {
            Some(chunks) => self.payload.absorb_but_sha256(payload, self.filled, chunks),
            None => self.payload.absorb(payload),
        }
        .map_err(TransferError::Mismatch)?;
        self.filled += decoded.payload;
        if self.decoder.decoded_so_far() > self.target.size_max {
            return Err(TransferError::TooLarge);
        }
        Ok(())
    }

    /// Many small chunks: what would be noted of them must not grow.
    async fn hash_chunks(&mut self, block: &Block) -> Result<(), TransferError> {
        if let Some(chunks) = &mut self.chunks {
            self.hashes.update_sha256(&block.bytes()[..self.filled], chunks).await;
            *chunks = Chunks { from: self.filled, ends: Vec::new() };
        }
        self.check_hashes()
    }

    /// Compares the SHA-256s that are finished.
    fn check_hashes(&mut self) -> Result<(), TransferError> {
        while let Some(hash) = self.hashes.next_sha256() {
            self.payload.check_sha256(&hash).map_err(TransferError::Mismatch)?;
        }
        Ok(())
    }

    /// A block, with what was carried in its front. A transfer without writes in flight may wait for one; another waits for
    /// its own writes, so that nobody waits while he holds what others wait for.
    async fn take_block<F>(&mut self, writes: &mut Slots<F>) -> Result<Block, TransferError>
    where
        F: Future<Output = Result<(), TransferError>>,
    {
        // No block for a client that has nothing to send.
        let mut block = loop {
            if let Some(block) = self.arena.try_take() {
                break block;
            }
            match writes.next().await {
                Some(result) => result?,
                None => break hashing::take_block(self.arena).await,
            }
        };
        self.held_since = Instant::now();
        block.bytes_mut()[..self.carried.len()].copy_from_slice(&self.carried);
        self.filled = self.carried.len();
        self.carried.clear();
        Ok(block)
    }

    /// A stalled upload writes what is aligned, keeps the rest, and holds no block until the client goes on.
    async fn give_back<F, W>(&mut self, block: Block, writes: &mut Slots<F>, write: &W) -> Result<(), TransferError>
    where
        F: Future<Output = Result<(), TransferError>>,
        W: Fn(Rc<DirectFile>, BlockSlice, u64) -> F,
    {
        let aligned = self.filled / BLOCK_ALIGN * BLOCK_ALIGN;
        self.carried = block.bytes()[aligned..self.filled].to_vec();
        self.current = Some(block);
        self.write_current(aligned, writes, write).await?;
        while let Some(result) = writes.next().await {
            result?;
        }
        self.hashes.drained().await;
        self.check_hashes()?;
        self.exchange.wait_readable(Stall::Ignore).await.map_err(interrupted)
    }

    /// Starts writing the first `size` bytes of the current block, and hashing them.
    async fn write_current<F, W>(&mut self, size: usize, writes: &mut Slots<F>, write: &W) -> Result<(), TransferError>
    where
        F: Future<Output = Result<(), TransferError>>,
        W: Fn(Rc<DirectFile>, BlockSlice, u64) -> F,
    {
        self.filled = 0;
        let Some(block) = self.current.take() else { return Ok(()) };
        if size == 0 {
            return Ok(());
        }
        if (self.target.is_closed)() {
            return Err(TransferError::Closed);
        }
        let slice = BlockSlice::new(Rc::new(block), 0, size);
        self.hashes.fewer_than(BLOCKS_PER_TRANSFER_MAX).await;
        self.check_hashes()?;
        self.hashes.push(slice.clone(), self.chunks.as_mut().map(|chunks| chunks.split(size)));
        if writes.is_full()
            && let Some(result) = writes.next().await
        {
            result?;
        }
        writes.start(write(self.target.file.clone(), slice, self.offset)).await;
        self.offset += size as u64;
        Ok(())
    }

    async fn finish(mut self) -> Result<ReceivedFile, TransferError> {
        if let Some(chunks) = &mut self.chunks
            && self.payload.is_hashed_whole()
        {
            chunks.ends.push(self.carried.len());
        }
        self.hashes.update(&self.carried, self.chunks.take()).await;
        self.check_hashes()?;
        let md5 = self.hashes.finish().await;
        let size = self.offset - self.target.offset + self.carried.len() as u64;
        let checksums = self.payload.finish(Some(md5)).map_err(TransferError::Mismatch)?;
        Ok(ReceivedFile { size, tail: self.carried, digests: Digests { md5, checksums } })
    }
}

fn interrupted(error: ReceiveError) -> TransferError {
    match error {
        ReceiveError::TimedOut => TransferError::TimedOut,
        ReceiveError::Ended | ReceiveError::Stalled => TransferError::Ended,
    }
}
