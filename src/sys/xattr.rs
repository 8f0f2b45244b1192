//! Extended attributes, into the caller's buffer. An absent attribute is `None`, not an error.

use super::errno::{Errno, Result};
use super::path::proc_path;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::fs::XattrFlags;
use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicBool, Ordering};

/// The bytes of `name` on an open file (not O_PATH). ERANGE when the buffer is too small.
pub fn read(file: impl AsFd, name: &CStr, buffer: &mut [u8]) -> Result<Option<usize>> {
    absent_is_none(rustix::fs::fgetxattr(file, name, buffer))
}

/// How long the value of `name` is.
pub fn size(file: impl AsFd, name: &CStr) -> Result<Option<usize>> {
    let mut nothing = [0_u8; 0];
    // SAFETY: size 0 asks for the length and writes nothing.
    let answer = unsafe { libc::fgetxattr(file.as_fd().as_raw_fd(), name.as_ptr(), nothing.as_mut_ptr().cast(), 0) };
    absent_is_none(super::check(answer as libc::c_long).map(|size| size as usize))
}

/// The whole value, at most `size_max` bytes (E2BIG beyond); it may grow between the two calls, then it is asked again.
pub fn read_vec(file: impl AsFd, name: &CStr, size_max: usize) -> Result<Option<Vec<u8>>> {
    loop {
        let Some(size) = size(file.as_fd(), name)? else { return Ok(None) };
        if size > size_max {
            return Err(Errno::TOOBIG);
        }
        let mut value = vec![0; size];
        match read(file.as_fd(), name, &mut value) {
            Ok(Some(length)) => {
                value.truncate(length);
                return Ok(Some(value));
            }
            Ok(None) => return Ok(None),
            Err(Errno::RANGE) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// The bytes of `attribute` on `name` in a directory, symlinks not followed, without opening the file: getxattrat(2)
/// since Linux 6.13, `/proc/self/fd/N/name` before.
pub fn read_at(dir: impl AsFd, name: &[u8], attribute: &CStr, buffer: &mut [u8]) -> Result<Option<usize>> {
    static KERNEL_HAS_IT: AtomicBool = AtomicBool::new(true);
    let name = CString::new(name).map_err(|_| Errno::INVAL)?;
    if KERNEL_HAS_IT.load(Ordering::Relaxed) {
        match getxattrat(dir.as_fd(), &name, attribute, buffer) {
            // EPERM: what seccomp filters of older container runtimes answer for a call they do not know.
            Err(Errno::NOSYS | Errno::PERM) => KERNEL_HAS_IT.store(false, Ordering::Relaxed),
            answer => return absent_is_none(answer),
        }
    }
    let mut path = proc_path(dir.as_fd()).into_bytes();
    path.push(b'/');
    path.extend_from_slice(name.as_bytes());
    absent_is_none(rustix::fs::lgetxattr(path, attribute, buffer))
}

/// Sets `name`, new or not. ENOSPC and E2BIG: it does not fit beside the inode.
pub fn write(file: impl AsFd, name: &CStr, value: &[u8]) -> Result<()> {
    rustix::fs::fsetxattr(file, name, value, XattrFlags::empty())
}

/// Removes `name`; whether it was there.
pub fn remove(file: impl AsFd, name: &CStr) -> Result<bool> {
    match rustix::fs::fremovexattr(file, name) {
        Ok(()) => Ok(true),
        Err(Errno::NODATA) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// The names of all attributes of an open file, each ended by NUL, into the buffer. ERANGE when it is too small.
pub fn names(file: impl AsFd, buffer: &mut [u8]) -> Result<usize> {
    rustix::fs::flistxattr(file, buffer)
}

fn absent_is_none(answer: Result<usize>) -> Result<Option<usize>> {
    match answer {
        Ok(size) => Ok(Some(size)),
        Err(Errno::NODATA) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn getxattrat(dir: BorrowedFd<'_>, name: &CStr, attribute: &CStr, buffer: &mut [u8]) -> Result<usize> {
    #[repr(C)]
    struct XattrArgs {
        value: u64,
        size: u32,
        flags: u32,
    }
    const SYS_GETXATTRAT: libc::c_long = 464;
    let size = u32::try_from(buffer.len()).map_err(|_| Errno::TOOBIG)?;
    let args = XattrArgs { value: buffer.as_mut_ptr() as u64, size, flags: 0 };
    // SAFETY: both strings end with NUL, `args` is a `struct xattr_args` that names a live buffer of `size` bytes.
    let answer = unsafe {
        libc::syscall(
            SYS_GETXATTRAT,
            dir.as_raw_fd(),
            name.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
            attribute.as_ptr(),
            &raw const args,
            size_of::<XattrArgs>(),
        )
    };
    super::check(answer).map(|size| size as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_read_and_remove() {
        let dir = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(dir.path().join("f")).unwrap();
        let handle = std::fs::File::open(dir.path()).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(read(&file, c"user.sluice", &mut buffer).unwrap(), None);
        assert_eq!(read_at(&handle, b"f", c"user.sluice", &mut buffer).unwrap(), None);
        assert_eq!(size(&file, c"user.sluice").unwrap(), None);
        write(&file, c"user.sluice", b"0123456789").unwrap();
        assert_eq!(read(&file, c"user.sluice", &mut buffer).unwrap(), Some(10));
        assert_eq!(&buffer[..10], b"0123456789");
        assert_eq!(read_at(&handle, b"f", c"user.sluice", &mut buffer).unwrap(), Some(10));
        assert_eq!(read_at(&handle, b"g", c"user.sluice", &mut buffer), Err(Errno::NOENT));
        assert_eq!(read(&file, c"user.sluice", &mut buffer[..4]), Err(Errno::RANGE));
        assert_eq!(read_vec(&file, c"user.sluice", 10).unwrap().unwrap(), b"0123456789");
        assert_eq!(read_vec(&file, c"user.sluice", 9), Err(Errno::TOOBIG));
        let mut list = [0; 64];
        let length = names(&file, &mut list).unwrap();
        assert!(list[..length].split(|&byte| byte == 0).any(|name| name == b"user.sluice"));
        assert!(remove(&file, c"user.sluice").unwrap());
        assert!(!remove(&file, c"user.sluice").unwrap());
    }
}
