//! errno with meaning: one table from what the kernel answered to what it means for an object store.

pub use rustix::io::Errno;

pub type Result<T> = std::result::Result<T, Errno>;

/// What an errno means to us. A peer that answers every failure with one error sends operators hunting: disk full, quota,
/// read-only and broken device stay apart here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The name, or a directory on the way, is not there.
    Missing,
    /// The name is taken.
    Exists,
    /// A file stands where a directory is needed.
    NotDirectory,
    /// A directory stands where a file is needed.
    IsDirectory,
    /// The directory has entries.
    NotEmpty,
    /// A name or path longer than the filesystem takes.
    NameTooLong,
    /// The path leaves its bucket: a symlink (ELOOP) or a mount (EXDEV).
    Escapes,
    /// The server's user may not.
    Denied,
    /// The filesystem is mounted, or became, read-only.
    ReadOnly,
    /// The device is full.
    NoSpace,
    /// The owner's quota is used up.
    NoQuota,
    /// Larger than the filesystem or RLIMIT_FSIZE allows.
    TooLarge,
    /// Out of file descriptors, in the process or in the system.
    NoDescriptors,
    /// Out of kernel memory.
    NoMemory,
    /// It would have to wait: RESOLVE_CACHED, RWF_NOWAIT, a lock that is held.
    WouldBlock,
    /// This kernel or filesystem cannot do that.
    Unsupported,
    /// The device or the filesystem failed; data may be lost (EIO, and what ext4 and XFS answer after a shutdown).
    Broken,
    /// A network filesystem's handle died.
    Stale,
    Other,
}

/// The meaning of `errno`.
pub fn cause(errno: Errno) -> Cause {
    match errno {
        Errno::NOENT => Cause::Missing,
        Errno::EXIST => Cause::Exists,
        Errno::NOTDIR => Cause::NotDirectory,
        Errno::ISDIR => Cause::IsDirectory,
        Errno::NOTEMPTY => Cause::NotEmpty,
        Errno::NAMETOOLONG => Cause::NameTooLong,
        Errno::LOOP | Errno::XDEV => Cause::Escapes,
        Errno::ACCESS | Errno::PERM => Cause::Denied,
        Errno::ROFS => Cause::ReadOnly,
        Errno::NOSPC => Cause::NoSpace,
        Errno::DQUOT => Cause::NoQuota,
        Errno::FBIG => Cause::TooLarge,
        Errno::MFILE | Errno::NFILE => Cause::NoDescriptors,
        Errno::NOMEM => Cause::NoMemory,
        Errno::AGAIN => Cause::WouldBlock,
        Errno::OPNOTSUPP | Errno::NOSYS | Errno::NOTTY => Cause::Unsupported,
        // EUCLEAN and EBADMSG are EFSCORRUPTED and EFSBADCRC of ext4 and XFS; ESHUTDOWN and ENXIO a lost device.
        Errno::IO | Errno::UCLEAN | Errno::BADMSG | Errno::NODEV | Errno::NXIO | Errno::SHUTDOWN => Cause::Broken,
        Errno::STALE => Cause::Stale,
        _ => Cause::Other,
    }
}

/// Whether this answer says that nothing can be written now, rather than what the filesystem is able to do.
pub fn is_no_room(errno: Errno) -> bool {
    matches!(cause(errno), Cause::NoSpace | Cause::NoQuota | Cause::ReadOnly)
}

/// Whether a name that was just seen is simply not there any more, or never was an object's: missing, on the way a file, a
/// symlink or a mount. What a walk skips without a word.
pub fn is_gone(errno: Errno) -> bool {
    matches!(cause(errno), Cause::Missing | Cause::NotDirectory | Cause::Escapes | Cause::Stale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_full_quota_and_broken_stay_apart() {
        assert_eq!(cause(Errno::NOSPC), Cause::NoSpace);
        assert_eq!(cause(Errno::DQUOT), Cause::NoQuota);
        assert_eq!(cause(Errno::IO), Cause::Broken);
        assert!(is_gone(Errno::LOOP) && is_gone(Errno::NOENT) && !is_gone(Errno::MFILE));
    }
}
