//! Locks between processes and, over NFS, between machines; and who has a file open for writing.

use super::errno::{Errno, Result};
use rustix::fd::{AsFd, AsRawFd};
use rustix::fs::FlockOperation;
use std::sync::Once;

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

/// Whether anybody, on this machine, can write into a file that we have open for reading: a descriptor opened for writing, or a map
/// of memory made by one that is closed. `None`: the kernel does not say. That takes a file of our own or CAP_LEASE, and a
/// filesystem that has leases.
///
/// A read lease (fcntl(2), F_SETLEASE) is granted only while there is no writer. It is given back at once: who opens the file for
/// writing in between waits for that long.
pub fn is_open_for_writing(file: impl AsFd) -> Option<bool> {
    static IGNORED: Once = Once::new();
    // What tells the holder of a lease that somebody waits for it; without this it would end the process.
    // SAFETY: no handler is installed, the signal is only ignored, and nothing here waits for one.
    let ignore = || unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
    IGNORED.call_once(|| _ = ignore());
    let lease = |kind: libc::c_int| {
        // SAFETY: an open descriptor and a plain number.
        let answer = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), libc::F_SETLEASE, kind) };
        super::check(answer.into()).map(drop)
    };
    match lease(libc::F_RDLCK) {
        Ok(()) => {
            // It is ours: giving it back cannot fail.
            let _ = lease(libc::F_UNLCK);
            Some(false)
        }
        Err(Errno::AGAIN) => Some(true),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_is_noticed_until_it_can_write_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, b"bytes").unwrap();
        let file = std::fs::File::open(&path).unwrap();
        assert_eq!(is_open_for_writing(&file), Some(false));
        let writer = std::fs::File::options().append(true).open(&path).unwrap();
        assert_eq!(is_open_for_writing(&file), Some(true));
        let reader = std::fs::File::open(&path).unwrap();
        drop(writer);
        assert_eq!(is_open_for_writing(&file), Some(false), "another reader is none");
        drop(reader);
    }

    /// Who opens the file just then waits for a moment, and nobody is ended by the signal.
    #[test]
    fn looks_and_writers_do_not_hurt_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, b"bytes").unwrap();
        let file = std::fs::File::open(&path).unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for _ in 0..2000 {
                    std::fs::File::options().write(true).open(&path).unwrap();
                }
            });
            while !writer.is_finished() {
                assert!(is_open_for_writing(&file).is_some());
            }
        });
        assert_eq!(is_open_for_writing(&file), Some(false));
    }

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
