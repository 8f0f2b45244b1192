//! Which keys can come of what a directory holds? A directory of a bucket's tree with what keys in it begin with, and the names in
//! it, read as `key` writes them.

use super::key::{self, Entry};
use crate::limits::KEY_SIZE_MAX;
use crate::sys::FileKind;

/// A directory of a bucket's tree and what keys in it begin with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subtree {
    /// Beneath the bucket; empty for the bucket itself.
    pub path: Vec<u8>,
    /// What every key in here begins with: ends with `/`, or with `long_size` bytes of a long component.
    pub prefix: Vec<u8>,
    /// Bytes of a long component that were in the names of piece directories up to here; 0 outside of one.
    pub long_size: usize,
}

/// One directory entry that an object may come from, in the context of its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind {
    File,
    Directory,
    /// A directory with the next 200 bytes of a long component.
    Piece,
    LastFile,
    LastDirectory,
}

impl EntryKind {
    /// Whether the same file name could be of either kind: what distinguishes them is only what the file is.
    pub fn is_family_of(self, other: Self) -> bool {
        self.family() == other.family()
    }

    /// One of the kinds that a file of this name may be.
    pub fn family(self) -> Self {
        match self {
            Self::File | Self::Directory => Self::File,
            Self::Piece => Self::Piece,
            Self::LastFile | Self::LastDirectory => Self::LastFile,
        }
    }
}

impl Subtree {
    /// That of all keys that begin with `prefix` up to its last slash. `None`: no key does.
    pub fn of_prefix(prefix: &[u8]) -> Option<Self> {
        let Some(slash) = prefix.iter().rposition(|&byte| byte == b'/') else { return Some(Self::default()) };
        let components = &prefix[..=slash];
        key::check(components).ok()?;
        Some(Self { path: key::path_of(&prefix[..slash]), prefix: components.to_vec(), long_size: 0 })
    }

    /// The key of a file's entry; `None` where it is none's.
    pub fn key_of(&self, name: &[u8], kind: EntryKind) -> Option<Vec<u8>> {
        let fits = match kind {
            EntryKind::File | EntryKind::Directory => self.long_size == 0 && !name.is_empty(),
            EntryKind::LastFile | EntryKind::LastDirectory => self.is_whole(name),
            EntryKind::Piece => false,
        };
        let key = [&self.prefix, name].concat();
        (fits && key.len() <= KEY_SIZE_MAX).then_some(key)
    }

    /// The directory below of this entry; `None` where no key can be in it.
    pub fn child(&self, name: &[u8], kind: EntryKind) -> Option<Self> {
        let (end, long_size) = match kind {
            EntryKind::Directory if self.long_size == 0 => (&b"/"[..], 0),
            EntryKind::LastDirectory if self.is_whole(name) => (&b"/"[..], 0),
            EntryKind::Piece => (&b""[..], self.long_size + name.len()),
            _ => return None,
        };
        let prefix = [&self.prefix, name, end].concat();
        if prefix.len() > KEY_SIZE_MAX {
            return None;
        }
        let mut path = Vec::with_capacity(self.path.len() + name.len() + 16);
        path.extend_from_slice(&self.path);
        if !path.is_empty() {
            path.push(b'/');
        }
        push_name(&mut path, name, kind);
        Some(Self { path, prefix, long_size })
    }

    /// Whether a directory here may itself be the object `prefix`.
    pub fn may_be_object(&self) -> bool {
        self.long_size == 0 && !self.prefix.is_empty()
    }

    /// Whether `last` completes a long component, canonically.
    fn is_whole(&self, last: &[u8]) -> bool {
        let begun = &self.prefix[self.prefix.len() - self.long_size..];
        let component = [begun, last].concat();
        self.long_size > 0 && key::is_long(&component) && std::str::from_utf8(&component).is_ok()
    }
}

/// Appends the file name of an entry.
pub fn push_name(path: &mut Vec<u8>, name: &[u8], kind: EntryKind) {
    match kind {
        EntryKind::File | EntryKind::Directory => key::push_names(path, name),
        EntryKind::Piece => key::push_piece(path, name),
        EntryKind::LastFile | EntryKind::LastDirectory => key::push_last_piece(path, name),
    }
}

/// What a directory entry is: the name as it stands in a key, and its kind. `None` for everything that is no part of an object.
pub fn classify(entry: Entry<'_>, kind: FileKind) -> Option<(&[u8], EntryKind)> {
    match (entry, kind) {
        // `.sluice%e` is never a file: such a key ends with a slash and is a directory's.
        (Entry::Component(b""), FileKind::Regular) => None,
        (Entry::Component(name), FileKind::Regular) => Some((name, EntryKind::File)),
        (Entry::Component(name), FileKind::Directory) => Some((name, EntryKind::Directory)),
        (Entry::PiecePrefix(name), FileKind::Directory) => Some((name, EntryKind::Piece)),
        (Entry::PieceLast(name), FileKind::Regular) => Some((name, EntryKind::LastFile)),
        (Entry::PieceLast(name), FileKind::Directory) => Some((name, EntryKind::LastDirectory)),
        _ => None,
    }
}
