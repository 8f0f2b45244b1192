//! What lies in `.sluice/staging`, and whose is it? A name there says what for, so that the next start can tell after a crash what
//! is ours to remove, what has to go back, and where to.
//!
//! | name | what lies there |
//! |---|---|
//! | `new.N` | a file of ours without a name in a bucket, or an empty directory; nothing of somebody's ever gets this name |
//! | `swap.N.OURS.WHAT.PLACE` | our file OURS, about to change places with the file WHAT at PLACE; then what was there |
//! | `turn.N.INODE.PLACE` | a directory of ours with a link to the file INODE, about to change places with it; then what was there |
//! | `gone.N.WHAT.PLACE` | what was at PLACE; the file WHAT is to be removed |
//! | `keep.N` | a note of what is about to happen to the history of a key (`objects::versions`) |
//! | `upload.N` | an upload's directory that appears or disappears |
//! | `uploads.N` | the uploads of a bucket that is gone |
//!
//! N counts. OURS and WHAT are inode, size and mtime of a file. PLACE is the path beneath the served directory, percent-encoded;
//! it is empty where it would make the name too long. What is in staging and neither ours nor what was meant is somebody's: where it
//! cannot go back, it is kept in `.sluice/aside`, which nobody but the operator empties.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use super::naming;
use crate::base::percent;
use crate::limits::NAME_SIZE_MAX;
use crate::store::error::Result;
use crate::sys::path::Symlinks;
use crate::sys::{self, Errno, FileKind, FileStat};

/// Where things are kept that are somebody's and have no place any more, in `.sluice`.
pub(super) const ASIDE: &[u8] = b"aside";

const IN_THE_WAY: &str = "somebody else's file or directory took a name that was being changed, and cannot be put back";

/// A place for names on their way.
#[derive(Debug)]
pub(in crate::store) struct Staging {
    directory: OwnedFd,
    /// The directory that has, or gets, the one for things kept aside.
    home: OwnedFd,
    /// Its path, for messages: `.sluice/`.
    path: String,
    next_name: AtomicU64,
}

/// Which file it was. The mtime is in it because an inode's number is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Identity {
    inode: u64,
    size: u64,
    mtime_ns: i64,
}

/// What a name in staging is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) enum Purpose {
    New,
    Swap {
        ours: Identity,
        what: Identity,
        /// Empty: too long.
        place: Vec<u8>,
    },
    Turn {
        inode: u64,
        place: Vec<u8>,
    },
    Gone {
        what: Identity,
        place: Vec<u8>,
    },
    Keep,
    Upload,
    Uploads,
}

impl Identity {
    pub(in crate::store) fn of(stat: &FileStat) -> Self {
        Self { inode: stat.inode, size: stat.size, mtime_ns: stat.mtime_ns }
    }

    pub(in crate::store) fn inode(&self) -> u64 {
        self.inode
    }

    /// Whether this is that file, unchanged.
    pub(in crate::store) fn is(&self, stat: &FileStat) -> bool {
        stat.kind == FileKind::Regular && *self == Self::of(stat)
    }

    fn encode(&self) -> String {
        format!("{:x}-{:x}-{:x}", self.inode, self.size, self.mtime_ns)
    }

    fn decode(text: &str) -> Option<Self> {
        let mut fields = text.split('-');
        let (inode, size, mtime) = (number(fields.next()?)?, number(fields.next()?)?, number(fields.next()?)?);
        fields.next().is_none().then_some(Self { inode, size, mtime_ns: mtime.cast_signed() })
    }
}

fn number(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

impl Purpose {
    fn word(&self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Swap { .. } => "swap",
            Self::Turn { .. } => "turn",
            Self::Gone { .. } => "gone",
            Self::Keep => "keep",
            Self::Upload => "upload",
            Self::Uploads => "uploads",
        }
    }

    /// Where it was to happen; empty if that is not known.
    pub(in crate::store) fn place(&self) -> &[u8] {
        match self {
            Self::New | Self::Keep | Self::Upload | Self::Uploads => b"",
            Self::Swap { place, .. } | Self::Turn { place, .. } | Self::Gone { place, .. } => place,
        }
    }

    fn encode(&self, count: u64) -> Vec<u8> {
        let (what, place) = match self {
            Self::New | Self::Keep | Self::Upload | Self::Uploads => return format!("{}.{count:016x}", self.word()).into_bytes(),
            Self::Swap { ours, what, place } => (format!("{}.{}", ours.encode(), what.encode()), place),
            Self::Turn { inode, place } => (format!("{inode:x}"), place),
            Self::Gone { what, place } => (what.encode(), place),
        };
        let mut name = format!("{}.{count:016x}.{what}.", self.word()).into_bytes();
        let size = name.len();
        percent::encode_into(&mut name, place, false);
        if name.len() > NAME_SIZE_MAX {
            name.truncate(size);
        }
        name
    }

    /// What a name says; `None` for one that we do not give.
    pub(in crate::store) fn decode(name: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(name).ok()?;
        let (word, rest) = text.split_once('.')?;
        let (count, rest) = match rest.split_once('.') {
            Some((count, rest)) => (count, Some(rest)),
            None => (rest, None),
        };
        let purpose = match (word, rest) {
            ("new", None) => Self::New,
            ("keep", None) => Self::Keep,
            ("upload", None) => Self::Upload,
            ("uploads", None) => Self::Uploads,
            ("swap", Some(rest)) => {
                let (ours, rest) = rest.split_once('.')?;
                let (what, place) = rest.split_once('.')?;
                Self::Swap { ours: Identity::decode(ours)?, what: Identity::decode(what)?, place: decode_place(place)? }
            }
            ("turn", Some(rest)) => {
                let (inode, place) = rest.split_once('.')?;
                Self::Turn { inode: number(inode)?, place: decode_place(place)? }
            }
            ("gone", Some(rest)) => {
                let (what, place) = rest.split_once('.')?;
                Self::Gone { what: Identity::decode(what)?, place: decode_place(place)? }
            }
            _ => return None,
        };
        // Only what `encode` writes.
        (purpose.encode(number(count)?) == name).then_some(purpose)
    }
}

fn decode_place(text: &str) -> Option<Vec<u8>> {
    percent::decode(text.as_bytes(), false)
}

impl Staging {
    /// Of `.sluice`, or what takes its place elsewhere.
    pub(super) fn new(directory: OwnedFd, home: OwnedFd, path: String) -> Self {
        // From the clock on, so that what an earlier process has left does not have the same names.
        let first = u64::try_from(sys::clock::realtime_ns()).unwrap_or_default();
        Self { directory, home, path, next_name: AtomicU64::new(first) }
    }

    pub(in crate::store) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// Whether its directory has this device and inode.
    pub(super) fn is(&self, identity: (u64, u64)) -> bool {
        sys::stat::of(&self.directory).is_ok_and(|stat| (stat.device, stat.inode) == identity)
    }

    /// A name that nothing else has.
    pub(in crate::store) fn name(&self, purpose: &Purpose) -> Vec<u8> {
        purpose.encode(self.next_name.fetch_add(1, Ordering::Relaxed))
    }

    /// Removes a file that is ours, or was meant to go. What cannot be removed now goes at the next start.
    pub(in crate::store) fn remove(&self, name: &[u8]) {
        match sys::path::unlink(&self.directory, name) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => {
                tracing::warn!(%errno, name = %format_args!("{}staging/{}", self.path, String::from_utf8_lossy(name)), "a file stays until the next start");
            }
        }
    }

    /// Keeps what is somebody's, and cannot be at `place` any more, where its owner finds it.
    pub(in crate::store) fn keep_aside(&self, name: &[u8], place: &[u8]) -> Result<()> {
        let place = if place.is_empty() { "a path too long to say".into() } else { String::from_utf8_lossy(place) };
        let kept = self.aside().and_then(|aside| match naming::rename_new_somehow(&self.directory, name, &aside, name) {
            // The clock was put back since something was kept under this very name.
            Err(Errno::EXIST) => {
                let other = [b"again.", self.name(&Purpose::New).as_slice()].concat();
                naming::rename_new_somehow(&self.directory, name, &aside, &other).map(|()| other)
            }
            kept => kept.map(|()| name.to_vec()),
        });
        match kept {
            Ok(kept) => {
                let kept = String::from_utf8_lossy(&kept);
                tracing::warn!(%place, kept = %format_args!("{}aside/{kept}", self.path), "{IN_THE_WAY}: it is kept aside");
                Ok(())
            }
            Err(errno) => {
                let left = String::from_utf8_lossy(name);
                tracing::warn!(%place, %errno, left = %format_args!("{}staging/{left}", self.path), "{IN_THE_WAY}: it stays in staging");
                Err(errno.into())
            }
        }
    }

    fn aside(&self) -> sys::Result<OwnedFd> {
        match sys::path::mkdir(&self.home, ASIDE, 0o700) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        sys::path::open_dir(&self.home, ASIDE, Symlinks::Deny)
    }

    /// How many things are kept aside.
    pub(in crate::store) fn count_aside(&self) -> usize {
        let mut count = 0;
        if let Ok(aside) = sys::path::open_dir(&self.home, ASIDE, Symlinks::Deny) {
            let mut buffer = sys::dir::buffer(32 * 1024);
            let _ = sys::dir::read(&aside, &mut buffer, |_| {
                count += 1;
                std::ops::ControlFlow::<()>::Continue(())
            });
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn identity() -> impl Strategy<Value = Identity> {
        (any::<u64>(), any::<u64>(), any::<i64>()).prop_map(|(inode, size, mtime_ns)| Identity { inode, size, mtime_ns })
    }

    fn purpose() -> impl Strategy<Value = Purpose> {
        let place = || proptest::collection::vec(any::<u8>(), 0..80);
        prop_oneof![
            Just(Purpose::New),
            Just(Purpose::Keep),
            Just(Purpose::Upload),
            Just(Purpose::Uploads),
            (identity(), identity(), place()).prop_map(|(ours, what, place)| Purpose::Swap { ours, what, place }),
            (any::<u64>(), place()).prop_map(|(inode, place)| Purpose::Turn { inode, place }),
            (identity(), place()).prop_map(|(what, place)| Purpose::Gone { what, place }),
        ]
    }

    fn without_place(purpose: &Purpose) -> Purpose {
        let mut purpose = purpose.clone();
        if let Purpose::Swap { place, .. } | Purpose::Turn { place, .. } | Purpose::Gone { place, .. } = &mut purpose {
            place.clear();
        }
        purpose
    }

    proptest! {
        #[test]
        fn a_name_says_what_it_is_for(purpose in purpose(), count: u64) {
            let name = purpose.encode(count);
            prop_assert!(name.len() <= NAME_SIZE_MAX && !name.contains(&b'/') && !name.contains(&0));
            let decoded = Purpose::decode(&name).unwrap();
            prop_assert!(decoded == purpose || decoded == without_place(&purpose));
            prop_assert_eq!(without_place(&decoded), without_place(&purpose));
        }

        #[test]
        fn nothing_else_is_a_name_of_ours(name in proptest::collection::vec(any::<u8>(), 0..60), at in 0usize..60, value: u8, purpose in purpose()) {
            for mut name in [name, purpose.encode(7)] {
                if let Some(byte) = name.get_mut(at) {
                    *byte = value;
                }
                if let Some(decoded) = Purpose::decode(&name) {
                    let text = String::from_utf8(name.clone()).unwrap();
                    let count = u64::from_str_radix(text.split('.').nth(1).unwrap(), 16).unwrap();
                    prop_assert_eq!(decoded.encode(count), name);
                }
            }
        }
    }

    #[test]
    fn names_of_earlier_builds_are_none() {
        for name in
            ["0000000000000001", "probe", "new", "new.", "new.1", "upload.0000000000000001.x", "swap.0000000000000001.1-1-1."]
        {
            assert_eq!(Purpose::decode(name.as_bytes()), None, "{name}");
        }
    }
}
