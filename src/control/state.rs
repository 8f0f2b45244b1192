//! What the thread knows: each document with its generation, each directory, and the catalog that was published of them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use crate::base::bucket_name;
use crate::catalog::{BucketEntry, Catalog, Document, Facts, Standing};
use crate::documents::{DocumentError, Documents, Generation, Seen, Watch};
use crate::limits::{DOCUMENTS_SCAN_INTERVAL, DOCUMENTS_SCAN_REST};
use crate::model::{Bucket, BucketId, Cluster, FoundDirectory, Versioning};
use crate::orders::Refused;
use crate::store::buckets;
use crate::store::disk::Presence;
use crate::store::disk::rules::{BucketRules, Keeps, Rules};
use crate::store::volume::Volume;

/// The folder of the buckets' documents, and the name of the configuration's own.
const BUCKETS: &str = "buckets";
const CLUSTER: &str = "cluster.json";

/// What it works on.
pub struct Work {
    pub volume: Arc<Volume>,
    pub documents: Documents,
    /// Which configuration that is; `None` where nobody could write it down.
    pub cluster: Option<Cluster>,
}

/// See the file's head.
pub(super) struct State {
    work: Work,
    facts: Facts,
    generations: HashMap<Box<str>, Generation>,
    catalog: Arc<Catalog>,
    /// What of it the store was told.
    rules: Rules,
    publish: Box<dyn Fn(Arc<Catalog>) + Send>,
    watch: Watch,
    scan_after: Instant,
    /// Why the last look failed: said once.
    trouble: Option<Refused>,
}

impl State {
    pub(super) fn new(work: Work, publish: Box<dyn Fn(Arc<Catalog>) + Send>) -> Self {
        Self {
            work,
            facts: Facts::default(),
            generations: HashMap::new(),
            catalog: Arc::default(),
            rules: Rules::default(),
            publish,
            watch: Watch::default(),
            scan_after: Instant::now(),
            trouble: None,
        }
    }

    pub(super) fn volume(&self) -> &Arc<Volume> {
        &self.work.volume
    }

    pub(super) fn documents(&self) -> &Documents {
        &self.work.documents
    }

    pub(super) fn document(&self, bucket: &str) -> Option<&Document> {
        self.facts.document(bucket)
    }

    /// What was published of a bucket.
    pub(super) fn entry(&self, bucket: &str) -> Option<(Standing, Option<Arc<Bucket>>)> {
        self.catalog.bucket(bucket).map(|entry| (entry.standing, entry.settings.clone()))
    }

    pub(super) fn generation(&self, bucket: &str) -> Option<Generation> {
        self.generations.get(bucket).copied()
    }

    /// The first scan. What a crash has left half written goes.
    pub(super) fn begin(&mut self) -> Result<(), Refused> {
        // Where nothing can be written, nothing was.
        let _ = self.documents().sweep(BUCKETS);
        self.work.documents.look(&mut self.watch)?;
        self.scan()
    }

    /// Whether the configuration is the one that the server was started with. One that was unmounted is empty, and not to be believed.
    pub(super) fn check_configuration(&self) -> Result<(), Refused> {
        let Some(cluster) = &self.work.cluster else { return Ok(()) };
        match self.documents().read::<Cluster>(CLUSTER) {
            Ok(Some(found)) if found == *cluster => Ok(()),
            Err(DocumentError::Io(errno)) => Err(DocumentError::Io(errno).into()),
            _ => Err(Refused::AnotherConfiguration),
        }
    }

    /// Looks what others have changed: what the log of changes names, or from time to time everything.
    pub(super) fn look(&mut self) {
        // Moved away, it may have its configuration with it.
        if self.volume().disk().presence() != Presence::Here {
            return;
        }
        let looked = self.see();
        if let Err(refused) = looked
            && self.trouble != Some(refused)
        {
            tracing::error!(?refused, "what is configured cannot be read: what was read last holds");
        }
        if looked.is_ok() && self.trouble.is_some() {
            tracing::info!("what is configured can be read again");
        }
        self.trouble = looked.err();
    }

    fn see(&mut self) -> Result<(), Refused> {
        let Self { watch, work, .. } = self;
        match work.documents.look(watch)? {
            Seen::Names(names) => {
                self.check_configuration()?;
                let buckets: Vec<&str> = names.iter().filter_map(|name| bucket_of(name)).collect();
                buckets.iter().try_for_each(|bucket| self.read(bucket))?;
                self.publish();
            }
            Seen::Everything => return self.scan(),
            Seen::Nothing => {}
        }
        if Instant::now() >= self.scan_after { self.scan() } else { Ok(()) }
    }

    /// Reads every document and looks at every directory.
    fn scan(&mut self) -> Result<(), Refused> {
        let begun = Instant::now();
        self.check_configuration()?;
        let names = self.documents().names(BUCKETS)?;
        let found: BTreeSet<&str> = names.iter().filter_map(|name| bucket_of(name)).collect();
        let documented: Vec<Arc<str>> = self.facts.documented().cloned().collect();
        documented.iter().filter(|name| !found.contains(&***name)).for_each(|name| self.know(name, None, None));
        found.iter().for_each(|name| self.read_document(name));
        let directories: HashMap<String, FoundDirectory> = buckets::identify_all(self.volume().disk())?.into_iter().collect();
        let known: Vec<Arc<str>> = self.facts.directories().cloned().collect();
        known.iter().filter(|name| !directories.contains_key(&***name)).for_each(|name| self.facts.set_directory(name, None));
        directories.iter().for_each(|(name, directory)| self.facts.set_directory(name, Some(*directory)));
        self.publish();
        let took = begun.elapsed();
        self.scan_after = Instant::now() + DOCUMENTS_SCAN_INTERVAL.max(took.saturating_mul(DOCUMENTS_SCAN_REST));
        Ok(())
    }

    /// Reads what there is of one bucket now. Nobody is told of it before `publish`.
    pub(super) fn read(&mut self, bucket: &str) -> Result<(), Refused> {
        self.read_document(bucket);
        let directory = buckets::identify(self.volume().bucket(bucket))?;
        self.facts.set_directory(bucket, directory);
        Ok(())
    }

    fn read_document(&mut self, bucket: &str) {
        match self.documents().find::<Bucket>(&name_of(bucket)) {
            Ok(None) => self.know(bucket, None, None),
            Ok(Some((content, generation))) if content.is_legal() => {
                self.know(bucket, Some(Document::Bucket(Arc::new(content))), Some(generation));
            }
            // Who cannot be read may forbid anything.
            Ok(Some(_)) | Err(_) => self.know(bucket, Some(Document::Damaged), None),
        }
    }

    /// What a bucket's document is from now on.
    pub(super) fn know(&mut self, bucket: &str, document: Option<Document>, generation: Option<Generation>) {
        self.facts.set_document(bucket, document);
        match generation {
            Some(generation) => _ = self.generations.insert(bucket.into(), generation),
            None => _ = self.generations.remove(bucket),
        }
    }

    /// Writes a bucket's document, which is as it was read last, and knows it.
    pub(super) fn write(&mut self, name: &str, content: Bucket) -> Result<(), Refused> {
        #[cfg(feature = "seams")]
        if super::seams::is_put_off(name, &content) {
            self.know(name, Some(Document::Bucket(Arc::new(content))), self.generation(name));
            return Ok(());
        }
        let written = self.documents().write(&name_of(name), &content, self.generation(name));
        match written {
            Ok(generation) => self.know(name, Some(Document::Bucket(Arc::new(content))), Some(generation)),
            // It may be there all the same.
            Err(_) => self.read_document(name),
        }
        Ok(written.map(drop)?)
    }

    /// Removes a bucket's document, which is as it was read last.
    pub(super) fn remove(&mut self, name: &str) -> Result<(), Refused> {
        let Some(generation) = self.generation(name) else { return Ok(()) };
        let removed = self.documents().remove(&name_of(name), generation);
        self.read_document(name);
        Ok(removed?)
    }

    /// A bucket's directory is this from now on.
    pub(super) fn place(&mut self, bucket: &str, directory: FoundDirectory) {
        self.facts.set_directory(bucket, Some(directory));
    }

    /// Tells all cores, if anything is otherwise.
    pub(super) fn publish(&mut self) {
        let (catalog, changed) = self.facts.compile(&self.catalog);
        if changed.is_empty() {
            return;
        }
        let before = std::mem::replace(&mut self.catalog, Arc::new(catalog));
        for name in &changed {
            let standing_in = |catalog: &Catalog| catalog.bucket(name).map(|entry| entry.standing);
            if standing_in(&before) != standing_in(&self.catalog) {
                tell(name, standing_in(&before), standing_in(&self.catalog));
            }
        }
        (self.publish)(self.catalog.clone());
        let rules = rules_of(&self.catalog);
        if rules != self.rules {
            // It returns when they hold for everybody.
            self.volume().disk().use_rules(rules.clone());
            self.rules = rules;
        }
    }

    /// For tests: as if so much time had gone by.
    #[cfg(test)]
    pub(super) fn scan_soon(&mut self) {
        self.scan_after = Instant::now();
    }
}

/// What the store must keep.
fn rules_of(catalog: &Catalog) -> Rules {
    let of = |(name, entry): (&str, &BucketEntry)| {
        let (bucket_id, keeps) = keeping(entry)?;
        Some((name.into(), Arc::new(BucketRules { bucket_id: bucket_id.to_string(), keeps })))
    };
    catalog.buckets().filter_map(of).collect()
}

/// Which bucket's history is kept, and what of it. Of one of which nobody knows what it is set to, everything: an overwrite must not
/// take what its settings may keep.
fn keeping(entry: &BucketEntry) -> Option<(BucketId, Keeps)> {
    if entry.damage().is_some() {
        return entry.carried.map(|id| (id, Keeps::Everything));
    }
    let settings = entry.keeping()?;
    match settings.versioning {
        Versioning::Unversioned => None,
        Versioning::Enabled => Some((settings.id, Keeps::Everything)),
        Versioning::Suspended => Some((settings.id, Keeps::Versions)),
    }
}

/// Says what the operator must know of.
fn tell(bucket: &str, before: Option<Standing>, now: Option<Standing>) {
    match now {
        Some(Standing::Damaged(damage)) => {
            tracing::error!(
                bucket,
                reason = damage.in_words(),
                "a bucket is damaged: root alone may use it, and nothing is deleted from it"
            );
        }
        Some(Standing::Other) => tracing::warn!(
            bucket,
            "the bucket's directory is another one than its settings were made for: those that keep something stay in force, those that \
             grant something are void"
        ),
        Some(Standing::Renamed) => tracing::warn!(
            bucket,
            "the bucket's directory had another name when its settings were made: those that keep something stay in force, those that \
             grant something are void"
        ),
        Some(Standing::Copy) => {
            tracing::warn!(bucket, "the bucket's directory is a copy of another one, with its id: it has no settings");
        }
        Some(Standing::Own | Standing::Absent) | None => {
            let was_said = matches!(before, Some(Standing::Damaged(_) | Standing::Other | Standing::Renamed | Standing::Copy));
            if was_said {
                tracing::info!(bucket, "the bucket is what its settings were made for again, or is gone");
            }
        }
    }
}

/// The document of a bucket.
fn name_of(bucket: &str) -> String {
    format!("{BUCKETS}/{bucket}.json")
}

/// The bucket of a document, if it is one of a bucket.
fn bucket_of(name: &str) -> Option<&str> {
    let bucket = name.strip_prefix(BUCKETS)?.strip_prefix('/')?.strip_suffix(".json")?;
    bucket_name::is_legal(bucket).then_some(bucket)
}
