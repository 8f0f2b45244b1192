//! Which versions are there, in S3's order: by key, the newest first.
//!
//! Two trees are walked alike: the bucket, and the histories of its keys. Between the two a version may go from the one to the other, so
//! that histories are walked before and after the bucket, and a key that has one is looked at by itself, until what has its name is the
//! same before and after.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::AtomicBool;

use super::page::page;
use crate::base::version_id::{Version, VersionId};
use crate::config::ListUnreadable;
use crate::limits::PUBLISH_ATTEMPTS_MAX;
use crate::store::disk::Bucket;
use crate::store::disk::rules::BucketRules;
use crate::store::disk::summary::{fetch, read_summary};
use crate::store::error::{Result, StoreError};
use crate::store::listing::cache::{BEING_READ, SnapshotCache};
use crate::store::listing::list::{self, Object, Unreadable, Walked};
use crate::store::listing::walk::WalkError;
use crate::store::names::key::{self, Location};
use crate::store::names::record::Summary;
use crate::store::objects::versions::{History, Kept, Marker, Slot, find, histories_of, implied_marker, live_at, version_of};
use crate::sys::{self, Errno};

/// What a page is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query<'a> {
    pub prefix: &'a [u8],
    /// Empty: none.
    pub delimiter: &'a [u8],
    /// Only keys after this one; with `after_version`, also this key's versions after that one.
    pub after: &'a [u8],
    pub after_version: Option<Version>,
    /// Entries, CommonPrefixes included.
    pub max: usize,
    pub unreadable: ListUnreadable,
}

/// What is on a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Version { object: Object, version: Version, is_latest: bool },
    DeleteMarker { key: Vec<u8>, marker: Marker },
    CommonPrefix(Vec<u8>),
}

/// A page. More follows: go on after the last entry's key and version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub entries: Vec<Entry>,
    pub is_truncated: bool,
    pub unreadable: Unreadable,
}

/// One page of the bucket's versions. `stop` ends the walk early.
pub fn list_versions(bucket: Bucket<'_>, snapshots: &SnapshotCache, query: &Query<'_>, stop: &AtomicBool) -> Walked<Page> {
    if query.max == 0 {
        return Ok(Page::default());
    }
    let rules = bucket.rules();
    let mut listing = Listing { bucket, snapshots, rules: rules.as_deref(), query, stop, page: Page::default() };
    let is_in_common_prefix = list::common_prefix_of(query.prefix, query.delimiter, query.after).is_some();
    if let (Some(after_version), false) = (query.after_version, is_in_common_prefix) {
        listing.add_history(query.after, Some(after_version)).map_err(WalkError::Store)?;
        if listing.is_full() {
            return Ok(listing.page);
        }
    }
    let mut after = query.after.to_vec();
    while let Some(reached) = listing.go_on(&after)? {
        after = reached;
    }
    Ok(listing.page)
}

struct Listing<'a> {
    bucket: Bucket<'a>,
    snapshots: &'a SnapshotCache,
    rules: Option<&'a BucketRules>,
    query: &'a Query<'a>,
    stop: &'a AtomicBool,
    page: Page,
}

/// What a walk met under a key.
enum Met {
    CommonPrefix,
    Live(Object),
    History,
}

impl Listing<'_> {
    /// Adds what comes after `after`, and answers how far it came if there may be more that fits.
    fn go_on(&mut self, after: &[u8]) -> Walked<Option<Vec<u8>>> {
        let mut met = BTreeMap::new();
        let earlier = self.histories(after)?;
        let live = self.live(after)?;
        let later = self.histories(after)?;
        self.page.unreadable.count = self.page.unreadable.count.max(live.unreadable.count);
        self.page.unreadable.last.clone_from(&live.unreadable.last);
        // Behind the end of the shortest nobody has looked at everything.
        let ends = [&earlier, &live, &later].map(|page| page.is_truncated.then(|| page.entries.last()).flatten());
        let end = ends.into_iter().flatten().map(|entry| entry.marker().to_vec()).min();
        for entry in live.entries {
            match entry {
                list::Entry::CommonPrefix(prefix) => met.insert(prefix, Met::CommonPrefix),
                list::Entry::Object(object) => met.insert(object.key.clone(), Met::Live(object)),
            };
        }
        for entry in earlier.entries.into_iter().chain(later.entries) {
            match entry {
                list::Entry::CommonPrefix(prefix) => met.insert(prefix, Met::CommonPrefix),
                list::Entry::Object(object) => met.insert(object.key, Met::History),
            };
        }
        let bound = end.clone().map_or(Bound::Unbounded, Bound::Included);
        let within: Vec<Vec<u8>> = met.range::<Vec<u8>, _>((Bound::Unbounded, bound)).map(|(key, _)| key.clone()).collect();
        for key in within {
            match met.remove(&key) {
                Some(Met::CommonPrefix) => self.page.entries.push(Entry::CommonPrefix(key)),
                Some(Met::Live(object)) => self.page.entries.push(live_entry(object, None)),
                Some(Met::History) => self.add_history(&key, None).map_err(WalkError::Store)?,
                None => {}
            }
            if self.is_full() {
                return Ok(None);
            }
        }
        Ok(end)
    }

    /// The page has all that it can have, and there is one more.
    fn is_full(&mut self) -> bool {
        self.page.is_truncated = self.page.entries.len() > self.query.max;
        self.page.entries.truncate(self.query.max);
        self.page.is_truncated
    }

    fn query<'q>(&'q self, after: &'q [u8]) -> list::Query<'q> {
        let Query { prefix, delimiter, max, unreadable, .. } = *self.query;
        // One more than asked for says whether there is one.
        list::Query { prefix, delimiter, after, max: max + 1, unreadable }
    }

    fn live(&self, after: &[u8]) -> Walked<list::Page> {
        page(self.bucket, self.snapshots, &self.query(after), self.stop)
    }

    fn histories(&self, after: &[u8]) -> Walked<list::Page> {
        let Some(rules) = self.rules else { return Ok(list::Page::default()) };
        let Some(histories) = histories_of(self.bucket.disk, rules).map_err(WalkError::Store)? else {
            return Ok(list::Page::default());
        };
        match list::list(&histories, self.snapshots, self.bucket.disk.reading(), &self.query(after), self.stop) {
            Err(WalkError::Store(StoreError::Kernel(BEING_READ))) => Err(WalkError::Store(StoreError::BeingRead)),
            // The last history of the bucket went meanwhile, with its directory.
            Err(WalkError::Store(StoreError::Kernel(Errno::NOENT))) => Ok(list::Page::default()),
            page => page,
        }
    }

    /// All versions of a key, or those after one of them, as far as they fit.
    fn add_history(&mut self, key: &[u8], after: Option<Version>) -> Result<()> {
        let Some(rules) = self.rules else { return Ok(()) };
        let location = key::locate(key)?;
        let count = self.query.max + 1 - self.page.entries.len().min(self.query.max);
        for _ in 0..PUBLISH_ATTEMPTS_MAX {
            let live = self.live_of(key, &location)?;
            let entries = self.entries_of(key, &location, rules, live.as_ref(), after, count)?;
            if self.live_of(key, &location)?.map(|live| live.stat.inode) == live.map(|live| live.stat.inode) {
                self.page.entries.extend(entries);
                return Ok(());
            }
        }
        Err(StoreError::Contended)
    }

    /// What has the key's name.
    fn live_of(&self, key: &[u8], location: &Location) -> Result<Option<Object>> {
        let begun_ns = sys::clock::realtime_ns();
        let Some((stat, summary)) = self.live_file(location)? else { return Ok(None) };
        let times = self.bucket.disk.facts().grain.files;
        let may_change_unseen = summary.is_none() && !times.is_settled_since(stat.ctime_ns, begun_ns);
        Ok(Some(Object { key: key.to_vec(), stat, summary, may_change_unseen }))
    }

    fn live_file(&self, location: &Location) -> Result<Option<(sys::FileStat, Option<Summary>)>> {
        if let Some(live) = live_at(self.bucket, location)? {
            return match fetch(live.directory(), live.name()) {
                Err(errno) if sys::errno::is_gone(errno) => Ok(None),
                found => Ok(found?),
            };
        }
        if !location.is_directory_object {
            return Ok(None);
        }
        let Ok(directory) = self.bucket.open_below(&location.path) else { return Ok(None) };
        let Some(summary) = read_summary(&directory)? else { return Ok(None) };
        Ok(Some((sys::stat::of(&directory)?, Some(summary))))
    }

    fn entries_of(
        &self,
        key: &[u8],
        location: &Location,
        rules: &BucketRules,
        live: Option<&Object>,
        after: Option<Version>,
        count: usize,
    ) -> Result<Vec<Entry>> {
        let history = History::open(self.bucket.disk, rules, location)?;
        let top = history.as_ref().map_or(Ok(None), History::top)?;
        let is = live.map(|live| version_of(live.summary.and_then(|summary| summary.version_id), top));
        let mut entries = Vec::new();
        if let (Some(live), None) = (live, after) {
            entries.push(live_entry(live.clone(), top));
        }
        let Some(history) = history else { return Ok(entries) };
        let marker = if live.is_none() { history.current_marker()? } else { None };
        let below = match after {
            Some(after) if is == Some(after) || (marker.is_none() && implied_marker(top) == Some(after)) => None,
            Some(Version::Id(id)) => Some(id),
            Some(Version::Null) => find(&history, Version::Null, is)?.map(|kept| kept.place),
            None => None,
        };
        let kept = history.newest_beside(below, is, live.and_then(|live| live.summary?.version_id), count)?;
        if let (None, None, None, Some(newest), Some(version)) = (live, after, &marker, kept.first(), implied_marker(top)) {
            let marker = Marker { version, mtime_ns: newest.stat.mtime_ns, is_current: true };
            entries.push(Entry::DeleteMarker { key: key.to_vec(), marker });
        }
        let current = marker.map(|marker| marker.slot);
        entries.extend(kept.into_iter().map(|kept| kept_entry(key, kept, current)));
        Ok(entries)
    }
}

fn live_entry(object: Object, top: Option<VersionId>) -> Entry {
    let version = version_of(object.summary.and_then(|summary| summary.version_id), top);
    Entry::Version { object, version, is_latest: true }
}

fn kept_entry(key: &[u8], kept: Kept, current: Option<Slot>) -> Entry {
    if kept.is_marker {
        return Entry::DeleteMarker { key: key.to_vec(), marker: kept.marker(current == Some(kept.slot)) };
    }
    let object = Object { key: key.to_vec(), stat: kept.stat, summary: kept.summary, may_change_unseen: false };
    Entry::Version { object, version: kept.version, is_latest: false }
}

#[cfg(test)]
mod tests;
