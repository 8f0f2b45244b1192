//! What CreateMultipartUpload said, as a file; and the mark on it that says which file is about to become the object.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use crate::digest::Algorithm;
use crate::digest::checksum::Kind;
use crate::limits::{EXTENDED_RECORD_SIZE_MAX, KEY_SIZE_MAX, NAME_SIZE_MAX};
use crate::store::error::{Result, StoreError};
use crate::store::names::record::{self, Record};
use crate::sys::path::Symlinks;
use crate::sys::{self, Errno};

/// The file.
pub(super) const MANIFEST_NAME: &[u8] = b"upload";
/// On the file: the name of the file that Complete renames to the object's. When that name is gone, the upload is completed.
const CHOSEN_NAME: &CStr = c"user.sluice.chosen";
const VERSION: u8 = 1;
const SIZE_MAX: usize = EXTENDED_RECORD_SIZE_MAX + KEY_SIZE_MAX + 1024;

/// The facts of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) bucket: String,
    pub(super) key: Vec<u8>,
    pub(super) initiated_ns: i64,
    pub(super) checksum: Option<(Algorithm, Kind)>,
    pub(super) record: Record,
}

impl Manifest {
    /// Version, checksum (algorithm, kind), time, then bucket, key, summary and extended record, each behind its length.
    pub(super) fn encode(&self) -> Vec<u8> {
        let encoded = self.record.encode();
        let (algorithm, kind) = match self.checksum {
            Some((algorithm, kind)) => (record::code_of(algorithm), record::code_of_kind(kind)),
            None => (0, 0),
        };
        let mut bytes = vec![VERSION, algorithm, kind];
        bytes.extend_from_slice(&self.initiated_ns.to_le_bytes());
        let extended = encoded.extended.as_deref().unwrap_or_default();
        for field in [self.bucket.as_bytes(), &self.key, encoded.summary(), extended] {
            bytes.extend_from_slice(&(field.len() as u32).to_le_bytes());
            bytes.extend_from_slice(field);
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[version, algorithm, kind], rest) = bytes.split_first_chunk()?;
        let (time, mut rest) = rest.split_first_chunk()?;
        let checksum = match algorithm {
            0 => None,
            code => Some((record::algorithm_of(code).ok()?, record::kind_of(kind).ok()?)),
        };
        let mut fields = [&[][..]; 4];
        for field in &mut fields {
            let (size, behind) = rest.split_first_chunk()?;
            (*field, rest) = behind.split_at_checked(u32::from_le_bytes(*size) as usize)?;
        }
        let [bucket, key, summary, extended] = fields;
        if version != VERSION || !rest.is_empty() || bucket.len() > NAME_SIZE_MAX {
            return None;
        }
        let extended = (!extended.is_empty()).then_some(extended);
        Some(Self {
            bucket: std::str::from_utf8(bucket).ok()?.to_owned(),
            key: key.to_vec(),
            initiated_ns: i64::from_le_bytes(*time),
            checksum,
            record: Record::decode(summary, extended).ok()?,
        })
    }

    /// Reads the one in an upload's directory.
    pub(super) fn read(directory: &OwnedFd) -> Result<Self> {
        let file = sys::path::open_read(directory, MANIFEST_NAME, Symlinks::Deny)?;
        let size = usize::try_from(sys::stat::of(&file)?.size).unwrap_or(usize::MAX).min(SIZE_MAX);
        let mut bytes = vec![0; size];
        let filled = sys::file::read_full_at(&file, &mut bytes, 0)?;
        Self::decode(&bytes[..filled]).ok_or(StoreError::Kernel(Errno::BADMSG))
    }
}

/// Marks the file that is about to be renamed to the object's name.
pub(super) fn choose(directory: &OwnedFd, name: &[u8]) -> Result<OwnedFd> {
    let file = sys::path::open_read(directory, MANIFEST_NAME, Symlinks::Deny)?;
    sys::xattr::write(&file, CHOSEN_NAME, name)?;
    Ok(file)
}

/// Takes the mark back if it is on this file, which is about to be removed for another reason.
pub(super) fn unchoose(directory: &OwnedFd, name: &[u8]) -> Result<Option<OwnedFd>> {
    let mut chosen = [0; NAME_SIZE_MAX];
    match sys::xattr::read_at(directory, MANIFEST_NAME, CHOSEN_NAME, &mut chosen)? {
        Some(size) if chosen[..size] == *name => {}
        _ => return Ok(None),
    }
    let file = sys::path::open_read(directory, MANIFEST_NAME, Symlinks::Deny)?;
    sys::xattr::remove(&file, CHOSEN_NAME)?;
    Ok(Some(file))
}

/// Whether the chosen file has left, or has a name elsewhere as well: then it is the object, and only the removal of the rest was cut
/// off. A file that is not the object has no second name but while it gets one; the sweep at start takes that away first.
pub(super) fn is_published(directory: &OwnedFd) -> bool {
    let mut chosen = [0; NAME_SIZE_MAX];
    match sys::xattr::read_at(directory, MANIFEST_NAME, CHOSEN_NAME, &mut chosen) {
        Ok(Some(size)) => match sys::stat::at(directory, &chosen[..size]) {
            Ok(stat) => stat.nlink > 1,
            Err(errno) => errno == Errno::NOENT,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn manifest() -> Manifest {
        let mut record = Record::new(0, 0, [0; 16]);
        record.content_type = Some(b"text/x-unusual".to_vec().into());
        record.user_metadata = vec![(b"n".to_vec(), b"v".to_vec())];
        Manifest {
            bucket: "photos".into(),
            key: b"2026/cat.jpg".to_vec(),
            initiated_ns: 1_700_000_000_000_000_000,
            checksum: Some((Algorithm::Sha256, Kind::Composite)),
            record,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let full = manifest();
        assert_eq!(Manifest::decode(&full.encode()), Some(full.clone()));
        let bare = Manifest { checksum: None, record: Record::new(0, 0, [0; 16]), ..full };
        assert_eq!(Manifest::decode(&bare.encode()), Some(bare));
    }

    proptest! {
        #[test]
        fn damaged_bytes_are_no_manifest_or_one(cut in 0usize..200, at in 0usize..200, value: u8) {
            let mut bytes = manifest().encode();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            bytes.truncate(cut);
            if let Some(decoded) = Manifest::decode(&bytes) {
                prop_assert_eq!(Manifest::decode(&decoded.encode()), Some(decoded));
            }
        }
    }
}
