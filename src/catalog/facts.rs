//! What the catalog is made of: each document of a bucket, and each directory that may be one, by name.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::standing::{Claim, Others, of_id, with_document};
use super::{BucketEntry, Catalog, Damage, Standing};
use crate::model::{Bucket, BucketId, Carried, DirectoryIdentity, FoundDirectory};

/// What was read where the document of a bucket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    Bucket(Arc<Bucket>),
    /// Something that is none, or cannot be read.
    Damaged,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Facts {
    documents: BTreeMap<Arc<str>, Document>,
    directories: BTreeMap<Arc<str>, FoundDirectory>,
    /// The names whose document, or directory, has an id.
    documented: Names,
    carried: Names,
    /// Names whose entry may have to be another.
    touched: BTreeSet<Arc<str>>,
}

#[derive(Debug, Default)]
struct Names {
    by_id: HashMap<BucketId, BTreeSet<Arc<str>>>,
}

impl Names {
    fn of(&self, id: BucketId) -> impl Iterator<Item = &Arc<str>> {
        self.by_id.get(&id).into_iter().flatten()
    }

    fn add(&mut self, id: BucketId, name: &Arc<str>) {
        self.by_id.entry(id).or_default().insert(name.clone());
    }

    fn remove(&mut self, id: BucketId, name: &Arc<str>) {
        if let Some(names) = self.by_id.get_mut(&id) {
            names.remove(name);
            if names.is_empty() {
                self.by_id.remove(&id);
            }
        }
    }
}

/// How a bucket stands, and what it is set to.
type Entry = (Standing, Option<Arc<Bucket>>);

fn id_of(directory: FoundDirectory) -> Option<BucketId> {
    match directory.carries {
        Carried::Id(id) => Some(id),
        Carried::Nothing | Carried::Illegible => None,
    }
}

impl Facts {
    /// The document of this name, if there is one.
    pub fn document(&self, name: &str) -> Option<&Document> {
        self.documents.get(name)
    }

    /// The names that have a document, in order.
    pub fn documented(&self) -> impl Iterator<Item = &Arc<str>> {
        self.documents.keys()
    }

    /// The names that have a directory, in order.
    pub fn directories(&self) -> impl Iterator<Item = &Arc<str>> {
        self.directories.keys()
    }

    /// From now on this is the document of the name, or none.
    pub fn set_document(&mut self, name: &str, document: Option<Document>) {
        if self.documents.get(name) == document.as_ref() {
            return;
        }
        let name: Arc<str> = name.into();
        let named = |document: &Option<Document>| match document {
            Some(Document::Bucket(bucket)) => Some(bucket.id),
            _ => None,
        };
        let before = match document.clone() {
            Some(document) => self.documents.insert(name.clone(), document),
            None => self.documents.remove(&name),
        };
        let (before, after) = (named(&before), named(&document));
        before.into_iter().for_each(|id| self.documented.remove(id, &name));
        after.into_iter().for_each(|id| self.documented.add(id, &name));
        self.touch(name, before, after);
    }

    /// From now on this is what has the name in the served directory, or nothing.
    pub fn set_directory(&mut self, name: &str, directory: Option<FoundDirectory>) {
        if self.directories.get(name) == directory.as_ref() {
            return;
        }
        let name: Arc<str> = name.into();
        let before = match directory {
            Some(directory) => self.directories.insert(name.clone(), directory),
            None => self.directories.remove(&name),
        };
        let (before, after) = (before.and_then(id_of), directory.and_then(id_of));
        before.into_iter().for_each(|id| self.carried.remove(id, &name));
        after.into_iter().for_each(|id| self.carried.add(id, &name));
        self.touch(name, before, after);
    }

    /// An entry depends on its name's document and directory, and on all that have the same ids.
    fn touch(&mut self, name: Arc<str>, before: Option<BucketId>, after: Option<BucketId>) {
        for id in before.into_iter().chain(after) {
            self.touched.extend(self.documented.of(id).chain(self.carried.of(id)).cloned());
        }
        self.touched.insert(name);
    }

    /// The state that follows `before`, which was made last, and the names whose entry is another.
    pub fn compile(&mut self, before: &Catalog) -> (Catalog, Vec<Arc<str>>) {
        let (mut catalog, mut changed) = (before.clone(), Vec::new());
        for name in std::mem::take(&mut self.touched) {
            let carried = self.directories.get(&name).and_then(|directory| id_of(*directory));
            let entry = self.entry(&name).map(|(standing, settings)| BucketEntry { standing, settings, carried });
            if entry.as_ref() == before.bucket(&name) {
                continue;
            }
            match entry {
                Some(entry) => _ = catalog.buckets.insert(name.clone(), Arc::new(entry)),
                None => _ = catalog.buckets.remove(&name),
            }
            changed.push(name);
        }
        (catalog, changed)
    }

    fn entry(&self, name: &str) -> Option<Entry> {
        let of = |standing, settings: &Arc<Bucket>| Some((standing, Some(settings.clone())));
        let without = |standing| Some((standing, None));
        let directory = self.directories.get(name);
        match (self.documents.get(name), directory) {
            (Some(Document::Damaged), _) => without(Standing::Damaged(Damage::Document)),
            (Some(Document::Bucket(bucket)), None) => of(Standing::Absent, bucket),
            (Some(Document::Bucket(bucket)), Some(directory)) => {
                let carriers = self.carriers(bucket.id, name);
                let mut of_other = None;
                let standing = with_document(bucket, directory, Others { carriers: &carriers }, |id| {
                    let (standing, settings) = self.entry_of_id(name, directory.identity, id);
                    of_other = Some((standing, settings));
                    standing
                });
                match (of_other, standing) {
                    (Some(entry), _) => Some(entry),
                    (None, Standing::Copy | Standing::Damaged(_)) => without(standing),
                    (None, standing) => of(standing, bucket),
                }
            }
            (None, Some(FoundDirectory { identity, carries: Carried::Id(id) })) => Some(self.entry_of_id(name, *identity, *id)),
            (None, Some(FoundDirectory { carries: Carried::Illegible, .. })) => without(Standing::Damaged(Damage::Illegible)),
            (None, Some(FoundDirectory { carries: Carried::Nothing, .. }) | None) => None,
        }
    }

    /// Of a directory that carries the id of a document of another name.
    fn entry_of_id(&self, name: &str, directory: DirectoryIdentity, id: BucketId) -> Entry {
        let claims = || self.documented.of(id).filter(|other| &***other != name);
        let bucket_of = |other: &Arc<str>| match self.documents.get(other) {
            Some(Document::Bucket(bucket)) => Some(bucket),
            _ => None,
        };
        // Of several, somebody has copied documents: that of this very directory comes first.
        let owner =
            claims().find(|other| bucket_of(other).is_some_and(|bucket| bucket.directory == directory)).or(claims().next());
        let bucket = owner.and_then(bucket_of);
        let is_at_home = owner.is_some_and(|owner| self.carried.of(id).any(|carrier| carrier == owner));
        let carriers = self.carriers(id, name);
        let claim = bucket.map(|bucket| Claim { bucket, is_at_home });
        let standing = of_id(directory, claim, Others { carriers: &carriers });
        (standing, bucket.filter(|_| standing == Standing::Renamed).cloned())
    }

    fn carriers(&self, id: BucketId, but: &str) -> Vec<DirectoryIdentity> {
        let others = self.carried.of(id).filter(|name| &***name != but);
        others.filter_map(|name| self.directories.get(name)).map(|directory| directory.identity).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Versioning;

    fn id(number: u8) -> BucketId {
        BucketId::new([number; 16])
    }

    fn identity(inode: u64) -> DirectoryIdentity {
        DirectoryIdentity { inode, born_ns: Some(1) }
    }

    /// The document of the bucket `number`, made as the directory of inode `number`.
    fn document(number: u8) -> Option<Document> {
        let (owner, versioning) = ("000000000001".into(), Versioning::Enabled);
        let bucket = Bucket { id: id(number), directory: identity(number.into()), owner, created_s: 0, versioning };
        Some(Document::Bucket(Arc::new(bucket)))
    }

    fn directory(inode: u64, carries: Carried) -> Option<FoundDirectory> {
        Some(FoundDirectory { identity: identity(inode), carries })
    }

    /// What becomes of names with these documents and directories.
    fn standings(facts: &[(&str, Option<Document>, Option<FoundDirectory>)]) -> Vec<Option<Standing>> {
        let compile = |order: &mut dyn Iterator<Item = &(&str, Option<Document>, Option<FoundDirectory>)>| {
            let (mut made, mut catalog) = (Facts::default(), Catalog::default());
            for (name, document, directory) in order {
                made.set_document(name, document.clone());
                catalog = made.compile(&catalog).0;
                made.set_directory(name, *directory);
                catalog = made.compile(&catalog).0;
            }
            catalog
        };
        let catalog = compile(&mut facts.iter());
        let backwards = compile(&mut facts.iter().rev());
        let of = |catalog: &Catalog| facts.iter().map(|(name, ..)| catalog.bucket(name).cloned()).collect::<Vec<_>>();
        assert_eq!(of(&catalog), of(&backwards), "the order in which facts come is none");
        for (name, entry) in catalog.buckets() {
            let keeps = matches!(entry.standing, Standing::Own | Standing::Other | Standing::Renamed);
            assert_eq!(entry.keeping().is_some(), keeps, "{name}");
            assert_eq!(entry.granting().is_some(), entry.standing == Standing::Own, "{name}");
        }
        of(&catalog).into_iter().map(|entry| entry.map(|entry| entry.standing)).collect()
    }

    #[test]
    fn a_directory_is_known_by_its_id_or_by_its_inode() {
        use Carried::{Id, Illegible, Nothing};
        let of = |document, directory| standings(&[("a", document, directory)])[0];
        assert_eq!(of(None, directory(1, Nothing)), None, "never configured");
        assert_eq!(of(document(1), None), Some(Standing::Absent));
        assert_eq!(of(document(1), directory(1, Id(id(1)))), Some(Standing::Own));
        assert_eq!(of(document(1), directory(1, Nothing)), Some(Standing::Own), "no attribute could be written");
        assert_eq!(of(document(1), directory(9, Id(id(1)))), Some(Standing::Own), "restored with its attributes");
        assert_eq!(of(document(1), directory(9, Nothing)), Some(Standing::Other));
        assert_eq!(of(document(1), directory(1, Id(id(7)))), Some(Standing::Damaged(Damage::NoDocument)));
        assert_eq!(of(document(1), directory(1, Illegible)), Some(Standing::Damaged(Damage::Illegible)));
        assert_eq!(of(None, directory(1, Illegible)), Some(Standing::Damaged(Damage::Illegible)));
        assert_eq!(of(None, directory(1, Id(id(1)))), Some(Standing::Damaged(Damage::NoDocument)));
        for directory in [None, directory(1, Nothing), directory(1, Id(id(1)))] {
            assert_eq!(of(Some(Document::Damaged), directory), Some(Standing::Damaged(Damage::Document)));
        }
        let born_later = FoundDirectory { identity: DirectoryIdentity { inode: 1, born_ns: Some(2) }, carries: Nothing };
        assert_eq!(of(document(1), Some(born_later)), Some(Standing::Other), "the inode's number was used again");
    }

    #[test]
    fn a_renamed_bucket_keeps_and_grants_nothing() {
        let is = |inode, number| directory(inode, Carried::Id(id(number)));
        let renamed = standings(&[("a", document(1), None), ("b", None, is(1, 1))]);
        assert_eq!(renamed, [Some(Standing::Absent), Some(Standing::Renamed)]);
        let over_another = standings(&[("a", document(1), None), ("b", document(2), is(1, 1))]);
        assert_eq!(over_another, [Some(Standing::Absent), Some(Standing::Renamed)]);
        let exchanged = standings(&[("a", document(1), is(2, 2)), ("b", document(2), is(1, 1))]);
        assert_eq!(exchanged, [Some(Standing::Renamed), Some(Standing::Renamed)]);
        let renamed_and_restored = standings(&[("a", document(1), None), ("b", None, is(9, 1))]);
        assert_eq!(renamed_and_restored[1], Some(Standing::Renamed), "the only one that there is");
    }

    #[test]
    fn a_copy_has_no_settings() {
        let is = |inode, number| directory(inode, Carried::Id(id(number)));
        let copied = standings(&[("a", document(1), is(1, 1)), ("b", None, is(9, 1))]);
        assert_eq!(copied, [Some(Standing::Own), Some(Standing::Copy)]);
        let restored_twice = standings(&[("a", document(1), is(8, 1)), ("b", None, is(9, 1))]);
        assert_eq!(restored_twice, [Some(Standing::Own), Some(Standing::Copy)], "its name decides");
        let copied_back = standings(&[("a", document(1), is(9, 1)), ("b", None, is(1, 1))]);
        assert_eq!(copied_back, [Some(Standing::Copy), Some(Standing::Renamed)], "mv a b; cp -a b a");
        let with_its_document = standings(&[("a", document(1), is(1, 1)), ("b", document(1), is(9, 1))]);
        assert_eq!(with_its_document, [Some(Standing::Own), Some(Standing::Copy)]);
        let of_none = standings(&[("a", document(1), None), ("b", None, is(8, 1)), ("c", None, is(9, 1))]);
        assert_eq!(of_none[1..], [Some(Standing::Damaged(Damage::Ambiguous)); 2]);
    }

    #[test]
    fn a_change_makes_one_entry_anew() {
        let (mut facts, mut catalog) = (Facts::default(), Catalog::default());
        for number in 0..200 {
            facts.set_document(&format!("bucket-{number}"), document(number));
            facts.set_directory(&format!("bucket-{number}"), directory(number.into(), Carried::Id(id(number))));
        }
        let (first, changed) = facts.compile(&catalog);
        assert_eq!((changed.len(), first.buckets().count(), first.damaged_count()), (200, 200, 0));
        catalog = first.clone();
        facts.set_document("bucket-7", Some(Document::Damaged));
        let (second, changed) = facts.compile(&catalog);
        assert_eq!(changed.iter().map(|name| &**name).collect::<Vec<_>>(), ["bucket-7"]);
        let shared = second.buckets.iter().filter(|(name, entry)| Arc::ptr_eq(entry, &first.buckets[*name])).count();
        assert_eq!((shared, second.damaged_count(), first.damaged_count()), (199, 1, 0));
        assert_eq!(facts.compile(&second).1, Vec::<Arc<str>>::new(), "nothing has changed since");
        facts.set_document("bucket-8", None);
        facts.set_directory("bucket-8", None);
        assert!(facts.compile(&second).0.bucket("bucket-8").is_none());
    }
}
