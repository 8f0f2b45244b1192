//! The uploads that are in use in this process: what their logs say, and who is writing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::gaps::Collapsed;
use super::id::is_id;
use super::index::Index;
use super::log::{self, ENTRY_SIZE, Entry, LOG_NAME, Part, PartFile};
use super::manifest::{self, Manifest};
use super::name::UploadName;
use super::remove::take_away;
use crate::limits::{UPLOADS_CACHED_MAX, UPLOADS_CACHED_PARTS_MAX};
use crate::store::error::{Result, StoreError, UploadError};
use crate::store::names::key;
use crate::sys::path::{OpenFlags, Symlinks};
use crate::sys::{self, Errno};

/// The uploads in use, and some that were lately.
#[derive(Default)]
pub struct Uploads {
    entries: Mutex<HashMap<String, Arc<Cached>>>,
    pub(super) index: Index,
}

/// An upload that somebody wants, whether or not its log was read yet. One of those who want it reads that; the others come again.
#[derive(Default)]
struct Cached {
    upload: Mutex<Load>,
}

/// How far it is.
#[derive(Default)]
enum Load {
    #[default]
    NotBegun,
    /// Somebody reads the log of an upload in this bucket, which may be removed meanwhile.
    Reading {
        bucket: String,
        has_ended: bool,
    },
    Done(Arc<Upload>),
}

/// Reads a log; leaves the cached upload as it was found if that fails.
struct Loader<'a> {
    cached: &'a Cached,
}

/// An upload in use.
pub(super) struct Upload {
    pub(super) directory: OwnedFd,
    pub(super) log: OwnedFd,
    pub(super) manifest: Manifest,
    phase: AtomicU8,
    state: Mutex<State>,
    /// One Complete or Abort at a time.
    is_being_ended: AtomicBool,
}

const OPEN: u8 = 0;
const CLOSED: u8 = 1;
const ENDED: u8 = 2;

/// What the log says, and more.
pub(super) struct State {
    pub(super) parts: BTreeMap<u32, Part>,
    /// Sizes of the slot files; slots are given out in the largest.
    pub(super) slot_sizes: BTreeSet<u64>,
    /// Slots that were given out: size, part number.
    pub(super) claims: BTreeSet<(u64, u32)>,
    /// Ranges that an earlier Complete took out of a slot file.
    pub(super) collapsed: Option<Collapsed>,
    /// Attempts to write into a slot that are under way.
    pub(super) writers: usize,
    pub(super) next_attempt: u32,
    log_size: u64,
}

impl Uploads {
    /// The upload of this name, while it is neither completed nor aborted. The bucket is asked for first: without it there is no
    /// upload, also where a POSIX program has taken it away and left ours.
    pub(super) fn find(&self, name: &UploadName<'_>) -> Result<Arc<Upload>> {
        let bucket = name.bucket;
        if !key::is_bucket_name(bucket.name.as_bytes()) || !bucket.exists()? {
            return Err(StoreError::NoBucket);
        }
        if !is_id(name.id) {
            return Err(UploadError::NotFound.into());
        }
        let cached = self.cached(name.id);
        let upload = match cached.get(bucket.name)? {
            Ok(upload) => upload,
            Err(loader) => loader.done(Arc::new(Upload::load(name)?)),
        };
        let is_meant = upload.manifest.bucket == bucket.name && upload.manifest.key == name.key;
        if !is_meant || upload.has_ended() {
            return Err(UploadError::NotFound.into());
        }
        Ok(upload)
    }

    fn cached(&self, id: &str) -> Arc<Cached> {
        let mut entries = lock(&self.entries);
        if let Some(cached) = entries.get(id) {
            return cached.clone();
        }
        let parts = entries.values().map(|cached| cached.parts());
        if entries.len() >= UPLOADS_CACHED_MAX || parts.sum::<usize>() > UPLOADS_CACHED_PARTS_MAX {
            entries.retain(|_, cached| cached.is_in_use());
        }
        entries.entry(id.to_owned()).or_default().clone()
    }

    /// Takes an upload out that has ended.
    pub(super) fn forget(&self, id: &str) {
        lock(&self.entries).remove(id);
    }

    /// Ends all uploads that are in use: their files are gone.
    pub(in crate::store) fn end_everything(&self) {
        self.index.forget_all();
        self.end_where(|_| true);
    }

    /// Ends all uploads of a bucket that are in use.
    pub(super) fn end_all(&self, bucket: &str) {
        self.index.forget(bucket);
        self.end_where(|known| known == bucket);
    }

    fn end_where(&self, is_meant: impl Fn(&str) -> bool) {
        // Not under the table's lock, which others need.
        let all: Vec<_> = lock(&self.entries).iter().map(|(id, cached)| (id.clone(), cached.clone())).collect();
        for (id, cached) in all {
            match &mut *lock(&cached.upload) {
                Load::Done(upload) if is_meant(&upload.manifest.bucket) => {
                    upload.end();
                }
                // Its directory may have been opened before it was taken away.
                Load::Reading { bucket, has_ended } if is_meant(bucket) => *has_ended = true,
                _ => continue,
            }
            self.forget(&id);
        }
    }
}

impl Cached {
    /// Parts of the upload, as far as nobody is at it.
    fn parts(&self) -> usize {
        match self.upload.try_lock().as_deref() {
            Ok(Load::Done(upload)) => upload.state.try_lock().map_or(0, |state| state.parts.len()),
            Ok(Load::NotBegun | Load::Reading { .. }) | Err(_) => 0,
        }
    }

    /// Under the table's lock, so that nobody can come in while this is asked.
    fn is_in_use(self: &Arc<Self>) -> bool {
        let is_in_use = match &*lock(&self.upload) {
            Load::NotBegun => false,
            Load::Reading { .. } => true,
            Load::Done(upload) => Arc::strong_count(upload) > 1,
        };
        is_in_use || Arc::strong_count(self) > 1
    }

    /// The upload, or the duty to read it. `BeingRead`: somebody does.
    fn get(&self, bucket: &str) -> Result<std::result::Result<Arc<Upload>, Loader<'_>>> {
        let mut load = lock(&self.upload);
        match &*load {
            Load::Done(upload) => Ok(Ok(upload.clone())),
            Load::Reading { .. } => Err(StoreError::BeingRead),
            Load::NotBegun => {
                *load = Load::Reading { bucket: bucket.to_owned(), has_ended: false };
                Ok(Err(Loader { cached: self }))
            }
        }
    }
}

impl Loader<'_> {
    fn done(self, upload: Arc<Upload>) -> Arc<Upload> {
        let mut load = lock(&self.cached.upload);
        if matches!(*load, Load::Reading { has_ended: true, .. }) {
            upload.end();
        }
        *load = Load::Done(upload.clone());
        drop(load);
        upload
    }
}

impl Drop for Loader<'_> {
    fn drop(&mut self) {
        let mut load = lock(&self.cached.upload);
        if matches!(*load, Load::Reading { .. }) {
            *load = Load::NotBegun;
        }
    }
}

impl Upload {
    fn load(name: &UploadName<'_>) -> Result<Self> {
        match Self::read(name) {
            // It is being removed.
            Err(StoreError::Kernel(Errno::NOENT)) => Err(UploadError::NotFound.into()),
            answer => answer,
        }
    }

    fn read(name: &UploadName<'_>) -> Result<Self> {
        let path = name.path();
        let own = name.bucket.disk.own_if_any().ok_or(UploadError::NotFound)?;
        let directory = match sys::path::open_dir(&own.uploads, &path, Symlinks::Deny) {
            Ok(directory) => directory,
            Err(errno) if sys::errno::is_gone(errno) => return Err(UploadError::NotFound.into()),
            Err(errno) => return Err(errno.into()),
        };
        if manifest::is_published(&directory) {
            take_away(name.bucket, name.id)?;
            return Err(UploadError::NotFound.into());
        }
        let manifest = Manifest::read(&directory)?;
        let log = sys::path::open(&directory, LOG_NAME, OpenFlags::RDWR, 0, Symlinks::Deny)?;
        let state = State::load(&directory, &log)?;
        let (phase, is_being_ended) = (AtomicU8::new(OPEN), AtomicBool::new(false));
        Ok(Self { directory, log, manifest, phase, state: Mutex::new(state), is_being_ended })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The right to end the upload. `Busy` while a Complete or Abort is under way: that may take minutes, and whoever waited here
    /// would keep a helper from everybody else.
    pub(super) fn begin_ending(self: &Arc<Self>) -> Result<Ending> {
        match self.is_being_ended.swap(true, Ordering::AcqRel) {
            false => Ok(Ending { upload: self.clone() }),
            true => Err(UploadError::Busy.into()),
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

    /// Closes the upload to parts, under `state`, until the answer is dropped or the upload ends. One that has ended stays so: its
    /// bucket may be removed in the middle of a Complete.
    pub(super) fn close(self: &Arc<Self>, _state: &mut State) -> Result<Closing> {
        match self.phase.compare_exchange(OPEN, CLOSED, Ordering::AcqRel, Ordering::Acquire) {
            Err(ENDED) => Err(UploadError::NotFound.into()),
            Ok(_) | Err(_) => Ok(Closing { upload: self.clone() }),
        }
    }

    /// A writer of a slot has left.
    pub(super) fn leave(&self) {
        let mut state = self.state();
        state.writers = state.writers.saturating_sub(1);
    }

    /// Appends to the log. The bytes are in the page cache afterwards, not on disk.
    pub(super) fn append(&self, state: &mut State, entry: Entry) -> Result<()> {
        sys::file::write_all_at(&self.log, &entry.encode(), state.log_size)?;
        state.log_size += ENTRY_SIZE as u64;
        state.apply(entry);
        Ok(())
    }
}

/// The right to end an upload.
pub(super) struct Ending {
    upload: Arc<Upload>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.upload.is_being_ended.store(false, Ordering::Release);
    }
}

/// An upload that a Complete has closed to parts, and waits for those who still write into its slots. It waits on its core: who holds
/// this comes again.
pub struct Fence {
    pub(super) closing: Closing,
    pub(super) ending: Ending,
    /// Then the file is put together where they cannot reach it.
    pub(super) until: Instant,
}

/// An upload that is closed to parts.
pub(super) struct Closing {
    upload: Arc<Upload>,
}

impl Drop for Closing {
    fn drop(&mut self) {
        let _state = self.upload.state();
        let _ = self.upload.phase.compare_exchange(CLOSED, OPEN, Ordering::AcqRel, Ordering::Acquire);
    }
}

impl State {
    fn load(directory: &OwnedFd, log: &OwnedFd) -> Result<Self> {
        let mut state = Self {
            parts: BTreeMap::new(),
            slot_sizes: BTreeSet::new(),
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
        for slot_size in &state.slot_sizes {
            let size = match sys::stat::at(directory, &PartFile::Slot { slot_size: *slot_size }.file_name()) {
                Ok(stat) => stat.size,
                Err(Errno::NOENT) => 0,
                Err(errno) => return Err(errno.into()),
            };
            sizes.insert(*slot_size, size);
        }
        // What somebody else has cut off is no longer there, nor what was taken out.
        let parts = std::mem::take(&mut state.parts);
        state.parts = parts.into_iter().filter(|(number, part)| state.is_there(*number, part, &sizes)).collect();
        Ok(state)
    }

    fn is_there(&self, number: u32, part: &Part, sizes: &BTreeMap<u64, u64>) -> bool {
        let PartFile::Slot { slot_size } = part.place else { return true };
        let size = sizes.get(&slot_size).copied().unwrap_or_default();
        self.offset_of(number, part).is_some_and(|offset| offset + part.size <= size)
    }

    fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Claim { number, slot_size } => {
                self.slot_sizes.insert(slot_size);
                self.claims.insert((slot_size, number));
            }
            Entry::Part { number, part } => {
                self.parts.insert(number, part);
            }
        }
    }

    /// Where in its file a part begins; `None` when that place has been taken out of the file.
    pub(super) fn offset_of(&self, number: u32, part: &Part) -> Option<u64> {
        match part.place {
            PartFile::Stray { .. } => Some(0),
            PartFile::Slot { slot_size } => {
                let offset = slot_offset(slot_size, number);
                match self.collapsed.as_ref().filter(|collapsed| collapsed.slot_size == slot_size) {
                    Some(collapsed) => collapsed.offset_now(offset, part.size),
                    None => Some(offset),
                }
            }
        }
    }
}

/// Where the slot of a part begins.
pub(super) fn slot_offset(slot_size: u64, number: u32) -> u64 {
    slot_size.saturating_mul(u64::from(number.saturating_sub(1)))
}

/// What these locks guard is consistent at every instant at which something could panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An upload of so many parts that nobody is at.
    fn upload(count: usize) -> Arc<Cached> {
        let nowhere = || OwnedFd::from(std::fs::File::open("/dev/null").expect("a device"));
        let part = Part {
            size: 1,
            md5: [0; 16],
            checksum: None,
            is_given: false,
            modified_ns: 0,
            place: PartFile::Stray { number: 1, attempt: 0 },
        };
        let state = State {
            parts: (0..count as u32).map(|number| (number, part)).collect(),
            slot_sizes: BTreeSet::new(),
            claims: BTreeSet::new(),
            collapsed: None,
            writers: 0,
            next_attempt: 0,
            log_size: 0,
        };
        let record = crate::store::names::record::Record::new(1, 0, [0; 16]);
        let manifest = Manifest { bucket: "bucket".into(), key: b"key".to_vec(), initiated_ns: 0, checksum: None, record };
        let upload = Upload {
            directory: nowhere(),
            log: nowhere(),
            manifest,
            phase: AtomicU8::new(OPEN),
            state: Mutex::new(state),
            is_being_ended: AtomicBool::new(false),
        };
        Arc::new(Cached { upload: Mutex::new(Load::Done(Arc::new(upload))) })
    }

    /// What `--request-memory` counts out for uploads holds however many parts they have.
    #[test]
    fn no_more_uploads_are_remembered_than_there_is_room_for() {
        const PARTS: usize = 10_000;
        let uploads = Uploads::default();
        let mut most = 0;
        for n in 0..60 {
            let cached = upload(PARTS);
            lock(&uploads.entries).insert(format!("{n:048}"), cached);
            let _ = uploads.cached(&format!("{n:0>47}x"));
            let parts = lock(&uploads.entries).values().map(|cached| cached.parts()).sum::<usize>();
            most = most.max(parts);
        }
        assert!(most <= UPLOADS_CACHED_PARTS_MAX, "{most} parts");
        assert!(most > UPLOADS_CACHED_PARTS_MAX / 2, "{most} parts: few are remembered");
        for n in 0..2 * UPLOADS_CACHED_MAX {
            let _ = uploads.cached(&format!("{n:048x}"));
            assert!(lock(&uploads.entries).len() <= UPLOADS_CACHED_MAX);
        }
        // One that somebody is at stays.
        let held = uploads.cached("held");
        for n in 0..2 * UPLOADS_CACHED_MAX {
            let _ = uploads.cached(&format!("{n:048}"));
        }
        assert!(Arc::ptr_eq(&held, &uploads.cached("held")));
    }
}
