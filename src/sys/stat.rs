//! What is this file? One plain struct for every kind of stat.

use super::errno::Result;
use rustix::fd::{AsFd, AsRawFd};
use rustix::fs::{AtFlags, FileType, Stat, Statx, StatxFlags};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    Regular,
    Directory,
    Symlink,
    /// FIFO, socket, device: never an object.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStat {
    pub kind: FileKind,
    pub inode: u64,
    pub device: u64,
    pub size: u64,
    pub mtime_ns: i64,
    pub ctime_ns: i64,
    /// Permission bits with setuid, setgid and sticky; no file type.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u64,
    /// Bytes allocated, in units of 512.
    pub blocks: u64,
}

/// Alignment that O_DIRECT needs on a file (STATX_DIOALIGN).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectAlign {
    pub memory: u32,
    pub offset: u32,
}

/// fstat(2).
pub fn of(file: impl AsFd) -> Result<FileStat> {
    Ok(FileStat::from(&rustix::fs::fstat(file)?))
}

/// stat of a name in a directory, symlinks not followed.
pub fn at(dir: impl AsFd, name: &[u8]) -> Result<FileStat> {
    Ok(FileStat::from(&rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?))
}

/// stat of a path that the operator named: symlinks are followed.
pub fn of_path(path: &[u8]) -> Result<FileStat> {
    Ok(FileStat::from(&rustix::fs::stat(path)?))
}

/// When the inode of a name in a directory was made, in nanoseconds; `None` where the filesystem does not keep that.
pub fn born_ns(dir: impl AsFd, name: &[u8]) -> Result<Option<i64>> {
    let answer = rustix::fs::statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BTIME)?;
    let told = answer.stx_mask & StatxFlags::BTIME.bits() != 0;
    Ok(told.then(|| to_ns(answer.stx_btime.tv_sec, i64::from(answer.stx_btime.tv_nsec))))
}

/// fstat that asks a network filesystem's server (AT_STATX_FORCE_SYNC): for validation with several gateways.
pub fn of_fresh(file: impl AsFd) -> Result<FileStat> {
    fresh(file, b"", AtFlags::EMPTY_PATH)
}

/// `at` that asks a network filesystem's server.
pub fn at_fresh(dir: impl AsFd, name: &[u8]) -> Result<FileStat> {
    fresh(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// The alignment for O_DIRECT on this file. `None`: the filesystem refuses O_DIRECT on it, or the kernel is older than
/// 6.1 and cannot say.
pub fn direct_align(file: impl AsFd) -> Result<Option<DirectAlign>> {
    let answer = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN)?;
    let told = answer.stx_mask & StatxFlags::DIOALIGN.bits() != 0 && answer.stx_dio_offset_align != 0;
    Ok(told.then_some(DirectAlign { memory: answer.stx_dio_mem_align, offset: answer.stx_dio_offset_align }))
}

/// Whether the directory folds case (ext4, f2fs `chattr +F`): two keys would share a name there, so it is refused.
pub fn folds_case(dir: impl AsFd) -> Result<bool> {
    // FS_CASEFOLD_FL of <linux/fs.h>.
    const CASEFOLD: u32 = 0x4000_0000;
    match rustix::fs::ioctl_getflags(dir) {
        Ok(flags) => Ok(flags.bits() & CASEFOLD != 0),
        // A filesystem without inode flags has no per-directory folding.
        Err(errno) if super::errno::cause(errno) == super::Cause::Unsupported => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// The project id of a file or directory (ext4, XFS, and others with project quota); `None` where there is no such thing.
pub fn project_of(file: impl AsFd) -> Option<u32> {
    /// `struct fsxattr` of <linux/fs.h>.
    #[repr(C)]
    #[derive(Default)]
    struct FsXattr {
        flags: u32,
        extent_size: u32,
        extents: u32,
        project: u32,
        cow_extent_size: u32,
        padding: [u8; 8],
    }
    // _IOR('X', 31, struct fsxattr).
    const FS_IOC_FSGETXATTR: libc::c_ulong = 0x801c_581f;
    let mut answer = FsXattr::default();
    // SAFETY: the kernel writes one `struct fsxattr`, of the 28 bytes that the number says, alive during the call.
    let result = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), FS_IOC_FSGETXATTR as _, &raw mut answer) };
    (result == 0).then_some(answer.project)
}

/// Seconds and nanoseconds as one number; years beyond 2262 saturate.
pub fn to_ns(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

fn fresh(file: impl AsFd, name: &[u8], flags: AtFlags) -> Result<FileStat> {
    let answer = rustix::fs::statx(file, name, flags | AtFlags::STATX_FORCE_SYNC, StatxFlags::BASIC_STATS)?;
    Ok(FileStat::from(&answer))
}

fn kind_of(mode: u32) -> FileKind {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => FileKind::Regular,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        _ => FileKind::Other,
    }
}

impl From<&Stat> for FileStat {
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion, reason = "field types differ between architectures")]
    fn from(stat: &Stat) -> Self {
        Self {
            kind: kind_of(stat.st_mode as u32),
            inode: stat.st_ino as u64,
            device: stat.st_dev as u64,
            size: stat.st_size as u64,
            mtime_ns: to_ns(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            ctime_ns: to_ns(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
            mode: stat.st_mode as u32 & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            nlink: stat.st_nlink as u64,
            blocks: stat.st_blocks as u64,
        }
    }
}

impl From<&Statx> for FileStat {
    fn from(stat: &Statx) -> Self {
        Self {
            kind: kind_of(u32::from(stat.stx_mode)),
            inode: stat.stx_ino,
            device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
            size: stat.stx_size,
            mtime_ns: to_ns(stat.stx_mtime.tv_sec, i64::from(stat.stx_mtime.tv_nsec)),
            ctime_ns: to_ns(stat.stx_ctime.tv_sec, i64::from(stat.stx_ctime.tv_nsec)),
            mode: u32::from(stat.stx_mode) & 0o7777,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            nlink: u64::from(stat.stx_nlink),
            blocks: stat.stx_blocks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn agrees_with_the_standard_library() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), b"12345").unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("link")).unwrap();
        let handle = std::fs::File::open(dir.path()).unwrap();
        let file = std::fs::File::open(dir.path().join("a")).unwrap();
        let expected = file.metadata().unwrap();
        let stat = of(&file).unwrap();
        assert_eq!((stat.kind, stat.size, stat.inode, stat.device), (FileKind::Regular, 5, expected.ino(), expected.dev()));
        assert_eq!(stat.mtime_ns, expected.mtime() * 1_000_000_000 + expected.mtime_nsec());
        assert_eq!(stat, at(&handle, b"a").unwrap());
        assert_eq!(stat, of_fresh(&file).unwrap());
        assert_eq!(stat, at_fresh(&handle, b"a").unwrap());
        assert_eq!(at(&handle, b"link").unwrap().kind, FileKind::Symlink);
        assert_eq!(of(&handle).unwrap().kind, FileKind::Directory);
        assert!(!folds_case(&handle).unwrap());
    }
}
