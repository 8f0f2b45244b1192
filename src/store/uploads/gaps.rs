//! Ranges taken out of a slot file (FALLOC_FL_COLLAPSE_RANGE), so that parts which do not follow each other by number do so in
//! the file, without a copy.
//!
//! Neither ext4 nor XFS does that atomically over a power cut when a file has many extents, and several ranges are several
//! steps anyway. So the plan is written first: with it and the file's size, a later process knows where each part is
//! now. Whether the last step was cut in half, it cannot know; it digests the parts before it uses them.

use std::os::fd::OwnedFd;

use super::log::PartFile;
use crate::digest::Algorithm;
use crate::digest::checksum::Hasher;
use crate::limits::GAPS_MAX;
use crate::store::disk::Disk;
use crate::store::disk::stage::Temporary;
use crate::store::error::{Result, StoreError};
use crate::sys::path::Symlinks;
use crate::sys::{self, Errno};

pub(super) const COLLAPSED_NAME: &[u8] = b"collapsed";
const VERSION: u8 = 1;
const SIZE_MAX: usize = 1 + 16 + GAPS_MAX * 16 + 4;

/// A range of a file.
pub(super) type Range = (u64, u64);

/// What was, or is being, taken out of one slot file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Collapsed {
    /// Which file.
    pub(super) slot_size: u64,
    /// Its size before.
    size: u64,
    /// Offset and length in the file as it was, the last first.
    gaps: Vec<Range>,
    /// How many of them are out.
    done: usize,
    /// This process has seen each step end.
    pub(super) is_certain: bool,
}

impl Collapsed {
    /// The plan for `gaps`, which must be given from the front.
    pub(super) fn plan(slot_size: u64, size: u64, mut gaps: Vec<Range>) -> Self {
        gaps.reverse();
        Self { slot_size, size, gaps, done: 0, is_certain: true }
    }

    /// All is out.
    pub(super) fn is_done(&self) -> bool {
        self.done == self.gaps.len()
    }

    /// Nothing is out.
    pub(super) fn is_untouched(&self) -> bool {
        self.done == 0
    }

    /// Where a part that was at `offset` is now; `None` when it is out.
    pub(super) fn offset_now(&self, offset: u64, size: u64) -> Option<u64> {
        let mut now = offset;
        for (gap, length) in &self.gaps[..self.done] {
            if gap + length <= offset {
                now -= length;
            } else if *gap < offset + size {
                return None;
            }
        }
        Some(now)
    }

    /// Takes the ranges out, having written down that it will.
    pub(super) fn carry_out(&mut self, disk: &Disk, directory: &OwnedFd, file: &OwnedFd) -> Result<()> {
        self.write(disk, directory)?;
        while let Some((offset, length)) = self.gaps.get(self.done) {
            sys::space::collapse(file, *offset, *length)?;
            self.done += 1;
        }
        Ok(())
    }

    /// Takes back a plan of which nothing was carried out.
    pub(super) fn withdraw(directory: &OwnedFd) {
        let _ = sys::path::unlink(directory, COLLAPSED_NAME);
    }

    /// What an earlier Complete has left, if one has.
    pub(super) fn read(directory: &OwnedFd) -> Result<Option<Self>> {
        let file = match sys::path::open_read(directory, COLLAPSED_NAME, Symlinks::Deny) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let mut bytes = vec![0; SIZE_MAX];
        let count = sys::file::read_full_at(&file, &mut bytes, 0)?;
        let mut collapsed = Self::decode(&bytes[..count]).ok_or(StoreError::Kernel(Errno::BADMSG))?;
        let slots = PartFile::Slot { slot_size: collapsed.slot_size }.file_name();
        collapsed.done = collapsed.done_at(sys::stat::at(directory, &slots)?.size);
        Ok(Some(collapsed))
    }

    /// How many steps bring the file to this size. Cut to the object's size, it is shorter than all steps make it.
    fn done_at(&self, size: u64) -> usize {
        let mut rest = self.size;
        for (done, (_, length)) in self.gaps.iter().enumerate() {
            if size >= rest {
                return done;
            }
            rest = rest.saturating_sub(*length);
        }
        self.gaps.len()
    }

    fn write(&self, disk: &Disk, directory: &OwnedFd) -> Result<()> {
        let temporary = Temporary::new(&disk.staging()?);
        let file = sys::path::create_new(temporary.directory(), temporary.name(), 0o600, false)?;
        sys::file::write_all_at(&file, &self.encode(), 0)?;
        disk.push(&file)?;
        sys::path::rename(temporary.directory(), temporary.name(), directory, COLLAPSED_NAME)?;
        disk.sync_each(&[directory])
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        let numbers =
            [self.slot_size, self.size].into_iter().chain(self.gaps.iter().flat_map(|(offset, length)| [*offset, *length]));
        bytes.extend(numbers.flat_map(u64::to_le_bytes));
        bytes.extend_from_slice(&crc_of(&bytes));
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (content, crc) = bytes.split_last_chunk::<4>()?;
        let (&version, numbers) = content.split_first()?;
        let (numbers, rest) = numbers.as_chunks::<8>();
        let mut numbers = numbers.iter().map(|number| u64::from_le_bytes(*number));
        let (slot_size, size) = (numbers.next()?, numbers.next()?);
        let mut gaps = Vec::new();
        while let Some(offset) = numbers.next() {
            gaps.push((offset, numbers.next()?));
        }
        let is_ours = version == VERSION && rest.is_empty() && *crc == crc_of(content);
        is_ours.then_some(Self { slot_size, size, gaps, done: 0, is_certain: false })
    }
}

fn crc_of(bytes: &[u8]) -> [u8; 4] {
    let mut hasher = Hasher::new(Algorithm::Crc32c);
    hasher.update(bytes);
    hasher.finish().as_bytes().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_tells_the_step_and_the_step_tells_the_places() {
        // Parts 1, 3 and 7 of 10 bytes each: 2 and 4 to 6 go out, the last first.
        let mut plan = Collapsed::plan(10, 70, vec![(10, 10), (30, 30)]);
        assert_eq!(Collapsed::decode(&plan.encode()), Some(Collapsed { is_certain: false, ..plan.clone() }));
        let places = |plan: &Collapsed| [0, 10, 20, 30, 60].map(|offset| plan.offset_now(offset, 10));
        assert_eq!(places(&plan), [Some(0), Some(10), Some(20), Some(30), Some(60)]);
        plan.done = plan.done_at(70);
        assert_eq!(plan.done, 0);
        plan.done = plan.done_at(40);
        assert_eq!(places(&plan), [Some(0), Some(10), Some(20), None, Some(30)]);
        for cut in [30, 25] {
            plan.done = plan.done_at(cut);
            assert!(plan.is_done());
            assert_eq!(places(&plan), [Some(0), None, Some(10), None, Some(20)]);
        }
        let mut damaged = plan.encode();
        damaged[5] ^= 1;
        assert_eq!(Collapsed::decode(&damaged), None);
        assert_eq!(Collapsed::decode(&[]), None);
    }
}
