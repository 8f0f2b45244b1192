//! Files on the ring: aligned transfers between a file opened with O_DIRECT and leased blocks.

use std::io;
use std::os::fd::OwnedFd;

use super::lease::{BlockRead, BlockSlice};
use crate::limits::{BLOCK_ALIGN, BLOCK_SIZE};
use crate::mem::Block;
use crate::metrics::record::{self, RingOperation};

/// A file whose transfers go through the ring. Closed explicitly: closing may block (NFS flushes), and its error counts.
pub struct DirectFile {
    file: monoio::fs::File,
}

impl DirectFile {
    /// Takes `file`; whether it is O_DIRECT is its opener's business, the alignment rules here hold either way.
    pub fn new(file: OwnedFd) -> io::Result<Self> {
        Ok(Self { file: monoio::fs::File::from_std(file.into())? })
    }

    /// Writes all of `slice` at `offset`, however many transfers it takes. The slice comes back with the result, so that
    /// its block can be used again.
    pub async fn write_all(&self, slice: BlockSlice, mut offset: u64) -> (io::Result<()>, BlockSlice) {
        let whole = slice.clone();
        let mut rest = slice;
        // Paired with the check in `store::disk::stage`: a misaligned transfer dies here, not as EINVAL later.
        assert!(offset.is_multiple_of(BLOCK_ALIGN as u64) && (rest.bytes().as_ptr() as usize).is_multiple_of(BLOCK_ALIGN));
        while !rest.bytes().is_empty() {
            let on_ring = record::on_ring(RingOperation::Write);
            let (result, slice) = self.file.write_at(rest, offset).await;
            drop(on_ring);
            rest = slice;
            match result {
                Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), whole),
                // A short direct write ends on a sector. What is left is written again from an aligned place: the same
                // bytes, so writing some of them twice is harmless.
                Ok(count) => {
                    let step = if count == rest.bytes().len() { count } else { count / BLOCK_ALIGN * BLOCK_ALIGN };
                    if step == 0 {
                        return (Err(io::ErrorKind::WriteZero.into()), whole);
                    }
                    rest = rest.advanced(step);
                    offset += step as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (Err(error), whole),
            }
        }
        (Ok(()), whole)
    }

    /// Reads at `offset` into the start of `block` until `size` bytes are there or the file ends. `size` may be rounded up
    /// by the caller to the alignment; the count says what the file really had.
    pub async fn read(&self, block: Block, size: usize, offset: u64) -> (io::Result<usize>, Block) {
        assert!(size <= BLOCK_SIZE && offset.is_multiple_of(BLOCK_ALIGN as u64));
        let mut read = BlockRead { block, start: 0, end: size };
        while read.start < read.end {
            let position = offset + read.start as u64;
            let on_ring = record::on_ring(RingOperation::Read);
            let (result, buffer) = self.file.read_at(read, position).await;
            drop(on_ring);
            read = buffer;
            match result {
                Ok(0) => break,
                Ok(count) => {
                    read.start += count;
                    // A short read that ends off the alignment is the end of the file; on it stands no next direct read.
                    if !count.is_multiple_of(BLOCK_ALIGN) {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (Err(error), read.block),
            }
        }
        (Ok(read.start), read.block)
    }

    /// Closes the file; an error here is a failed write on filesystems that flush late.
    pub async fn close(self) -> io::Result<()> {
        self.file.close().await
    }
}
