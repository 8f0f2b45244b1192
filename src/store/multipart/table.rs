//! The uploads that are in use in this process: what their logs say, and who is writing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use super::gaps::Collapsed;
use super::log::{self, ENTRY_SIZE, Entry, LOG_NAME, Part, Place};
use super::manifest::{self, Manifest};
use super::{UploadError, UploadName};
use crate::limits::UPLOADS_CACHED_MAX;
use crate::store::volume::Volume;
use crate::store::{Result, StoreError, key};
use crate::sys::path::{OpenFlags, Symlinks};
use crate::sys::{self, Errno};

/// Digits of an upload id.
const ID_SIZE: usize = 48;

/// The uploads in use, and some that were lately.
#[derive(Default)]
pub struct Uploads {
    entries: Mutex<HashMap<String, Arc<Entrance>>>,
}

/// Where those who want the same upload meet while one of them reads its log.
#[derive(Default)]
struct Entrance {
    upload: Mutex<Option<Arc<Upload>>>,
}

/// An upload in use.
pub(super) struct Upload {
    pub(super) directory: OwnedFd,
    pub(super) log: OwnedFd,
    pub(super) manifest: Manifest,
    phase: AtomicU8,
    state: Mutex<State>,
    /// Told when a writer of a slot has left.
    left: Condvar,
    /// Held by the one Complete or Abort at a time.
    turn: Mutex<()>,
}

const OPEN: u8 = 0;
const CLOSED: u8 = 1;
const ENDED: u8 = 2;

/// What the log says, and more.
pub(super) struct State {
    pub(super) parts: BTreeMap<u32, Part>,
    /// Sizes of the slot files; slots are given out in the largest.
    pub(super) rhythms: BTreeSet<u64>,
    /// Slots that were given out: size, part number.
    pub(super) claims: BTreeSet<(u64, u32)>,
    /// Ranges that an earlier Complete took out of a slot file.
    pub(super) collapsed: Option<Collapsed>,
    /// Attempts to write into a slot that are under way.
    pub(super) writers: usize,
    pub(super) next_attempt: u32,
    log_size: u64,
}

/// The upload of this name, while it is neither completed nor aborted.
pub(super) fn find(volume: &Volume, name: &UploadName<'_>) -> Result<Arc<Upload>> {
    if !is_id(name.id) || !key::is_bucket_name(name.bucket.as_bytes()) {
        return Err(UploadError::NotFound.into());
    }
    let entrance = volume.multipart.entrance(name.id);
    let mut inside = lock(&entrance.upload);
    let upload = match &*inside {
        Some(upload) => upload.clone(),
        None => inside.insert(Arc::new(Upload::load(volume, name)?)).clone(),
    };
    drop(inside);
    let is_meant = upload.manifest.bucket == name.bucket && upload.manifest.key == name.key;
    if !is_meant || upload.has_ended() {
        return Err(UploadError::NotFound.into());
    }
    Ok(upload)
}

fn is_id(id: &str) -> bool {
    id.len() == ID_SIZE && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl Uploads {
    fn entrance(&self, id: &str) -> Arc<Entrance> {
        let mut entries = lock(&self.entries);
        if let Some(entrance) = entries.get(id) {
            return entrance.clone();
        }
        if entries.len() >= UPLOADS_CACHED_MAX {
            entries.retain(|_, entrance| entrance.is_in_use());
        }
        entries.entry(id.to_owned()).or_default().clone()
    }

    /// Takes an upload out that has ended.
    pub(super) fn forget(&self, id: &str) {
        lock(&self.entries).remove(id);
    }

    /// Ends all uploads of a bucket that are in use.
    pub(super) fn end_all(&self, bucket: &str) {
        // Not under the table's lock: who reads a log holds the entrance's.
        let entrances: Vec<_> = lock(&self.entries).iter().map(|(id, entrance)| (id.clone(), entrance.clone())).collect();
        for (id, entrance) in entrances {
            let upload = lock(&entrance.upload).clone();
            if let Some(upload) = upload.filter(|upload| upload.manifest.bucket == bucket) {
                upload.end();
                self.forget(&id);
            }
        }
    }
}

impl Entrance {
    /// Under the table's lock, so that nobody can come in while this is asked.
    fn is_in_use(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1 || lock(&self.upload).as_ref().is_some_and(|upload| Arc::strong_count(upload) > 1)
    }
}

impl Upload {
    fn load(volume: &Volume, name: &UploadName<'_>) -> Result<Self> {
        match Self::read(volume, name) {
            // It is being removed.
            Err(StoreError::Kernel(Errno::NOENT)) => Err(UploadError::NotFound.into()),
            answer => answer,
        }
    }

    fn read(volume: &Volume, name: &UploadName<'_>) -> Result<Self> {
        let path = [name.bucket.as_bytes(), b"/", name.id.as_bytes()].concat();
        let directory = match sys::path::open_dir(&volume.uploads, &path, Symlinks::Deny) {
            Ok(directory) => directory,
            Err(errno) if sys::errno::is_gone(errno) => return Err(UploadError::NotFound.into()),
            Err(errno) => return Err(errno.into()),
        };
        if manifest::is_published(&directory) {
            super::take_away(volume, name.bucket, name.id)?;
            return Err(UploadError::NotFound.into());
        }
        let manifest = Manifest::read(&directory)?;
        let log = sys::path::open(&directory, LOG_NAME, OpenFlags::RDWR, 0, Symlinks::Deny)?;
        let state = State::load(&directory, &log)?;
        let (left, turn) = (Condvar::new(), Mutex::new(()));
        Ok(Self { directory, log, manifest, phase: AtomicU8::new(OPEN), state: Mutex::new(state), left, turn })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The right to end the upload. `Busy` while a Complete or Abort is under way: that may take minutes, and whoever waited here
    /// would keep a helper from everybody else.
    pub(super) fn turn(&self) -> Result<MutexGuard<'_, ()>> {
        match self.turn.try_lock() {
            Ok(turn) => Ok(turn),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Err(UploadError::Busy.into()),
        }
    }

    /// Completed or aborted.
    pub(super) fn has_ended(&self) -> bool {
        self.phase.load(Ordering::Acquire) == ENDED
    }

    /// A Complete is under way, or was done.
    pub(super) fn is_closed(&self) -> bool {
        self.phase.load(Ordering::Acquire) != OPEN
    }

    /// Refuses what comes during a Complete, or after the end. The caller holds the state.
    pub(super) fn check_open(&self) -> Result<()> {
        match self.phase.load(Ordering::Acquire) {
            OPEN => Ok(()),
            // It may fail, and then the part is welcome again.
            CLOSED => Err(StoreError::Contended),
            _ => Err(UploadError::NotFound.into()),
        }
    }

    /// Ends the upload; whether it had not ended yet.
    pub(super) fn end(&self) -> bool {
        let _state = self.state();
        self.phase.swap(ENDED, Ordering::AcqRel) != ENDED
    }

    /// Closes the upload to parts, under `state`, until the answer is dropped or the upload ends.
    pub(super) fn close(&self, _state: &mut State) -> Closing<'_> {
        self.phase.store(CLOSED, Ordering::Release);
        Closing { upload: self }
    }

    /// Waits until nobody writes into a slot; whether that came to be within `limit`.
    pub(super) fn wait_for_writers<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        limit: Duration,
    ) -> (bool, MutexGuard<'a, State>) {
        let until = Instant::now() + limit;
        while state.writers > 0 {
            let Some(rest) = until.checked_duration_since(Instant::now()) else { break };
            (state, _) = self.left.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner);
        }
        (state.writers == 0, state)
    }

    /// A writer of a slot has left.
    pub(super) fn leave(&self) {
        let mut state = self.state();
        state.writers = state.writers.saturating_sub(1);
        drop(state);
        self.left.notify_all();
    }

    /// Appends to the log. The bytes are in the page cache afterwards, not on disk.
    pub(super) fn append(&self, state: &mut State, entry: Entry) -> Result<()> {
        sys::file::write_all_at(&self.log, &entry.encode(), state.log_size)?;
        state.log_size += ENTRY_SIZE as u64;
        state.apply(entry);
        Ok(())
    }
}

/// An upload that is closed to parts.
pub(super) struct Closing<'a> {
    upload: &'a Upload,
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let _state = self.upload.state();
        let _ = self.upload.phase.compare_exchange(CLOSED, OPEN, Ordering::AcqRel, Ordering::Acquire);
    }
}

impl State {
    fn load(directory: &OwnedFd, log: &OwnedFd) -> Result<Self> {
        let mut state = Self {
            parts: BTreeMap::new(),
            rhythms: BTreeSet::new(),
            claims: BTreeSet::new(),
            collapsed: None,
            writers: 0,
            next_attempt: 0,
            log_size: 0,
        };
        state.log_size = log::read(log, |entry| state.apply(entry))?;
        // Not that of a file that a dead process was writing.
        state.next_attempt = u32::try_from(state.log_size / ENTRY_SIZE as u64).unwrap_or(u32::MAX / 2);
        state.collapsed = Collapsed::read(directory)?;
        let mut sizes = BTreeMap::new();
        for rhythm in &state.rhythms {
            let size = match sys::stat::at(directory, &Place::Slot { rhythm: *rhythm }.file_name()) {
                Ok(stat) => stat.size,
                Err(Errno::NOENT) => 0,
                Err(errno) => return Err(errno.into()),
            };
            sizes.insert(*rhythm, size);
        }
        // What somebody else has cut off is no longer there, nor what was taken out.
        let parts = std::mem::take(&mut state.parts);
        state.parts = parts.into_iter().filter(|(number, part)| state.is_there(*number, part, &sizes)).collect();
        Ok(state)
    }

    fn is_there(&self, number: u32, part: &Part, sizes: &BTreeMap<u64, u64>) -> bool {
        let Place::Slot { rhythm } = part.place else { return true };
        let size = sizes.get(&rhythm).copied().unwrap_or_default();
        self.offset_of(number, part).is_some_and(|offset| offset + part.size <= size)
    }

    fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Claim { number, rhythm } => {
                self.rhythms.insert(rhythm);
                self.claims.insert((rhythm, number));
            }
            Entry::Part { number, part } => {
                self.parts.insert(number, part);
            }
        }
    }

    /// Where in its file a part begins; `None` when that place has been taken out of the file.
    pub(super) fn offset_of(&self, number: u32, part: &Part) -> Option<u64> {
        match part.place {
            Place::Stray { .. } => Some(0),
            Place::Slot { rhythm } => {
                let offset = slot_offset(rhythm, number);
                match self.collapsed.as_ref().filter(|collapsed| collapsed.rhythm == rhythm) {
                    Some(collapsed) => collapsed.offset_now(offset, part.size),
                    None => Some(offset),
                }
            }
        }
    }
}

/// Where the slot of a part begins.
pub(super) fn slot_offset(rhythm: u64, number: u32) -> u64 {
    rhythm.saturating_mul(u64::from(number.saturating_sub(1)))
}

/// What these locks guard is consistent at every instant at which something could panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
