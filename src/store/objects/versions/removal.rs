//! Removing a version for good: where it is, and what the key is without it.

use std::sync::Arc;

use super::change::Change;
use super::history::{History, Kept, Slot, find, implied_marker};
use super::intent::{Intent, Meant};
use super::live::{Live, live_at};
use super::mark::apart;
use crate::base::version_id::{Version, VersionId};
use crate::store::disk::Bucket;
use crate::store::disk::displace::{self, Outcome, Takes};
use crate::store::disk::rules::BucketRules;
use crate::store::disk::stage::{Staged, Temporary};
use crate::store::disk::staging::Identity;
use crate::store::error::Result;
use crate::store::names::key::Location;
use crate::sys::path::Symlinks;
use crate::sys::{self, Errno};

/// How far one visit under the key's lock came.
pub(in crate::store) enum Step {
    Nothing,
    Again,
    /// This version has to get the key's name first.
    Restore(Staged),
    Done {
        is_marker: bool,
        below: Vec<u8>,
    },
}

/// The removal of a version.
pub(in crate::store) struct Removal<'a> {
    rules: Arc<BucketRules>,
    bucket: Bucket<'a>,
    location: &'a Location,
    history: Option<History>,
    top: Option<VersionId>,
    live: Option<(Live, Version)>,
}

impl<'a> Removal<'a> {
    pub(in crate::store) fn begin(rules: Arc<BucketRules>, bucket: Bucket<'a>, location: &'a Location) -> Result<Self> {
        let history = History::open(bucket.disk, &rules, location)?;
        let top = history.as_ref().map_or(Ok(None), History::top)?;
        let intent = Intent::note(self.bucket, &self.rules, self.location, Meant::Remove { old: live.stat.inode }, &name)?;
        match sys::path::exchange(&history.directory, &name, spot.directory, spot.name) {
            Ok(()) => {}
            Err(Errno::NOENT) => {
                intent.is_settled();
                return Ok(Outcome::Again);
            }
            Err(errno) => return Err(apart(errno)),
        }
        let taken = sys::stat::at(&history.directory, &name)?;
        let outcome = if Identity::of(&live.stat).is(&taken) {
            history.free_name(&name)?;
            Outcome::Done
        } else {
            // Somebody's newer one. If its name is taken once more it stays here, under a name that does not fit it, until the next start.
            sys::path::exchange(&history.directory, &name, spot.directory, spot.name)?;
            Outcome::Again
        };
        intent.is_settled();
        Ok(outcome)
    }

    fn remove_kept(&self, history: &History, version: Version) -> Result<Step> {
        let live = self.live.as_ref().map(|(_, version)| *version);
        let marker = if live.is_none() { history.current_marker()? } else { None };
        let Some(kept) = find(history, version, live)? else {
            let is_implied = live.is_none() && marker.is_none() && implied_marker(self.top) == Some(version);
            return if is_implied { self.restore(history, None) } else { Ok(Step::Nothing) };
        };
        if marker.is_some_and(|marker| marker.slot == kept.slot) {
            return self.restore(history, Some(&kept));
        }
        history.remove(kept.slot)?;
        Ok(Step::Done { is_marker: kept.is_marker, below: Vec::new() })
    }

    /// What was before the delete marker is what the key is again.
    fn restore(&self, history: &History, marker: Option<&Kept>) -> Result<Step> {
        let mut others = history.kept()?.into_iter().filter(|kept| marker.is_none_or(|marker| marker.slot != kept.slot));
        if let Some(newest) = others.next().filter(|newest| !newest.is_marker) {
            history.set_top(self.bucket.disk, others.next().map(|next| next.place))?;
            let name = history.name_of(newest.slot);
            let file = sys::path::open_read(&history.directory, &name, Symlinks::Deny)?;
            let directory = history.directory.try_clone().map_err(|_| Errno::MFILE)?;
            return Ok(Step::Restore(Staged { file, is_direct: false, name: Some(Temporary::of_history(directory, name)) }));
        }
        // Nothing was before; or another DELETE.
        if let Some(marker) = marker {
            history.remove(marker.slot)?;
        }
        Ok(Step::Done { is_marker: true, below: Vec::new() })
    }
}
