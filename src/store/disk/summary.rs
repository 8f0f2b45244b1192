//! What does a file say of itself? Its summary beside its facts, as they belong together.

use std::os::fd::OwnedFd;

use crate::limits::RECORD_SIZE_MAX;
use crate::store::error::Result;
use crate::store::names::record::{SUMMARY_NAME, Summary};
use crate::sys::{self, Cause, Errno, FileKind, FileStat};

/// The summary, when there is one that we understand. Any POSIX user can write nonsense there: that is no record.
pub(in crate::store) fn read_summary(file: &OwnedFd) -> Result<Option<Summary>> {
    let mut buffer = [0; RECORD_SIZE_MAX];
    match sys::xattr::read(file, SUMMARY_NAME, &mut buffer) {
        Ok(Some(size)) => Ok(Summary::decode(&buffer[..size]).ok()),
        Ok(None) | Err(Errno::RANGE | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// The summary of a file, whether or not it is still true.
pub(in crate::store) fn claimed(directory: &OwnedFd, name: &[u8]) -> sys::Result<Option<Summary>> {
    let mut record = [0; RECORD_SIZE_MAX];
    decode(sys::xattr::read_at(directory, name, SUMMARY_NAME, &mut record), &record)
}

/// Stat and record of a file; `None` when it is not a regular one. A record that does not fit its stat is asked for again,
/// because the file may have been replaced between the two calls.
pub(in crate::store) fn fetch(directory: &OwnedFd, name: &[u8]) -> sys::Result<Option<(FileStat, Option<Summary>)>> {
    const ATTEMPTS: usize = 3;
    let mut stat = sys::stat::at(directory, name)?;
    for _ in 0..ATTEMPTS {
        if stat.kind != FileKind::Regular {
            return Ok(None);
        }
        let mut record = [0; RECORD_SIZE_MAX];
        let Some(summary) = decode(sys::xattr::read_at(directory, name, SUMMARY_NAME, &mut record), &record)? else { break };
        if summary.is_truthful(&stat) {
            return Ok(Some((stat, Some(summary))));
        }
        let before = std::mem::replace(&mut stat, sys::stat::at(directory, name)?);
        if before == stat {
            break;
        }
    }
    Ok((stat.kind == FileKind::Regular).then_some((stat, None)))
}

/// The record that an xattr call brought; foreign bytes, none at all and a filesystem without attributes are no record.
pub(in crate::store) fn decode(answer: sys::Result<Option<usize>>, record: &[u8]) -> sys::Result<Option<Summary>> {
    match answer {
        Ok(size) => Ok(size.and_then(|size| Summary::decode(record.get(..size)?).ok())),
        Err(Errno::RANGE) => Ok(None),
        Err(errno) if matches!(sys::errno::cause(errno), Cause::Unsupported | Cause::Denied) => Ok(None),
        Err(errno) => Err(errno),
    }
}
