//! Small objects, several in one visit of a helper. Each call that waits for the disk is started for all of them before the
//! first is waited for, and a directory that several go to is opened once. What holds for one commit (`commit`) holds for
//! each: its record before its name, no name for dirty pages, the precondition under its key's lock, a ticket of its own.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::commit;
use super::seal::{Spilled, seal, seal_as_written};
use super::write::{Published, Target, Write};
use crate::digest::lanes::advance_md5;
use crate::digest::{Job, Md5};
use crate::limits::COMMIT_BATCH_MAX;
use crate::store::disk::inherit::FILE_MODE;
use crate::store::disk::stage::Staged;
use crate::store::disk::{Bucket, Disk};
use crate::store::error::{Result, StoreError};
use crate::store::names::key::{self, Location};
use crate::sys;
use crate::sys::path::Symlinks;

/// A small object, in memory.
pub struct Small {
    /// All but its bytes; the record's ETag is filled in here, too.
    pub write: Write,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Their MD5, where somebody knows it already.
    pub md5: Option<[u8; 16]>,
}

/// Publishes each of `objects`, in their order, or says why not. While the device takes their bytes, the MD5s are computed side by
/// side, and the records are written.
pub fn commit_each(disk: &Disk, objects: Vec<Small>) -> Vec<Result<Published>> {
    let mut directories = Directories { disk, open: Vec::new() };
    // A lone one's pages are pushed by the call that waits for them: one call less.
    let starts_writing = objects.len() > 1;
    let mut filled: Vec<_> = objects.into_iter().map(|object| Filled::new(&mut directories, object, starts_writing)).collect();
    hash_each(filled.iter_mut().flatten().map(|filled| &mut filled.object));
    let sealed: Vec<_> = filled.into_iter().map(|filled| filled.and_then(|filled| filled.seal(disk))).collect();
    sealed.into_iter().map(|sealed| sealed.and_then(|sealed| sealed.publish(disk))).collect()
}

/// The ETag into each record.
fn hash_each<'a>(objects: impl Iterator<Item = &'a mut Small>) {
    let mut unknown = Vec::with_capacity(COMMIT_BATCH_MAX);
    for Small { md5, bytes, write: Write { record, .. } } in objects {
        match md5 {
            Some(md5) => record.etag = *md5,
            None => unknown.push((&mut record.etag, &*bytes, Md5::new())),
        }
    }
    let mut jobs: Vec<_> = unknown.iter_mut().map(|(_, bytes, hash)| Job { hash, bytes }).collect();
    advance_md5(&mut jobs);
    for (etag, _, hash) in unknown {
        *etag = hash.finish();
    }
}

/// An object on the way: its file has its bytes, which the device may not have yet.
struct Filled {
    object: Small,
    location: Location,
    /// The file, and the directory of its name where that was there. `None`: a record on a directory, and no file.
    file: Option<(Staged, Option<Rc<OwnedFd>>)>,
    /// What its record holds on to.
    spilled: Spilled,
}

impl Filled {
    fn new(directories: &mut Directories<'_>, object: Small, starts_writing: bool) -> Result<Self> {
        let disk = directories.disk;
        if !disk.takes_changes() {
            return Err(StoreError::VolumeFailed);
        }
        let location = key::locate(&object.write.key)?;
        if location.is_directory_object && object.bytes.is_empty() {
            return Ok(Self { object, location, file: None, spilled: None });
        }
        let (staged, parent) = directories.stage(disk.bucket(&object.write.bucket), &location)?;
        sys::file::write_all_at(&staged.file, &object.bytes, 0)?;
        if starts_writing {
            disk.start_cleaning(&staged.file)?;
        }
        Ok(Self { object, location, file: Some((staged, parent)), spilled: None })
    }

    /// The record onto the file.
    fn seal(mut self, disk: &Disk) -> Result<Self> {
        if let Some((staged, _)) = &self.file {
            let seal = if disk.facts().grain.files.tell_apart { seal_as_written } else { seal };
            self.spilled = seal(disk, &staged.file, self.object.bytes.len() as u64, &mut self.object.write.record)?;
        }
        Ok(self)
    }

    fn publish(self, disk: &Disk) -> Result<Published> {
        let Self { object, location, file, mut spilled } = self;
        let Write { bucket, key, record, condition } = object.write;
        let target = Target { bucket: disk.bucket(&bucket), key: &key, location: &location, condition: condition.as_ref() };
        let Some((mut staged, parent)) = file else { return commit::publish_directory_object(target, record) };
        disk.clean(&staged.file)?;
        let version = commit::publish(target, &mut staged, parent, &mut |_| Ok(spilled.take()))?;
        Ok(Published { ticket: disk.barrier().published(), record, version })
    }
}

/// The directories of one batch. They are not kept beyond it: a publication into one that was removed meanwhile fails, and is
/// tried again with a fresh one.
struct Directories<'a> {
    disk: &'a Disk,
    /// By their path beneath the volume.
    open: Vec<(Vec<u8>, Rc<OwnedFd>)>,
}

impl Directories<'_> {
    /// A file for the object, and its directory where that is there already.
    fn stage(&mut self, bucket: Bucket<'_>, location: &Location) -> Result<(Staged, Option<Rc<OwnedFd>>)> {
        if self.disk.facts().unnamed_files
            && !location.is_directory_object
            && let Some(directory) = self.directory(bucket, location.parent())
            && let Ok(file) = sys::path::open_unnamed(&*directory, b"", FILE_MODE, false, Symlinks::Deny)
        {
            return Ok((Staged::unnamed(file), Some(directory)));
        }
        Ok((bucket.stage(&location.path, None, false)?, None))
    }

    fn directory(&mut self, bucket: Bucket<'_>, parent: &[u8]) -> Option<Rc<OwnedFd>> {
        let path = bucket.path_of(parent);
        if let Some((_, directory)) = self.open.iter().find(|(known, _)| *known == path) {
            return Some(directory.clone());
        }
        let directory = Rc::new(sys::path::open_dir(&self.disk.root, &path, Symlinks::Deny).ok()?);
        self.open.push((path, directory.clone()));
        Some(directory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Durability;
    use crate::store::buckets;
    use crate::store::names::record::Record;
    use crate::store::objects::write::Condition;
    use crate::store::volume::Volume;

    fn small(key: &str, bytes: &[u8]) -> Small {
        let (bucket, record) = ("bucket".to_owned(), Record::new(0, 0, [0; 16]));
        let write = Write { bucket, key: key.as_bytes().to_vec(), record, condition: None };
        Small { write, bytes: bytes.to_vec(), md5: None }
    }

    fn if_condition(key: &str, bytes: &[u8], condition: Condition) -> Small {
        let Small { write, bytes, md5 } = small(key, bytes);
        Small { write: Write { condition: Some(condition), ..write }, bytes, md5 }
    }

    fn fixture() -> (tempfile::TempDir, Volume) {
        let top = tempfile::tempdir().unwrap();
        let volume = Volume::open(top.path().as_os_str().as_encoded_bytes(), Durability::Acked).unwrap();
        buckets::create(volume.bucket("bucket"), volume.uploads()).unwrap();
        (top, volume)
    }

    /// Each outcome is that of its own object, as if it had come alone, in the order given.
    #[test]
    fn each_is_published_or_refused_by_itself() {
        let (top, volume) = fixture();
        let at = |key: &str| std::fs::read(top.path().join("bucket").join(key)).ok();
        let mut nowhere = small("a", b"nowhere");
        nowhere.write.bucket = "none".to_owned();
        let outcomes = commit_each(
            volume.disk(),
            vec![
                small("a", b"first"),
                small("new/deep/b", b"in directories to be made"),
                if_condition("a", b"second", Box::new(|now| now.is_none())),
                small("new/deep/c", b""),
                if_condition("a", b"third", Box::new(|now| now.is_some_and(|state| state.stat.size == 5))),
                nowhere,
                small("new/", b""),
                small("new", b"beside its directory"),
            ],
        );
        let errors: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().err().copied()).collect();
        let (failed, nowhere) = (Some(StoreError::PreconditionFailed { was_there: true }), Some(StoreError::NoBucket));
        assert_eq!(errors, [None, None, failed, None, None, nowhere, None, None]);
        let tickets: Vec<_> = outcomes.iter().flatten().map(|published| published.ticket).collect();
        assert!(tickets.is_sorted() && tickets.windows(2).all(|pair| pair[0] != pair[1]));
        assert_eq!(at("a").unwrap(), b"third");
        assert_eq!(at("new/deep/b").unwrap(), b"in directories to be made");
        assert_eq!(at("new/deep/c").unwrap(), b"");
        assert_eq!(at("new/.sluice%o").unwrap(), b"beside its directory");
        assert!(volume.bucket("bucket").open(b"new/").is_ok());
        let published = outcomes[4].as_ref().unwrap();
        let state = volume.bucket("bucket").open(b"a").unwrap().state;
        assert_eq!((published.record.size, published.record.mtime_ns), (state.stat.size, state.stat.mtime_ns));
        assert_eq!(std::fs::read_dir(top.path().join(".sluice/staging")).unwrap().count(), 0);
    }

    /// Oracle: the `md-5` crate.
    #[test]
    fn each_gets_the_etag_of_its_own_bytes() {
        let (_top, volume) = fixture();
        let bodies: Vec<Vec<u8>> =
            (0..40_usize).map(|index| (0..index * 331).map(|at| (at * 31 + index) as u8).collect()).collect();
        let of = |bytes: &[u8]| -> [u8; 16] { <md5::Md5 as md5::Digest>::digest(bytes).into() };
        let objects = bodies.iter().enumerate().map(|(index, bytes)| {
            let known = (index % 5 == 0).then(|| of(bytes));
            Small { md5: known, ..small(&format!("key-{index}"), bytes) }
        });
        let outcomes = commit_each(volume.disk(), objects.chain([small("directory/", b"")]).collect());
        for ((index, outcome), bytes) in outcomes.iter().enumerate().zip(bodies.iter().chain([&Vec::new()])) {
            let key = if index == bodies.len() { "directory/".to_owned() } else { format!("key-{index}") };
            let state = volume.bucket("bucket").open(key.as_bytes()).unwrap().state;
            assert_eq!(outcome.as_ref().unwrap().record.etag, of(bytes), "{key}");
            assert_eq!(state.record.unwrap().etag, of(bytes), "{key}");
        }
    }

    /// An edit of the same length, however soon, makes the record void, also where the mtime is that of our own write, which
    /// nobody has looked at since.
    #[test]
    fn an_edit_right_after_the_publication_is_seen() {
        use std::os::unix::fs::FileExt;
        let (top, volume) = fixture();
        for index in 0..50 {
            let key = format!("key-{index}");
            let outcome = commit_each(volume.disk(), vec![small(&key, b"ours")]).remove(0);
            let file = std::fs::File::options().write(true).open(top.path().join("bucket").join(&key)).unwrap();
            file.write_all_at(b"them", 0).unwrap();
            assert!(outcome.is_ok());
            assert_eq!(volume.bucket("bucket").open(key.as_bytes()).unwrap().state.record, None, "{key}");
        }
    }

    /// A DELETE may prune the directory after the batch has opened it.
    #[test]
    fn a_directory_that_vanishes_is_made_again() {
        let (top, volume) = fixture();
        let directory = top.path().join("bucket/dir");
        std::fs::create_dir(&directory).unwrap();
        let removed = directory.clone();
        let vanish: Condition = Box::new(move |_| {
            let _ = std::fs::remove_dir(&removed);
            true
        });
        let outcomes = commit_each(volume.disk(), vec![if_condition("dir/a", b"a", vanish), small("dir/b", b"b")]);
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        assert_eq!(std::fs::read(directory.join("a")).unwrap(), b"a");
        assert_eq!(std::fs::read(directory.join("b")).unwrap(), b"b");
    }
}
