use std::path::PathBuf;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use super::*;
use crate::catalog::{Damage, Standing};
use crate::config::Durability;
use crate::documents::{DocumentError, Documents};
use crate::io::{Helpers, run_core};
use crate::model::{Bucket, Cluster, Versioning};
use crate::orders::Refused;
use crate::store::disk::rules::Keeps;
use crate::store::error::StoreError;
use crate::store::volume::Volume;

const OWNER: &str = "000000000001";

struct Fixture {
    top: tempfile::TempDir,
    state: State,
    published: Arc<Mutex<Arc<Catalog>>>,
}

impl Fixture {
    fn new() -> Self {
        let top = tempfile::tempdir().unwrap();
        std::fs::create_dir(top.path().join("data")).unwrap();
        documents(&top).create("cluster.json", &cluster()).unwrap();
        let (state, published) = start(&top);
        Self { top, state, published }
    }

    /// What the next start knows.
    fn restart(&mut self) {
        (self.state, self.published) = start(&self.top);
    }

    fn make(&mut self, change: Change) -> Result<(), Refused> {
        make(&mut self.state, &change).map(drop)
    }

    fn create(&mut self, name: &str) -> Result<(), Refused> {
        self.make(Change::CreateBucket { name: name.into(), owner: OWNER.into() })
    }

    fn set(&mut self, name: &str, versioning: Versioning) -> Result<(), Refused> {
        self.make(Change::SetVersioning { name: name.into(), owner: OWNER.into(), versioning })
    }

    /// What a core sees of a bucket.
    fn standing(&self, name: &str) -> Option<Standing> {
        self.published.lock().unwrap().bucket(name).map(|entry| entry.standing)
    }

    fn versioning(&self, name: &str) -> Option<Versioning> {
        self.published.lock().unwrap().bucket(name)?.keeping().map(|bucket| bucket.versioning)
    }

    fn scan(&mut self) {
        self.state.scan_soon();
        self.state.look();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    fn document(&self, bucket: &str) -> Result<Option<Bucket>, DocumentError> {
        documents(&self.top).read(&format!("buckets/{bucket}.json"))
    }
}

fn cluster() -> Cluster {
    Cluster::new([7; 16])
}

fn documents(top: &tempfile::TempDir) -> Documents {
    Documents::new(&top.path().join("config"))
}

fn start(top: &tempfile::TempDir) -> (State, Arc<Mutex<Arc<Catalog>>>) {
    let volume = Volume::open(top.path().join("data").as_os_str().as_encoded_bytes(), Durability::Relaxed).unwrap();
    let published = Arc::new(Mutex::new(Arc::default()));
    let seen = published.clone();
    let publish = move |catalog| *seen.lock().unwrap() = catalog;
    let work = Work { volume: Arc::new(volume), documents: documents(top), cluster: Some(cluster()) };
    let mut state = State::new(work, Box::new(publish));
    state.begin().unwrap();
    (state, published)
}

#[test]
fn a_bucket_is_made_with_its_document_and_goes_with_it() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.create("bucket"), Ok(()));
    assert_eq!(fixture.standing("bucket"), Some(Standing::Own));
    let document = fixture.document("bucket").unwrap().unwrap();
    assert_eq!((&*document.owner, document.versioning), (OWNER, Versioning::Unversioned));
    assert_eq!(fixture.create("bucket"), Err(Refused::Store(StoreError::BucketExists)));
    assert_eq!(fixture.document("bucket"), Ok(Some(document.clone())));
    fixture.restart();
    assert_eq!(fixture.standing("bucket"), Some(Standing::Own));
    assert_eq!(fixture.make(Change::ForgetBucket { name: "bucket".into() }), Ok(()));
    assert!(fixture.document("bucket").unwrap().is_some(), "its directory is there");
    std::fs::remove_dir(fixture.path("data/bucket")).unwrap();
    assert_eq!(fixture.make(Change::ForgetBucket { name: "bucket".into() }), Ok(()));
    assert_eq!((fixture.document("bucket"), fixture.standing("bucket")), (Ok(None), None));
    assert_eq!(fixture.create("bucket"), Ok(()));
    assert_ne!(fixture.document("bucket").unwrap().unwrap().id, document.id, "it is another bucket");
}

/// CreateBucket wrote the document and died; or DeleteBucket removed the directory and died.
#[test]
fn a_document_without_a_directory_gives_way() {
    let mut fixture = Fixture::new();
    fixture.create("bucket").unwrap();
    fixture.set("bucket", Versioning::Enabled).unwrap();
    let before = fixture.document("bucket").unwrap().unwrap();
    std::fs::remove_dir(fixture.path("data/bucket")).unwrap();
    fixture.restart();
    assert_eq!((fixture.standing("bucket"), fixture.versioning("bucket")), (Some(Standing::Absent), None));
    assert_eq!(fixture.set("bucket", Versioning::Enabled), Err(Refused::Store(StoreError::NoBucket)));
    assert_eq!(fixture.create("bucket"), Ok(()));
    let after = fixture.document("bucket").unwrap().unwrap();
    assert!(after.id != before.id && after.versioning == Versioning::Unversioned);
    assert_eq!(fixture.standing("bucket"), Some(Standing::Own));
}

#[test]
fn a_name_that_is_taken_gets_no_document() {
    let mut fixture = Fixture::new();
    std::fs::create_dir(fixture.path("data/plain")).unwrap();
    std::fs::write(fixture.path("data/file"), b"").unwrap();
    assert_eq!(fixture.create("plain"), Err(Refused::Store(StoreError::BucketExists)));
    assert_eq!(fixture.create("file"), Err(Refused::Store(StoreError::Foreign)));
    assert_eq!((fixture.document("plain"), fixture.document("file")), (Ok(None), Ok(None)));
    assert_eq!(fixture.standing("plain"), None, "it was never configured");
}

#[test]
fn a_bucket_that_was_never_configured_gets_its_document_with_the_first_setting() {
    let mut fixture = Fixture::new();
    std::fs::create_dir(fixture.path("data/plain")).unwrap();
    assert_eq!(fixture.set("plain", Versioning::Enabled), Ok(()));
    assert_eq!((fixture.standing("plain"), fixture.versioning("plain")), (Some(Standing::Own), Some(Versioning::Enabled)));
    assert_eq!(fixture.set("plain", Versioning::Suspended), Ok(()));
    fixture.restart();
    assert_eq!((fixture.standing("plain"), fixture.versioning("plain")), (Some(Standing::Own), Some(Versioning::Suspended)));
    // Renamed, it is known by the id that its directory has got.
    std::fs::rename(fixture.path("data/plain"), fixture.path("data/renamed")).unwrap();
    fixture.scan();
    let renamed = (fixture.standing("renamed"), fixture.versioning("renamed"));
    assert_eq!(renamed, (Some(Standing::Renamed), Some(Versioning::Suspended)));
    assert_eq!(fixture.set("renamed", Versioning::Enabled), Err(Refused::OtherDirectory));
}

#[test]
fn another_directory_keeps_what_keeps() {
    let mut fixture = Fixture::new();
    fixture.create("bucket").unwrap();
    fixture.set("bucket", Versioning::Enabled).unwrap();
    std::fs::remove_dir(fixture.path("data/bucket")).unwrap();
    std::fs::create_dir(fixture.path("data/bucket")).unwrap();
    fixture.scan();
    assert_eq!((fixture.standing("bucket"), fixture.versioning("bucket")), (Some(Standing::Other), Some(Versioning::Enabled)));
    assert_eq!(fixture.set("bucket", Versioning::Suspended), Err(Refused::OtherDirectory));
}

#[test]
fn what_is_damaged_is_not_changed() {
    let mut fixture = Fixture::new();
    fixture.create("bucket").unwrap();
    let path = fixture.path("config/buckets/bucket.json");
    let bytes = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, bytes.replace(OWNER, "000000000002")).unwrap();
    fixture.scan();
    assert_eq!(fixture.standing("bucket"), Some(Standing::Damaged(Damage::Document)));
    assert_eq!(fixture.set("bucket", Versioning::Enabled), Err(Refused::Damaged));
    std::fs::remove_dir(fixture.path("data/bucket")).unwrap();
    assert_eq!(fixture.create("bucket"), Err(Refused::Damaged));
    assert!(!fixture.path("data/bucket").exists());
    std::fs::create_dir(fixture.path("data/bucket")).unwrap();
    std::fs::write(&path, bytes).unwrap();
    fixture.scan();
    assert_eq!(fixture.standing("bucket"), Some(Standing::Other), "put back");
}

/// What the store keeps is what is set; and everything, where nobody knows what that is.
#[test]
fn the_store_is_told_what_to_keep() {
    let mut fixture = Fixture::new();
    fixture.create("bucket").unwrap();
    let keeps =
        |fixture: &Fixture| fixture.state.volume().bucket("bucket").rules().map(|rules| (rules.keeps, rules.bucket_id.clone()));
    assert_eq!(keeps(&fixture), None);
    let id = fixture.document("bucket").unwrap().unwrap().id.to_string();
    for (versioning, kept) in [(Versioning::Enabled, Keeps::Everything), (Versioning::Suspended, Keeps::Versions)] {
        fixture.set("bucket", versioning).unwrap();
        assert_eq!(keeps(&fixture), Some((kept, id.clone())));
    }
    std::fs::write(fixture.path("config/buckets/bucket.json"), b"").unwrap();
    fixture.scan();
    assert_eq!(keeps(&fixture), Some((Keeps::Everything, id)));
    std::fs::remove_file(fixture.path("config/buckets/bucket.json")).unwrap();
    std::fs::remove_dir(fixture.path("data/bucket")).unwrap();
    fixture.scan();
    assert_eq!(keeps(&fixture), None);
}

#[test]
fn an_id_without_a_document_is_damage() {
    let mut fixture = Fixture::new();
    fixture.create("bucket").unwrap();
    std::fs::remove_file(fixture.path("config/buckets/bucket.json")).unwrap();
    fixture.scan();
    assert_eq!(fixture.standing("bucket"), Some(Standing::Damaged(Damage::NoDocument)));
    assert_eq!(fixture.set("bucket", Versioning::Enabled), Err(Refused::Damaged));
}

/// Another gateway, or the command line while this one serves.
#[test]
fn what_others_write_is_seen_at_the_next_look() {
    let mut fixture = Fixture::new();
    fixture.create("bucket").unwrap();
    fixture.state.look();
    let (content, generation) = documents(&fixture.top).find::<Bucket>("buckets/bucket.json").unwrap().unwrap();
    let changed = Bucket { versioning: Versioning::Suspended, ..content };
    let generation = documents(&fixture.top).write("buckets/bucket.json", &changed, Some(generation)).unwrap();
    fixture.state.look();
    assert_eq!(fixture.versioning("bucket"), Some(Versioning::Suspended));
    assert_eq!(fixture.set("bucket", Versioning::Enabled), Ok(()), "it has read what is there now");
    documents(&fixture.top).write("buckets/bucket.json", &changed, Some(generation)).unwrap_err();
    std::fs::remove_dir(fixture.path("data/bucket")).unwrap();
    let (_, generation) = documents(&fixture.top).find::<Bucket>("buckets/bucket.json").unwrap().unwrap();
    documents(&fixture.top).remove("buckets/bucket.json", generation).unwrap();
    fixture.state.look();
    assert_eq!(fixture.standing("bucket"), None);
}

#[test]
fn another_configuration_is_not_believed() {
    let mut fixture = Fixture::new();
    fixture.create("bucket").unwrap();
    fixture.set("bucket", Versioning::Enabled).unwrap();
    std::fs::rename(fixture.path("config"), fixture.path("unmounted")).unwrap();
    fixture.scan();
    assert_eq!((fixture.standing("bucket"), fixture.versioning("bucket")), (Some(Standing::Own), Some(Versioning::Enabled)));
    assert_eq!(fixture.create("other"), Err(Refused::AnotherConfiguration));
    assert_eq!(fixture.set("bucket", Versioning::Suspended), Err(Refused::AnotherConfiguration));
    assert!(!fixture.path("config").exists() && !fixture.path("data/other").exists());
    std::fs::rename(fixture.path("unmounted"), fixture.path("config")).unwrap();
    assert_eq!(fixture.create("other"), Ok(()));
}

#[test]
fn where_nothing_can_be_written_no_bucket_is_made() {
    let mut fixture = Fixture::new();
    // No directory can be made in a file, whoever asks.
    std::fs::remove_dir_all(fixture.path("config/locks")).unwrap();
    std::fs::write(fixture.path("config/locks"), b"").unwrap();
    let refused = fixture.create("bucket").unwrap_err();
    assert!(matches!(refused, Refused::Document(DocumentError::Io(_))), "{refused:?}");
    assert!(!fixture.path("data/bucket").exists());
    assert_eq!(std::fs::read_dir(fixture.path("data/.sluice/staging")).unwrap().count(), 0);
}

#[test]
fn the_thread_answers_ends_when_told_and_is_missed_otherwise() {
    let mut fixture = Fixture::new();
    fixture.create("bucket").unwrap();
    let volume = fixture.state.volume().clone();
    let work = || Work { volume: volume.clone(), documents: documents(&fixture.top), cluster: Some(cluster()) };
    let (lost, missed) = mpsc::channel();
    let (first, second) = (lost.clone(), lost);
    let control = Control::start(work(), |_| {}, move || first.send("the first").unwrap()).unwrap();
    let orders = control.orders().clone();
    run_core(Helpers::start(1, || ()).unwrap(), || async move {
        let answer = orders.ask("arn", Change::CreateBucket { name: "other".into(), owner: OWNER.into() }).await;
        assert!(matches!(answer, Ok(Some(_))), "{answer:?}");
        assert!(control.end());
        let answer = orders.ask("arn", Change::ForgetBucket { name: "other".into() }).await;
        assert_eq!(answer, Err(Refused::NobodyThere));
    })
    .unwrap();
    assert!(volume.bucket("other").head().is_ok());
    let calls = std::sync::atomic::AtomicUsize::new(0);
    let publish = move |_| assert!(calls.fetch_add(1, Ordering::Relaxed) == 0, "the second time it fails");
    let control = Control::start(work(), publish, move || second.send("the second").unwrap()).unwrap();
    let orders = control.orders().clone();
    run_core(Helpers::start(1, || ()).unwrap(), || async move {
        let answer = orders.ask("arn", Change::CreateBucket { name: "third".into(), owner: OWNER.into() }).await;
        assert_eq!(answer, Err(Refused::NobodyThere));
    })
    .unwrap();
    assert_eq!(missed.recv_timeout(Duration::from_secs(60)), Ok("the second"));
}
