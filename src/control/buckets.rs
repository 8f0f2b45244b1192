//! The changes of buckets.

use rustix::io::Errno;

use super::state::State;
use crate::base::time::Timestamp;
use crate::catalog::{Document, Standing};
use crate::documents::DocumentError;
use crate::model::{Bucket, BucketId, Carried, DirectoryIdentity, FoundDirectory, Versioning};
use crate::orders::{Answer, Refused};
use crate::store::buckets;
use crate::store::error::StoreError;

/// A new bucket: the directory complete in staging, the document, the catalog; then the directory's name. A crash in between leaves a
/// document without a directory, which is no bucket, and gives way to the next one of this name.
pub(super) fn create(state: &mut State, name: &str, owner: &str) -> Answer {
    state.check_configuration()?;
    state.read(name)?;
    let id = draw()?;
    let volume = state.volume().clone();
    let mut is_written = false;
    let made = buckets::create_known(volume.bucket(name), volume.uploads(), id, |directory| {
        if state.document(name) == Some(&Document::Damaged) {
            return Err(Refused::Damaged);
        }
        is_written = true;
        state.write(name, new(id, directory, owner, Versioning::Unversioned))?;
        // Before anybody can find it.
        state.place(name, FoundDirectory { identity: directory, carries: Carried::Id(id) });
        state.publish();
        Ok(())
    });
    if is_written && made.is_err() {
        // What cannot be removed stays without a directory.
        let _ = state.remove(name);
    }
    if made.is_err() {
        state.read(name)?;
    }
    state.publish();
    made.map(Some)
}

/// The document of a bucket whose directory is gone goes, too.
pub(super) fn forget(state: &mut State, name: &str) -> Answer {
    state.read(name)?;
    let is_gone = buckets::identify(state.volume().bucket(name))?.is_none();
    if is_gone && matches!(state.document(name), Some(Document::Bucket(_))) {
        state.check_configuration()?;
        state.remove(name)?;
    }
    state.publish();
    Ok(None)
}

/// Whether a bucket keeps versions. One that was never configured gets its document now.
pub(super) fn set_versioning(state: &mut State, name: &str, owner: &str, versioning: Versioning) -> Answer {
    if !state.volume().disk().takes_changes() {
        return Err(StoreError::VolumeFailed.into());
    }
    state.check_configuration()?;
    state.read(name)?;
    state.publish();
    let found = buckets::identify(state.volume().bucket(name))?.ok_or(StoreError::NoBucket)?;
    let settings = match state.entry(name) {
        None => new(draw()?, found.identity, owner, versioning),
        Some((Standing::Own, Some(settings))) => Bucket { versioning, ..(*settings).clone() },
        Some((Standing::Damaged(_), _)) => return Err(Refused::Damaged),
        Some(_) => return Err(Refused::OtherDirectory),
    };
    let (id, kept_none) = (settings.id, before(state, name) == Versioning::Unversioned);
    if kept_none && versioning != Versioning::Unversioned {
        // Refused now, and not each overwrite later.
        buckets::can_keep_versions(state.volume().bucket(name))?;
    }
    let written = state.write(name, settings);
    // Where it cannot, inode and birth tell.
    if written.is_ok() && found.carries == Carried::Nothing && buckets::carry(state.volume().bucket(name), id)? {
        state.place(name, FoundDirectory { carries: Carried::Id(id), ..found });
    }
    state.publish();
    written.map(|()| None)
}

/// What the bucket is set to so far.
fn before(state: &State, name: &str) -> Versioning {
    state.entry(name).and_then(|(_, settings)| Some(settings?.versioning)).unwrap_or_default()
}

fn new(id: BucketId, directory: DirectoryIdentity, owner: &str, versioning: Versioning) -> Bucket {
    Bucket { id, directory, owner: owner.into(), created_s: Timestamp::now().seconds, versioning }
}

fn draw() -> Result<BucketId, Refused> {
    let mut bytes = [0; BucketId::SIZE];
    getrandom::fill(&mut bytes).map_err(|_| DocumentError::Io(Errno::IO))?;
    Ok(BucketId::new(bytes))
}
