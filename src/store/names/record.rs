//! What do we know of an object? The records kept as extended attributes beside its data.
//!
//! | attribute | on | holds |
//! |---|---|---|
//! | `user.sluice` | file, or directory of an explicit `dir/` | the summary: 64 bytes (48 of format 1), kept inside the inode |
//! | `user.sluice.x` | same | the extended record; if SPILLED, the SHA-256 (32 bytes) that names its file in `.sluice/spill/` |
//! | `user.sluice.y` | directory | the same, if ALTERNATE |
//! | `user.sluice.d` | directory | that a PUT made this directory: DELETE may remove it when it is empty |
//!
//! The summary binds itself to the file by size and mtime: `Summary::is_truthful`. When they differ, somebody changed the
//! file through POSIX and neither ETag nor checksums may be sent. Any POSIX user can write any bytes here: decoding answers
//! an error or a valid record, and nothing that grants a right is kept here.
//!
//! Numbers are little-endian. Decoding is strict (unknown version, flag or tag is an error), so that an older server never
//! serves half of a newer one's record.

use crate::base::storage_class::StorageClass;
use crate::base::version_id::VersionId;
use crate::digest::checksum::{Algorithm, Kind, Value};
use crate::limits::{EXTENDED_RECORD_SIZE_MAX, RECORD_SIZE_MAX};
use crate::sys::FileStat;
use std::borrow::Cow;
use std::ffi::CStr;

/// The name of the summary's attribute.
pub const SUMMARY_NAME: &CStr = c"user.sluice";
/// The name of the extended record's attribute.
pub const EXTENDED_NAME: &CStr = c"user.sluice.x";
/// The name of the extended record's other attribute. A file gets its name when its record is complete, but a directory's is
/// replaced in place: the new extended record goes beside the old one, and the summary says which of them is meant.
pub const EXTENDED_ALTERNATE_NAME: &CStr = c"user.sluice.y";
/// The name of a directory's mark.
pub const DIRECTORY_NAME: &CStr = c"user.sluice.d";

/// The format that is written, and the one before, whose summary ends before the version's id.
const FORMAT: u8 = 2;
const FORMAT_1: u8 = 1;
const SUMMARY_SIZE: usize = 64;
const SUMMARY_SIZE_1: usize = 48;
/// Of an extended record, and of a directory's mark.
const EXTENDED_FORMAT: u8 = 1;
const HAS_EXTENDED: u8 = 1;
const SPILLED: u8 = 2;
const HAS_CHECKSUM: u8 = 4;
const ALTERNATE: u8 = 8;
/// In the byte of the checksum's type, which has algorithm and kind in its five low bits.
const DELETE_MARKER: u8 = 128;
/// The flags above are four bits; the others are the storage class.
const STORAGE_CLASS_SHIFT: u8 = 4;
const CONTENT_TYPE_NONE: u8 = 0;
const CONTENT_TYPE_EXTENDED: u8 = 255;
/// A checksum longer than this is in the extended record.
const SMALL_CHECKSUM_SIZE: usize = 8;

/// In place of the number of parts: the ETag was made of the file's facts when it was moved into history, which changes its ctime.
pub const SYNTHETIC: u32 = u32::MAX;

const _: () = assert!(SUMMARY_SIZE <= RECORD_SIZE_MAX);

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// Shorter or longer than its fields say.
    Size,
    /// Written by another version.
    Version,
    /// A flag, code or tag that this version does not know, or a field twice or out of order.
    Field,
}

/// The codes of algorithms and kinds. Published: append only, and never reorder.
const ALGORITHMS: [Algorithm; 5] =
    [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme, Algorithm::Sha1, Algorithm::Sha256];
const KINDS: [Kind; 2] = [Kind::FullObject, Kind::Composite];

/// The code of an algorithm; no algorithm has 0.
pub(in crate::store) fn code_of(algorithm: Algorithm) -> u8 {
    ALGORITHMS.iter().position(|known| *known == algorithm).map_or(0, |index| index as u8 + 1)
}

/// The algorithm of this code.
pub(in crate::store) fn algorithm_of(code: u8) -> Result<Algorithm, RecordError> {
    ALGORITHMS.get(usize::from(code).wrapping_sub(1)).copied().ok_or(RecordError::Field)
}

/// The code of a kind.
pub(in crate::store) fn code_of_kind(kind: Kind) -> u8 {
    KINDS.iter().position(|known| *known == kind).map_or(0, |index| index as u8)
}

/// The kind of this code.
pub(in crate::store) fn kind_of(code: u8) -> Result<Kind, RecordError> {
    KINDS.get(usize::from(code)).copied().ok_or(RecordError::Field)
}

/// Algorithm and kind in one byte.
fn code_of_type((algorithm, kind): (Algorithm, Kind)) -> u8 {
    code_of(algorithm) | code_of_kind(kind) << 4
}

fn type_of(code: u8) -> Result<(Algorithm, Kind), RecordError> {
    Ok((algorithm_of(code & 15)?, kind_of(code >> 4)?))
}

/// A checksum, and over what it is: the whole object, or the checksums of its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksum {
    pub value: Value,
    pub kind: Kind,
}

impl Checksum {
    /// Which.
    pub fn algorithm(&self) -> Algorithm {
        self.value.algorithm()
    }

    fn is_small(&self) -> bool {
        self.algorithm().size() <= SMALL_CHECKSUM_SIZE
    }
}

/// The record of 64 bytes: enough for a list entry, and for HEAD and GET unless it has an extended part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    pub size: u64,
    pub mtime_ns: i64,
    /// MD5 of the object, or of the MD5s of its parts.
    pub etag: [u8; 16],
    /// Number of parts of a multipart object; 0: uploaded whole; `SYNTHETIC`: the ETag is no digest of bytes.
    pub parts: u32,
    /// `user.sluice.x` has more.
    pub has_extended: bool,
    /// `user.sluice.x` holds the name of a spill file instead of the extended record.
    pub is_spilled: bool,
    /// `user.sluice.y` is meant instead of `user.sluice.x`.
    pub is_alternate: bool,
    pub storage_class: StorageClass,
    /// Algorithm and kind of the checksum, also when its value is in the extended record.
    pub checksum_type: Option<(Algorithm, Kind)>,
    /// Which version of the object it is, or the place of the one called `null`; `None` where no versions are kept.
    pub version_id: Option<VersionId>,
    /// It is no object: a DELETE put it there.
    pub is_delete_marker: bool,
    checksum: [u8; SMALL_CHECKSUM_SIZE],
    content_type: u8,
}

impl Summary {
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader { bytes };
        let (format, size) = match reader.byte()? {
            FORMAT => (FORMAT, SUMMARY_SIZE),
            FORMAT_1 => (FORMAT_1, SUMMARY_SIZE_1),
            _ => return Err(RecordError::Version),
        };
        if bytes.len() != size {
            return Err(RecordError::Size);
        }
        let flags = reader.byte()?;
        let content_type = reader.byte()?;
        let checksum_code = reader.byte()?;
        let summary = Self {
            size: u64::from_le_bytes(reader.array()?),
            mtime_ns: i64::from_le_bytes(reader.array()?),
            etag: reader.array()?,
            parts: u32::from_le_bytes(reader.array()?),
            checksum: reader.array()?,
            has_extended: flags & HAS_EXTENDED != 0,
            is_spilled: flags & SPILLED != 0,
            is_alternate: flags & ALTERNATE != 0,
            storage_class: StorageClass::decode(flags >> STORAGE_CLASS_SHIFT).ok_or(RecordError::Field)?,
            checksum_type: match flags & HAS_CHECKSUM {
                0 => None,
                _ => Some(type_of(checksum_code & !DELETE_MARKER)?),
            },
            version_id: match format {
                FORMAT_1 => None,
                _ => VersionId::from_bytes(reader.array()?),
            },
            is_delete_marker: checksum_code & DELETE_MARKER != 0,
            content_type,
        };
        // Only what `encode` writes: padding is zero, spilled or interned elsewhere needs an extended record.
        let mut written = summary.encode();
        written[0] = format;
        if written[..size] != *bytes || !summary.is_consistent() {
            return Err(RecordError::Field);
        }
        Ok(summary)
    }

    /// Whether the file is still the one this was written for.
    pub fn is_truthful(&self, stat: &FileStat) -> bool {
        self.size == stat.size && self.mtime_ns == stat.mtime_ns
    }

    /// The checksum, when its value is here.
    pub fn checksum(&self) -> Option<Checksum> {
        let (algorithm, kind) = self.checksum_type?;
        let value = Value::from_bytes(algorithm, self.checksum.get(..algorithm.size())?)?;
        Some(Checksum { value, kind })
    }

    /// The attribute that has the extended record.
    pub fn extended_name(&self) -> &'static CStr {
        if self.is_alternate { EXTENDED_ALTERNATE_NAME } else { EXTENDED_NAME }
    }

    /// The content type, when it is one of the interned ones.
    pub fn content_type(&self) -> Option<&'static str> {
        CONTENT_TYPES.get(usize::from(self.content_type).checked_sub(1)?).copied()
    }

    /// The same of another version.
    pub fn with_version(&self, id: VersionId) -> [u8; SUMMARY_SIZE] {
        Self { version_id: Some(id), ..*self }.encode()
    }

    fn encode(&self) -> [u8; SUMMARY_SIZE] {
        let flag = |condition: bool, bit: u8| if condition { bit } else { 0 };
        let flags = flag(self.has_extended, HAS_EXTENDED)
            | flag(self.is_spilled, SPILLED)
            | flag(self.is_alternate, ALTERNATE)
            | flag(self.checksum_type.is_some(), HAS_CHECKSUM)
            | (self.storage_class as u8) << STORAGE_CLASS_SHIFT;
        let checksum_code = self.checksum_type.map_or(0, code_of_type) | flag(self.is_delete_marker, DELETE_MARKER);
        let mut bytes = [0; SUMMARY_SIZE];
        bytes[..4].copy_from_slice(&[FORMAT, flags, self.content_type, checksum_code]);
        bytes[4..12].copy_from_slice(&self.size.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.mtime_ns.to_le_bytes());
        bytes[20..36].copy_from_slice(&self.etag);
        bytes[36..40].copy_from_slice(&self.parts.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.checksum);
        bytes[48..].copy_from_slice(&self.version_id.map_or([0; VersionId::SIZE], VersionId::to_bytes));
        bytes
    }

    fn is_consistent(&self) -> bool {
        let checksum_size = self.checksum_type.map_or(0, |(algorithm, _)| algorithm.size());
        let small_size = if checksum_size <= SMALL_CHECKSUM_SIZE { checksum_size } else { 0 };
        let content_type_known = match self.content_type {
            CONTENT_TYPE_EXTENDED => self.has_extended,
            code => usize::from(code) <= CONTENT_TYPES.len(),
        };
        content_type_known
            && (self.has_extended || !(self.is_spilled || self.is_alternate))
            && (self.has_extended || checksum_size <= SMALL_CHECKSUM_SIZE)
            && self.checksum[small_size..].iter().all(|&byte| byte == 0)
    }
}

/// Consecutive parts of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartRun {
    pub count: u32,
    pub size: u64,
}

/// One pair of user metadata: the name without `x-amz-meta-`, and the value, both as they came.
pub type Metadata = (Vec<u8>, Vec<u8>);

/// Everything we know of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub size: u64,
    pub mtime_ns: i64,
    pub etag: [u8; 16],
    pub parts: u32,
    pub storage_class: StorageClass,
    /// Which version of the object it is, or the place of the one called `null`; `None` where no versions are kept.
    pub version_id: Option<VersionId>,
    /// It is no object: a DELETE put it there.
    pub is_delete_marker: bool,
    /// The checksum the object was uploaded with, or was given.
    pub checksum: Option<Checksum>,
    /// Further ones, at most one of each algorithm.
    pub more_checksums: Vec<Checksum>,
    pub content_type: Option<Cow<'static, [u8]>>,
    pub cache_control: Option<Vec<u8>>,
    pub content_disposition: Option<Vec<u8>>,
    pub content_encoding: Option<Vec<u8>>,
    pub content_language: Option<Vec<u8>>,
    /// The header as it came: S3 gives it back unread.
    pub expires: Option<Vec<u8>>,
    pub website_redirect_location: Option<Vec<u8>>,
    pub user_metadata: Vec<Metadata>,
    /// Which Complete made this object: 8 bytes of its upload id's SHA-256, 8 of its list's. One that is repeated is answered by it.
    pub upload: Option<[u8; 16]>,
    /// Sizes of the parts of a multipart object, in order: for `?partNumber=N`.
    pub part_sizes: Vec<PartRun>,
    /// Values of the parts' checksums one after the other, of the algorithm of `checksum`; empty when they had none.
    pub part_checksums: Vec<u8>,
}

/// The bytes of a record, ready for fsetxattr.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    summary: [u8; SUMMARY_SIZE],
    /// For `user.sluice.x`, or for a spill file when it is too large there.
    pub extended: Option<Vec<u8>>,
}

impl Encoded {
    /// The value of `user.sluice`.
    pub fn summary(&self) -> &[u8] {
        &self.summary
    }

    /// The value of `user.sluice` by where the extended record is: in a spill file, whose name is in its place, or in
    /// `user.sluice.y`.
    pub fn summary_of(&self, is_spilled: bool, is_alternate: bool) -> [u8; SUMMARY_SIZE] {
        let mut summary = self.summary;
        if self.extended.is_some() {
            summary[1] |= if is_spilled { SPILLED } else { 0 } | if is_alternate { ALTERNATE } else { 0 };
        }
        summary
    }
}

impl Record {
    /// A record with nothing but the file's own facts.
    pub fn new(size: u64, mtime_ns: i64, etag: [u8; 16]) -> Self {
        Self {
            size,
            mtime_ns,
            etag,
            parts: 0,
            storage_class: StorageClass::Standard,
            version_id: None,
            is_delete_marker: false,
            checksum: None,
            more_checksums: Vec::new(),
            content_type: None,
            cache_control: None,
            content_disposition: None,
            content_encoding: None,
            content_language: None,
            expires: None,
            website_redirect_location: None,
            user_metadata: Vec::new(),
            upload: None,
            part_sizes: Vec::new(),
            part_checksums: Vec::new(),
        }
    }

    pub fn encode(&self) -> Encoded {
        let content_type = self.content_type.as_deref().map_or(CONTENT_TYPE_NONE, intern);
        let extended = self.encode_extended(content_type);
        let mut checksum = [0; SMALL_CHECKSUM_SIZE];
        if let Some(small) = self.checksum.filter(Checksum::is_small) {
            checksum[..small.algorithm().size()].copy_from_slice(small.value.as_bytes());
        }
        let summary = Summary {
            size: self.size,
            mtime_ns: self.mtime_ns,
            etag: self.etag,
            parts: self.parts,
            has_extended: extended.is_some(),
            is_spilled: false,
            is_alternate: false,
            storage_class: self.storage_class,
            checksum_type: self.checksum.map(|checksum| (checksum.algorithm(), checksum.kind)),
            version_id: self.version_id,
            is_delete_marker: self.is_delete_marker,
            checksum,
            content_type,
        };
        Encoded { summary: summary.encode(), extended }
    }

    /// The record of these bytes; `extended` is the extended record itself, from the attribute or the spill file. Without
    /// it, though the summary promises one (a spill file that is gone), the object stays and only the extended fields are empty.
    pub fn decode(summary: &[u8], extended: Option<&[u8]>) -> Result<Self, RecordError> {
        Self::from_summary(&Summary::decode(summary)?, extended)
    }

    /// As `decode`, from a summary that is decoded already.
    pub fn from_summary(summary: &Summary, extended: Option<&[u8]>) -> Result<Self, RecordError> {
        let mut record = Self::new(summary.size, summary.mtime_ns, summary.etag);
        record.parts = summary.parts;
        (record.storage_class, record.version_id) = (summary.storage_class, summary.version_id);
        record.is_delete_marker = summary.is_delete_marker;
        record.checksum = summary.checksum();
        record.content_type = summary.content_type().map(|name| Cow::Borrowed(name.as_bytes()));
        match extended {
            Some(bytes) if summary.has_extended => record.decode_extended(summary, bytes)?,
            _ => {}
        }
        Ok(record)
    }

    /// Bytes that it takes in memory for its parts.
    pub fn parts_size(&self) -> usize {
        self.part_checksums.len() + self.part_sizes.len() * size_of::<PartRun>()
    }

    /// Offset and size of part `number` (1 is the first); `None` when the object has no such part or its sizes are not known.
    pub fn part(&self, number: u32) -> Option<(u64, u64)> {
        let mut before = number.checked_sub(1)?;
        let mut offset = 0_u64;
        for run in &self.part_sizes {
            if before < run.count {
                let start = offset.checked_add(run.size.checked_mul(before.into())?)?;
                // Any POSIX writer can forge the sizes.
                return start.checked_add(run.size).map(|_| (start, run.size));
            }
            before -= run.count;
            offset = offset.checked_add(run.size.checked_mul(run.count.into())?)?;
        }
        None
    }

    /// The checksum of part `number`, of the algorithm of `checksum`.
    pub fn part_checksum(&self, number: u32) -> Option<&[u8]> {
        let size = self.checksum?.algorithm().size();
        self.part_checksums.chunks_exact(size).nth(usize::try_from(number.checked_sub(1)?).ok()?)
    }

    /// The runs of `sizes`.
    pub fn runs_of(sizes: impl IntoIterator<Item = u64>) -> Vec<PartRun> {
        let mut runs: Vec<PartRun> = Vec::new();
        for size in sizes {
            match runs.last_mut() {
                Some(run) if run.size == size => run.count += 1,
                _ => runs.push(PartRun { count: 1, size }),
            }
        }
        runs
    }

    fn encode_extended(&self, content_type: u8) -> Option<Vec<u8>> {
        let mut writer = Writer { bytes: vec![EXTENDED_FORMAT] };
        if let Some(content_type) = self.content_type.as_deref().filter(|_| content_type == CONTENT_TYPE_EXTENDED) {
            writer.field(Tag::ContentType, content_type);
        }
        let headers = [
            (Tag::CacheControl, &self.cache_control),
            (Tag::ContentDisposition, &self.content_disposition),
            (Tag::ContentEncoding, &self.content_encoding),
            (Tag::ContentLanguage, &self.content_language),
            (Tag::Expires, &self.expires),
            (Tag::WebsiteRedirectLocation, &self.website_redirect_location),
        ];
        for (tag, value) in headers {
            if let Some(value) = value {
                writer.field(tag, value);
            }
        }
        for (name, value) in &self.user_metadata {
            let mut pair = Writer { bytes: Vec::with_capacity(name.len() + value.len() + 2) };
            pair.number(name.len() as u64);
            pair.bytes.extend_from_slice(name);
            pair.bytes.extend_from_slice(value);
            writer.field(Tag::UserMetadata, &pair.bytes);
        }
        if let Some(checksum) = self.checksum.filter(|checksum| !checksum.is_small()) {
            writer.field(Tag::Checksum, checksum.value.as_bytes());
        }
        for checksum in &self.more_checksums {
            let head = [code_of_type((checksum.algorithm(), checksum.kind))];
            writer.field(Tag::MoreChecksum, &[&head[..], checksum.value.as_bytes()].concat());
        }
        if let Some(upload) = &self.upload {
            writer.field(Tag::Upload, upload);
        }
        if !self.part_sizes.is_empty() {
            let mut runs = Writer { bytes: Vec::new() };
            for run in &self.part_sizes {
                runs.number(run.count.into());
                runs.number(run.size);
            }
            writer.field(Tag::PartSizes, &runs.bytes);
        }
        if !self.part_checksums.is_empty() {
            writer.field(Tag::PartChecksums, &self.part_checksums);
        }
        (writer.bytes.len() > 1).then_some(writer.bytes)
    }

    fn decode_extended(&mut self, summary: &Summary, bytes: &[u8]) -> Result<(), RecordError> {
        if bytes.len() > EXTENDED_RECORD_SIZE_MAX {
            return Err(RecordError::Size);
        }
        let mut reader = Reader { bytes };
        if reader.byte()? != EXTENDED_FORMAT {
            return Err(RecordError::Version);
        }
        let mut last = 0;
        while !reader.bytes.is_empty() {
            let tag = reader.byte()?;
            let size = usize::try_from(reader.number()?).map_err(|_| RecordError::Size)?;
            let value = reader.take(size)?;
            let repeats = tag == Tag::UserMetadata as u8 || tag == Tag::MoreChecksum as u8;
            if tag < last || (tag == last && !repeats) {
                return Err(RecordError::Field);
            }
            last = tag;
            self.decode_field(summary, Tag::decode(tag)?, value)?;
        }
        Ok(())
    }

    fn decode_field(&mut self, summary: &Summary, tag: Tag, value: &[u8]) -> Result<(), RecordError> {
        match tag {
            Tag::ContentType if summary.content_type == CONTENT_TYPE_EXTENDED => {
                self.content_type = Some(Cow::Owned(value.to_vec()));
            }
            Tag::ContentType => return Err(RecordError::Field),
            Tag::CacheControl => self.cache_control = Some(value.to_vec()),
            Tag::ContentDisposition => self.content_disposition = Some(value.to_vec()),
            Tag::ContentEncoding => self.content_encoding = Some(value.to_vec()),
            Tag::ContentLanguage => self.content_language = Some(value.to_vec()),
            Tag::Expires => self.expires = Some(value.to_vec()),
            Tag::WebsiteRedirectLocation => self.website_redirect_location = Some(value.to_vec()),
            Tag::UserMetadata => {
                let mut pair = Reader { bytes: value };
                let name_size = usize::try_from(pair.number()?).map_err(|_| RecordError::Size)?;
                let name = pair.take(name_size)?.to_vec();
                self.user_metadata.push((name, pair.bytes.to_vec()));
            }
            Tag::Checksum => {
                let (algorithm, kind) = summary.checksum_type.ok_or(RecordError::Field)?;
                let checksum = Checksum { value: Value::from_bytes(algorithm, value).ok_or(RecordError::Size)?, kind };
                if checksum.is_small() {
                    return Err(RecordError::Field);
                }
                self.checksum = Some(checksum);
            }
            Tag::MoreChecksum => {
                let (&code, value) = value.split_first().ok_or(RecordError::Size)?;
                let (algorithm, kind) = type_of(code)?;
                self.more_checksums.push(Checksum { value: Value::from_bytes(algorithm, value).ok_or(RecordError::Size)?, kind });
            }
            Tag::Upload => self.upload = Some(value.try_into().map_err(|_| RecordError::Size)?),
            Tag::PartSizes => {
                let mut runs = Reader { bytes: value };
                while !runs.bytes.is_empty() {
                    let count = u32::try_from(runs.number()?).map_err(|_| RecordError::Size)?;
                    self.part_sizes.push(PartRun { count, size: runs.number()? });
                }
            }
            Tag::PartChecksums => self.part_checksums = value.to_vec(),
        }
        Ok(())
    }
}

/// The value of `user.sluice.d`: a PUT made this directory.
pub const DIRECTORY_MADE_BY_PUT: [u8; 2] = [EXTENDED_FORMAT, 1];

/// Whether the value of `user.sluice.d` says that a PUT made the directory. Anything else: it is somebody's own, and stays.
pub fn is_made_by_put(value: &[u8]) -> bool {
    value == DIRECTORY_MADE_BY_PUT
}

/// Fields of the extended record, written in this order.
#[derive(Clone, Copy)]
enum Tag {
    ContentType = 1,
    CacheControl = 2,
    ContentDisposition = 3,
    ContentEncoding = 4,
    ContentLanguage = 5,
    Expires = 6,
    WebsiteRedirectLocation = 7,
    UserMetadata = 8,
    Checksum = 9,
    MoreChecksum = 10,
    Upload = 11,
    PartSizes = 12,
    PartChecksums = 13,
}

impl Tag {
    fn decode(code: u8) -> Result<Self, RecordError> {
        Ok(match code {
            1 => Self::ContentType,
            2 => Self::CacheControl,
            3 => Self::ContentDisposition,
            4 => Self::ContentEncoding,
            5 => Self::ContentLanguage,
            6 => Self::Expires,
            7 => Self::WebsiteRedirectLocation,
            8 => Self::UserMetadata,
            9 => Self::Checksum,
            10 => Self::MoreChecksum,
            11 => Self::Upload,
            12 => Self::PartSizes,
            13 => Self::PartChecksums,
            _ => return Err(RecordError::Field),
        })
    }
}

/// Content types that cost one byte. Published: append only, and never reorder.
const CONTENT_TYPES: [&str; 40] = [
    "binary/octet-stream",
    "application/octet-stream",
    "text/plain",
    "text/plain; charset=utf-8",
    "text/html",
    "text/html; charset=utf-8",
    "text/css",
    "text/css; charset=utf-8",
    "text/csv",
    "text/javascript",
    "text/xml",
    "text/markdown",
    "application/javascript",
    "application/json",
    "application/xml",
    "application/pdf",
    "application/zip",
    "application/gzip",
    "application/x-gzip",
    "application/x-tar",
    "application/zstd",
    "application/x-directory",
    "application/x-directory; charset=UTF-8",
    "application/x-www-form-urlencoded",
    "application/vnd.apache.parquet",
    "application/vnd.apache.avro",
    "application/x-parquet",
    "application/wasm",
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/webp",
    "image/svg+xml",
    "image/tiff",
    "video/mp4",
    "video/webm",
    "video/mp2t",
    "audio/mpeg",
    "audio/wav",
    "font/woff2",
];

const _: () = assert!(CONTENT_TYPES.len() < CONTENT_TYPE_EXTENDED as usize);

fn intern(content_type: &[u8]) -> u8 {
    let position = CONTENT_TYPES.iter().position(|known| known.as_bytes() == content_type);
    position.map_or(CONTENT_TYPE_EXTENDED, |index| index as u8 + 1)
}

struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn field(&mut self, tag: Tag, value: &[u8]) {
        self.bytes.push(tag as u8);
        self.number(value.len() as u64);
        self.bytes.extend_from_slice(value);
    }

    /// LEB128.
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, RecordError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (array, rest) = self.bytes.split_first_chunk().ok_or(RecordError::Size)?;
        self.bytes = rest;
        Ok(*array)
    }

    fn take(&mut self, size: usize) -> Result<&'a [u8], RecordError> {
        let (taken, rest) = self.bytes.split_at_checked(size).ok_or(RecordError::Size)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u64, RecordError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits || (byte == 0 && shift > 0) {
                return Err(RecordError::Field);
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(RecordError::Field)
    }
}

#[cfg(test)]
mod tests;
