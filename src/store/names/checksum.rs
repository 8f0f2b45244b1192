//! A checksum as S3 shows it, and as a record keeps it.

use super::record::{self, Record};
use crate::digest::Checksum;
use crate::digest::checksum::Kind;

/// A computed checksum, as a record keeps it.
pub fn kept(checksum: &Checksum) -> record::Checksum {
    record::Checksum { value: checksum.value, kind: checksum.kind() }
}

/// The checksum of the object that `record` describes, with the number of its parts where it is made of theirs.
pub fn of_record(record: &Record) -> Option<Checksum> {
    let kept = record.checksum.as_ref()?;
    Some(Checksum { value: kept.value, parts: (kept.kind == Kind::Composite).then_some(record.parts) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Algorithm;
    use crate::digest::checksum::Hasher;

    #[test]
    fn what_is_kept_comes_back() {
        for algorithm in Algorithm::ALL {
            let value = Hasher::new(algorithm).finish();
            for parts in [None, Some(3)] {
                let checksum = Checksum { value, parts };
                let mut record = Record::new(0, 0, [0; 16]);
                record.parts = 3;
                record.checksum = Some(kept(&checksum));
                assert_eq!(of_record(&record), Some(checksum));
            }
        }
    }
}
