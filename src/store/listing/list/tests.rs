//! The oracle: sort and filter a set of keys, as the API reference describes ListObjectsV2
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>), against trees of real files.

use super::*;
use crate::config::Durability;
use crate::store::buckets;
use crate::store::disk::grain::Grain;
use crate::store::listing::cache::Alone;
use crate::store::names::key;
use crate::store::names::record::{Record, SUMMARY_NAME};
use crate::store::objects::commit::{FilledFile, commit};
use crate::store::objects::write::Write;
use crate::store::volume::Volume;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::fs::{File, create_dir_all, write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// Keys that one thread makes and removes, and what it was last told of each: odd while a change is under way, then twice the
/// number of changes answered, of which every second one is a removal.
struct Changed {
    names: Vec<String>,
    steps: Vec<AtomicUsize>,
}

impl Changed {
    fn new(prefix: &str, count: usize) -> Self {
        let names = (0..count).map(|index| format!("{prefix}{index}")).collect();
        Self { names, steps: (0..count).map(|_| AtomicUsize::new(0)).collect() }
    }

    /// Changes each key in turn until `is_over`: `make(name, true)` makes it, `make(name, false)` removes it.
    fn run(&self, is_over: &AtomicBool, make: impl Fn(&str, bool)) {
        for index in (0..self.names.len()).cycle().take_while(|_| !is_over.load(Relaxed)) {
            let step = self.steps[index].fetch_add(1, SeqCst) + 1;
            make(&self.names[index], step % 4 == 1);
            self.steps[index].fetch_add(1, SeqCst);
        }
    }

    fn read(&self) -> Vec<usize> {
        self.steps.iter().map(|step| step.load(SeqCst)).collect()
    }

    /// Of the keys that did not change between the two readings, how many are listed wrongly and how many there were.
    fn compare(&self, before: &[usize], after: &[usize], listed: &BTreeSet<Vec<u8>>) -> (usize, usize) {
        let quiet = (0..self.names.len()).filter(|&index| before[index] == after[index] && before[index].is_multiple_of(2));
        let is_right = |&index: &usize| listed.contains(self.names[index].as_bytes()) == (before[index] % 4 == 2);
        let quiet: Vec<usize> = quiet.collect();
        (quiet.iter().filter(|index| !is_right(index)).count(), quiet.len())
    }
}

/// A key acknowledged before the listing began is on the page where it belongs, and one that was removed is not: through S3 and
/// through POSIX at once.
#[test]
fn what_was_answered_before_a_listing_began_is_in_it() {
    let top = tempfile::tempdir().unwrap();
    let volume = Volume::open(top.path().as_os_str().as_encoded_bytes(), Durability::Relaxed).unwrap();
    buckets::create(volume.bucket("bucket"), volume.uploads()).unwrap();
    let path = top.path().join("bucket");
    for index in 0..2000 {
        write(path.join(format!("fixed{index:04}")), b"").unwrap();
    }
    let put = |key: &str| {
        let staged = volume.bucket("bucket").stage(key.as_bytes(), None, false).unwrap();
        let (bucket, key, record) = ("bucket".to_owned(), key.as_bytes().to_vec(), Record::new(0, 0, [0; 16]));
        commit(volume.disk(), Write { bucket, key, record, condition: None }, FilledFile { staged, size: 0, tail: None })
            .unwrap();
    };
    let (by_s3, by_posix, is_over) = (Changed::new("fixed1s", 7), Changed::new("fixed1p", 7), AtomicBool::new(false));
    let (bucket, cache) = (File::open(&path).unwrap(), Alone::watching(100));
    let query = Query { prefix: b"fixed1", max: 300, ..Query::default() };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            by_s3.run(&is_over, |key, is_made| match is_made {
                true => put(key),
                false => drop(volume.bucket("bucket").delete(key.as_bytes(), None).unwrap()),
            });
        });
        scope.spawn(|| {
            by_posix.run(&is_over, |name, is_made| match is_made {
                true => {
                    write(top.path().join("staged"), b"").unwrap();
                    std::fs::rename(top.path().join("staged"), path.join(name)).unwrap();
                }
                false => std::fs::remove_file(path.join(name)).unwrap(),
            });
        });
        let (mut wrong, mut quiet) = (0, 0);
        for _ in 0..200 {
            let before = (by_s3.read(), by_posix.read());
            let listed: BTreeSet<Vec<u8>> = pages(&bucket, &cache, &query).into_iter().collect();
            let after = (by_s3.read(), by_posix.read());
            for (set, before, after) in [(&by_s3, &before.0, &after.0), (&by_posix, &before.1, &after.1)] {
                let (more_wrong, more_quiet) = set.compare(before, after, &listed);
                (wrong, quiet) = (wrong + more_wrong, quiet + more_quiet);
            }
        }
        is_over.store(true, Relaxed);
        assert!(quiet > 0, "every key changed during every listing");
        assert_eq!(wrong, 0, "of {quiet}");
    });
}

/// Directories in the kernel's memory (tmpfs), where a name that is replaced moves to the front of its directory: a reader that has passed
/// the front and has yet to come to the name misses it.
struct Restless {
    top: tempfile::TempDir,
    names: Vec<String>,
}

impl Restless {
    /// `count` names so long that a reading takes several calls, made by `make`.
    fn new(count: usize, make: impl Fn(&Path)) -> Self {
        let top = tempfile::tempdir_in("/dev/shm").unwrap();
        create_dir_all(top.path().join("bucket")).unwrap();
        let names: Vec<String> = (0..count).map(|index| format!("{index:0200}")).collect();
        names.iter().for_each(|name| make(&top.path().join("bucket").join(name)));
        Self { top, names }
    }

    fn bucket(&self) -> File {
        File::open(self.top.path().join("bucket")).unwrap()
    }

    /// Runs `look` again and again beside one who has each name change places with another file or directory, made by `make`.
    fn while_replaced(&self, make: impl Fn(&Path), mut look: impl FnMut()) {
        let root = path::open_root(self.top.path().as_os_str().as_encoded_bytes()).unwrap();
        make(&self.top.path().join("other"));
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let replacer = scope.spawn(|| {
                for name in self.names.iter().cycle().take_while(|_| !is_over.load(Relaxed)) {
                    path::exchange(&root, b"other", &root, &[b"bucket/", name.as_bytes()].concat()).unwrap();
                    // As fast as uploads may come, which leave the reader its turn.
                    std::thread::sleep(std::time::Duration::from_micros(10));
                }
            });
            let begun = std::time::Instant::now();
            let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                while begun.elapsed() < std::time::Duration::from_millis(300) {
                    look();
                }
            }));
            is_over.store(true, Relaxed);
            replacer.join().unwrap();
            looked.unwrap();
        });
    }
}

/// In a snapshot that is read, one that is watched, and a window onto a directory that is too large for either.
#[test]
fn a_name_that_never_was_gone_is_in_every_reading() {
    let make = |path: &Path| write(path, b"").unwrap();
    let restless = Restless::new(3000, make);
    let bucket = restless.bucket();
    let names = |snapshot: &Snapshot| -> Vec<Vec<u8>> {
        (0..snapshot.len()).map(|index| snapshot.entry(index).unwrap().0.to_vec()).collect()
    };
    let expected: Vec<Vec<u8>> = restless.names.iter().map(|name| name.clone().into_bytes()).collect();
    let small = Alone::new(0, true);
    restless.while_replaced(make, || {
        let whole = small.load(reading(&small), bucket.as_fd(), &stat::of(&bucket).unwrap()).unwrap().unwrap();
        assert!(names(&whole) == expected, "a snapshot");
        let window =
            read::window(reading(&small), bucket.as_fd(), expected[1000].as_slice(), 1500, &AtomicBool::new(false)).unwrap();
        // What was missed at first lets others in, what was met twice keeps some out.
        let end = 1000 + window.len();
        assert!(names(&window) == expected[1000..end] && end > 1500, "a window");
        assert_eq!(window.next.as_deref(), expected.get(end).map(Vec::as_slice));
        let watched = Alone::watching(100);
        let whole = watched.load(reading(&watched), bucket.as_fd(), &stat::of(&bucket).unwrap()).unwrap().unwrap();
        assert!(names(&whole) == expected, "a watched snapshot");
    });
}

/// The only object of a bucket lies in a directory that changes places with others.
#[test]
fn a_directory_that_never_was_gone_is_searched() {
    let make = |path: &Path| create_dir_all(path).unwrap();
    let restless = Restless::new(800, make);
    let bucket = restless.bucket();
    let cache = Alone::new(0, true);
    let last = restless.names.last().unwrap();
    write(restless.top.path().join("bucket").join(last).join("object"), b"").unwrap();
    let with_object = |path: &Path| {
        make(path);
        write(path.join("object"), b"").unwrap();
    };
    restless.while_replaced(with_object, || {
        assert!(!walk::is_empty(&bucket, reading(&cache), &GO_ON).unwrap());
        let mut buffer = crate::sys::dir::buffer(4096);
        let mut met = BTreeSet::new();
        let visited = reading(&cache).visit(&bucket, &mut buffer, |entry| {
            met.insert(entry.name.to_vec());
            std::ops::ControlFlow::<()>::Continue(())
        });
        assert!(visited.unwrap().is_continue() && met.len() == restless.names.len(), "{}", met.len());
    });
}

static GO_ON: AtomicBool = AtomicBool::new(false);

/// As on a volume whose times prove little.
fn reading(cache: &Alone) -> Reading<'_> {
    cache.reading(Grain::ASSUMED)
}

fn path_in(top: &Path, relative: &[u8]) -> PathBuf {
    top.join(std::ffi::OsStr::from_bytes(relative))
}

/// Stores a key as the server does: `a` beside `a/b` goes inside, `dir/` is a record or, every other time, a body.
fn put(top: &Path, key: &[u8]) {
    let place = key::locate(key).unwrap();
    let path = path_in(top, &place.path);
    create_parents(top, place.parent());
    if place.is_directory_object {
        create_parents(top, &place.path);
        if key.len().is_multiple_of(2) {
            write(path_in(top, &place.body_inside()), key).unwrap();
        } else {
            let directory = File::open(&path).unwrap();
            xattr::write(&directory, SUMMARY_NAME, Record::new(0, 0, [0; 16]).encode().summary()).unwrap();
        }
    } else if path.is_dir() {
        write(path_in(top, &place.object_inside()), key).unwrap();
    } else {
        write(path, key).unwrap();
    }
}

fn create_parents(top: &Path, directory: &[u8]) {
    let mut path = top.to_owned();
    for name in directory.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
        path.push(std::ffi::OsStr::from_bytes(name));
        if path.is_file() {
            let body = std::fs::read(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            std::fs::create_dir(&path).unwrap();
            write(path_in(&path, OBJECT_OF_DIRECTORY), body).unwrap();
        } else if !path.is_dir() {
            std::fs::create_dir(&path).unwrap();
        }
    }
}

/// The whole answer, unpaged: what sorts after `after`, in order, grouped by delimiter.
fn model(keys: &BTreeSet<Vec<u8>>, query: &Query<'_>) -> Vec<Vec<u8>> {
    let mut expected: Vec<Vec<u8>> = Vec::new();
    for key in keys.iter().filter(|key| key.starts_with(query.prefix)) {
        let rest = &key[query.prefix.len()..];
        let found = (0..rest.len()).find(|&at| !query.delimiter.is_empty() && rest[at..].starts_with(query.delimiter));
        let entry = match found {
            Some(at) => key[..query.prefix.len() + at + query.delimiter.len()].to_vec(),
            None => key.clone(),
        };
        let is_done = key.as_slice() <= query.after || (found.is_some() && query.after.starts_with(&entry));
        if !is_done && expected.last() != Some(&entry) {
            expected.push(entry);
        }
    }
    expected
}

fn listed(page: &Page) -> Vec<Vec<u8>> {
    page.entries.iter().map(|entry| entry.marker().to_vec()).collect()
}

/// All pages of a query.
fn pages(bucket: &File, cache: &Alone, query: &Query<'_>) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    let mut after = query.after.to_vec();
    loop {
        let page = list(bucket, cache, reading(cache), &Query { after: &after, ..*query }, &GO_ON).unwrap();
        assert!(page.entries.len() <= query.max);
        all.extend(listed(&page));
        if !page.is_truncated {
            return all;
        }
        assert_eq!(page.entries.len(), query.max);
        after = all.last().unwrap().clone();
    }
}

fn component() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop_oneof![Just("a"), Just("a-"), Just("a."), Just("a0"), Just("a "), Just("b"), Just("")].prop_map(str::to_owned),
        2 => prop_oneof![Just("."), Just(".."), Just(".sluice"), Just(".sluice%o"), Just("ü"), Just("a-/b")]
            .prop_map(str::to_owned),
        1 => prop_oneof![Just(200), Just(201), Just(255), Just(256), Just(300), Just(400), Just(401)]
            .prop_map(|size| "l".repeat(size)),
        1 => (196usize..202, "[-./m0]{0,2}").prop_map(|(size, end)| format!("{}{end}", "l".repeat(size))),
        1 => (100usize..130).prop_map(|size| "ü".repeat(size)),
        1 => (235usize..250).prop_map(|size| format!(".sluice{}", "l".repeat(size))),
    ]
}

fn any_key() -> impl Strategy<Value = Vec<u8>> {
    vec(component(), 1..5)
        .prop_map(|components| components.join("/").into_bytes())
        .prop_filter("a key", |key| key::check(key).is_ok())
}

/// A prefix or marker near the keys: one of them, cut or continued.
fn near() -> impl Strategy<Value = (prop::sample::Index, prop::sample::Index, String)> {
    (any::<prop::sample::Index>(), any::<prop::sample::Index>(), prop_oneof![Just(String::new()), "[-./a0]{0,2}"])
}

fn cut(keys: &BTreeSet<Vec<u8>>, near: &(prop::sample::Index, prop::sample::Index, String)) -> Vec<u8> {
    let key = keys.iter().nth(near.0.index(keys.len())).unwrap();
    [&key[..near.1.index(key.len() + 1)], near.2.as_bytes()].concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn pages_are_the_sorted_keys(
        keys in btree_set(any_key(), 1..24),
        queries in vec((prop::option::weighted(0.6, near()), prop::option::weighted(0.4, near()),
                        prop_oneof![3 => Just("/"), 2 => Just(""), 1 => Just("-"), 1 => Just("a/"),
                                    1 => Just("l"), 1 => Just("ll/")],
                        1usize..6), 1..8))
    {
        let top = tempfile::tempdir().unwrap();
        for key in &keys {
            put(top.path(), key);
        }
        // What is no object must not show.
        create_dir_all(top.path().join("a-/empty/tree")).ok();
        create_dir_all(top.path().join(".sluice/uploads")).unwrap();
        write(top.path().join(".sluice/uploads/part"), b"").unwrap();
        std::os::unix::fs::symlink("b", top.path().join("link")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, top.path().join("fifo"), rustix::fs::Mode::RUSR).unwrap();
        write(path_in(top.path(), b"not-\xff-text"), b"").unwrap();
        write(path_in(top.path(), b".sluice%rnot-canonical"), b"").unwrap();
        let bucket = File::open(top.path()).unwrap();
        let cache = Alone::new(1 << 20, false);
        for (prefix, after, delimiter, max) in &queries {
            let prefix = prefix.as_ref().map(|near| cut(&keys, near)).unwrap_or_default();
            let after = after.as_ref().map(|near| cut(&keys, near)).unwrap_or_default();
            let query = Query { prefix: &prefix, delimiter: delimiter.as_bytes(), after: &after, max: *max, ..Query::default() };
            let expected = model(&keys, &query);
            let text = |all: &[Vec<u8>]| all.iter().map(|key| key.escape_ascii().to_string()).collect::<Vec<_>>();
            prop_assert_eq!(text(&pages(&bucket, &cache, &query)), text(&expected), "{:?}", query);
        }
    }
}

#[test]
fn an_object_beside_its_directory_sorts_as_its_key() {
    let top = tempfile::tempdir().unwrap();
    for key in ["a/b", "a", "a-x", "a.x", "a/", "a0", "a//c"] {
        put(top.path(), key.as_bytes());
    }
    let bucket = File::open(top.path()).unwrap();
    let cache = Alone::new(0, false);
    let query = Query { max: 100, ..Query::default() };
    let page = list(&bucket, &cache, reading(&cache), &query, &GO_ON).unwrap();
    assert_eq!(listed(&page), ["a", "a-x", "a.x", "a/", "a//c", "a/b", "a0"].map(|key| key.as_bytes().to_vec()));
    let Entry::Object(object) = &page.entries[0] else { panic!("not an object") };
    assert_eq!(object.stat.size, 1, "the body of `a`");
    let page = list(&bucket, &cache, reading(&cache), &Query { delimiter: b"/", ..query }, &GO_ON).unwrap();
    assert_eq!(listed(&page), ["a", "a-x", "a.x", "a/", "a0"].map(|key| key.as_bytes().to_vec()));
    assert!(matches!(page.entries[3], Entry::CommonPrefix(_)));
}

#[test]
fn a_record_shows_only_while_it_is_true() {
    let top = tempfile::tempdir().unwrap();
    write(top.path().join("f"), b"12345").unwrap();
    let file = File::options().write(true).open(top.path().join("f")).unwrap();
    let bucket = File::open(top.path()).unwrap();
    let cache = Alone::new(1 << 20, false);
    let query = Query { max: 1, ..Query::default() };
    let summary = || match &list(&bucket, &cache, reading(&cache), &query, &GO_ON).unwrap().entries[0] {
        Entry::Object(object) => object.summary.map(|summary| summary.etag),
        Entry::CommonPrefix(_) => None,
    };
    assert_eq!(summary(), None);
    let stat = stat::of(&file).unwrap();
    xattr::write(&file, SUMMARY_NAME, Record::new(5, stat.mtime_ns, [7; 16]).encode().summary()).unwrap();
    assert_eq!(summary(), Some([7; 16]));
    path::set_mtime(&file, stat.mtime_ns + 1).unwrap();
    assert_eq!(summary(), None);
    xattr::write(&file, SUMMARY_NAME, b"anything at all, and longer than any record could ever be: 70 bytes......").unwrap();
    assert_eq!(summary(), None);
}

#[test]
fn nothing_for_max_zero_foreign_prefixes_and_stopped_walks() {
    let top = tempfile::tempdir().unwrap();
    put(top.path(), b"a/b");
    std::fs::create_dir(path_in(top.path(), b"x\xff")).unwrap();
    write(path_in(top.path(), b"x\xff/y"), b"").unwrap();
    let bucket = File::open(top.path()).unwrap();
    let cache = Alone::new(1 << 20, false);
    let empty = |query: Query<'_>| list(&bucket, &cache, reading(&cache), &query, &GO_ON).unwrap() == Page::default();
    assert!(empty(Query::default()));
    let long = [b'a'; 2000];
    for prefix in [&b"x\xff/"[..], b"a/b/", b"../", b"a\0/", b"zzz/", &long] {
        assert!(empty(Query { prefix, max: 5, ..Query::default() }), "{}", prefix.escape_ascii());
    }
    assert!(empty(Query { after: b"\xff\xff", max: 5, ..Query::default() }));
    let query = Query { max: 5, ..Query::default() };
    let stopped = list(&bucket, &cache, reading(&cache), &query, &AtomicBool::new(true));
    assert_eq!(stopped, Err(Errno::CANCELED.into()));
}

#[test]
fn a_directory_seen_through_windows_is_the_same() {
    let top = tempfile::tempdir().unwrap();
    let mut keys = BTreeSet::new();
    for index in 0..40 {
        keys.insert(format!("n{index:02}").into_bytes());
        keys.insert(format!("n{index:02}-").into_bytes());
        if index % 7 == 0 {
            keys.insert(format!("n{index:02}/x").into_bytes());
        }
    }
    for key in &keys {
        put(top.path(), key);
    }
    let bucket = File::open(top.path()).unwrap();
    let cache = Alone::new(0, false);
    for (delimiter, after) in [(&b""[..], &b""[..]), (b"/", b""), (b"-", b""), (b"", b"n07-"), (b"1", b"n0"), (b"", b"n14/x")] {
        let query = Query { delimiter, after, max: 1000, ..Query::default() };
        let place = Subtree::default();
        let mut walk = Walk {
            bucket: bucket.as_fd(),
            cache: &cache,
            reading: reading(&cache),
            begun_ns: 0,
            query: &query,
            stop: &GO_ON,
            start: start_of(&query).unwrap(),
            heap: BinaryHeap::new(),
            handles: VecDeque::new(),
            directories: 0,
            scan_max: 5,
            page: Page::default(),
        };
        walk.push(Vec::new(), Work::Window(place, Vec::new()));
        walk.run().unwrap();
        assert_eq!(listed(&walk.page), model(&keys, &query), "{query:?}");
    }
}
