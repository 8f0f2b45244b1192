//! Room for bytes: reserved, cut, closed up, shared and copied by the filesystem itself.

use super::errno::{Errno, Result};
use rustix::fd::{AsFd, AsRawFd};
use rustix::fs::FallocateFlags;

/// Reserves blocks and makes the file that long, so that a full disk is found before the first byte.
pub fn extend(file: impl AsFd, offset: u64, length: u64) -> Result<()> {
    allocate(file, FallocateFlags::empty(), offset, length)
}

/// Frees the blocks of a range; it reads as zeros.
pub fn punch(file: impl AsFd, offset: u64, length: u64) -> Result<()> {
    allocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, length)
}

/// Takes a range out and moves what follows down, without copying. Both numbers must be multiples of the block size and
/// the range must end before the end of the file (EINVAL).
pub fn collapse(file: impl AsFd, offset: u64, length: u64) -> Result<()> {
    allocate(file, FallocateFlags::COLLAPSE_RANGE, offset, length)
}

/// ftruncate(2).
pub fn truncate(file: impl AsFd, size: u64) -> Result<()> {
    rustix::io::retry_on_intr(|| rustix::fs::ftruncate(file.as_fd(), size))
}

/// Shares blocks instead of copying (FICLONERANGE): block-aligned, same filesystem; EOPNOTSUPP, EXDEV or EINVAL otherwise.
/// Length 0: to the end of the source.
pub fn share_range(to: impl AsFd, to_offset: u64, from: impl AsFd, from_offset: u64, length: u64) -> Result<()> {
    #[repr(C)]
    struct FileCloneRange {
        source: i64,
        source_offset: u64,
        length: u64,
        destination_offset: u64,
    }
    // _IOW(0x94, 13, struct file_clone_range), <linux/fs.h>.
    const FICLONERANGE: libc::c_ulong = 0x4020_940d;
    let range = FileCloneRange {
        source: i64::from(from.as_fd().as_raw_fd()),
        source_offset: from_offset,
        length,
        destination_offset: to_offset,
    };
    // SAFETY: the kernel reads one `struct file_clone_range`, alive during the call; both descriptors are open.
    let answer = unsafe { libc::ioctl(to.as_fd().as_raw_fd(), FICLONERANGE as _, &raw const range) };
    super::check(answer.into()).map(drop)
}

/// One step of copy_file_range(2); answers the bytes copied, 0 at the end of the source. The kernel shares blocks where it can.
pub fn copy_range(to: impl AsFd, to_offset: u64, from: impl AsFd, from_offset: u64, length: usize) -> Result<usize> {
    let (mut to_offset, mut from_offset) = (to_offset, from_offset);
    rustix::fs::copy_file_range(from, Some(&mut from_offset), to, Some(&mut to_offset), length)
}

fn allocate(file: impl AsFd, flags: FallocateFlags, offset: u64, length: u64) -> Result<()> {
    if length == 0 {
        return Err(Errno::INVAL);
    }
    rustix::io::retry_on_intr(|| rustix::fs::fallocate(file.as_fd(), flags, offset, length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{Cause, errno, file, stat};

    #[test]
    fn extend_makes_room_and_copy_copies() {
        let source = tempfile::tempfile().unwrap();
        extend(&source, 0, 65_536).unwrap();
        let before = stat::of(&source).unwrap();
        assert_eq!(before.size, 65_536);
        assert!(before.blocks >= 128);
        truncate(&source, 0).unwrap();
        file::write_all_at(&source, &[7; 8192], 0).unwrap();
        let target = tempfile::tempfile().unwrap();
        assert_eq!(copy_range(&target, 1, &source, 0, 8192).unwrap(), 8192);
        assert_eq!(copy_range(&target, 1, &source, 8192, 8192).unwrap(), 0);
        assert_eq!(stat::of(&target).unwrap().size, 8193);
        truncate(&target, 5).unwrap();
        extend(&target, 0, 4096).unwrap();
        assert_eq!(stat::of(&target).unwrap().size, 4096);
        punch(&source, 0, 4096).unwrap();
        let mut byte = [1];
        file::read_at(&source, &mut byte, 0).unwrap();
        assert_eq!(byte, [0]);
    }

    #[test]
    fn collapse_and_share_work_or_say_unsupported() {
        let source = tempfile::tempfile().unwrap();
        file::write_all_at(&source, &[1; 4096], 0).unwrap();
        file::write_all_at(&source, &[2; 4096], 4096).unwrap();
        match collapse(&source, 0, 4096) {
            Ok(()) => assert_eq!(stat::of(&source).unwrap().size, 4096),
            Err(errno) => assert_eq!(errno::cause(errno), Cause::Unsupported),
        }
        let target = tempfile::tempfile().unwrap();
        match share_range(&target, 0, &source, 0, 4096) {
            Ok(()) => assert_eq!(stat::of(&target).unwrap().size, 4096),
            Err(errno) => assert_eq!(errno::cause(errno), Cause::Unsupported),
        }
    }
}
