//! CreateBucket.

use std::os::fd::{AsFd, OwnedFd};

use super::identity::{BUCKET_NAME, identity};
use crate::model::{BucketId, DirectoryIdentity};
use crate::store::disk::barrier::Ticket;
use crate::store::disk::staging::Purpose;
use crate::store::disk::{Bucket, Disk, inherit};
use crate::store::error::{Result, StoreError};
use crate::store::names::record::{DIRECTORY_MADE_BY_PUT, DIRECTORY_NAME};
use crate::store::uploads::{Uploads, forget_bucket};
use crate::sys::path::Symlinks;
use crate::sys::{self, Errno};

/// Mode of a bucket's directory, before the umask.
const BUCKET_MODE: u32 = 0o755;

/// Makes a bucket that carries this id. The name was checked by the caller. Before it has its name, `note` is told which directory it
/// is; where a directory cannot be moved to its name, once more of another.
pub fn create_known<E: From<StoreError>>(
    bucket: Bucket<'_>,
    uploads: &Uploads,
    id: BucketId,
    note: impl FnMut(DirectoryIdentity) -> std::result::Result<(), E>,
) -> std::result::Result<Ticket, E> {
    if !bucket.disk.takes_changes() {
        return Err(StoreError::VolumeFailed.into());
    }
    // While one of this name is made or removed, nobody can have begun an upload that `forget_bucket` would take for an old one.
    let alone = bucket.disk.lock_buckets();
    check_free(bucket)?;
    // Uploads of an earlier bucket of this name, whose removal a crash cut short.
    let forgotten = forget_bucket(uploads, bucket)?;
    let made = make_whole(bucket, id, note);
    drop(alone);
    forgotten.discard(bucket.disk);
    made
}

/// Whether nothing has the name.
fn check_free(bucket: Bucket<'_>) -> Result<()> {
    match sys::stat::at(&bucket.disk.root, bucket.name.as_bytes()) {
        Err(errno) if sys::errno::is_gone(errno) => match bucket.disk.missing_bucket() {
            StoreError::NoBucket => Ok(()),
            error => Err(error),
        },
        Err(errno) => Err(errno.into()),
        Ok(_) if bucket.exists()? => {
            // Its maker may not have synced yet.
            bucket.disk.sync_each(&[&bucket.disk.root])?;
            Err(StoreError::BucketExists)
        }
        Ok(_) => Err(StoreError::Foreign),
    }
}

/// Complete in staging, then named: nobody sees it without its id.
fn make_whole<E: From<StoreError>>(
    bucket: Bucket<'_>,
    id: BucketId,
    mut note: impl FnMut(DirectoryIdentity) -> std::result::Result<(), E>,
) -> std::result::Result<Ticket, E> {
    let staging = bucket.disk.staging()?;
    let new = staging.name(&Purpose::New);
    sys::path::mkdir(staging.directory(), &new, BUCKET_MODE).map_err(StoreError::from)?;
    let directory = furnish(bucket.disk, staging.directory(), &new, id).map_err(E::from);
    let noted = directory.and_then(|directory| note(identity(&directory, staging.directory().as_fd(), &new)?));
    let named = noted.map(|()| bucket.disk.rename_new(staging.directory(), &new, &bucket.disk.root, bucket.name.as_bytes()));
    if !matches!(named, Ok(Ok(()))) {
        let _ = sys::path::rmdir(staging.directory(), &new);
    }
    match named? {
        Ok(()) => {}
        Err(Errno::XDEV) => make_in_place(bucket, id, note)?,
        // A POSIX program was quicker, and may be at it still.
        Err(Errno::EXIST | Errno::NOTEMPTY) => {
            return Err(check_free(bucket).err().unwrap_or(StoreError::Contended).into());
        }
        Err(errno) => return Err(StoreError::from(errno).into()),
    }
    bucket.disk.sync_each(&[&bucket.disk.root])?;
    Ok(bucket.disk.barrier().published())
}

/// Where what is in staging cannot be renamed to here (another project id): a crash may leave it without its id.
fn make_in_place<E: From<StoreError>>(
    bucket: Bucket<'_>,
    id: BucketId,
    mut note: impl FnMut(DirectoryIdentity) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    match sys::path::mkdir(&bucket.disk.root, bucket.name.as_bytes(), BUCKET_MODE) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Err(check_free(bucket).err().unwrap_or(StoreError::Contended).into()),
        Err(errno) => return Err(StoreError::from(errno).into()),
    }
    let directory = bucket.open_directory()?;
    note(identity(&directory, bucket.disk.root.as_fd(), bucket.name.as_bytes())?)?;
    mark(bucket.disk, &directory, Some(id))?;
    Ok(())
}

/// As if it were made among the buckets.
fn furnish(disk: &Disk, parent: &OwnedFd, name: &[u8], id: BucketId) -> Result<OwnedFd> {
    let directory = sys::path::open_dir(parent, name, Symlinks::Deny)?;
    inherit::directory_from_directory(&directory, &disk.root, BUCKET_MODE)?;
    mark(disk, &directory, Some(id))?;
    Ok(directory)
}

fn mark(disk: &Disk, directory: &OwnedFd, id: Option<BucketId>) -> Result<()> {
    sys::xattr::write(directory, DIRECTORY_NAME, &DIRECTORY_MADE_BY_PUT)?;
    if let Some(id) = id {
        sys::xattr::write(directory, BUCKET_NAME, id.to_string().as_bytes())?;
    }
    disk.sync_each(&[directory])
}

/// Makes a bucket that nobody configured, as a POSIX program does, for tests of what is done in it.
#[cfg(test)]
pub fn create(bucket: Bucket<'_>, uploads: &Uploads) -> Result<Ticket> {
    if !bucket.disk.takes_changes() {
        return Err(StoreError::VolumeFailed);
    }
    let alone = bucket.disk.lock_buckets();
    check_free(bucket)?;
    let forgotten = forget_bucket(uploads, bucket)?;
    sys::path::mkdir(&bucket.disk.root, bucket.name.as_bytes(), BUCKET_MODE)?;
    mark(bucket.disk, &bucket.open_directory()?, None)?;
    bucket.disk.sync_each(&[&bucket.disk.root])?;
    drop(alone);
    forgotten.discard(bucket.disk);
    Ok(bucket.disk.barrier().published())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Durability;
    use crate::model::Carried;
    use crate::store::buckets::{BucketsQuery, carry, delete, identify, identify_all, list};
    use crate::store::names::record::Record;
    use crate::store::objects::batch::{Small, commit_each};
    use crate::store::objects::write::Write;
    use crate::store::volume::Volume;
    use std::sync::atomic::AtomicBool;

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

    fn id(number: u8) -> BucketId {
        BucketId::new([number; 16])
    }

    #[test]
    fn a_bucket_is_seen_with_its_id_or_not_at_all() {
        let (top, volume) = fixture();
        let mut noted = None;
        let note = |identity| {
            assert!(!top.path().join("bucket").exists(), "it is told of before it has its name");
            noted = Some(identity);
            Ok::<_, StoreError>(())
        };
        create_known(volume.bucket("bucket"), volume.uploads(), id(7), note).unwrap();
        let found = identify(volume.bucket("bucket")).unwrap().unwrap();
        assert_eq!((Some(found.identity), found.carries), (noted, Carried::Id(id(7))));
        let again = create_known::<StoreError>(volume.bucket("bucket"), volume.uploads(), id(8), |_| panic!("it is there"));
        assert_eq!(again.unwrap_err(), StoreError::BucketExists);
        let refused = create_known(volume.bucket("other"), volume.uploads(), id(9), |_| Err(StoreError::Contended));
        assert_eq!((refused.unwrap_err(), identify(volume.bucket("other"))), (StoreError::Contended, Ok(None)));
        let lost = create_known(volume.bucket("lost"), volume.uploads(), id(9), |_| {
            std::fs::create_dir(top.path().join("lost")).unwrap();
            Ok::<_, StoreError>(())
        });
        assert_eq!(lost.unwrap_err(), StoreError::BucketExists, "somebody was quicker");
        assert_eq!(identify(volume.bucket("lost")).unwrap().unwrap().carries, Carried::Nothing);
        assert_eq!(std::fs::read_dir(top.path().join(".sluice/staging")).unwrap().count(), 0);
        let names: Vec<String> = identify_all(volume.disk()).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["bucket", "lost"]);
        delete(volume.bucket("bucket"), volume.uploads(), &AtomicBool::new(false)).unwrap();
        assert_eq!(identify(volume.bucket("bucket")), Ok(None));
    }

    #[test]
    fn what_a_directory_carries_is_an_id_or_illegible() {
        let (_top, volume) = fixture();
        create(volume.bucket("bucket"), volume.uploads()).unwrap();
        assert_eq!(carry(volume.bucket("bucket"), id(1)), Ok(true));
        assert_eq!(identify(volume.bucket("bucket")).unwrap().unwrap().carries, Carried::Id(id(1)));
        let directory = volume.bucket("bucket").open_directory().unwrap();
        for text in [&b""[..], b"7", &[b'x'; 32], &[b'0'; 33]] {
            sys::xattr::write(&directory, BUCKET_NAME, text).unwrap();
            assert_eq!(identify(volume.bucket("bucket")).unwrap().unwrap().carries, Carried::Illegible, "{text:?}");
        }
        assert_eq!(carry(volume.bucket("none"), id(1)), Err(StoreError::NoBucket));
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
