//! How is a name reached, made, published and removed, without ever leaving the directory it starts from?

use super::errno::{Errno, Result};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, ResolveFlags, Timespec, Timestamps};
use std::sync::atomic::{AtomicBool, Ordering};

pub use rustix::fs::OFlags as OpenFlags;

/// Bytes of a path in one system call, without its NUL (`PATH_MAX` counts it).
pub const PATH_SIZE_MAX: usize = 4095;

/// What a bucket does with symbolic links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Symlinks {
    /// Refused with ELOOP.
    #[default]
    Deny,
    /// Followed as long as they stay beneath the bucket.
    Within,
    /// Followed anywhere.
    Follow,
}

/// Opens `path` beneath `dir`: openat2(2), never through a magic link, never out of `dir` nor across a mount (unless
/// `Follow`). Paths longer than PATH_MAX, which a key of many empty components has, are walked in steps. An empty path is
/// `dir` itself.
pub fn open(dir: impl AsFd, path: &[u8], flags: OFlags, mode: u32, symlinks: Symlinks) -> Result<OwnedFd> {
    open_resolving(dir.as_fd(), path, flags, mode, resolve(symlinks))
}

/// `open` for what the dentry cache already knows; EAGAIN where the kernel would have to ask the filesystem, and then the
/// blocking way must be taken.
pub fn open_cached(dir: impl AsFd, path: &[u8], flags: OFlags, symlinks: Symlinks) -> Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    if path.len() > PATH_SIZE_MAX {
        return Err(Errno::AGAIN);
    }
    let how = resolve(symlinks) | ResolveFlags::CACHED;
    openat2(dir.as_fd(), path, flags, 0, how)
}

/// A file for reading. O_NONBLOCK, so that a FIFO cannot hold the caller: check the kind, then see `file::set_blocking`.
pub fn open_read(dir: impl AsFd, path: &[u8], symlinks: Symlinks) -> Result<OwnedFd> {
    open(dir, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, 0, symlinks)
}

/// A directory for reading its entries and as a starting point.
pub fn open_dir(dir: impl AsFd, path: &[u8], symlinks: Symlinks) -> Result<OwnedFd> {
    open(dir, path, OFlags::RDONLY | OFlags::DIRECTORY, 0, symlinks)
}

/// A file without a name in the directory `path` beneath `dir` (O_TMPFILE), readable and writable. EOPNOTSUPP where the
/// filesystem has none. `direct` adds O_DIRECT.
pub fn open_unnamed(dir: impl AsFd, path: &[u8], mode: u32, direct: bool, symlinks: Symlinks) -> Result<OwnedFd> {
    let direct = if direct { OFlags::DIRECT } else { OFlags::empty() };
    open(dir, path, OFlags::TMPFILE | OFlags::RDWR | direct, mode, symlinks)
}

/// A new file of this name, EEXIST when there is one: the named temporary where O_TMPFILE is missing.
pub fn create_new(dir: impl AsFd, name: &[u8], mode: u32, direct: bool) -> Result<OwnedFd> {
    let direct = if direct { OFlags::DIRECT } else { OFlags::empty() };
    open(dir, name, OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | direct, mode, Symlinks::Deny)
}

/// The served root or any path that the operator named: followed as usual.
pub fn open_root(path: &[u8]) -> Result<OwnedFd> {
    rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// The same file once more, with a position and flags of its own (O_DIRECT beside a buffered descriptor).
pub fn reopen(file: impl AsFd, flags: OFlags) -> Result<OwnedFd> {
    rustix::fs::openat(CWD, proc_path(file.as_fd()), flags | OFlags::CLOEXEC, Mode::empty())
}

/// Gives an open file its first or another name. EEXIST when the name is taken: this decides `If-None-Match: *`.
pub fn link(file: impl AsFd, dir: impl AsFd, name: &[u8]) -> Result<()> {
    // AT_EMPTY_PATH needs CAP_DAC_READ_SEARCH, or since Linux 6.10 the opener's own credentials, and answers ENOENT without;
    // so does a vanished directory. The detour through /proc decides which it was, once.
    static EMPTY_PATH_WORKS: AtomicBool = AtomicBool::new(true);
    let file = file.as_fd();
    if EMPTY_PATH_WORKS.load(Ordering::Relaxed) {
        match rustix::fs::linkat(file, c"", dir.as_fd(), name, AtFlags::EMPTY_PATH) {
            Err(Errno::NOENT | Errno::PERM) => {}
            answer => return answer,
        }
    }
    rustix::fs::linkat(CWD, proc_path(file), dir.as_fd(), name, AtFlags::SYMLINK_FOLLOW)?;
    EMPTY_PATH_WORKS.store(false, Ordering::Relaxed);
    Ok(())
}

/// linkat(2) of a name, symlinks not followed: EEXIST when the new one is taken, EPERM for a directory or where a filesystem has no
/// hard links.
pub fn link_name(from_dir: impl AsFd, from: &[u8], to_dir: impl AsFd, to: &[u8]) -> Result<()> {
    rustix::fs::linkat(from_dir, from, to_dir, to, AtFlags::empty())
}

/// renameat(2): the new name is replaced if it is there.
pub fn rename(from_dir: impl AsFd, from: &[u8], to_dir: impl AsFd, to: &[u8]) -> Result<()> {
    rustix::fs::renameat(from_dir, from, to_dir, to)
}

/// RENAME_NOREPLACE: EEXIST when the new name is taken.
pub fn rename_new(from_dir: impl AsFd, from: &[u8], to_dir: impl AsFd, to: &[u8]) -> Result<()> {
    rustix::fs::renameat_with(from_dir, from, to_dir, to, RenameFlags::NOREPLACE)
}

/// RENAME_EXCHANGE: both names change places in one step.
pub fn exchange(from_dir: impl AsFd, from: &[u8], to_dir: impl AsFd, to: &[u8]) -> Result<()> {
    rustix::fs::renameat_with(from_dir, from, to_dir, to, RenameFlags::EXCHANGE)
}

/// Removes a name that is not a directory's.
pub fn unlink(dir: impl AsFd, name: &[u8]) -> Result<()> {
    rustix::fs::unlinkat(dir, name, AtFlags::empty())
}

/// Removes an empty directory; ENOTEMPTY otherwise.
pub fn rmdir(dir: impl AsFd, name: &[u8]) -> Result<()> {
    rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)
}

pub fn mkdir(dir: impl AsFd, name: &[u8], mode: u32) -> Result<()> {
    rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(mode))
}

/// Sets mtime, and atime to now, of an open file or directory.
pub fn set_mtime(file: impl AsFd, mtime_ns: i64) -> Result<()> {
    rustix::fs::futimens(file, &timestamps(mtime_ns))
}

/// Sets mtime of a name, symlinks not followed.
pub fn set_mtime_at(dir: impl AsFd, name: &[u8], mtime_ns: i64) -> Result<()> {
    rustix::fs::utimensat(dir, name, &timestamps(mtime_ns), AtFlags::SYMLINK_NOFOLLOW)
}

/// Sets atime and mtime to the kernel's now: changes the inode, so that its journal transaction is the running one.
pub fn touch(file: impl AsFd) -> Result<()> {
    let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    rustix::fs::futimens(file, &Timestamps { last_access: now, last_modification: now })
}

/// `/proc/self/fd/N`, for calls that take no descriptor.
pub(super) fn proc_path(file: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn timestamps(mtime_ns: i64) -> Timestamps {
    let mtime = Timespec { tv_sec: mtime_ns.div_euclid(1_000_000_000), tv_nsec: mtime_ns.rem_euclid(1_000_000_000) as _ };
    Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW }, last_modification: mtime }
}

fn resolve(symlinks: Symlinks) -> ResolveFlags {
    match symlinks {
        Symlinks::Deny => ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS,
        Symlinks::Within => ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV,
        Symlinks::Follow => ResolveFlags::NO_MAGICLINKS,
    }
}

fn open_resolving(dir: BorrowedFd<'_>, path: &[u8], flags: OFlags, mode: u32, how: ResolveFlags) -> Result<OwnedFd> {
    let mut rest = if path.is_empty() { b"." } else { path };
    let mut at: Option<OwnedFd> = None;
    while rest.len() > PATH_SIZE_MAX {
        let cut = rest[..PATH_SIZE_MAX].iter().rposition(|&byte| byte == b'/').ok_or(Errno::NAMETOOLONG)?;
        let (step, tail) = rest.split_at(cut);
        let start = at.as_ref().map_or(dir, AsFd::as_fd);
        at = Some(open_once(start, step, OFlags::PATH | OFlags::DIRECTORY, 0, how)?);
        rest = tail.get(1..).unwrap_or_default();
    }
    open_once(at.as_ref().map_or(dir, AsFd::as_fd), rest, flags, mode, how)
}

fn openat2(dir: BorrowedFd<'_>, path: &[u8], flags: OFlags, mode: u32, how: ResolveFlags) -> Result<OwnedFd> {
    let (flags, mode) = (flags | OFlags::CLOEXEC, Mode::from_raw_mode(mode));
    let answer = rustix::fs::openat2(dir, path, flags, mode, how);
    // valgrind knows this call from 3.22 on only. Under an older one, instructions are counted without the kernel's containment,
    // which costs none of ours.
    #[cfg(test)]
    if answer.as_ref().is_err_and(|errno| *errno == Errno::NOSYS) {
        return rustix::fs::openat(dir, path, flags, mode);
    }
    answer
}

fn open_once(dir: BorrowedFd<'_>, path: &[u8], flags: OFlags, mode: u32, how: ResolveFlags) -> Result<OwnedFd> {
    // EAGAIN: a rename on the way kept the kernel from proving that the path stays beneath; openat2(2) says to try again.
    const ATTEMPTS: usize = 32;
    let mode = if flags.intersects(OFlags::CREATE | OFlags::TMPFILE) { mode & 0o7777 } else { 0 };
    let mut answer = Err(Errno::AGAIN);
    for _ in 0..ATTEMPTS {
        answer = openat2(dir, path, flags, mode, how);
        match answer {
            Err(Errno::AGAIN | Errno::INTR) => {}
            _ => break,
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{FileKind, stat};
    use std::os::unix::fs::symlink;

    #[test]
    fn nothing_leads_out() {
        let top = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(top.path().join("bucket/in")).unwrap();
        std::fs::write(top.path().join("secret"), b"s").unwrap();
        std::fs::write(top.path().join("bucket/in/file"), b"f").unwrap();
        symlink("../secret", top.path().join("bucket/out")).unwrap();
        symlink("in/file", top.path().join("bucket/within")).unwrap();
        let bucket = open_root(top.path().join("bucket").as_os_str().as_encoded_bytes()).unwrap();
        assert_eq!(open_read(&bucket, b"../secret", Symlinks::Deny).unwrap_err(), Errno::XDEV);
        assert_eq!(open_read(&bucket, b"in/../../secret", Symlinks::Within).unwrap_err(), Errno::XDEV);
        assert_eq!(open_read(&bucket, b"out", Symlinks::Deny).unwrap_err(), Errno::LOOP);
        assert_eq!(open_read(&bucket, b"out", Symlinks::Within).unwrap_err(), Errno::XDEV);
        assert_eq!(open_read(&bucket, b"within", Symlinks::Deny).unwrap_err(), Errno::LOOP);
        assert!(open_read(&bucket, b"within", Symlinks::Within).is_ok());
        assert!(open_read(&bucket, b"out", Symlinks::Follow).is_ok());
        assert_eq!(open_read(&bucket, b"/etc/passwd", Symlinks::Deny).unwrap_err(), Errno::XDEV);
        assert_eq!(open_read(&bucket, b"a\0b", Symlinks::Deny).unwrap_err(), Errno::INVAL);
    }

    #[test]
    fn paths_beyond_path_max_are_walked() {
        let top = tempfile::tempdir().unwrap();
        let root = open_root(top.path().as_os_str().as_encoded_bytes()).unwrap();
        let name = [b'n'; 200];
        let mut path = Vec::new();
        let mut at = open_dir(&root, b"", Symlinks::Deny).unwrap();
        for _ in 0..30 {
            mkdir(&at, &name, 0o755).unwrap();
            at = open_dir(&at, &name, Symlinks::Deny).unwrap();
            path.extend_from_slice(&name);
            path.push(b'/');
        }
        path.pop();
        assert!(path.len() > PATH_SIZE_MAX);
        let walked = open_dir(&root, &path, Symlinks::Deny).unwrap();
        assert_eq!(stat::of(&walked).unwrap().inode, stat::of(&at).unwrap().inode);
    }

    #[test]
    fn an_unnamed_file_gets_one_name_and_changes_places() {
        let top = tempfile::tempdir().unwrap();
        let root = open_root(top.path().as_os_str().as_encoded_bytes()).unwrap();
        let file = open_unnamed(&root, b"", 0o640, false, Symlinks::Deny).unwrap();
        rustix::io::write(&file, b"new").unwrap();
        set_mtime(&file, -1_500_000_000).unwrap();
        link(&file, &root, b"a").unwrap();
        assert_eq!(link(&file, &root, b"a").unwrap_err(), Errno::EXIST);
        assert_eq!(link(&file, &root, b"missing/a").unwrap_err(), Errno::NOENT);
        link(&file, &root, b"c").unwrap();
        let stat = stat::at(&root, b"a").unwrap();
        assert_eq!((stat.kind, stat.size, stat.mtime_ns, stat.nlink), (FileKind::Regular, 3, -1_500_000_000, 2));
        mkdir(&root, b"d", 0o755).unwrap();
        assert_eq!(rename_new(&root, b"a", &root, b"d").unwrap_err(), Errno::EXIST);
        exchange(&root, b"a", &root, b"d").unwrap();
        assert_eq!(stat::at(&root, b"a").unwrap().kind, FileKind::Directory);
        assert_eq!(unlink(&root, b"a").unwrap_err(), Errno::ISDIR);
        rmdir(&root, b"a").unwrap();
        unlink(&root, b"d").unwrap();
        rename(&root, b"c", &root, b"e").unwrap();
        assert_eq!(stat::at(&root, b"d").unwrap_err(), Errno::NOENT);
        touch(&root).unwrap();
        set_mtime_at(&root, b"e", 7).unwrap();
        assert_eq!(stat::at(&root, b"e").unwrap().mtime_ns, 7);
        assert!(open_cached(&root, b"e", OFlags::RDONLY, Symlinks::Deny).is_ok());
    }
}
