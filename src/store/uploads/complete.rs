//! CompleteMultipartUpload: the list is checked, the slots are closed, the file is put together where the parts lie, and its
//! rename to the object's name completes the upload.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use super::abort::vanish;
use super::gaps::Collapsed;
use super::layout::{self, Layout, Move, Piece, Slots};
use super::log::{Entry, Part, PartFile};
use super::name::UploadName;
use super::table::{Fence, State, Upload, Uploads};
use super::{manifest, part};
use crate::base::version_id::Version;
use crate::digest::checksum::{Kind, Value};
use crate::digest::{Algorithm, Checksum, ETag, Sha256};
use crate::limits::{FENCE_DURATION, OBJECT_SIZE_MAX, PART_SIZE_MIN};
use crate::store::disk::stage::{Staged, Temporary};
use crate::store::disk::{Bucket, Disk};
use crate::store::error::{Result, StoreError, UploadError};
use crate::store::names::record::Record;
use crate::store::names::{checksum, key};
use crate::store::objects::commit;
use crate::store::objects::copy::{self, Digested};
use crate::store::objects::seal::seal;
use crate::store::objects::write::{Condition, Published, Target};
use crate::sys::path::{OpenFlags, Symlinks};
use crate::sys::{self, Errno};

/// One part of the request's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChosenPart {
    /// Its number.
    pub number: u32,
    /// Its ETag; `None` when the text was none of ours.
    pub md5: Option<[u8; 16]>,
    /// Its checksum, where the list has one.
    pub checksum: Option<Value>,
}

/// What CompleteMultipartUpload says.
pub struct Completion {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: Vec<u8>,
    /// The upload id.
    pub id: String,
    /// The parts, in the request's order; not empty.
    pub parts: Vec<ChosenPart>,
    /// The precondition.
    pub condition: Option<Condition>,
    /// `x-amz-mp-object-size`.
    pub size: Option<u64>,
    /// The object's checksum by header.
    pub checksum: Option<Checksum>,
    /// `x-amz-checksum-type`.
    pub checksum_type: Option<Kind>,
    /// Bytes that may be moved from file to file; `Long` where that would not do.
    pub moves_max: u64,
    /// What an attempt that came too early leaves to the next: `None` at first.
    pub fence: Option<Fence>,
}

impl Completion {
    fn name<'a>(&'a self, disk: &'a Disk) -> UploadName<'a> {
        UploadName { bucket: disk.bucket(&self.bucket), key: &self.key, id: &self.id }
    }

    /// What the object remembers of this Complete.
    fn tag(&self) -> [u8; 16] {
        let mut list = Vec::with_capacity(self.parts.len() * (4 + 16));
        for part in &self.parts {
            list.extend_from_slice(&part.number.to_le_bytes());
            // A part without an ETag of ours completes nothing, so that no list of an object has this one.
            list.extend_from_slice(&part.md5.unwrap_or_default());
        }
        let mut tag = [0; 16];
        for (half, digest) in tag.chunks_exact_mut(8).zip([Sha256::of(self.id.as_bytes()), Sha256::of(&list)]) {
            half.copy_from_slice(&digest[..half.len()]);
        }
        tag
    }

    /// Whether these are the parts that the object was made of, as far as it remembers.
    fn is_list_of(&self, record: &Record) -> bool {
        let mut checksums = self.parts.iter().zip(1..).filter_map(|(part, place)| Some((part.checksum?, place)));
        let agrees = |(value, place): (Value, u32)| record.part_checksum(place).is_none_or(|kept| kept == value.as_bytes());
        record.upload == Some(self.tag()) && self.parts.iter().all(|part| part.md5.is_some()) && checksums.all(agrees)
    }

    /// What the request says of the object as a whole.
    fn check_whole(&self, record: &Record) -> Result<()> {
        if self.size.is_some_and(|expected| expected != record.size) {
            return Err(UploadError::Size.into());
        }
        let made = checksum::of_record(record);
        if self.checksum.is_some_and(|expected| !is_meant(expected, made)) {
            return Err(UploadError::Checksum.into());
        }
        Ok(())
    }
}

/// SDKs send a composite value with and without the number of parts.
fn is_meant(expected: Checksum, made: Option<Checksum>) -> bool {
    made.is_some_and(|made| made.value == expected.value && (expected.parts.is_none() || expected.parts == made.parts))
}

/// Makes the object. `progress` counts the bytes that had to be copied. Once more with the same list after it was done, it answers as
/// then; with any other the upload is gone, as S3 has it. `Busy` while it is being done, `Written` while parts are. Nobody waits here.
pub fn complete(uploads: &Uploads, disk: &Disk, completion: &mut Completion, progress: &AtomicU64) -> Result<Published> {
    if !disk.takes_changes() {
        return Err(StoreError::VolumeFailed);
    }
    let upload = match uploads.find(&completion.name(disk)) {
        Ok(upload) => upload,
        Err(StoreError::Upload(UploadError::NotFound)) => return repeated(disk, completion),
        Err(error) => return Err(error),
    };
    let (closed, ending, until) = match completion.fence.take() {
        Some(Fence { closing, ending, until }) => (Some(closing), ending, until),
        None => (None, upload.begin_ending()?, Instant::now() + FENCE_DURATION),
    };
    if upload.has_ended() {
        return repeated(disk, completion);
    }
    // Published as a new file by a process that died before it could remove the upload.
    if made_by(disk, completion)?.is_some() {
        upload.end();
        vanish(uploads, disk.bucket(&completion.bucket), &completion.id)?;
        return repeated(disk, completion);
    }
    let (bucket, location) = (disk.bucket(&completion.bucket), key::locate(&completion.key)?);
    let target = Target { bucket, key: &completion.key, location: &location, condition: completion.condition.as_ref() };
    check_bucket(bucket)?;
    target.check()?;

    let mut state = upload.state();
    check_announced(upload.manifest.checksum, completion)?;
    let chosen = validate(&state, completion, upload.manifest.checksum)?;
    let record = record_of(&upload, completion, &chosen)?;
    let closing = match closed {
        Some(closing) => closing,
        None => upload.close(&mut state)?,
    };
    let are_fenced = state.writers == 0;
    drop(state);
    if !are_fenced && Instant::now() < until {
        completion.fence = Some(Fence { closing, ending, until });
        return Err(UploadError::Written.into());
    }
    let assembly = Assembly { disk, upload: &upload, chosen: &chosen, target, progress };
    let (record, version) = match assembly.make(record, are_fenced, completion.moves_max) {
        Err(StoreError::Upload(UploadError::Long)) => {
            completion.fence = Some(Fence { closing, ending, until });
            return Err(UploadError::Long.into());
        }
        Err(_) if upload.has_ended() => {
            // Its bucket was removed meanwhile, and its files with it.
            check_bucket(bucket)?;
            return Err(UploadError::NotFound.into());
        }
        made => made?,
    };
    upload.end();
    drop(closing);
    vanish(uploads, bucket, &completion.id)?;
    Ok(Published { ticket: disk.barrier().published(), record, version })
}

/// The answer of the first time, when the object at the key was made by this very upload, of this very list.
fn repeated(disk: &Disk, completion: &Completion) -> Result<Published> {
    match made_by(disk, completion)? {
        Some(record) if completion.is_list_of(&record) => {
            completion.check_whole(&record)?;
            Ok(Published { ticket: disk.barrier().observed(), record, version: None })
        }
        _ => Err(UploadError::NotFound.into()),
    }
}

/// The record of the object at the key, when it was made by this upload, of whatever list.
fn made_by(disk: &Disk, completion: &Completion) -> Result<Option<Record>> {
    let record = match disk.bucket(&completion.bucket).open(&completion.key) {
        Ok(object) => object.state.record,
        Err(StoreError::NoObject) => None,
        Err(error) => return Err(error),
    };
    let tag = completion.tag();
    Ok(record.filter(|record| record.upload.is_some_and(|upload| upload[..8] == tag[..8])))
}

fn check_bucket(bucket: Bucket<'_>) -> Result<()> {
    if bucket.exists()? { Ok(()) } else { Err(StoreError::NoBucket) }
}

/// Whether the request speaks of the checksum that the upload announced.
fn check_announced(announced: Option<(Algorithm, Kind)>, completion: &Completion) -> Result<()> {
    let Some((algorithm, kind)) = announced else { return Ok(()) };
    if completion.checksum_type.is_some_and(|wanted| wanted != kind) {
        return Err(UploadError::OtherChecksumType { announced: kind }.into());
    }
    match completion.checksum.map(|checksum| checksum.value.algorithm()) {
        Some(other) if other != algorithm => Err(UploadError::OtherChecksum { announced: algorithm, sent: Some(other) }.into()),
        _ => Ok(()),
    }
}

/// The parts of the list, if it is one that S3 completes.
fn validate(state: &State, completion: &Completion, announced: Option<(Algorithm, Kind)>) -> Result<Vec<(u32, Part)>> {
    let parts = &completion.parts;
    if parts.is_empty() || parts.windows(2).any(|pair| pair[0].number >= pair[1].number) {
        return Err(UploadError::PartOrder.into());
    }
    let mut chosen = Vec::with_capacity(parts.len());
    for wanted in parts {
        let number = wanted.number;
        let part = state.parts.get(&number).ok_or(UploadError::Part { number })?;
        if wanted.md5 != Some(part.md5) {
            return Err(UploadError::Part { number }.into());
        }
        check_part_checksum(wanted, part, announced)?;
        chosen.push((number, *part));
    }
    let small = chosen.split_last().and_then(|(_, others)| others.iter().find(|(_, part)| part.size < PART_SIZE_MIN));
    if let Some((number, part)) = small {
        return Err(UploadError::PartTooSmall { number: *number, size: part.size }.into());
    }
    // Parts are 5 GiB at most and 10,000: no overflow.
    let size = size_of(&chosen);
    if completion.size.is_some_and(|expected| expected != size) {
        return Err(UploadError::Size.into());
    }
    if size > OBJECT_SIZE_MAX {
        return Err(UploadError::TooLarge.into());
    }
    Ok(chosen)
}

fn check_part_checksum(wanted: &ChosenPart, part: &Part, announced: Option<(Algorithm, Kind)>) -> Result<()> {
    let number = wanted.number;
    match (wanted.checksum, part.checksum, announced) {
        (None, _, Some((announced, Kind::Composite))) => Err(UploadError::PartChecksumMissing { announced, number }.into()),
        (None, ..) => Ok(()),
        (Some(given), Some(stored), _) if given == stored => Ok(()),
        (Some(given), Some(stored), _) if given.algorithm() == stored.algorithm() => Err(UploadError::Part { number }.into()),
        (Some(given), ..) => Err(UploadError::PartOtherChecksum { given: given.algorithm(), number }.into()),
    }
}

fn size_of(chosen: &[(u32, Part)]) -> u64 {
    chosen.iter().map(|(_, part)| part.size).sum()
}

/// The object's record, all but size and time.
fn record_of(upload: &Upload, completion: &Completion, chosen: &[(u32, Part)]) -> Result<Record> {
    let mut record = upload.manifest.record.clone();
    let Some(ETag::Multipart { md5, parts }) = ETag::multipart(chosen.iter().map(|(_, part)| part.md5)) else {
        return Err(UploadError::PartOrder.into());
    };
    (record.etag, record.parts) = (md5, parts);
    record.part_sizes = Record::runs_of(chosen.iter().map(|(_, part)| part.size));
    record.upload = Some(completion.tag());
    let made = object_checksum(upload.manifest.checksum, chosen);
    if completion.checksum.is_some_and(|expected| !is_meant(expected, made)) {
        return Err(UploadError::Checksum.into());
    }
    record.checksum = made.as_ref().map(checksum::kept);
    // Those that nobody asked for are not kept: 10,000 of them are no longer small.
    let are_given = chosen.iter().all(|(_, part)| part.is_given);
    if record.checksum.is_some() && !are_given {
        let values = chosen.iter().filter_map(|(_, part)| part.checksum.as_ref());
        record.part_checksums = values.flat_map(|value| value.as_bytes().iter().copied()).collect();
    }
    Ok(record)
}

/// The checksum of the object from those of its parts. Where none was announced, but all parts came with the same one, it is
/// that one (the AWS SDK for C++ sends CRC64NVME so).
fn object_checksum(announced: Option<(Algorithm, Kind)>, chosen: &[(u32, Part)]) -> Option<Checksum> {
    let first = chosen.first()?.1.checksum?;
    let (algorithm, kind) = announced.unwrap_or((first.algorithm(), Kind::FullObject));
    let values: Option<Vec<_>> = chosen.iter().map(|(_, part)| Some((part.checksum?, part.size))).collect();
    match kind {
        Kind::Composite => Checksum::composite(algorithm, values?.into_iter().map(|(value, _)| value)),
        Kind::FullObject => Checksum::full_object(algorithm, values?),
    }
}

/// An object being put together from the parts of a closed upload.
struct Assembly<'a> {
    disk: &'a Disk,
    upload: &'a Upload,
    chosen: &'a [(u32, Part)],
    target: Target<'a>,
    progress: &'a AtomicU64,
}

impl Assembly<'_> {
    fn make(&self, record: Record, are_fenced: bool, moves_max: u64) -> Result<(Record, Option<Version>)> {
        self.verify_there()?;
        self.verify_collapsed()?;
        self.publish(record, are_fenced, moves_max)
    }

    /// Puts the object together the cheapest way; where the filesystem refuses that, by a copy.
    fn publish(&self, record: Record, are_fenced: bool, moves_max: u64) -> Result<(Record, Option<Version>)> {
        let size = size_of(self.chosen);
        if self.target.is_bare_directory(size) {
            let published = commit::publish_directory_object(self.target, record)?;
            return Ok((published.record, published.version));
        }
        let layout = self.layout(are_fenced)?;
        let pieces = self.pieces()?;
        if layout.moved_size(&pieces, &in_slots(&self.upload.state())) > moves_max {
            return Err(UploadError::Long.into());
        }
        self.set_aside(&layout)?;
        let is_last_resort = matches!(layout, Layout::Fresh { .. });
        match self.publish_as(layout, record.clone()) {
            // No COLLAPSE_RANGE here; or no rename to there: a directory with another project id (XFS) or encryption key.
            Err(StoreError::Foreign | StoreError::Kernel(Errno::OPNOTSUPP | Errno::INVAL)) if !is_last_resort => {
                if size > moves_max {
                    return Err(UploadError::Long.into());
                }
                self.publish_as(layout::fresh(&self.pieces()?), record)
            }
            published => published,
        }
    }

    fn publish_as(&self, layout: Layout, record: Record) -> Result<(Record, Option<Version>)> {
        match layout {
            Layout::InPlace { base, moves } => {
                let staged = self.base(base)?;
                self.bring(&moves, &staged.file)?;
                self.name(staged, record, None)
            }
            Layout::Collapse { slot_size, gaps } => {
                let staged = self.base(PartFile::Slot { slot_size })?;
                let plan = Collapsed::plan(slot_size, sys::stat::of(&staged.file)?.size, gaps);
                self.name(staged, record, Some(plan))
            }
            Layout::Fresh { moves } => {
                let size = size_of(self.chosen);
                let staged = self.target.bucket.stage(&self.target.location.path, Some(size), false)?;
                self.bring(&moves, &staged.file)?;
                self.name(staged, record, None)
            }
        }
    }

    /// The last steps, of which those that cannot be taken back come under the key's lock, when the precondition holds.
    fn name(&self, mut staged: Staged, mut record: Record, mut plan: Option<Collapsed>) -> Result<(Record, Option<Version>)> {
        let size = size_of(self.chosen);
        self.disk.push(&staged.file)?;
        if let Some(base) = &staged.name
            && base.is_of_upload()
        {
            let mark = manifest::choose(&self.upload.directory, base.name())?;
            self.disk.sync_each(&[&mark])?;
        }
        let published = commit::publish(self.target, &mut staged, None, &mut |file| {
            if self.upload.has_ended() {
                return Err(UploadError::NotFound.into());
            }
            if let Some(plan) = &mut plan {
                plan.carry_out(self.disk, &self.upload.directory, file)?;
            }
            match sys::stat::of(file)?.size.cmp(&size) {
                // Never made longer: what is not there would be zeros.
                Ordering::Less => return Err(StoreError::Kernel(Errno::IO)),
                Ordering::Greater => sys::space::truncate(file, size)?,
                Ordering::Equal => {}
            }
            seal(self.disk, file, size, &mut record)
        });
        match (published, plan) {
            (Ok(version), _) => {
                if let Some(base) = staged.name.as_ref().filter(|base| base.is_of_upload()) {
                    // Where the object replaced another one, this is a second name of it.
                    let _ = sys::path::unlink(base.directory(), base.name());
                }
                Ok((record, version))
            }
            (Err(error), None) => Err(error),
            (Err(error), Some(plan)) => {
                if plan.is_untouched() {
                    Collapsed::withdraw(&self.upload.directory);
                } else {
                    self.upload.state().collapsed = Some(plan);
                }
                Err(error)
            }
        }
    }

    /// Parts that the layout takes away get files of their own first, on disk and in the log: until the object has its name,
    /// all that was acknowledged stays.
    fn set_aside(&self, layout: &Layout) -> Result<()> {
        let parts = layout.takes_away(&self.pieces()?, &in_slots(&self.upload.state()));
        for piece in &parts {
            self.set_one_aside(piece)?;
        }
        if parts.is_empty() { Ok(()) } else { self.disk.push(&self.upload.log) }
    }

    fn set_one_aside(&self, piece: &Piece) -> Result<()> {
        let Some(part) = self.upload.state().parts.get(&piece.number).copied() else { return Ok(()) };
        let from = self.open(piece.place, OpenFlags::RDONLY)?;
        let (place, file) = part::create_stray(self.upload, &mut self.upload.state(), piece.number, false)?;
        let copied = self.copy_aside(piece, &from, &file);
        let is_recorded = match copied {
            Ok(md5) if md5 == part.md5 => {
                let entry = Entry::Part { number: piece.number, part: Part { place, ..part } };
                self.upload.append(&mut self.upload.state(), entry).map(|()| true)
            }
            // A dead process was taking ranges out of the file: the part was lost then.
            Ok(_) => {
                self.upload.state().parts.remove(&piece.number);
                Ok(false)
            }
            Err(error) => Err(error),
        };
        if is_recorded != Ok(true) {
            let _ = sys::path::unlink(&self.upload.directory, &place.file_name());
        }
        is_recorded.map(drop)
    }

    fn copy_aside(&self, piece: &Piece, from: &OwnedFd, to: &OwnedFd) -> Result<[u8; 16]> {
        let ways =
            Digested { algorithm: None, progress: self.progress, stop: &copy::NEVER, is_closed: &|| self.upload.has_ended() };
        let (md5, _) = ways.range(to, 0, from, piece.offset, piece.size)?;
        self.disk.push(to)?;
        self.disk.sync_each(&[&self.upload.directory])?;
        Ok(md5)
    }

    fn layout(&self, are_fenced: bool) -> Result<Layout> {
        let state = self.upload.state();
        let in_slots = in_slots(&state);
        let collapsed = state.collapsed.as_ref().map(|collapsed| (collapsed.slot_size, collapsed.is_done()));
        drop(state);
        Ok(layout::choose(&self.pieces()?, Slots { parts: &in_slots, are_fenced, collapsed }))
    }

    fn pieces(&self) -> Result<Vec<Piece>> {
        let state = self.upload.state();
        let found = self
            .chosen
            .iter()
            .map(|(number, part)| piece(&state, *number, part).ok_or(StoreError::Upload(UploadError::Part { number: *number })));
        found.collect()
    }

    /// A file of the upload, about to be renamed to the object's name.
    fn base(&self, base: PartFile) -> Result<Staged> {
        let file = self.open(base, OpenFlags::RDWR)?;
        let directory = self.upload.directory.try_clone().map_err(|_| StoreError::Kernel(Errno::MFILE))?;
        Ok(Staged { file, is_direct: false, name: Some(Temporary::of_upload(directory, base.file_name())) })
    }

    fn bring(&self, moves: &[Move], to: &OwnedFd) -> Result<()> {
        // Consecutive moves mostly come from one file.
        let mut from: Option<(PartFile, OwnedFd)> = None;
        for step in moves {
            let (_, file) = match from.take().filter(|(place, _)| *place == step.from) {
                Some(open) => from.insert(open),
                None => from.insert((step.from, self.open(step.from, OpenFlags::RDONLY)?)),
            };
            copy::range(to, step.to_offset, file, step.from_offset, step.length, self.progress, &copy::NEVER)?;
        }
        Ok(())
    }

    fn open(&self, place: PartFile, flags: OpenFlags) -> Result<OwnedFd> {
        Ok(sys::path::open(&self.upload.directory, &place.file_name(), flags, 0, Symlinks::Deny)?)
    }

    /// A part whose bytes are not there (somebody else cut its file) is gone, and can be uploaded again.
    fn verify_there(&self) -> Result<()> {
        let mut sizes = BTreeMap::new();
        for piece in self.pieces()? {
            let size = match sizes.get(&piece.place) {
                Some(size) => *size,
                None => *sizes.entry(piece.place).or_insert(self.size_of_file(piece.place)?),
            };
            if size.is_none_or(|size| size < piece.offset + piece.size) {
                self.upload.state().parts.remove(&piece.number);
                return Err(UploadError::Part { number: piece.number }.into());
            }
        }
        Ok(())
    }

    fn size_of_file(&self, place: PartFile) -> Result<Option<u64>> {
        match sys::stat::at(&self.upload.directory, &place.file_name()) {
            Ok(stat) => Ok(Some(stat.size)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Digests the parts in a file from which a dead process was taking ranges out. One that is not what it was is gone, and
    /// can be uploaded again.
    fn verify_collapsed(&self) -> Result<()> {
        let uncertain = self.upload.state().collapsed.as_ref().filter(|collapsed| !collapsed.is_certain).map(|it| it.slot_size);
        let Some(slot_size) = uncertain else { return Ok(()) };
        let place = PartFile::Slot { slot_size };
        let file = self.open(place, OpenFlags::RDONLY)?;
        let ways = Digested { algorithm: None, progress: self.progress, stop: &copy::NEVER, is_closed: &|| false };
        for ((number, part), piece) in self.chosen.iter().zip(self.pieces()?) {
            if piece.place != place {
                continue;
            }
            if ways.digest(&file, piece.offset, piece.size)?.0 != part.md5 {
                self.upload.state().parts.remove(number);
                return Err(UploadError::Part { number: *number }.into());
            }
        }
        Ok(())
    }
}

/// All parts in slots, chosen or not.
fn in_slots(state: &State) -> Vec<Piece> {
    let in_slots = state.parts.iter().filter(|(_, part)| matches!(part.place, PartFile::Slot { .. }));
    in_slots.filter_map(|(number, part)| piece(state, *number, part)).collect()
}

fn piece(state: &State, number: u32, part: &Part) -> Option<Piece> {
    Some(Piece { number, size: part.size, place: part.place, offset: state.offset_of(number, part)? })
}
