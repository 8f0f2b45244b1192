//! The log of an upload: which slots are claimed, which parts are there.
//!
//! One entry of 128 bytes for each, appended, so that it lies within one sector and is there as a whole or not at all; the last
//! entry of a part counts. An entry whose CRC is wrong was cut off by a crash, before its request was answered.

use std::os::fd::OwnedFd;

use crate::digest::Algorithm;
use crate::digest::checksum::{Hasher, Value};
use crate::limits::PART_NUMBER_MAX;
use crate::store::error::{Result, StoreError};
use crate::store::names::record;
use crate::sys::{self, Errno};

/// The file.
pub(super) const LOG_NAME: &[u8] = b"parts";
/// Bytes of an entry.
pub(super) const ENTRY_SIZE: usize = 128;

const VERSION: u8 = 1;
const CLAIM: u8 = 1;
const PART: u8 = 2;
const CRC_OFFSET: usize = ENTRY_SIZE - 4;

/// Where a part's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PartFile {
    /// In the slot of its number, in the file of slots of this size.
    Slot { slot_size: u64 },
    /// In a file of its own.
    Stray { number: u32, attempt: u32 },
}

impl PartFile {
    /// The name of the file.
    pub(super) fn file_name(self) -> Vec<u8> {
        match self {
            Self::Slot { slot_size } => format!("data.{slot_size}").into_bytes(),
            Self::Stray { number, attempt } => format!("part.{number}.{attempt}").into_bytes(),
        }
    }

    /// The place whose file has this name.
    pub(super) fn of_file_name(name: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(name).ok()?;
        let place = match text.strip_prefix("data.") {
            Some(slot_size) => Self::Slot { slot_size: slot_size.parse().ok()? },
            None => {
                let (number, attempt) = text.strip_prefix("part.")?.split_once('.')?;
                Self::Stray { number: number.parse().ok()?, attempt: attempt.parse().ok()? }
            }
        };
        (place.file_name() == name).then_some(place)
    }
}

/// A part that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) size: u64,
    pub(super) md5: [u8; 16],
    pub(super) checksum: Option<Value>,
    /// The checksum is one that the server gave it: nobody has sent it, nor asked for it.
    pub(super) is_given: bool,
    pub(super) modified_ns: i64,
    pub(super) place: PartFile,
}

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// The slot of part `number` is taken, for good.
    Claim { number: u32, slot_size: u64 },
    /// Part `number` is there.
    Part { number: u32, part: Part },
}

impl Entry {
    /// Version, kind, checksum algorithm, whether that was given; then number, attempt, slot_size, size, time, MD5, checksum; the CRC at the end.
    pub(super) fn encode(&self) -> [u8; ENTRY_SIZE] {
        let mut bytes = [0; ENTRY_SIZE];
        bytes[0] = VERSION;
        match self {
            Self::Claim { number, slot_size } => {
                bytes[1] = CLAIM;
                bytes[4..8].copy_from_slice(&number.to_le_bytes());
                bytes[12..20].copy_from_slice(&slot_size.to_le_bytes());
            }
            Self::Part { number, part } => {
                let (attempt, slot_size) = match part.place {
                    PartFile::Slot { slot_size } => (0, slot_size),
                    PartFile::Stray { attempt, .. } => (attempt, 0),
                };
                bytes[1] = PART;
                bytes[3] = u8::from(part.is_given);
                bytes[4..8].copy_from_slice(&number.to_le_bytes());
                bytes[8..12].copy_from_slice(&attempt.to_le_bytes());
                bytes[12..20].copy_from_slice(&slot_size.to_le_bytes());
                bytes[20..28].copy_from_slice(&part.size.to_le_bytes());
                bytes[28..36].copy_from_slice(&part.modified_ns.to_le_bytes());
                bytes[36..52].copy_from_slice(&part.md5);
                if let Some(value) = part.checksum {
                    bytes[2] = record::code_of(value.algorithm());
                    bytes[52..][..value.as_bytes().len()].copy_from_slice(value.as_bytes());
                }
            }
        }
        let crc = crc_of(&bytes);
        bytes[CRC_OFFSET..].copy_from_slice(&crc);
        bytes
    }

    pub(super) fn decode(bytes: &[u8; ENTRY_SIZE]) -> Option<Self> {
        let u32_at = |at: usize| bytes[at..].first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
        let u64_at = |at: usize| bytes[at..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        if bytes[CRC_OFFSET..] != crc_of(bytes) || bytes[0] != VERSION {
            return None;
        }
        let (number, slot_size) = (u32_at(4)?, u64_at(12)?);
        if !(1..=PART_NUMBER_MAX).contains(&number) {
            return None;
        }
        match bytes[1] {
            CLAIM => Some(Self::Claim { number, slot_size }),
            PART => {
                let place = match slot_size {
                    0 => PartFile::Stray { number, attempt: u32_at(8)? },
                    slot_size => PartFile::Slot { slot_size },
                };
                let checksum = match bytes[2] {
                    0 => None,
                    code => {
                        let algorithm = record::algorithm_of(code).ok()?;
                        Some(Value::from_bytes(algorithm, &bytes[52..][..algorithm.size()])?)
                    }
                };
                let md5 = *bytes[36..].first_chunk()?;
                let part =
                    Part { size: u64_at(20)?, md5, checksum, is_given: bytes[3] != 0, modified_ns: u64_at(28)? as i64, place };
                Some(Self::Part { number, part })
            }
            _ => None,
        }
    }
}

/// Reads all entries in their order; answers where the next one goes.
pub(super) fn read(log: &OwnedFd, mut take: impl FnMut(Entry)) -> Result<u64> {
    let mut buffer = vec![0; ENTRY_SIZE * 1024];
    let mut offset = 0;
    loop {
        let count = sys::file::read_full_at(log, &mut buffer, offset)?;
        let (entries, torn) = buffer[..count].as_chunks::<ENTRY_SIZE>();
        for bytes in entries {
            match Entry::decode(bytes) {
                Some(entry) => take(entry),
                // Written by a later version: half of what is there would be taken for the whole.
                None if bytes[CRC_OFFSET..] == crc_of(bytes) && bytes[0] != 0 => return Err(StoreError::Kernel(Errno::BADMSG)),
                None => {}
            }
        }
        offset += (entries.len() * ENTRY_SIZE) as u64;
        if count < buffer.len() {
            return Ok(offset + if torn.is_empty() { 0 } else { ENTRY_SIZE as u64 });
        }
    }
}

fn crc_of(bytes: &[u8; ENTRY_SIZE]) -> [u8; 4] {
    let mut hasher = Hasher::new(Algorithm::Crc32c);
    hasher.update(&bytes[..CRC_OFFSET]);
    hasher.finish().as_bytes().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Entry> {
        let value = Value::from_bytes(Algorithm::Sha256, &[7; 32]);
        let slot = Part {
            size: 5 << 20,
            md5: [3; 16],
            checksum: value,
            is_given: true,
            modified_ns: -5,
            place: PartFile::Slot { slot_size: 5 << 20 },
        };
        let stray = Part { checksum: None, place: PartFile::Stray { number: 10_000, attempt: 9 }, ..slot };
        vec![
            Entry::Claim { number: 1, slot_size: 5 << 20 },
            Entry::Part { number: 1, part: slot },
            Entry::Part { number: 10_000, part: stray },
        ]
    }

    #[test]
    fn entries_come_back_and_a_torn_one_does_not() {
        let log: OwnedFd = tempfile::tempfile().unwrap().into();
        let written = entries();
        for (index, entry) in written.iter().enumerate() {
            sys::file::write_all_at(&log, &entry.encode(), (index * ENTRY_SIZE) as u64).unwrap();
        }
        let mut seen = Vec::new();
        assert_eq!(read(&log, |entry| seen.push(entry)).unwrap(), 3 * ENTRY_SIZE as u64);
        assert_eq!(seen, written);
        // A crash in the middle of the third: its end never reached the disk, or its bytes are zeros.
        for size in [2 * ENTRY_SIZE + 1, 3 * ENTRY_SIZE - 1] {
            sys::space::truncate(&log, size as u64).unwrap();
            seen.clear();
            assert_eq!(read(&log, |entry| seen.push(entry)).unwrap(), 3 * ENTRY_SIZE as u64);
            assert_eq!(seen, written[..2]);
        }
        sys::space::truncate(&log, 2 * ENTRY_SIZE as u64).unwrap();
        sys::space::truncate(&log, 3 * ENTRY_SIZE as u64).unwrap();
        sys::file::write_all_at(&log, &written[2].encode(), 3 * ENTRY_SIZE as u64).unwrap();
        seen.clear();
        assert_eq!(read(&log, |entry| seen.push(entry)).unwrap(), 4 * ENTRY_SIZE as u64);
        assert_eq!(seen, written);
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        for entry in entries() {
            let bytes = entry.encode();
            assert_eq!(Entry::decode(&bytes), Some(entry));
            for bit in 0..ENTRY_SIZE * 8 {
                let mut changed = bytes;
                changed[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Entry::decode(&changed), None, "bit {bit}");
            }
        }
    }
}
