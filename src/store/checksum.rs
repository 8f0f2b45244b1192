//! A checksum as `digest` computes it, and as a record keeps it: the same five algorithms, with the codes of the record's format.

use super::record::{self, ChecksumAlgorithm, ChecksumKind, Record};
use crate::digest::checksum::{Kind, Value};
use crate::digest::{Algorithm, Checksum};

impl From<Algorithm> for ChecksumAlgorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Crc32 => Self::Crc32,
            Algorithm::Crc32c => Self::Crc32c,
            Algorithm::Crc64Nvme => Self::Crc64Nvme,
            Algorithm::Sha1 => Self::Sha1,
            Algorithm::Sha256 => Self::Sha256,
        }
    }
}

impl From<ChecksumAlgorithm> for Algorithm {
    fn from(algorithm: ChecksumAlgorithm) -> Self {
        match algorithm {
            ChecksumAlgorithm::Crc32 => Self::Crc32,
            ChecksumAlgorithm::Crc32c => Self::Crc32c,
            ChecksumAlgorithm::Crc64Nvme => Self::Crc64Nvme,
            ChecksumAlgorithm::Sha1 => Self::Sha1,
            ChecksumAlgorithm::Sha256 => Self::Sha256,
        }
    }
}

impl From<Kind> for ChecksumKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::FullObject => Self::FullObject,
            Kind::Composite => Self::Composite,
        }
    }
}

impl From<ChecksumKind> for Kind {
    fn from(kind: ChecksumKind) -> Self {
        match kind {
            ChecksumKind::FullObject => Self::FullObject,
            ChecksumKind::Composite => Self::Composite,
        }
    }
}

/// A computed checksum, as a record keeps it.
pub fn kept(checksum: &Checksum) -> Option<record::Checksum> {
    record::Checksum::new(checksum.value.algorithm().into(), checksum.kind().into(), checksum.value.as_bytes())
}

/// The checksum of the object that `record` describes, with the number of its parts where it is made of theirs.
pub fn of_record(record: &Record) -> Option<Checksum> {
    let kept = record.checksum.as_ref()?;
    let value = Value::from_bytes(kept.algorithm.into(), kept.value())?;
    Some(Checksum { value, parts: (kept.kind == ChecksumKind::Composite).then_some(record.parts) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::checksum::Hasher;

    #[test]
    fn what_is_kept_comes_back() {
        for algorithm in Algorithm::ALL {
            let value = Hasher::new(algorithm).finish();
            for parts in [None, Some(3)] {
                let checksum = Checksum { value, parts };
                let mut record = Record::new(0, 0, [0; 16]);
                record.parts = 3;
                record.checksum = kept(&checksum);
                assert_eq!(of_record(&record), Some(checksum));
            }
        }
    }
}
