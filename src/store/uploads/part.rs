//! One part: where its bytes go, and the moment from which it counts.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use super::log::{Entry, Part, PartFile};
use super::manifest;
use super::name::UploadName;
use super::table::{State, Upload, Uploads, slot_offset};
use crate::digest::Algorithm;
use crate::digest::checksum::{Kind, Value};
use crate::limits::{
    BLOCK_ALIGN, PART_NUMBER_MAX, PART_SIZE_MIN, PUT_SIZE_MAX, RESERVE_SIZE_MIN, SLOT_FILE_SIZE_MAX, SLOT_SIZES_MAX,
};
use crate::store::disk::Disk;
use crate::store::disk::barrier::Ticket;
use crate::store::disk::inherit::FILE_MODE;
use crate::store::error::{Result, StoreError, UploadError};
use crate::store::objects::copy::Digested;
use crate::store::objects::open::Object;
use crate::sys::path::{OpenFlags, Symlinks};
use crate::sys::{self, Errno};

/// Where one attempt at a part writes. Dropped unfinished, it leaves nothing but a slot that is not used again.
pub struct PartTarget {
    /// The file, with a description of its own: O_DIRECT may be switched without touching others.
    pub file: OwnedFd,
    /// Whether it is opened with O_DIRECT.
    pub is_direct: bool,
    /// The part's first byte, aligned.
    pub offset: u64,
    /// More bytes than this do not fit here.
    pub size_max: u64,
    /// The checksum that the upload announced: every part needs it, whether the client sends one or not.
    pub checksum: Option<(Algorithm, Kind)>,
    /// Its checksum is sent by nobody.
    is_given: bool,
    number: u32,
    place: PartFile,
    upload: Arc<Upload>,
    is_finished: bool,
}

/// A part that counts.
#[derive(Debug, Clone, Copy)]
pub struct StoredPart {
    /// What to wait for before it is acknowledged.
    pub ticket: Ticket,
    /// When it was stored.
    pub modified_ns: i64,
}

/// A part that was copied.
#[derive(Debug, Clone, Copy)]
pub struct CopiedPart {
    /// The part.
    pub stored: StoredPart,
    /// Its ETag.
    pub md5: [u8; 16],
    /// The checksum that the upload announced.
    pub checksum: Option<Value>,
}

/// Finds a place for part `number`, of `size` bytes where that is known. A full disk is found out here.
pub fn plan_part(uploads: &Uploads, name: &UploadName<'_>, number: u32, size: Option<u64>, direct: bool) -> Result<PartTarget> {
    plan(name.bucket.disk, uploads.find(name)?, number, size, direct)
}

/// The same for a part that a client sends, with this checksum or with none. A whole object's checksum is made of values that are
/// computed here; a composite one of values that the client knows, so that it must have sent each
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html>).
pub fn plan_sent_part(
    uploads: &Uploads,
    name: &UploadName<'_>,
    number: u32,
    size: Option<u64>,
    direct: bool,
    sent: Option<Algorithm>,
) -> Result<PartTarget> {
    let upload = uploads.find(name)?;
    match (upload.manifest.checksum, sent) {
        (Some((announced, _)), Some(other)) if other != announced => {
            return Err(UploadError::OtherChecksum { announced, sent }.into());
        }
        (Some((announced, Kind::Composite)), None) => return Err(UploadError::OtherChecksum { announced, sent }.into()),
        _ => {}
    }
    let mut target = plan(name.bucket.disk, upload, number, size, direct)?;
    target.is_given &= sent.is_none();
    Ok(target)
}

fn plan(disk: &Disk, upload: Arc<Upload>, number: u32, size: Option<u64>, direct: bool) -> Result<PartTarget> {
    if !disk.takes_changes() {
        return Err(StoreError::VolumeFailed);
    }
    if !(1..=PART_NUMBER_MAX).contains(&number) {
        return Err(UploadError::Part { number }.into());
    }
    let direct = direct && disk.facts().direct.is_some();
    let flags = if direct { OpenFlags::DIRECT } else { OpenFlags::empty() };
    let mut state = upload.state();
    upload.check_open()?;
    let slot = size.and_then(|size| state.slot_for(number, size));
    let (place, file) = match slot {
        Some(slot_size) => {
            let place = PartFile::Slot { slot_size };
            let flags = flags | OpenFlags::CREATE | OpenFlags::RDWR;
            let file = sys::path::open(&upload.directory, &place.file_name(), flags, FILE_MODE, Symlinks::Deny)?;
            upload.append(&mut state, Entry::Claim { number, slot_size })?;
            state.writers += 1;
            (place, file)
        }
        None => create_stray(&upload, &mut state, number, direct)?,
    };
    drop(state);
    let offset = match place {
        PartFile::Slot { slot_size } => slot_offset(slot_size, number),
        PartFile::Stray { .. } => 0,
    };
    let size_max = if slot.is_some() { size.unwrap_or(0) } else { PUT_SIZE_MAX };
    let checksum = upload.manifest.checksum;
    let (is_given, is_finished) = (checksum.is_none(), false);
    let target = PartTarget { file, is_direct: direct, offset, size_max, checksum, is_given, number, place, upload, is_finished };
    target.reserve(size.unwrap_or(0))?;
    Ok(target)
}

/// The end of the bytes that has no aligned length (`tail`, its offset counted from the part's start), then the log: from then on
/// the part counts.
pub fn finish_part(
    disk: &Disk,
    mut target: PartTarget,
    size: u64,
    tail: Option<(u64, Vec<u8>)>,
    md5: [u8; 16],
    checksum: Option<Value>,
) -> Result<StoredPart> {
    if size > target.size_max {
        return Err(UploadError::TooLarge.into());
    }
    if let Some((offset, bytes)) = tail {
        target.make_buffered()?;
        sys::file::write_all_at(&target.file, &bytes, target.offset + offset)?;
    }
    let stat = sys::stat::of(&target.file)?;
    let is_whole = match target.place {
        PartFile::Slot { .. } => stat.size >= target.offset + size,
        PartFile::Stray { .. } => stat.size == size,
    };
    assert!(is_whole, "a part that is not all there is never recorded");
    disk.push(&target.file)?;
    disk.sync_each(&[&target.upload.directory])?;
    let modified_ns = sys::clock::realtime_ns();
    let part = Part { size, md5, checksum, is_given: target.is_given, modified_ns, place: target.place };
    let replaced = target.record(disk, part)?;
    disk.push(&target.upload.log)?;
    if let Some(place @ PartFile::Stray { .. }) = replaced {
        let _ = sys::path::unlink(&target.upload.directory, &place.file_name());
    }
    Ok(StoredPart { ticket: disk.barrier().published(), modified_ns })
}

/// UploadPartCopy: a range of an object as part `number`, by sharing blocks where the filesystem can. `stop` ends it early.
pub fn copy_part(
    uploads: &Uploads,
    name: &UploadName<'_>,
    number: u32,
    source: &Object,
    range: std::ops::Range<u64>,
    stop: &AtomicBool,
) -> Result<CopiedPart> {
    let length = range.end.saturating_sub(range.start);
    let target = plan_part(uploads, name, number, Some(length), false)?;
    let ways = Digested {
        algorithm: Some(target.checksum.map_or(Algorithm::DEFAULT, |(algorithm, _)| algorithm)),
        progress: &AtomicU64::new(0),
        stop,
        is_closed: &|| target.is_closed(),
    };
    let (md5, checksum) = ways.range(&target.file, target.offset, &source.file, range.start, length)?;
    if !source.is_unchanged() {
        return Err(StoreError::Contended);
    }
    let stored = finish_part(name.bucket.disk, target, length, None, md5, checksum)?;
    Ok(CopiedPart { stored, md5, checksum })
}

impl PartTarget {
    /// Whether the place has been taken away: by an Abort, or, for a slot, by a Complete. Asked before each write.
    pub fn is_closed(&self) -> bool {
        match self.place {
            PartFile::Slot { .. } => self.upload.is_closed(),
            PartFile::Stray { .. } => self.upload.has_ended(),
        }
    }

    /// Makes later writes go through the page cache.
    fn make_buffered(&mut self) -> Result<()> {
        if std::mem::take(&mut self.is_direct) {
            sys::file::set_direct(&self.file, false)?;
        }
        Ok(())
    }

    fn reserve(&self, size: u64) -> Result<()> {
        if size < RESERVE_SIZE_MIN {
            return Ok(());
        }
        // With its length: writes then never change the file's size, for which ext4 and XFS make them wait for each other.
        match sys::space::extend(&self.file, self.offset, size) {
            Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
            Err(errno) => {
                // What a full disk had room for goes back; a file of its own vanishes as a whole.
                let _ = sys::space::punch(&self.file, self.offset, size);
                Err(errno.into())
            }
        }
    }

    /// Writes the part down; answers the place of the one that it replaces, whose file goes.
    fn record(&mut self, disk: &Disk, part: Part) -> Result<Option<PartFile>> {
        let mut state = self.upload.state();
        self.upload.check_open()?;
        let replaced = state.parts.get(&self.number).map(|part| part.place);
        // A Complete that failed may have chosen it; none is under way while the upload is open and its state held.
        if let Some(place @ PartFile::Stray { .. }) = replaced
            && let Some(mark) = manifest::unchoose(&self.upload.directory, &place.file_name())?
        {
            disk.sync_each(&[&mark])?;
        }
        self.upload.append(&mut state, Entry::Part { number: self.number, part })?;
        drop(state);
        self.is_finished = true;
        Ok(replaced)
    }
}

impl Drop for PartTarget {
    fn drop(&mut self) {
        match self.place {
            PartFile::Slot { .. } => self.upload.leave(),
            PartFile::Stray { .. } if !self.is_finished => {
                let _ = sys::path::unlink(&self.upload.directory, &self.place.file_name());
            }
            PartFile::Stray { .. } => {}
        }
    }
}

impl State {
    /// The slot file in which this part gets its slot, if it gets one.
    fn slot_for(&mut self, number: u32, size: u64) -> Option<u64> {
        let fits = |slot_size: u64| slot_offset(slot_size, number).saturating_add(slot_size) <= SLOT_FILE_SIZE_MAX;
        let last = self.slot_sizes.last().copied();
        let can_be_slot_size = size >= PART_SIZE_MIN && size.is_multiple_of(BLOCK_ALIGN as u64);
        let slot_size = match last {
            Some(last) if size <= last => last,
            _ if can_be_slot_size && self.slot_sizes.len() < SLOT_SIZES_MAX => size,
            _ => return None,
        };
        let is_collapsed = self.collapsed.as_ref().is_some_and(|collapsed| collapsed.slot_size == slot_size);
        let is_free = size > 0 && !is_collapsed && !self.claims.contains(&(slot_size, number));
        (is_free && fits(slot_size)).then_some(slot_size)
    }
}

/// A new file of its own for a part.
pub(super) fn create_stray(upload: &Upload, state: &mut State, number: u32, direct: bool) -> Result<(PartFile, OwnedFd)> {
    loop {
        let place = PartFile::Stray { number, attempt: state.next_attempt };
        state.next_attempt = state.next_attempt.wrapping_add(1);
        match sys::path::create_new(&upload.directory, &place.file_name(), FILE_MODE, direct) {
            Ok(file) => return Ok((place, file)),
            // Left by an attempt that a dead process was receiving.
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
