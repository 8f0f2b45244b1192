#![allow(unsafe_code)]
//! Leased blocks as the ring's buffers: the one place where a block's bytes are handed to the kernel by address.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::rc::Rc;

use monoio::buf::{IoBuf, IoBufMut};

use crate::limits::BLOCK_SIZE;
use crate::mem::Block;

/// A range of a shared block, to be written. The block stays leased until the last user (ring, digest) lets go of it.
#[derive(Clone)]
pub struct BlockSlice {
    block: Rc<Block>,
    start: usize,
    end: usize,
}

impl BlockSlice {
    /// The bytes `start..end` of `block`.
    pub fn new(block: Rc<Block>, start: usize, end: usize) -> Self {
        assert!(start <= end && end <= BLOCK_SIZE);
        Self { block, start, end }
    }

    /// The bytes themselves.
    pub fn bytes(&self) -> &[u8] {
        &self.block.bytes()[self.start..self.end]
    }

    /// Without the first `count` bytes.
    pub fn advanced(self, count: usize) -> Self {
        assert!(count <= self.end - self.start);
        Self { start: self.start + count, ..self }
    }

    /// The block, when this was its last user.
    pub fn into_block(self) -> Option<Block> {
        Rc::try_unwrap(self.block).ok()
    }
}

// SAFETY: the address is that of an arena block, which does not move, and stays mapped and leased while `self` lives: the
// ring's slot owns `self` until the completion. All bytes of a block are initialised.
unsafe impl IoBuf for BlockSlice {
    fn read_ptr(&self) -> *const u8 {
        self.bytes().as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.end - self.start
    }
}

/// A block to be read into, up to `size` bytes from its start.
pub(super) struct BlockRead {
    pub(super) block: Block,
    pub(super) start: usize,
    pub(super) end: usize,
}

// SAFETY: as for `BlockSlice`; the lease is exclusive, so nobody reads these bytes while the kernel writes them.
// `set_init` needs to record nothing, since a block's bytes are always initialised.
unsafe impl IoBufMut for BlockRead {
    fn write_ptr(&mut self) -> *mut u8 {
        let (start, end) = (self.start, self.end);
        self.block.bytes_mut()[start..end].as_mut_ptr()
    }

    fn bytes_total(&mut self) -> usize {
        self.end - self.start
    }

    unsafe fn set_init(&mut self, _position: usize) {}
}

/// The descriptor of a stream that monoio owns, for plain system calls on it.
pub(super) fn borrow_socket(stream: &monoio::net::TcpStream) -> BorrowedFd<'_> {
    // SAFETY: the stream owns the descriptor and outlives the borrow.
    unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) }
}
