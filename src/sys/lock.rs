//! Locks between processes and, over NFS, between machines.

use super::errno::{Errno, Result};
use rustix::fd::{AsFd, AsRawFd};
use rustix::fs::FlockOperation;

/// Takes the whole-file lock that lives as long as this open file (flock); whether we got it.
pub fn try_exclusive(file: impl AsFd) -> Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::AGAIN) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Takes the exclusive lock of a byte range (open file description lock: gone with the last close, shared by no other
/// descriptor of this process); whether we got it.
pub fn try_range(file: impl AsFd, start: u64, length: u64) -> Result<bool> {
    match range(file, libc::F_OFD_SETLK, libc::F_WRLCK, start, length) {
        Ok(()) => Ok(true),
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Waits for the exclusive lock of a byte range. Blocks: helper threads only.
pub fn wait_range(file: impl AsFd, start: u64, length: u64) -> Result<()> {
    rustix::io::retry_on_intr(|| range(file.as_fd(), libc::F_OFD_SETLKW, libc::F_WRLCK, start, length))
}

/// Gives a byte range back.
pub fn release_range(file: impl AsFd, start: u64, length: u64) -> Result<()> {
    range(file, libc::F_OFD_SETLK, libc::F_UNLCK, start, length)
}

#[allow(clippy::unnecessary_cast, reason = "constant types differ between C libraries")]
fn range(file: impl AsFd, command: libc::c_int, kind: libc::c_int, start: u64, length: u64) -> Result<()> {
    // SAFETY: all-zero is a valid `struct flock`; `l_pid` must be 0 for OFD locks.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = i64::try_from(start).map_err(|_| Errno::INVAL)?;
    lock.l_len = i64::try_from(length).map_err(|_| Errno::INVAL)?;
    // SAFETY: an open descriptor and a `struct flock` that lives during the call.
    let answer = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), command, &raw const lock) };
    super::check(answer.into()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_opener_waits_its_turn() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = std::fs::File::create(&path).unwrap();
        let second = std::fs::File::options().write(true).open(&path).unwrap();
        assert!(try_exclusive(&first).unwrap());
        assert!(!try_exclusive(&second).unwrap());
        assert!(try_range(&first, 10, 1).unwrap());
        assert!(!try_range(&second, 10, 1).unwrap());
        assert!(try_range(&second, 11, 1).unwrap());
        release_range(&first, 10, 1).unwrap();
        wait_range(&second, 10, 1).unwrap();
        drop(first);
        assert!(try_exclusive(&second).unwrap());
    }
}
