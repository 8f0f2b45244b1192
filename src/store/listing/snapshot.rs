//! What names does a directory have, in S3's order? An immutable, sorted copy of them, in chunks that a changed copy shares with
//! the one before: a name more in a directory of 10^6 costs one chunk.

use crate::limits::{NAME_SIZE_MAX, SNAPSHOT_CHUNK_NAMES};
use crate::store::names::subtree::EntryKind;
use std::sync::Arc;

/// Sorted entries of one directory: all of them, or the first so many from some name on.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// None is empty, and entries of one name stand in one chunk.
    chunks: Vec<Arc<Chunk>>,
    /// Entries before each chunk.
    starts: Vec<usize>,
    count: usize,
    size: usize,
    /// The directory has the body of its own explicit object.
    pub has_body: bool,
    /// The name that comes after the last entry, where this is only a window onto the directory.
    pub next: Option<Box<[u8]>>,
}

/// Entries as they come, in the filesystem's order.
#[derive(Debug, Default)]
pub struct Names {
    all: Chunk,
    /// As in `Snapshot`.
    pub has_body: bool,
}

/// What became of one name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// As it stands in the key.
    pub name: Box<[u8]>,
    /// Any kind that a file of this name may have: a component and a piece of a long one may look alike in the key.
    pub family: EntryKind,
    /// What it is now; `None`: gone.
    pub now: Option<EntryKind>,
}

#[derive(Debug, Default)]
struct Chunk {
    names: Vec<u8>,
    slots: Vec<Slot>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    offset: u32,
    size: u8,
    kind: EntryKind,
}

const _: () = assert!(NAME_SIZE_MAX <= u8::MAX as usize);

impl Snapshot {
    pub fn len(&self) -> usize {
        self.count
    }

    /// Bytes, what the allocator takes for each chunk included.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Name as in the key, and kind, of an entry.
    pub fn entry(&self, index: usize) -> Option<(&[u8], EntryKind)> {
        let at = self.starts.partition_point(|&start| start <= index).checked_sub(1)?;
        self.chunks.get(at)?.entry(index - self.starts[at])
    }

    /// The first entry whose name is not less.
    pub fn lower_bound(&self, name: &[u8]) -> usize {
        let at = self.chunk_of(name);
        match self.chunks.get(at) {
            Some(chunk) => self.starts[at] + chunk.lower_bound(name),
            None => self.count,
        }
    }

    /// The same directory after these changes.
    pub fn changed(&self, mut changes: Vec<Change>) -> Self {
        changes.retain(|change| !self.agrees(change));
        changes.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        let mut changed = Self { has_body: self.has_body, next: self.next.clone(), ..Self::default() };
        let mut rest = changes.as_slice();
        for (at, chunk) in self.chunks.iter().enumerate() {
            // A name beyond all others goes to the last chunk.
            let is_last = at + 1 == self.chunks.len();
            let count = if is_last { rest.len() } else { rest.partition_point(|change| *change.name <= *chunk.last()) };
            let (here, after) = rest.split_at(count);
            rest = after;
            match here {
                [] => changed.add(Arc::clone(chunk)),
                _ => changed.add_sorted(chunk.changed(here)),
            }
        }
        if self.chunks.is_empty() {
            changed.add_sorted(Chunk::default().changed(rest));
        }
        changed
    }

    /// Whether the change is here already.
    fn agrees(&self, change: &Change) -> bool {
        let same_name = (self.lower_bound(&change.name)..).map_while(|index| self.entry(index));
        let mut family =
            same_name.take_while(|(name, _)| *name == &*change.name).filter(|(_, kind)| kind.is_family_of(change.family));
        family.next().map(|(_, kind)| kind) == change.now
    }

    /// The only chunk that may have the name.
    fn chunk_of(&self, name: &[u8]) -> usize {
        self.chunks.partition_point(|chunk| chunk.last() < name)
    }

    /// Cuts sorted entries into chunks, between different names.
    fn add_sorted(&mut self, sorted: Chunk) {
        if sorted.slots.len() <= 2 * SNAPSHOT_CHUNK_NAMES {
            return self.add(Arc::new(sorted));
        }
        let mut chunk = Chunk::default();
        for slot in &sorted.slots {
            let name = sorted.name(slot);
            if chunk.slots.len() >= SNAPSHOT_CHUNK_NAMES && chunk.last() != name {
                chunk.shrink();
                self.add(Arc::new(std::mem::take(&mut chunk)));
            }
            chunk.push(name, slot.kind);
        }
        chunk.shrink();
        self.add(Arc::new(chunk));
    }

    fn add(&mut self, chunk: Arc<Chunk>) {
        if chunk.slots.is_empty() {
            return;
        }
        self.starts.push(self.count);
        self.count += chunk.slots.len();
        self.size += chunk.size();
        self.chunks.push(chunk);
    }
}

impl Names {
    pub fn push(&mut self, name: &[u8], kind: EntryKind) {
        self.all.push(name, kind);
    }

    pub fn len(&self) -> usize {
        self.all.slots.len()
    }

    /// Bytes taken.
    pub fn size(&self) -> usize {
        self.all.size()
    }

    /// Sorts them.
    pub fn finish(self) -> Snapshot {
        let Self { mut all, has_body } = self;
        let names = &all.names;
        let name = |slot: &Slot| name_at(names, slot);
        // A name that is replaced while the directory is read may come twice, as a file and as a directory: what came last is what it is.
        let order = |one: &Slot, other: &Slot| one.kind.family().cmp(&other.kind.family()).then(other.offset.cmp(&one.offset));
        all.slots.sort_unstable_by(|one, other| name(one).cmp(name(other)).then_with(|| order(one, other)));
        all.slots.dedup_by(|one, other| name_at(names, one) == name_at(names, other) && one.kind.is_family_of(other.kind));
        all.shrink();
        let mut snapshot = Snapshot { has_body, ..Snapshot::default() };
        snapshot.add_sorted(all);
        snapshot
    }
}

impl Chunk {
    fn entry(&self, index: usize) -> Option<(&[u8], EntryKind)> {
        self.slots.get(index).map(|slot| (self.name(slot), slot.kind))
    }

    fn lower_bound(&self, name: &[u8]) -> usize {
        self.slots.partition_point(|slot| self.name(slot) < name)
    }

    fn last(&self) -> &[u8] {
        self.slots.last().map_or(&[], |slot| self.name(slot))
    }

    fn name(&self, slot: &Slot) -> &[u8] {
        name_at(&self.names, slot)
    }

    fn push(&mut self, name: &[u8], kind: EntryKind) {
        if let (Ok(offset), Ok(size)) = (u32::try_from(self.names.len()), u8::try_from(name.len())) {
            self.names.extend_from_slice(name);
            self.slots.push(Slot { offset, size, kind });
        }
    }

    fn shrink(&mut self) {
        self.names.shrink_to_fit();
        self.slots.shrink_to_fit();
    }

    fn size(&self) -> usize {
        // Two allocations, their own headers, and a place among the chunks.
        const OVERHEAD: usize = 128;
        self.names.len() + self.slots.len() * size_of::<Slot>() + OVERHEAD
    }

    /// The entries after changes, which are sorted by name.
    fn changed(&self, changes: &[Change]) -> Self {
        let is_changed = |name: &[u8], kind: EntryKind| {
            let first = changes.partition_point(|change| *change.name < *name);
            let same_name = changes[first..].iter().take_while(|change| *change.name == *name);
            same_name.clone().any(|change| kind.is_family_of(change.family))
        };
        let kept = (0..self.slots.len()).filter_map(|index| self.entry(index)).filter(|(name, kind)| !is_changed(name, *kind));
        let new = changes.iter().filter_map(|change| Some((&*change.name, change.now?)));
        let mut entries: Vec<(&[u8], EntryKind)> = kept.chain(new).collect();
        // Two sorted runs, which this sort merges.
        entries.sort();
        entries.dedup();
        let mut changed = Self::default();
        changed.slots.reserve_exact(entries.len());
        changed.names.reserve_exact(entries.iter().map(|(name, _)| name.len()).sum());
        for (name, kind) in entries {
            changed.push(name, kind);
        }
        changed
    }
}

fn name_at<'n>(names: &'n [u8], slot: &Slot) -> &'n [u8] {
    let start = slot.offset as usize;
    names.get(start..start + usize::from(slot.size)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    type Model = BTreeSet<(Vec<u8>, EntryKind)>;

    fn entries(snapshot: &Snapshot) -> Vec<(Vec<u8>, EntryKind)> {
        let all = (0..snapshot.len()).map(|index| snapshot.entry(index).unwrap());
        all.map(|(name, kind)| (name.to_vec(), kind)).collect()
    }

    fn snapshot_of(model: &Model) -> Snapshot {
        let mut names = Names::default();
        for (name, kind) in model.iter().rev() {
            names.push(name, *kind);
        }
        names.finish()
    }

    fn check(snapshot: &Snapshot, model: &Model) -> Result<(), TestCaseError> {
        prop_assert_eq!(entries(snapshot), model.iter().cloned().collect::<Vec<_>>());
        prop_assert_eq!(snapshot.entry(model.len()), None);
        for name in [&b""[..], b"n", b"n01", b"n0100", b"n0777x", b"n2", b"z"] {
            let expected = model.iter().filter(|(known, _)| known.as_slice() < name).count();
            prop_assert_eq!(snapshot.lower_bound(name), expected);
        }
        Ok(())
    }

    fn name() -> impl Strategy<Value = Vec<u8>> {
        (0u32..3000, prop::bool::weighted(0.1)).prop_map(|(n, is_between)| {
            let end = if is_between { "x" } else { "" };
            format!("n{n:04}{end}").into_bytes()
        })
    }

    fn now() -> impl Strategy<Value = (EntryKind, Option<EntryKind>)> {
        prop_oneof![
            3 => Just((EntryKind::File, Some(EntryKind::File))),
            1 => Just((EntryKind::File, Some(EntryKind::Directory))),
            3 => Just((EntryKind::File, None)),
            1 => Just((EntryKind::Piece, Some(EntryKind::Piece))),
            1 => Just((EntryKind::LastFile, Some(EntryKind::LastDirectory))),
            1 => Just((EntryKind::LastFile, None)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
        /// The oracle is a set.
        #[test]
        fn changes_are_as_on_a_set(
            first in prop_oneof![Just(0u32..0), Just(0..3), Just(0..2000)],
            rounds in prop::collection::vec(prop::collection::vec((name(), now()), 0..200), 1..6),
        ) {
            let mut model: Model = first.map(|n| (format!("n{n:04}").into_bytes(), EntryKind::File)).collect();
            let mut snapshot = snapshot_of(&model);
            check(&snapshot, &model)?;
            for round in rounds {
                let mut changes = std::collections::BTreeMap::new();
                for (name, (family, now)) in round {
                    changes.insert((name, family), now);
                }
                let list = changes.iter().map(|((name, family), now)| Change { name: name[..].into(), family: *family, now: *now });
                let before = entries(&snapshot);
                let changed = snapshot.changed(list.collect());
                prop_assert_eq!(entries(&snapshot), before, "whoever reads the old one is not disturbed");
                for ((name, family), now) in changes {
                    model.retain(|(known, kind)| *known != name || !kind.is_family_of(family));
                    model.extend(now.map(|kind| (name, kind)));
                }
                snapshot = changed;
                check(&snapshot, &model)?;
            }
        }
    }

    #[test]
    fn a_change_copies_one_chunk_and_nothing_when_it_is_none() {
        let model: Model = (0..5000).map(|n| (format!("n{n:04}").into_bytes(), EntryKind::File)).collect();
        let snapshot = snapshot_of(&model);
        let shared = |other: &Snapshot| {
            let same = snapshot.chunks.iter().zip(&other.chunks).filter(|(one, other)| Arc::ptr_eq(one, other));
            snapshot.chunks.len() - same.count()
        };
        let change = |name: &[u8], now| vec![Change { name: name.into(), family: EntryKind::File, now }];
        assert!(snapshot.chunks.len() > 5);
        assert_eq!(shared(&snapshot.changed(change(b"n2500x", Some(EntryKind::File)))), 1);
        assert_eq!(shared(&snapshot.changed(change(b"n2500", None))), 1);
        assert_eq!(shared(&snapshot.changed(change(b"n2500", Some(EntryKind::File)))), 0, "an overwritten file");
        assert_eq!(shared(&snapshot.changed(change(b"zz", None))), 0);
    }
}
