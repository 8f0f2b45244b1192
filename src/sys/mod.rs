//! What does the kernel say? Thin, typed calls: one function a question, the errno kept as it came.
//!
//! May import `limits` and `base`. No policy, no state but two remembered probes (`linkat`, `getxattrat`), no retry that
//! hides an answer; `EINTR` alone is repeated. `unsafe` only where `rustix` has no call, each block with its reason.

#![allow(unsafe_code)]

pub mod clock;
pub mod cpu;
pub mod dir;
pub mod errno;
pub mod file;
pub mod filesystem;
pub mod inotify;
pub mod lock;
pub mod mount;
pub mod outgoing;
pub mod path;
pub mod reuseport;
pub mod space;
pub mod stat;
pub mod usage;
pub mod xattr;

pub use errno::{Cause, Errno, Result};
pub use stat::{FileKind, FileStat};

/// The result of a raw system call that answers -1 and sets errno.
fn check(result: libc::c_long) -> Result<libc::c_long> {
    if result < 0 { Err(last()) } else { Ok(result) }
}

fn last() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
