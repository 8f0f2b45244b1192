//! Which spilled records (`spill`) does somebody point to, or is about to?
//!
//! A file may be removed only if no pointer to it exists, and none can come to be. What the walks see, and what happens beside
//! them, meets in one table (`Seen`) under one lock: while a round of walks is on, whoever is about to write a pointer, or has
//! read one, notes it here first, and the removal looks here last, holding the lock until the name is gone. A commit that
//! comes a moment later finds no file and writes it again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::limits::SPILL_SEEN_BITS;
use crate::store::error::Result;

/// The SHA-256 of a spilled record: its file's name, and what stands in an attribute instead of the record.
pub(super) type Name = [u8; 32];

/// What points to the spilled records of a disk.
#[derive(Default)]
pub(super) struct Pins {
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

impl Pins {
    /// A pointer to this record is about to be written.
    pub(super) fn pin(&self, name: Name) -> Pinned {
        let mut state = lock(&self.state);
        *state.pinned.entry(name).or_default() += 1;
        state.note(&name);
        Pinned { state: self.state.clone(), name }
    }

    /// A pointer to this record was seen.
    pub(super) fn saw(&self, name: &Name) {
        lock(&self.state).note(name);
    }

    #[cfg(test)]
    pub(super) fn holds_nothing(&self) -> bool {
        lock(&self.state).pinned.is_empty()
    }

    /// Begins a round of walks, in which nothing was seen yet but what is about to be pointed to.
    pub(super) fn begin_round(&self) -> Round<'_> {
        let mut state = lock(&self.state);
        let mut seen = Seen::new();
        state.pinned.keys().for_each(|name| seen.note(name));
        state.seen = Some(seen);
        Round { pins: self }
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
pub(super) struct Round<'a> {
    pins: &'a Pins,
}

impl Round<'_> {
    /// Removes a file that was not seen, by `remove`, which says whether it did. The lock is held meanwhile: nobody can come to point to it in between.
    pub(super) fn remove_unseen(&self, name: &Name, remove: impl FnOnce() -> Result<bool>) -> Result<bool> {
        let state = lock(&self.pins.state);
        let is_seen = state.pinned.contains_key(name) || state.seen.as_ref().is_none_or(|seen| seen.has(name));
        if is_seen {
            return Ok(false);
        }
        remove()
    }
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        lock(&self.pins.state).seen = None;
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
