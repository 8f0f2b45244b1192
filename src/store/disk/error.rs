//! Why can a directory not be served? For the operator, with cause and remedy.

use crate::sys::{self, Cause, Errno};

/// Why a directory cannot be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeError {
    /// The directory itself cannot be opened.
    Open(Errno),
    /// Our own directory in it cannot be made or written.
    OwnDirectory(Errno),
    /// The filesystem has no user extended attributes, where an object's metadata lives.
    NoAttributes(Errno),
    /// No way to give a name that must be new.
    NoNewNames,
    /// A file cannot be synced.
    NoSync(Errno),
    /// A directory cannot be synced, so that no name is known to last.
    NoDirectorySync,
    /// The directory folds case: two keys would be one file.
    FoldsCase,
    /// The barrier's thread could not be started.
    Thread,
}

impl VolumeError {
    /// Cause and remedy, for the operator.
    pub fn advice(self) -> String {
        match self {
            Self::Open(errno) => {
                format!("the directory cannot be opened ({errno}): name an existing directory that this user may read")
            }
            Self::OwnDirectory(errno) => {
                format!(
                    "`.sluice` in the served directory cannot be made or written ({errno}): the server's user needs write permission there"
                )
            }
            Self::NoAttributes(errno) => format!(
                "the filesystem has no user extended attributes ({errno}), where an object's metadata is kept: mount it with user_xattr, or use ext4 or XFS"
            ),
            Self::NoNewNames => "the filesystem has neither RENAME_NOREPLACE nor hard links: a new object could replace a file that appears \
                                 at the same moment; serve a directory of ext4, XFS, Btrfs or another filesystem that has one of them"
                .into(),
            Self::NoSync(errno) => {
                format!("a file cannot be synced ({errno}), so that nothing could be acknowledged; serve a directory of another filesystem")
            }
            Self::NoDirectorySync => "a directory cannot be synced, so that the name of no object is known to survive a power cut; serve a \
                                      directory of another filesystem, or give --durability relaxed"
                .into(),
            Self::FoldsCase => {
                "the directory ignores case (chattr +F): two keys would be one file; serve a directory without casefold".into()
            }
            Self::Thread => "a thread could not be started: raise the limit on processes (ulimit -u)".into(),
        }
    }

    /// Whether the filesystem itself is broken or full rather than misconfigured.
    pub fn cause(self) -> Option<Cause> {
        self.errno().map(sys::errno::cause)
    }

    pub(super) fn errno(self) -> Option<Errno> {
        match self {
            Self::Open(errno) | Self::OwnDirectory(errno) | Self::NoAttributes(errno) | Self::NoSync(errno) => Some(errno),
            Self::NoNewNames | Self::NoDirectorySync | Self::FoldsCase | Self::Thread => None,
        }
    }
}
