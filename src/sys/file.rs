//! Bytes in and out of an open file, and its owner and mode.

use super::errno::{Errno, Result};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::ReadWriteFlags;
use std::io::IoSliceMut;

/// pread(2); fewer bytes than asked at the end of the file, or when a signal came.
pub fn read_at(file: impl AsFd, buffer: &mut [u8], offset: u64) -> Result<usize> {
    rustix::io::retry_on_intr(|| rustix::io::pread(file.as_fd(), &mut *buffer, offset))
}

/// Reads until the buffer is full or the file ends; answers the bytes read.
pub fn read_full_at(file: impl AsFd, buffer: &mut [u8], offset: u64) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read_at(file.as_fd(), &mut buffer[filled..], offset + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// Reads what the page cache has (RWF_NOWAIT). `None`: it would have to wait, or the filesystem cannot tell.
pub fn read_cached_at(file: impl AsFd, buffer: &mut [u8], offset: u64) -> Result<Option<usize>> {
    let mut buffers = [IoSliceMut::new(buffer)];
    match rustix::io::preadv2(file, &mut buffers, offset, ReadWriteFlags::NOWAIT) {
        Ok(count) => Ok(Some(count)),
        Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::INTR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Appends `count` bytes from `offset`, if the page cache has them all (RWF_NOWAIT): into memory that was not written before, which
/// `read_cached_at` cannot do. Otherwise `out` is as it was.
pub fn append_cached_at(file: impl AsFd, out: &mut Vec<u8>, count: usize, offset: u64) -> Result<bool> {
    let Ok(position) = libc::off_t::try_from(offset) else { return Err(Errno::INVAL) };
    out.reserve(count);
    let length = out.len();
    let spare = &mut out.spare_capacity_mut()[..count];
    let vector = libc::iovec { iov_base: spare.as_mut_ptr().cast(), iov_len: count };
    // SAFETY: one vector of `count` bytes that are ours and that nobody else refers to during the call.
    let answer = unsafe { libc::preadv2(file.as_fd().as_raw_fd(), &raw const vector, 1, position, libc::RWF_NOWAIT) };
    match super::check(answer as libc::c_long) {
        Ok(read) if read as usize == count => {
            // SAFETY: the capacity was reserved, and the kernel has just written these `count` bytes.
            unsafe { out.set_len(length + count) };
            Ok(true)
        }
        Ok(_) | Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::INTR) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Writes all bytes; a write that takes none is EIO.
pub fn write_all_at(file: impl AsFd, bytes: &[u8], offset: u64) -> Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        let answer = rustix::io::pwrite(file.as_fd(), &bytes[written..], offset + written as u64);
        match answer {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => written += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// sendfile(2) from `offset` of `file` to a socket; answers the bytes taken, EAGAIN when the socket takes none.
pub fn send_to(socket: impl AsFd, file: impl AsFd, offset: u64, count: usize) -> Result<usize> {
    let mut offset = offset;
    rustix::fs::sendfile(socket, file, Some(&mut offset), count)
}

/// Begins to push dirty pages to the device, without waiting for them: `write_back` does.
pub fn start_write_back(file: impl AsFd) -> Result<()> {
    sync_range(file.as_fd(), libc::SYNC_FILE_RANGE_WRITE)
}

/// Pushes dirty pages to the device and waits for them. Neither metadata nor the device's cache: not a barrier.
pub fn write_back(file: impl AsFd) -> Result<()> {
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    sync_range(file.as_fd(), flags)
}

fn sync_range(file: BorrowedFd<'_>, flags: libc::c_uint) -> Result<()> {
    // SAFETY: an open descriptor and plain numbers; 0, 0 is the whole file.
    let answer = unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, flags) };
    super::check(answer.into()).map(drop)
}

/// fsync(2). A failure is final: the pages are marked clean and a second fsync would answer success.
pub fn sync(file: impl AsFd) -> Result<()> {
    rustix::fs::fsync(file)
}

/// fdatasync(2).
pub fn sync_data(file: impl AsFd) -> Result<()> {
    rustix::fs::fdatasync(file)
}

/// Clears O_NONBLOCK. io_uring takes it as a wish to fail with EAGAIN where a filesystem has no non-blocking read.
pub fn set_blocking(file: impl AsFd) -> Result<()> {
    let flags = rustix::fs::fcntl_getfl(file.as_fd())?;
    rustix::fs::fcntl_setfl(file, flags - OFlags::NONBLOCK)
}

/// Turns O_DIRECT on or off on an open file (EINVAL where the filesystem refuses it).
pub fn set_direct(file: impl AsFd, direct: bool) -> Result<()> {
    let mut flags = rustix::fs::fcntl_getfl(file.as_fd())?;
    flags.set(OFlags::DIRECT, direct);
    rustix::fs::fcntl_setfl(file, flags)
}

pub fn set_owner(file: impl AsFd, uid: u32, gid: u32) -> Result<()> {
    rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
}

pub fn set_mode(file: impl AsFd, mode: u32) -> Result<()> {
    rustix::fs::fchmod(file, Mode::from_raw_mode(mode & 0o7777))
}

/// What the page cache holds of a range, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct CacheStat {
    pub cached: u64,
    pub dirty: u64,
    pub writeback: u64,
    pub evicted: u64,
    pub recently_evicted: u64,
}

/// cachestat(2), since Linux 6.5; `None` where the kernel, a seccomp filter or the file has none. Length 0: to the end.
pub fn cache_stat(file: impl AsFd, offset: u64, length: u64) -> Result<Option<CacheStat>> {
    const SYS_CACHESTAT: libc::c_long = 451;
    let range = [offset, length];
    let mut answer = CacheStat::default();
    // SAFETY: the kernel reads `struct cachestat_range` (two u64) and writes `struct cachestat` (five u64), both alive.
    let result =
        super::check(unsafe { libc::syscall(SYS_CACHESTAT, file.as_fd().as_raw_fd(), range.as_ptr(), &raw mut answer, 0) });
    match result {
        Ok(_) => Ok(Some(answer)),
        Err(Errno::NOSYS | Errno::PERM | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_cached() {
        let file = tempfile::tempfile().unwrap();
        write_all_at(&file, b"0123456789", 2).unwrap();
        let mut buffer = [0; 20];
        assert_eq!(read_full_at(&file, &mut buffer, 0).unwrap(), 12);
        assert_eq!(&buffer[..12], b"\0\x000123456789");
        assert_eq!(read_at(&file, &mut buffer[..3], 4).unwrap(), 3);
        assert_eq!(&buffer[..3], b"234");
        if let Some(count) = read_cached_at(&file, &mut buffer, 0).unwrap() {
            assert_eq!(count, 12);
        }
        if let Some(cache) = cache_stat(&file, 0, 0).unwrap() {
            assert_eq!(cache.cached, 1);
        }
        start_write_back(&file).unwrap();
        write_back(&file).unwrap();
        sync(&file).unwrap();
        sync_data(&file).unwrap();
        set_mode(&file, 0o600).unwrap();
        set_blocking(&file).unwrap();
        assert_eq!(crate::sys::stat::of(&file).unwrap().mode, 0o600);
    }

    #[test]
    fn sendfile_fills_a_socket() {
        let file = tempfile::tempfile().unwrap();
        write_all_at(&file, b"0123456789", 0).unwrap();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(send_to(&ours, &file, 3, 4).unwrap(), 4);
        let mut buffer = [0; 8];
        assert_eq!(rustix::io::read(&theirs, &mut buffer).unwrap(), 4);
        assert_eq!(&buffer[..4], b"3456");
    }
}
