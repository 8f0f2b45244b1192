//! CreateBucket.

use crate::limits::PUBLISH_ATTEMPTS_MAX;
use crate::store::disk::Bucket;
use crate::store::disk::barrier::Ticket;
use crate::store::error::{Result, StoreError};
use crate::store::names::record::{DIRECTORY_MADE_BY_PUT, DIRECTORY_NAME};
use crate::store::uploads::{Forgotten, Uploads, forget_bucket};
use crate::sys::path::Symlinks;
use crate::sys::{self, Errno};

/// Mode of a bucket's directory, before the umask.
const BUCKET_MODE: u32 = 0o755;

/// Makes a bucket. The name was checked by the caller.
pub fn create(bucket: Bucket<'_>, uploads: &Uploads) -> Result<Ticket> {
    let disk = bucket.disk;
    if !disk.takes_changes() {
        return Err(StoreError::VolumeFailed);
    }
    // While one of this name is made or removed, nobody can have begun an upload that `forget_bucket` would take for an old one.
    let alone = disk.lock_buckets();
    let forgotten = match bucket.describe()? {
        Some(_) => Forgotten::default(),
        // Uploads of an earlier bucket of this name, whose removal a crash cut short.
        None => forget_bucket(uploads, bucket)?,
    };
    let made = make(bucket);
    drop(alone);
    forgotten.discard(disk);
    made
}

fn make(bucket: Bucket<'_>) -> Result<Ticket> {
    let (disk, name) = (bucket.disk, bucket.name.as_bytes());
    for _ in 0..PUBLISH_ATTEMPTS_MAX {
        match sys::path::mkdir(&disk.root, name, BUCKET_MODE) {
            Ok(()) => {}
            Err(Errno::EXIST) if bucket.exists()? => {
                // Its maker may not have synced yet.
                disk.sync_each(&[&disk.root])?;
                return Err(StoreError::BucketExists);
            }
            Err(Errno::EXIST) => match sys::stat::at(&disk.root, name) {
                // A POSIX program is at it as well.
                Err(Errno::NOENT) => continue,
                Ok(_) => return Err(StoreError::Foreign),
                Err(errno) => return Err(errno.into()),
            },
            Err(errno) => return Err(errno.into()),
        }
        match mark(bucket) {
            Ok(()) => {
                disk.sync_each(&[&disk.root])?;
                return Ok(disk.barrier().published());
            }
            // Somebody has removed it already.
            Err(_) if !bucket.exists()? => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(StoreError::Contended)
}

fn mark(bucket: Bucket<'_>) -> sys::Result<()> {
    let directory = sys::path::open_dir(&bucket.disk.root, bucket.name.as_bytes(), Symlinks::Deny)?;
    sys::xattr::write(&directory, DIRECTORY_NAME, &DIRECTORY_MADE_BY_PUT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Durability;
    use crate::store::buckets::{BucketsQuery, list};
    use crate::store::names::record::Record;
    use crate::store::objects::batch::{Small, commit_each};
    use crate::store::objects::write::Write;
    use crate::store::volume::Volume;

    fn fixture() -> (tempfile::TempDir, Volume) {
        let top = tempfile::tempdir().unwrap();
        let volume = Volume::open(top.path().as_os_str().as_encoded_bytes(), Durability::Relaxed).unwrap();
        (top, volume)
    }

    /// The kernel refuses to look a name of 300 bytes up, as it may refuse any other for want of memory or for a broken disk.
    #[test]
    fn what_cannot_be_looked_up_is_an_error_and_not_a_missing_bucket() {
        let (_top, volume) = fixture();
        let name = "b".repeat(300);
        let refused = StoreError::Kernel(Errno::NAMETOOLONG);
        assert_eq!(volume.bucket(&name).describe().unwrap_err(), refused);
        assert_eq!(volume.bucket(&name).exists().unwrap_err(), refused);
        assert_eq!(volume.bucket(&name).or_no_bucket(StoreError::NoObject), refused);
        assert_eq!(create(volume.bucket(&name), volume.uploads()).unwrap_err(), refused);
        assert_eq!(volume.bucket("none").exists(), Ok(false));
    }

    /// A name that is taken, by a file or a link, is no bucket to anybody, and cannot become one.
    #[test]
    fn what_is_no_directory_is_no_bucket() {
        let (top, volume) = fixture();
        create(volume.bucket("bucket"), volume.uploads()).unwrap();
        std::fs::write(top.path().join("file"), b"").unwrap();
        std::os::unix::fs::symlink("bucket", top.path().join("link")).unwrap();
        for name in ["file", "link"] {
            assert_eq!(volume.bucket(name).head().unwrap_err(), StoreError::NoBucket);
            assert_eq!(create(volume.bucket(name), volume.uploads()).unwrap_err(), StoreError::Foreign);
            assert_eq!(volume.bucket(name).open(b"key").unwrap_err(), StoreError::NoBucket);
            for key in [&b"key"[..], b"a/key", b"a/"] {
                let (bucket, key, record) = (name.to_owned(), key.to_vec(), Record::new(0, 0, [0; 16]));
                let small = Small { write: Write { bucket, key, record, condition: None }, bytes: Vec::new(), md5: None };
                assert_eq!(commit_each(volume.disk(), vec![small]).remove(0).unwrap_err(), StoreError::NoBucket);
            }
        }
        assert_eq!(create(volume.bucket("bucket"), volume.uploads()).unwrap_err(), StoreError::BucketExists);
        assert_eq!(list(volume.disk(), &BucketsQuery { prefix: "", after: "", max: 9 }).unwrap().0.len(), 1);
    }
}
