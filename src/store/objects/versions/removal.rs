//! Removing a version for good: where it is, and what the key is without it.

use std::sync::Arc;

use super::super::open::open_in;
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
use crate::sys::{self, Errno};

/// How far one visit under the key's lock came.
pub(in crate::store) enum Step {
    Nothing,
    Again,
    /// This version has to get the key's name first. The note is settled when the delete marker is gone as well.
    Restore(Staged, Option<Intent>),
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
        let change = Change { rules: rules.clone(), bucket, location, top, id: VersionId::place_after(top, 0) };
        if location.is_directory_object {
            change.embody_if_there()?;
        }
        let live = match live_at(bucket, location)? {
            Some(live) => {
                let version = change.version_at(live.spot(bucket), &live.stat)?;
                Some((live, version))
            }
            None => None,
        };
        Ok(Self { rules, bucket, location, history, top, live })
    }

    pub(in crate::store) fn step(mut self, version: Version) -> Result<Step> {
        let history = self.history.take();
        let step = match (&self.live, &history) {
            (Some((live, is)), _) if *is == version => self.remove_live(live, history.as_ref(), version),
            (_, Some(history)) => self.remove_kept(history, version),
            (_, None) => Ok(Step::Nothing),
        }?;
        if let (Step::Done { .. }, Some(history)) = (&step, history) {
            self.bucket.disk.sync_each(&[&history.directory])?;
            history.prune(self.bucket.disk, &self.rules, self.location)?;
        }
        Ok(step)
    }

    fn remove_live(&self, live: &Live, history: Option<&History>, version: Version) -> Result<Step> {
        let (spot, takes) = (live.spot(self.bucket), Takes::Only(Identity::of(&live.stat)));
        let before = match history {
            Some(history) => {
                if version == Version::Null {
                    self.remove_older_nulls(history)?;
                }
                let mut kept = history.newest(2)?.into_iter();
                kept.next().map(|newest| (history, newest, kept.next()))
            }
            None => None,
        };
        let outcome = match before {
            Some((history, newest, next)) if !newest.is_marker => self.restore_over(history, &newest, next, live)?,
            // A delete marker is what the key is then.
            _ => displace::remove(self.bucket.disk, spot, &live.stat, takes)?,
        };
        self.bucket.disk.sync_each(&[spot.directory])?;
        Ok(match outcome {
            Outcome::Done => Step::Done { is_marker: false, below: live.folder.clone() },
            Outcome::Again => Step::Again,
        })
    }

    /// A file that is `null` now is the only one.
    fn remove_older_nulls(&self, history: &History) -> Result<()> {
        history.remove(Slot::Null)?;
        match history.look(Slot::Marker)? {
            Some(kept) if kept.version == Version::Null => history.remove(Slot::Marker),
            _ => Ok(()),
        }
    }

    /// The version before changes places with the current one.
    fn restore_over(&self, history: &History, newest: &Kept, next: Option<Kept>, live: &Live) -> Result<Outcome> {
        let (spot, name) = (live.spot(self.bucket), history.name_of(newest.slot));
        open_in(self.bucket.disk, &history.directory, &name)?;
        history.set_top(self.bucket.disk, next.map(|next| next.place))?;
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
        if kept.slot == Slot::Marker && version == Version::Null {
            // What it has replaced, if a crash has left that.
            history.remove(Slot::Null)?;
        }
        if marker.is_some_and(|marker| marker.slot == kept.slot) {
            return self.restore(history, Some(&kept));
        }
        history.remove(kept.slot)?;
        Ok(Step::Done { is_marker: kept.is_marker, below: Vec::new() })
    }

    /// What was before the delete marker is what the key is again.
    fn restore(&self, history: &History, marker: Option<&Kept>) -> Result<Step> {
        let mut others = history.newest(3)?.into_iter().filter(|kept| marker.is_none_or(|marker| marker.slot != kept.slot));
        if let Some(newest) = others.next().filter(|newest| !newest.is_marker) {
            history.set_top(self.bucket.disk, others.next().map(|next| next.place))?;
            let name = history.name_of(newest.slot);
            // Its record is read, and so what it points to is noted before the file is in the bucket (`disk::spill`).
            let file = open_in(self.bucket.disk, &history.directory, &name)?.file;
            let directory = history.directory.try_clone().map_err(|_| Errno::MFILE)?;
            let note = |marker: &Kept| {
                let (meant, name) = (Meant::Restore { old: marker.stat.inode }, history.name_of(marker.slot));
                Intent::note(self.bucket, &self.rules, self.location, meant, &name)
            };
            let intent = marker.map(note).transpose()?;
            return Ok(Step::Restore(
                Staged { file, is_direct: false, name: Some(Temporary::of_history(directory, name)) },
                intent,
            ));
        }
        // Nothing was before; or another DELETE.
        if let Some(marker) = marker {
            history.remove(marker.slot)?;
        }
        Ok(Step::Done { is_marker: true, below: Vec::new() })
    }
}
