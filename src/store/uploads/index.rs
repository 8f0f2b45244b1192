//! Which uploads has a bucket, by key? What their manifests say stays in memory, in the order of a listing, so that a page costs
//! what is on it and not what the bucket has. The directory decides which uploads there are: its names are compared whenever they
//! may have changed, as those of any directory that is listed (`listing::cache`), and only new ones are read.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use super::id::is_id;
use super::manifest::Manifest;
use crate::base::storage_class::StorageClass;
use crate::digest::Algorithm;
use crate::digest::checksum::Kind;
use crate::limits::UPLOADS_INDEX_SIZE_MAX;
use crate::store::error::{Result, StoreError};
use crate::store::listing::snapshot::Snapshot;
use crate::sys::path::Symlinks;
use crate::sys::{self, Errno};

/// What is known of each bucket's uploads. Buckets that were not asked for go when there is no room.
#[derive(Default)]
pub(super) struct Index {
    buckets: Mutex<HashMap<String, Arc<Mutex<Known>>>>,
}

/// The uploads of one bucket.
#[derive(Default)]
pub(super) struct Known {
    /// What the directory held when this was brought up to date.
    seen: Option<Arc<Snapshot>>,
    keys: HashMap<String, Vec<u8>>,
    /// By key, then by id: the ids of one key sort by time.
    pub(super) uploads: BTreeMap<(Vec<u8>, String), Facts>,
    size: usize,
}

/// What a listing shows of an upload beside its key and id.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) initiated_ns: i64,
    pub(super) checksum: Option<(Algorithm, Kind)>,
    pub(super) storage_class: StorageClass,
}

/// Bytes that the maps and the allocator take for an upload beside its key, which is in both.
const OVERHEAD: usize = 320;

impl Index {
    /// Calls `read` with the uploads of a bucket whose directory is `home` and holds `names`. `None`: there are too many to be
    /// remembered.
    pub(super) fn with<T>(
        &self,
        bucket: &str,
        home: &OwnedFd,
        names: Arc<Snapshot>,
        read: impl FnOnce(&Known) -> Result<T>,
    ) -> Result<Option<T>> {
        let known = lock(&self.buckets).entry(bucket.to_owned()).or_default().clone();
        let mut known = match known.try_lock() {
            Ok(known) => known,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Another listing reads manifests, perhaps many.
            Err(TryLockError::WouldBlock) => return Err(StoreError::BeingRead),
        };
        let before = known.size;
        let is_whole = known.update(home, names);
        let answer = match is_whole {
            Ok(true) => read(&known).map(Some),
            Ok(false) => Ok(None),
            Err(error) => Err(error),
        };
        if !matches!(answer, Ok(Some(_))) {
            *known = Known::default();
        }
        let grows = known.size > before;
        drop(known);
        if grows {
            self.make_room(bucket);
        }
        answer
    }

    /// All buckets together keep to the bound: the others go, for this one was just asked for.
    fn make_room(&self, bucket: &str) {
        let mut buckets = lock(&self.buckets);
        // One that is being used counts when its user is done.
        let sizes = buckets.values().map(|known| known.try_lock().map_or(0, |known| known.size));
        if sizes.sum::<usize>() > UPLOADS_INDEX_SIZE_MAX {
            buckets.retain(|name, _| name == bucket);
        }
    }

    /// All of them are gone.
    pub(super) fn forget_all(&self) {
        lock(&self.buckets).clear();
    }

    /// The bucket is gone.
    pub(super) fn forget(&self, bucket: &str) {
        lock(&self.buckets).remove(bucket);
    }
}

impl Known {
    /// Compares with what the directory holds, and reads what is new. False when that is too much to be remembered.
    fn update(&mut self, home: &OwnedFd, names: Arc<Snapshot>) -> Result<bool> {
        if self.seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &names)) {
            return Ok(true);
        }
        let mut gone = std::mem::take(&mut self.keys);
        for (name, _) in (0..names.len()).filter_map(|index| names.entry(index)) {
            let Some(id) = std::str::from_utf8(name).ok().filter(|id| is_id(id)) else { continue };
            if let Some((id, key)) = gone.remove_entry(id) {
                self.keys.insert(id, key);
                continue;
            }
            let Some(manifest) = manifest_in(home, id)? else { continue };
            self.size += 2 * manifest.key.len() + OVERHEAD;
            let storage_class = manifest.record.storage_class;
            let facts = Facts { initiated_ns: manifest.initiated_ns, checksum: manifest.checksum, storage_class };
            self.uploads.insert((manifest.key.clone(), id.to_owned()), facts);
            self.keys.insert(id.to_owned(), manifest.key);
            if self.size > UPLOADS_INDEX_SIZE_MAX {
                return Ok(false);
            }
        }
        for (id, key) in gone {
            self.size -= 2 * key.len() + OVERHEAD;
            self.uploads.remove(&(key, id));
        }
        self.seen = Some(names);
        Ok(true)
    }
}

/// `None`: completed or aborted meanwhile, or nothing that we wrote. Anything else would make this a list with uploads missing.
fn manifest_in(home: &OwnedFd, id: &str) -> Result<Option<Manifest>> {
    let directory = match sys::path::open_dir(home, id.as_bytes(), Symlinks::Deny) {
        Ok(directory) => directory,
        Err(errno) if sys::errno::is_gone(errno) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    match Manifest::read(&directory) {
        Ok(manifest) => Ok(Some(manifest)),
        Err(StoreError::Kernel(Errno::NOENT | Errno::BADMSG)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The maps are whole wherever a panic is possible.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
