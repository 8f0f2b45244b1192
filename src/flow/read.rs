//! A small object into memory: from the page cache at once, or by a helper.

use std::os::fd::OwnedFd;

use super::send::Reading;
use crate::io::{Work, blocking};
use crate::metrics::record::{self, ReadFrom};
use crate::store::objects::open::Object;
use crate::sys;

/// `length` bytes from `start` on, at once when they are cached, and where they were. The file is looked at once more behind the read: what a POSIX program
/// changed in between is not sent under the old ETag.
pub async fn read_small(object: &Object, start: u64, length: usize) -> Result<(Vec<u8>, ReadFrom), Reading> {
    let mut bytes = vec![0; length];
    let cached = sys::file::read_cached_at(&object.file, &mut bytes, start);
    let from = if matches!(cached, Ok(Some(count)) if count == length) { ReadFrom::PageCache } else { ReadFrom::Helper };
    if from == ReadFrom::Helper {
        let file = object.file.try_clone().map_err(|_| Reading::Disk(sys::Errno::MFILE))?;
        let read = blocking(Work::Read, move || {
            sys::file::read_full_at(&file, &mut bytes, start).map(|count| (count == bytes.len()).then_some(bytes))
        });
        let read = read.await.map_err(|_| Reading::Disk(sys::Errno::IO))?;
        bytes = read.map_err(Reading::Disk)?.ok_or(Reading::Changed)?;
    }
    record::read(from, bytes.len());
    if object.is_unchanged() { Ok((bytes, from)) } else { Err(Reading::Changed) }
}

/// Appends `length` bytes from `start` on, if all of them are cached. Whether they were.
pub fn append_cached(file: &OwnedFd, bytes: &mut Vec<u8>, start: u64, length: usize) -> bool {
    let is_cached = length == 0 || sys::file::append_cached_at(file, bytes, length, start).unwrap_or(false);
    if is_cached {
        record::read(ReadFrom::PageCache, length);
    }
    is_cached
}
