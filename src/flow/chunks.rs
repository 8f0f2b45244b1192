//! The SHA-256 of an upload's chunks, where they are signed, or of its whole body. One after the other they would be one chain; but
//! the chunks of a block do not depend on each other, so each is a piece of its own, and several are hashed side by side.

use std::collections::VecDeque;

use crate::digest::lanes::advance_sha256;
use crate::digest::{Job, Sha256};
use crate::limits::HASH_PIECE_ALIGN;

/// What SHA-256 has to see of some bytes.
#[derive(Default)]
pub(super) struct Chunks {
    /// Where it begins: what is before was hashed already.
    pub(super) from: usize,
    /// Where chunks end, in order.
    pub(super) ends: Vec<usize>,
}

/// The hashes of one upload's chunks.
#[derive(Default)]
pub(super) struct ChunkHashes {
    /// The chunk that goes on in the next bytes.
    running: Sha256,
    /// Of the bytes that are being hashed.
    pieces: Vec<Piece>,
    finished: VecDeque<[u8; 32]>,
}

/// A chunk, or what some bytes have of it.
struct Piece {
    hash: Sha256,
    from: usize,
    end: usize,
    is_last: bool,
    /// How much of it is in the step that is being done.
    step: usize,
}

impl Chunks {
    /// Takes what belongs to the first `size` bytes; what is left counts from there.
    pub(super) fn split(&mut self, size: usize) -> Self {
        let count = self.ends.partition_point(|end| *end <= size);
        let rest = self.ends.split_off(count).into_iter().map(|end| end - size).collect();
        let front = Self { from: self.from.min(size), ends: std::mem::replace(&mut self.ends, rest) };
        self.from = self.from.saturating_sub(size);
        front
    }
}

impl ChunkHashes {
    /// Begins with the `size` bytes that follow; those before are done.
    pub(super) fn begin(&mut self, chunks: &Chunks, size: usize) {
        debug_assert!(self.pieces.is_empty());
        let mut from = chunks.from;
        for &end in &chunks.ends {
            self.pieces.push(Piece { hash: std::mem::take(&mut self.running), from, end, is_last: true, step: 0 });
            from = end;
        }
        if from < size {
            self.pieces.push(Piece { hash: std::mem::take(&mut self.running), from, end: size, is_last: false, step: 0 });
        }
    }

    /// Adds to `jobs` what is to be hashed of `bytes` in one step: `size` bytes, of `count` pieces where there are so many.
    pub(super) fn step<'a>(&'a mut self, bytes: &'a [u8], size: usize, count: usize, jobs: &mut Vec<Job<'a, Sha256>>) {
        let share = size.div_ceil(count).next_multiple_of(HASH_PIECE_ALIGN);
        let mut rest = size;
        for most in [share, size] {
            for piece in &mut self.pieces {
                let more = (piece.end - piece.from - piece.step).min(most).min(rest);
                piece.step += more;
                rest -= more;
            }
        }
        for piece in self.pieces.iter_mut().filter(|piece| piece.step > 0) {
            jobs.push(Job { hash: &mut piece.hash, bytes: &bytes[piece.from..piece.from + piece.step] });
        }
    }

    /// The step is done.
    pub(super) fn stepped(&mut self) {
        for piece in &mut self.pieces {
            piece.from += std::mem::take(&mut piece.step);
        }
    }

    /// Bytes that are still to be hashed.
    pub(super) fn rest(&self) -> usize {
        self.pieces.iter().map(|piece| piece.end - piece.from).sum()
    }

    /// The bytes are done.
    pub(super) fn end(&mut self) {
        debug_assert_eq!(self.rest(), 0);
        for piece in self.pieces.drain(..) {
            match piece.is_last {
                true => self.finished.push_back(piece.hash.finish()),
                false => self.running = piece.hash,
            }
        }
    }

    /// All of it at once.
    pub(super) fn update(&mut self, bytes: &[u8], chunks: &Chunks) {
        self.begin(chunks, bytes.len());
        let mut jobs = Vec::new();
        self.step(bytes, bytes.len(), 1, &mut jobs);
        advance_sha256(&mut jobs);
        self.stepped();
        self.end();
    }

    /// The hash of the next chunk that is finished and was not taken yet.
    pub(super) fn next(&mut self) -> Option<[u8; 32]> {
        self.finished.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Chunks of any sizes, in blocks of any sizes, in steps of any sizes.
        #[test]
        fn hashes_are_those_of_the_chunks(
            sizes in prop::collection::vec(0..900_usize, 0..20),
            blocks in prop::collection::vec((1..2000_usize, 1..700_usize, 1..5_usize, any::<bool>()), 1..6),
        ) {
            let whole: Vec<u8> = (0..sizes.iter().sum::<usize>()).map(|at| (at * 31) as u8).collect();
            let mut chunks = Chunks::default();
            let mut expected = Vec::new();
            let mut at = 0;
            for size in &sizes {
                expected.push(Sha256::of(&whole[at..at + size]));
                at += size;
                chunks.ends.push(at);
            }
            let (mut hashes, mut rest) = (ChunkHashes::default(), &whole[..]);
            for (block, step, count, is_early) in blocks.iter().cycle() {
                let size = rest.len().min(*block);
                let mut front = chunks.split(size);
                let (bytes, behind) = rest.split_at(size);
                if *is_early {
                    // Some was hashed while the block was still received.
                    let from = size / 2;
                    let count = front.ends.partition_point(|end| *end <= from);
                    let rest = front.ends.split_off(count);
                    hashes.update(&bytes[..from], &front);
                    front = Chunks { from, ends: rest };
                }
                hashes.begin(&front, size);
                while hashes.rest() > 0 {
                    let (mut jobs, step) = (Vec::new(), hashes.rest().min(*step));
                    hashes.step(bytes, step, *count, &mut jobs);
                    prop_assert_eq!(jobs.iter().map(|job| job.bytes.len()).sum::<usize>(), step);
                    advance_sha256(&mut jobs);
                    hashes.stepped();
                }
                hashes.end();
                rest = behind;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert!(chunks.ends.is_empty());
            let found: Vec<_> = std::iter::from_fn(|| hashes.next()).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
