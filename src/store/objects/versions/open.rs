//! Opening one version of an object.

use super::super::open::{Object, open_in};
use super::Marker;
use super::history::History;
use super::history::{find, implied_marker};
use super::mark::version_of;
use crate::base::version_id::{Version, VersionId};
use crate::limits::PUBLISH_ATTEMPTS_MAX;
use crate::store::disk::Bucket;
use crate::store::disk::rules::BucketRules;
use crate::store::disk::summary::read_summary;
use crate::store::error::{Result, StoreError};
use crate::store::names::key::{self, Location};

/// An open version.
#[derive(Debug)]
pub struct Found {
    pub object: Object,
    /// Which it is; `None` in a bucket that never kept versions.
    pub version: Option<Version>,
}

impl Bucket<'_> {
    /// Opens the version that is `wanted`, or the current one. A delete marker is an error that says so. In a bucket that never kept
    /// versions there is `null` alone. Blocks.
    pub fn open_version(&self, key: &[u8], wanted: Option<Version>) -> Result<Found> {
        let rules = match (self.rules(), wanted) {
            (Some(rules), _) => rules,
            (None, None | Some(Version::Null)) => return Ok(Found { object: self.open(key)?, version: None }),
            (None, Some(Version::Id(_))) if self.exists()? => return Err(StoreError::NoVersion),
            (None, Some(Version::Id(_))) => return Err(self.disk.missing_bucket()),
        };
        let location = key::locate(key)?;
        let look = Look { bucket: *self, rules: &rules, key, location: &location };
        for _ in 0..PUBLISH_ATTEMPTS_MAX {
            match look.once(wanted) {
                // It may have gone from the one place to the other between our two looks.
                Err(StoreError::Contended) => {}
                found => return found,
            }
        }
        Err(StoreError::Contended)
    }
}

struct Look<'a> {
    bucket: Bucket<'a>,
    rules: &'a BucketRules,
    key: &'a [u8],
    location: &'a Location,
}

impl Look<'_> {
    /// Live, history, live again. `Contended`: the live file was another one the second time.
    fn once(&self, wanted: Option<Version>) -> Result<Found> {
        let live = self.live()?;
        let history = History::open(self.bucket.disk, self.rules, self.location)?;
        let top = history.as_ref().map_or(Ok(None), History::top)?;
        let version = live.as_ref().map(|live| version_of(live.state.record.as_ref().and_then(|record| record.version_id), top));
        let inode = live.as_ref().map(|live| live.state.stat.inode);
        let found = match (live, wanted) {
            (Some(live), None) => return Ok(Found { object: live, version }),
            (Some(live), Some(_)) if version == wanted => return Ok(Found { object: live, version }),
            (_, None) => Err(self.absent(history.as_ref(), top)?),
            (_, Some(wanted)) => match &history {
                Some(history) => self.kept(history, wanted, version, top),
                None => Err(StoreError::NoVersion),
            },
        };
        let is_same = || Ok::<_, StoreError>(self.live()?.map(|live| live.state.stat.inode) == inode);
        if found.is_err() && !is_same()? { Err(StoreError::Contended) } else { found }
    }

    fn live(&self) -> Result<Option<Object>> {
        match self.bucket.open(self.key) {
            Ok(object) => Ok(Some(object)),
            Err(StoreError::NoObject) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What a key is whose name nothing has.
    fn absent(&self, history: Option<&History>, top: Option<VersionId>) -> Result<StoreError> {
        let Some(history) = history else { return Ok(StoreError::NoObject) };
        if let Some(kept) = history.current_marker()? {
            return Ok(StoreError::DeleteMarker(kept.marker(true)));
        }
        Ok(match (implied_marker(top), history.newest(1)?.first()) {
            (Some(version), Some(newest)) => {
                StoreError::DeleteMarker(Marker { version, mtime_ns: newest.stat.mtime_ns, is_current: true })
            }
            _ => StoreError::NoObject,
        })
    }

    fn kept(&self, history: &History, wanted: Version, live: Option<Version>, top: Option<VersionId>) -> Result<Found> {
        let Some(kept) = find(history, wanted, live)? else {
            let is_implied = live.is_none() && implied_marker(top) == Some(wanted);
            return Err(if is_implied { self.absent(Some(history), top)? } else { StoreError::NoVersion });
        };
        if kept.is_marker {
            let current = if live.is_none() { history.current_marker()? } else { None };
            let is_current = current.is_some_and(|current| current.slot == kept.slot);
            return Err(StoreError::DeleteMarker(kept.marker(is_current)));
        }
        let object = open_in(self.bucket.disk, &history.directory, &history.name_of(kept.slot))?;
        // Another version may have changed places with it.
        let claimed = read_summary(&object.file)?.and_then(|summary| summary.version_id);
        let is_meant = match (wanted, claimed) {
            (Version::Id(wanted), Some(id)) => wanted == id,
            (Version::Id(_), None) => false,
            (Version::Null, id) => id.is_none_or(VersionId::is_place),
        };
        if is_meant { Ok(Found { object, version: Some(wanted) }) } else { Err(StoreError::Contended) }
    }
}
