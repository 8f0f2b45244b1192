//! Bytes from file to file, by the cheapest way that the filesystem has: sharing blocks (FICLONERANGE), copying inside the
//! kernel (copy_file_range), reading and writing. And what CopyObject keeps of its source.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::open::Object;
use crate::digest::checksum::{Hasher, Value};
use crate::digest::{Algorithm, Checksum, Md5};
use crate::limits::{BLOCK_ALIGN, COPY_BUFFER_SIZE, COPY_STEP_SIZE};
use crate::store::disk::stage::Staged;
use crate::store::error::{Result, StoreError};
use crate::store::names::checksum;
use crate::store::names::record::{self, PartRun, Record};
use crate::sys::{self, Errno};

/// What is known of a copy's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// How many.
    pub size: u64,
    /// MD5 of the bytes, or of the parts' MD5s.
    pub etag: [u8; 16],
    /// Number of parts, 0 for a plain MD5.
    pub parts: u32,
    /// Sizes of the parts.
    pub part_sizes: Vec<PartRun>,
    /// Their checksums.
    pub part_checksums: Vec<u8>,
    /// The checksum.
    pub checksum: Option<record::Checksum>,
    /// Further ones.
    pub more_checksums: Vec<record::Checksum>,
}

impl Content {
    /// Into the record of the copy. The upload that made the source is not taken over: a repeated Complete of it must not be
    /// answered by the copy.
    pub fn record_into(self, record: &mut Record) {
        (record.etag, record.parts) = (self.etag, self.parts);
        (record.part_sizes, record.part_checksums) = (self.part_sizes, self.part_checksums);
        (record.checksum, record.more_checksums) = (self.checksum, self.more_checksums);
        record.upload = None;
    }
}

/// Fills `staged` with the bytes of `source`. ETag and checksum are the source's while they are true, and are computed where
/// they are not, or where a checksum is `wanted` that the source does not have. `stop` ends it early with ECANCELED, for a client that
/// is gone.
pub fn copy(source: &Object, staged: &Staged, wanted: Option<Algorithm>, stop: &AtomicBool) -> Result<Content> {
    let progress = &AtomicU64::new(0);
    let size = source.state.size;
    if staged.is_direct {
        sys::file::set_direct(&staged.file, false)?;
    }
    let content = match known(source, wanted) {
        Some(content) => {
            range(&staged.file, 0, &source.file, 0, size, progress, stop)?;
            content
        }
        None => {
            // The bytes pass by anyway: what has no checksum gets one, as what is put.
            let algorithm = Some(wanted.unwrap_or(Algorithm::DEFAULT));
            let ways = Digested { algorithm, progress, stop, is_closed: &|| false };
            let (md5, value) = ways.range(&staged.file, 0, &source.file, 0, size)?;
            let checksum = value.map(|value| checksum::kept(&Checksum::from(value)));
            let (part_sizes, part_checksums, more_checksums) = (Vec::new(), Vec::new(), Vec::new());
            Content { size, etag: md5, parts: 0, part_sizes, part_checksums, checksum, more_checksums }
        }
    };
    // An edit in place while we copied: the copy may be a mixture.
    if !is_directory(source) && !source.is_unchanged() {
        return Err(StoreError::Contended);
    }
    Ok(content)
}

fn known(source: &Object, wanted: Option<Algorithm>) -> Option<Content> {
    let record = source.state.record.as_ref()?;
    let has = |algorithm: Algorithm| {
        let mut checksums = record.checksum.iter().chain(&record.more_checksums);
        checksums.any(|checksum| checksum.algorithm() == algorithm)
    };
    wanted.is_none_or(has).then(|| Content {
        size: source.state.size,
        etag: record.etag,
        parts: record.parts,
        part_sizes: record.part_sizes.clone(),
        part_checksums: record.part_checksums.clone(),
        checksum: record.checksum,
        more_checksums: record.more_checksums.clone(),
    })
}

fn is_directory(source: &Object) -> bool {
    source.state.stat.kind == sys::FileKind::Directory
}

/// Brings `length` bytes from one file into another.
pub(in crate::store) fn range(
    to: &OwnedFd,
    to_offset: u64,
    from: &OwnedFd,
    from_offset: u64,
    length: u64,
    progress: &AtomicU64,
    stop: &AtomicBool,
) -> Result<()> {
    let mut done = share(to, to_offset, from, from_offset, length);
    progress.fetch_add(done, Ordering::Relaxed);
    while done < length {
        check(stop)?;
        let step = usize::try_from(length - done).unwrap_or(usize::MAX).min(COPY_STEP_SIZE);
        match sys::space::copy_range(to, to_offset + done, from, from_offset + done, step) {
            // The source has become shorter.
            Ok(0) => return Err(StoreError::Contended),
            Ok(count) => {
                done += count as u64;
                progress.fetch_add(count as u64, Ordering::Relaxed);
            }
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::XDEV | Errno::INVAL | Errno::PERM | Errno::TXTBSY) => {
                let ways = Digested { algorithm: None, progress, stop, is_closed: &|| false };
                let rest = (to_offset + done, from_offset + done, length - done);
                return ways.pump(from, rest.1, rest.2, |bytes, at| Ok(sys::file::write_all_at(to, bytes, rest.0 + at)?));
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Shares the aligned front of a range; answers how many bytes that was. An error says only that it has to be copied.
fn share(to: &OwnedFd, to_offset: u64, from: &OwnedFd, from_offset: u64, length: u64) -> u64 {
    let align = BLOCK_ALIGN as u64;
    let front = length / align * align;
    if front == 0 || !to_offset.is_multiple_of(align) || !from_offset.is_multiple_of(align) {
        return 0;
    }
    sys::space::share_range(to, to_offset, from, from_offset, front).map_or(0, |()| front)
}

/// A copy whose bytes are digested on the way.
pub(in crate::store) struct Digested<'a> {
    /// The checksum to compute beside the MD5.
    pub(in crate::store) algorithm: Option<Algorithm>,
    /// Counts bytes.
    pub(in crate::store) progress: &'a AtomicU64,
    /// See `copy`.
    pub(in crate::store) stop: &'a AtomicBool,
    /// Asked before each write: whether the place was taken away from this writer.
    pub(in crate::store) is_closed: &'a dyn Fn() -> bool,
}

impl Digested<'_> {
    /// Brings the bytes over and answers their MD5 and checksum. What is shared is digested where it has arrived, so that the
    /// digest is the copy's whatever a POSIX writer does to the source meanwhile.
    pub(in crate::store) fn range(
        &self,
        to: &OwnedFd,
        to_offset: u64,
        from: &OwnedFd,
        from_offset: u64,
        length: u64,
    ) -> Result<([u8; 16], Option<Value>)> {
        let mut digests = Digests::new(self.algorithm);
        if (self.is_closed)() {
            return Err(StoreError::Contended);
        }
        let shared = share(to, to_offset, from, from_offset, length);
        self.pump(to, to_offset, shared, |bytes, _| {
            digests.update(bytes);
            Ok(())
        })?;
        self.pump(from, from_offset + shared, length - shared, |bytes, at| {
            digests.update(bytes);
            Ok(sys::file::write_all_at(to, bytes, to_offset + shared + at)?)
        })?;
        Ok(digests.finish())
    }

    /// The MD5 and the checksum of a range.
    pub(in crate::store) fn digest(&self, from: &OwnedFd, offset: u64, length: u64) -> Result<([u8; 16], Option<Value>)> {
        let mut digests = Digests::new(self.algorithm);
        self.pump(from, offset, length, |bytes, _| {
            digests.update(bytes);
            Ok(())
        })?;
        Ok(digests.finish())
    }

    /// Reads a range through a buffer; `take` gets the bytes and their place in the range.
    pub(super) fn pump(
        &self,
        from: &OwnedFd,
        offset: u64,
        length: u64,
        mut take: impl FnMut(&[u8], u64) -> Result<()>,
    ) -> Result<()> {
        let mut buffer = vec![0; usize::try_from(length).unwrap_or(usize::MAX).min(COPY_BUFFER_SIZE)];
        let mut done = 0;
        while done < length {
            let step = usize::try_from(length - done).unwrap_or(usize::MAX).min(buffer.len());
            check(self.stop)?;
            let count = sys::file::read_at(from, &mut buffer[..step], offset + done)?;
            if count == 0 || (self.is_closed)() {
                return Err(StoreError::Contended);
            }
            take(&buffer[..count], done)?;
            done += count as u64;
            self.progress.fetch_add(count as u64, Ordering::Relaxed);
        }
        Ok(())
    }
}

fn check(stop: &AtomicBool) -> Result<()> {
    if stop.load(Ordering::Relaxed) { Err(StoreError::Kernel(Errno::CANCELED)) } else { Ok(()) }
}

/// For what has to be brought to its end, once it was begun.
pub(in crate::store) static NEVER: AtomicBool = AtomicBool::new(false);

struct Digests {
    md5: Md5,
    hasher: Option<Hasher>,
}

impl Digests {
    fn new(algorithm: Option<Algorithm>) -> Self {
        Self { md5: Md5::new(), hasher: algorithm.map(Hasher::new) }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
    }

    fn finish(self) -> ([u8; 16], Option<Value>) {
        (self.md5.finish(), self.hasher.map(Hasher::finish))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Durability;
    use crate::store::buckets;
    use crate::store::objects::commit::{FilledFile, commit};
    use crate::store::objects::write::Write;
    use crate::store::volume::Volume;

    const SIZE: usize = 3 * 1024 * 1024 + 17;

    struct Fixture {
        top: tempfile::TempDir,
        volume: Volume,
    }

    impl Fixture {
        fn new() -> Self {
            let top = tempfile::tempdir().unwrap();
            let volume = Volume::open(top.path().as_os_str().as_encoded_bytes(), Durability::Acked).unwrap();
            buckets::create(volume.bucket("bucket"), volume.uploads()).unwrap();
            Self { top, volume }
        }

        fn put(&self, key: &str, bytes: &[u8], mut record: Record) {
            let staged = self.volume.bucket("bucket").stage(key.as_bytes(), None, false).unwrap();
            (record.etag, record.upload) = (Md5::of(bytes), Some([1; 16]));
            let (bucket, key, tail) = ("bucket".to_owned(), key.as_bytes().to_vec(), Some((0, bytes.to_vec())));
            let filled = FilledFile { staged, size: bytes.len() as u64, tail };
            commit(self.volume.disk(), Write { bucket, key, record, condition: None }, filled).unwrap();
        }

        fn copy(&self, from: &str, to: &str, wanted: Option<Algorithm>) -> Result<Record> {
            let source = self.volume.bucket("bucket").open(from.as_bytes())?;
            let staged = self.volume.bucket("bucket").stage(to.as_bytes(), Some(source.state.size), true)?;
            let content = copy(&source, &staged, wanted, &NEVER)?;
            let (bucket, key, size) = ("bucket".to_owned(), to.as_bytes().to_vec(), content.size);
            let mut record = source.state.record.clone().unwrap_or_else(|| Record::new(0, 0, [0; 16]));
            content.record_into(&mut record);
            let write = Write { bucket, key, record, condition: None };
            let published = commit(self.volume.disk(), write, FilledFile { staged, size, tail: None })?;
            Ok(published.record)
        }

        fn path(&self, key: &str) -> std::path::PathBuf {
            self.top.path().join("bucket").join(key)
        }
    }

    fn bytes() -> Vec<u8> {
        (0..SIZE as u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    }

    #[test]
    fn what_is_known_of_the_source_is_kept_and_its_upload_is_not() {
        let fixture = Fixture::new();
        let crc = Value::from_bytes(Algorithm::Crc32, &[1, 2, 3, 4]).map(|value| checksum::kept(&Checksum::from(value)));
        fixture.put("a", &bytes(), Record { checksum: crc, ..Record::new(0, 0, [0; 16]) });
        for wanted in [None, Some(Algorithm::Crc32)] {
            let copied = fixture.copy("a", "b", wanted).unwrap();
            assert_eq!((copied.etag, copied.checksum, copied.upload), (Md5::of(&bytes()), crc, None));
            assert!(std::fs::read(fixture.path("b")).unwrap() == bytes());
        }
    }

    #[test]
    fn what_is_not_known_is_computed() {
        let fixture = Fixture::new();
        fixture.put("a", &bytes(), Record { parts: 2, ..Record::new(0, 0, [0; 16]) });
        let mut crc = Hasher::new(Algorithm::Crc64Nvme);
        crc.update(&bytes());
        let copied = fixture.copy("a", "b", Some(Algorithm::Crc64Nvme)).unwrap();
        assert_eq!(copied.checksum, Some(checksum::kept(&Checksum::from(crc.finish()))));
        assert_eq!((copied.etag, copied.parts), (Md5::of(&bytes()), 0));
        // A file that another protocol wrote, and one that it changed.
        std::fs::write(fixture.path("posix"), b"written through POSIX").unwrap();
        assert_eq!(fixture.copy("posix", "c", None).unwrap().etag, Md5::of(b"written through POSIX"));
        std::fs::write(fixture.path("a"), b"changed").unwrap();
        assert_eq!(fixture.copy("a", "d/e", None).unwrap().etag, Md5::of(b"changed"));
        assert_eq!(std::fs::read(fixture.path("d/e")).unwrap(), b"changed");
    }

    #[test]
    fn an_object_copied_to_itself_is_a_new_file() {
        use std::os::unix::fs::MetadataExt;
        let fixture = Fixture::new();
        fixture.put("a", &bytes(), Record::new(0, 0, [0; 16]));
        let before = std::fs::metadata(fixture.path("a")).unwrap().ino();
        fixture.copy("a", "a", Some(Algorithm::Sha256)).unwrap();
        assert_ne!(std::fs::metadata(fixture.path("a")).unwrap().ino(), before);
        assert!(std::fs::read(fixture.path("a")).unwrap() == bytes());
        assert_eq!(std::fs::read_dir(fixture.top.path().join(".sluice/staging")).unwrap().count(), 0);
    }

    #[test]
    fn an_edit_during_the_copy_is_noticed() {
        let fixture = Fixture::new();
        fixture.put("a", &bytes(), Record::new(0, 0, [0; 16]));
        let source = fixture.volume.bucket("bucket").open(b"a").unwrap();
        std::fs::write(fixture.path("a"), bytes().split_off(1)).unwrap();
        let staged = fixture.volume.bucket("bucket").stage(b"b", None, false).unwrap();
        assert_eq!(copy(&source, &staged, None, &NEVER).unwrap_err(), StoreError::Contended);
    }

    /// Whether the bytes are copied as they are, or digested.
    #[test]
    fn a_copy_that_nobody_waits_for_is_not_finished() {
        let fixture = Fixture::new();
        fixture.put("a", &bytes(), Record::new(0, 0, [0; 16]));
        let source = fixture.volume.bucket("bucket").open(b"a").unwrap();
        for wanted in [None, Some(Algorithm::Crc32)] {
            let staged = fixture.volume.bucket("bucket").stage(b"b", None, false).unwrap();
            let stopped = copy(&source, &staged, wanted, &AtomicBool::new(true));
            // A filesystem that shares blocks has no bytes left to copy.
            let is_shared = wanted.is_none() && sys::stat::of(&staged.file).unwrap().size >= SIZE as u64 / 4096 * 4096;
            assert!(stopped == Err(StoreError::Kernel(Errno::CANCELED)) || is_shared, "{stopped:?}");
        }
    }
}
