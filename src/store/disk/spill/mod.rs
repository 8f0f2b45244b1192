//! Extended records that do not fit beside their inode: immutable files in `.sluice/spill`, named by the SHA-256 of what they
//! hold and shared by all objects with the same record. `cp -a` and `rsync -X` copy the pointer to one without asking us, so
//! nobody counts who points where: what is not pointed to is found by walks through everything that is served (`sweep`).
//!
//! A file may be removed only if no pointer to it exists, and none can come to be. What the walks see, and what happens beside
//! them, meets in one table (`Seen`) under one lock: while a round of walks is on, whoever is about to write a pointer, or has
//! read one, notes it there first, and the removal looks there last, holding the lock until the name is gone. A commit that
//! comes a moment later finds no file and writes it again.

mod sweep;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::hex;
use crate::digest::Sha256;
use crate::limits::{EXTENDED_RECORD_SIZE_MAX, SPILL_SEEN_BITS};
use crate::store::disk::stage::Temporary;
use crate::store::error::Result;
use crate::store::volume::{Sync, Volume};
use crate::sys::path::Symlinks;
use crate::sys::{self, Errno, FileKind};

pub use sweep::Sweeper;

/// The SHA-256 of a spilled record: its file's name, and what stands in an attribute instead of the record.
pub(in crate::store) type Name = [u8; 32];

/// The spilled records of a volume.
#[derive(Default)]
pub(in crate::store) struct Spills {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// How many commits under way write a pointer to each: it may be on a file that no walk can see yet.
    pinned: HashMap<Name, usize>,
    /// While a round of walks is on.
    seen: Option<Seen>,
}

/// A file that stays as long as this is held: until its pointer stands on a file that has a name.
#[must_use = "a pointer that is not published yet is protected only as long as this is held"]
pub(in crate::store) struct Pinned {
    state: Arc<Mutex<State>>,
    name: Name,
}

/// Which names were seen, in a table of fixed size: two names may share a bit, and then one is kept for the other's sake.
struct Seen {
    bits: Vec<u64>,
}

impl Spills {
    /// A pointer to this record is about to be written.
    fn pin(&self, name: Name) -> Pinned {
        let mut state = lock(&self.state);
        *state.pinned.entry(name).or_default() += 1;
        state.note(&name);
        Pinned { state: self.state.clone(), name }
    }

    /// A pointer to this record was seen.
    fn saw(&self, name: &Name) {
        lock(&self.state).note(name);
    }

    /// Begins a round of walks, in which nothing was seen yet but what is about to be pointed to.
    fn begin_round(&self) -> Round<'_> {
        let mut state = lock(&self.state);
        let mut seen = Seen::new();
        state.pinned.keys().for_each(|name| seen.note(name));
        state.seen = Some(seen);
        Round { spills: self }
    }
}

/// The record of this name, as far as there is one: a missing file voids it. Reading it keeps it, so that what is in use is
/// not removed even where no walk has met its object.
pub(in crate::store) fn read(volume: &Volume, name: &Name) -> Result<Option<Vec<u8>>> {
    volume.spill.saw(name);
    let Some(own) = volume.own_if_any() else { return Ok(None) };
    let file = match sys::path::open_read(&own.spill, hex::encode(name).as_bytes(), Symlinks::Deny) {
        Ok(file) => file,
        Err(errno) if sys::errno::is_gone(errno) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let stat = sys::stat::of(&file)?;
    let size = usize::try_from(stat.size).unwrap_or(usize::MAX);
    if stat.kind != FileKind::Regular || size > EXTENDED_RECORD_SIZE_MAX {
        return Ok(None);
    }
    let mut bytes = vec![0; size];
    let read = sys::file::read_full_at(&file, &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(Some(bytes))
}

/// Writes a record, unless it is there already. Its pointer may be written now, and must have been published, or given up,
/// before the pin is dropped.
pub(in crate::store) fn write(volume: &Volume, bytes: &[u8]) -> Result<Pinned> {
    let own = volume.own()?;
    // Before the look: what is there now, stays.
    let pinned = volume.spill.pin(Sha256::of(bytes));
    let name = hex::encode(&pinned.name);
    if is_there(&own.spill, name.as_bytes())? {
        // Its writer may not have synced the name yet.
        return volume.sync_each(&[&own.spill]).map(|()| pinned);
    }
    let temporary = Temporary::new(&own.staging);
    let file = sys::path::create_new(temporary.directory(), temporary.name(), 0o600, false)?;
    sys::file::write_all_at(&file, bytes, 0)?;
    match volume.sync() {
        Sync::Barrier => sys::file::write_back(&file)?,
        Sync::Each => sys::file::sync(&file)?,
        Sync::Never => {}
    }
    match volume.rename_new(temporary.directory(), temporary.name(), &own.spill, name.as_bytes()) {
        // The same bytes from another writer.
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    volume.sync_each(&[&own.spill])?;
    Ok(pinned)
}

/// Whether the file is there. If so, it is young again: a new object is a reason to keep it over a restart, which forgets what
/// was seen.
fn is_there(directory: &OwnedFd, name: &[u8]) -> Result<bool> {
    match sys::path::set_mtime_at(directory, name, sys::clock::realtime_ns()) {
        Ok(()) => return Ok(true),
        Err(Errno::NOENT) => return Ok(false),
        // The file of a server that ran as another user, which is as good.
        Err(_) => {}
    }
    match sys::stat::at(directory, name) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

impl Pinned {
    /// What stands in the attribute.
    pub(in crate::store) fn pointer(&self) -> &Name {
        &self.name
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        if let Some(count) = state.pinned.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                state.pinned.remove(&self.name);
            }
        }
    }
}

/// A round of walks.
struct Round<'a> {
    spills: &'a Spills,
}

impl Round<'_> {
    /// Removes a file that was not seen, by `remove`, which says whether it did. The lock is held meanwhile: nobody can come to point to it in between.
    fn remove_unseen(&self, name: &Name, remove: impl FnOnce() -> Result<bool>) -> Result<bool> {
        let state = lock(&self.spills.state);
        let is_seen = state.pinned.contains_key(name) || state.seen.as_ref().is_none_or(|seen| seen.has(name));
        if is_seen {
            return Ok(false);
        }
        remove()
    }
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        lock(&self.spills.state).seen = None;
    }
}

impl State {
    fn note(&mut self, name: &Name) {
        if let Some(seen) = &mut self.seen {
            seen.note(name);
        }
    }
}

impl Seen {
    fn new() -> Self {
        Self { bits: vec![0; SPILL_SEEN_BITS / 64] }
    }

    fn note(&mut self, name: &Name) {
        let (word, bit) = Self::place(name);
        self.bits[word] |= bit;
    }

    fn has(&self, name: &Name) -> bool {
        let (word, bit) = Self::place(name);
        self.bits[word] & bit != 0
    }

    /// The name is a hash already.
    fn place(name: &Name) -> (usize, u64) {
        let [a, b, c, d, ..] = *name;
        let index = u32::from_le_bytes([a, b, c, d]) as usize % SPILL_SEEN_BITS;
        (index / 64, 1 << (index % 64))
    }
}

/// Nothing is left half done where a holder panics: a note too many, or a pin that stays.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
