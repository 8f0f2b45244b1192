//! The documents that clients send: DeleteObjects, CompleteMultipartUpload and CreateBucket.
//!
//! Nothing is resolved and nothing is skipped: a DOCTYPE, a processing instruction, an entity that is not one of XML's five, an
//! element that the schema does not have, and text where elements belong are all `Malformed`, because a part of a delete
//! request that is not understood must not be acted upon. Namespaces and prefixes are not compared: clients send the S3 one,
//! older ones and none.

use crate::limits;
use quick_xml::Reader;
use quick_xml::events::Event;

/// Why a document is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XmlError {
    /// Not well-formed, or not the schema's.
    Malformed,
    /// Nothing, or nothing but white space, where there must be a document.
    Empty,
    /// A part number that no part can have.
    PartNumber(i64),
    /// More bytes than `limits` allows.
    TooLarge,
    /// More keys or parts than S3 allows.
    TooMany,
    /// Well-formed, and asks for what is not built: the element's name.
    NotImplemented(&'static str),
    /// The same, where S3 has a code for it since some of its regions do not do it either.
    UnsupportedArgument,
}

/// `<Delete>`: what DeleteObjects is asked to remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delete {
    /// Answer with errors only.
    pub quiet: bool,
    /// In the order of the document, at least one.
    pub objects: Vec<ObjectIdentifier>,
}

/// One key of `<Delete>`, with the preconditions that the client put on it, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectIdentifier {
    /// Never empty; may be longer than a key can be.
    pub key: String,
    pub version_id: Option<String>,
    /// As sent, quoted or not.
    pub etag: Option<String>,
    /// An HTTP date or ISO 8601, as sent.
    pub last_modified_time: Option<String>,
    pub size: Option<u64>,
}

/// One `<Part>` of CompleteMultipartUpload. Order and existence are the caller's to check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompletedPart {
    pub part_number: u32,
    /// Without quotes: the CRT sends none, the others `"`, `&quot;` or `&#34;`.
    pub etag: String,
    /// Algorithm in S3's spelling (`CRC64NVME`) and the base64 value; empty elements are left out.
    pub checksums: Vec<(&'static str, String)>,
}

/// `<CreateBucketConfiguration>`; an empty body is its default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateBucketConfiguration {
    pub location_constraint: Option<String>,
}

/// Reads the body of `POST /bucket?delete`.
pub fn delete_objects(body: &[u8]) -> Result<Delete, XmlError> {
    check_not_empty(body)?;
    let mut document = Document::open(body, limits::XML_SIZE_MAX, "Delete")?;
    let mut delete = Delete::default();
    let mut quiet = None;
    while let Some(name) = document.child()? {
        match name {
            "Quiet" => set(&mut quiet, boolean(&document.text()?)?)?,
            "Object" if delete.objects.len() == limits::DELETE_KEYS_MAX => return Err(XmlError::TooMany),
            "Object" => delete.objects.push(object_identifier(&mut document)?),
            _ => return Err(XmlError::Malformed),
        }
    }
    document.finish()?;
    delete.quiet = quiet.unwrap_or(false);
    if delete.objects.is_empty() { Err(XmlError::Malformed) } else { Ok(delete) }
}

/// Reads the body of `POST /bucket/key?uploadId=`.
pub fn complete_multipart_upload(body: &[u8]) -> Result<Vec<CompletedPart>, XmlError> {
    check_not_empty(body)?;
    let mut document = Document::open(body, limits::XML_COMPLETE_SIZE_MAX, "CompleteMultipartUpload")?;
    let mut parts = Vec::new();
    while let Some(name) = document.child()? {
        if name != "Part" {
            return Err(XmlError::Malformed);
        }
        if parts.len() == limits::PART_NUMBER_MAX as usize {
            return Err(XmlError::TooMany);
        }
        parts.push(completed_part(&mut document)?);
    }
    document.finish()?;
    if parts.is_empty() { Err(XmlError::Malformed) } else { Ok(parts) }
}

/// Reads the body of `PUT /bucket`; none at all is legal.
pub fn create_bucket_configuration(body: &[u8]) -> Result<CreateBucketConfiguration, XmlError> {
    let mut configuration = CreateBucketConfiguration::default();
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(configuration);
    }
    let mut document = Document::open(body, limits::XML_SIZE_MAX, "CreateBucketConfiguration")?;
    while let Some(name) = document.child()? {
        match name {
            "LocationConstraint" => {
                let text = document.text()?;
                set(&mut configuration.location_constraint, text.trim().to_owned())?;
            }
            // Directory buckets: not ours, and not to be dropped in silence.
            "Location" => return Err(XmlError::NotImplemented("Location")),
            "Bucket" => return Err(XmlError::NotImplemented("Bucket")),
            // Terraform's provider tags in a second step where it is told so (terraform-provider-aws#45684).
            "Tags" if document.child()?.is_some() => return Err(XmlError::UnsupportedArgument),
            "Tags" => {}
            _ => return Err(XmlError::Malformed),
        }
    }
    document.finish()?;
    // us-east-1 is spelt as an empty constraint.
    configuration.location_constraint = configuration.location_constraint.filter(|location| !location.is_empty());
    Ok(configuration)
}

pub(super) fn check_not_empty(body: &[u8]) -> Result<(), XmlError> {
    if body.iter().all(u8::is_ascii_whitespace) { Err(XmlError::Empty) } else { Ok(()) }
}

fn object_identifier(document: &mut Document<'_>) -> Result<ObjectIdentifier, XmlError> {
    let mut key = None;
    let mut object = ObjectIdentifier::default();
    while let Some(name) = document.child()? {
        match name {
            // White space belongs to a key, so this text is not trimmed.
            "Key" => set(&mut key, document.text()?)?,
            "VersionId" => set(&mut object.version_id, trimmed(document.text()?))?,
            "ETag" => set(&mut object.etag, trimmed(document.text()?))?,
            "LastModifiedTime" => set(&mut object.last_modified_time, trimmed(document.text()?))?,
            "Size" => set(&mut object.size, number(&document.text()?)?)?,
            _ => return Err(XmlError::Malformed),
        }
    }
    object.key = key.filter(|key| !key.is_empty()).ok_or(XmlError::Malformed)?;
    object.version_id = object.version_id.filter(|version| !version.is_empty());
    object.etag = object.etag.filter(|etag| !etag.is_empty());
    Ok(object)
}

fn completed_part(document: &mut Document<'_>) -> Result<CompletedPart, XmlError> {
    let (mut part_number, mut etag, mut checksums) = (None, None, Vec::new());
    while let Some(name) = document.child()? {
        match name {
            "PartNumber" => {
                let value: i64 = document.text()?.trim().parse().map_err(|_| XmlError::Malformed)?;
                let number = u32::try_from(value).ok().filter(|number| (1..=limits::PART_NUMBER_MAX).contains(number));
                set(&mut part_number, number.ok_or(XmlError::PartNumber(value))?)?;
            }
            "ETag" => set(&mut etag, unquoted(&document.text()?))?,
            name => {
                let algorithm = name.strip_prefix("Checksum").ok_or(XmlError::Malformed)?;
                let algorithm = CHECKSUMS.iter().find(|known| **known == algorithm).ok_or(XmlError::Malformed)?;
                let value = trimmed(document.text()?);
                if checksums.iter().any(|(known, _)| known == algorithm) {
                    return Err(XmlError::Malformed);
                }
                if !value.is_empty() {
                    checksums.push((*algorithm, value));
                }
            }
        }
    }
    let part_number = part_number.ok_or(XmlError::Malformed)?;
    Ok(CompletedPart { part_number, etag: etag.ok_or(XmlError::Malformed)?, checksums })
}

/// What the S3 model of 2026 calls a checksum; which of them are computed is for the caller to say.
const CHECKSUMS: [&str; 10] =
    ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256", "SHA512", "MD5", "XXHASH64", "XXHASH3", "XXHASH128"];

/// An element may stand once.
pub(super) fn set<T>(slot: &mut Option<T>, value: T) -> Result<(), XmlError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(XmlError::Malformed),
    }
}

/// XML Schema's boolean, and the `True` that Python's `str` makes of one.
fn boolean(text: &str) -> Result<bool, XmlError> {
    match text.trim() {
        "1" => Ok(true),
        "0" | "" => Ok(false),
        text if text.eq_ignore_ascii_case("true") => Ok(true),
        text if text.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(XmlError::Malformed),
    }
}

/// Digits only: `u64::from_str` would also take a sign.
fn number(text: &str) -> Result<u64, XmlError> {
    let text = text.trim();
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(XmlError::Malformed);
    }
    text.parse().map_err(|_| XmlError::Malformed)
}

fn trimmed(text: String) -> String {
    let inner = text.trim();
    if inner.len() == text.len() { text } else { inner.to_owned() }
}

fn unquoted(text: &str) -> String {
    let text = text.trim();
    text.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')).unwrap_or(text).to_owned()
}

/// A cursor over a document: the caller asks for the next child of the element it stands in, and then enters it (by asking for
/// its children) or takes its text.
pub(super) struct Document<'a> {
    reader: Reader<&'a [u8]>,
    text: &'a str,
    depth: usize,
}

impl<'a> Document<'a> {
    pub(super) fn open(body: &'a [u8], size_max: usize, root: &str) -> Result<Self, XmlError> {
        if body.len() > size_max {
            return Err(XmlError::TooLarge);
        }
        // Checked as a whole, and before the parser: UTF-16 and overlong forms end here.
        let text = std::str::from_utf8(body).map_err(|_| XmlError::Malformed)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.contains('\0') {
            return Err(XmlError::Malformed);
        }
        let mut reader = Reader::from_str(text);
        reader.config_mut().expand_empty_elements = true;
        reader.config_mut().check_comments = true;
        let mut document = Self { reader, text, depth: 0 };
        document.prolog()?;
        match document.child()? {
            Some(name) if name == root => Ok(document),
            _ => Err(XmlError::Malformed),
        }
    }

    /// The XML declaration stands first or nowhere, and promises what we read: UTF-8.
    fn prolog(&mut self) -> Result<(), XmlError> {
        if !self.text.starts_with("<?xml") {
            return Ok(());
        }
        let Ok(Event::Decl(declaration)) = self.reader.read_event() else {
            return Err(XmlError::Malformed);
        };
        match declaration.encoding() {
            None => Ok(()),
            Some(Ok(name)) if name.eq_ignore_ascii_case("utf-8") || name.eq_ignore_ascii_case("us-ascii") => Ok(()),
            // Written by very old toolkits over ASCII, where it means the same bytes.
            Some(Ok(name)) if name.eq_ignore_ascii_case("iso-8859-1") && self.text.is_ascii() => Ok(()),
            Some(_) => Err(XmlError::Malformed),
        }
    }

    /// Enters the next child element and returns its local name; `None` when the element around it ends instead.
    pub(super) fn child(&mut self) -> Result<Option<&'a str>, XmlError> {
        loop {
            match self.reader.read_event().map_err(|_| XmlError::Malformed)? {
                Event::Start(start) => {
                    self.depth += 1;
                    if self.depth > limits::XML_DEPTH_MAX {
                        return Err(XmlError::Malformed);
                    }
                    let name = start.local_name();
                    return Ok(Some(known_name(name.as_ref())?));
                }
                Event::End(_) => {
                    self.depth = self.depth.checked_sub(1).ok_or(XmlError::Malformed)?;
                    return Ok(None);
                }
                Event::Text(text) if text.bytes().all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')) => {}
                Event::Comment(_) => {}
                _ => return Err(XmlError::Malformed),
            }
        }
    }

    /// The text of the element just entered, up to its end; elements in it are refused.
    pub(super) fn text(&mut self) -> Result<String, XmlError> {
        let mut out = String::new();
        loop {
            match self.reader.read_event().map_err(|_| XmlError::Malformed)? {
                Event::Text(text) => push_normalised(&mut out, &text),
                Event::CData(text) => push_normalised(&mut out, &text),
                Event::GeneralRef(name) => out.push(reference(&name).ok_or(XmlError::Malformed)?),
                Event::Comment(_) => {}
                Event::End(_) => {
                    self.depth = self.depth.checked_sub(1).ok_or(XmlError::Malformed)?;
                    return Ok(out);
                }
                _ => return Err(XmlError::Malformed),
            }
        }
    }

    /// After the root's end: nothing but white space and comments.
    pub(super) fn finish(mut self) -> Result<(), XmlError> {
        loop {
            match self.reader.read_event().map_err(|_| XmlError::Malformed)? {
                Event::Eof => return Ok(()),
                Event::Text(text) if text.bytes().all(|byte| byte.is_ascii_whitespace()) => {}
                Event::Comment(_) => {}
                _ => return Err(XmlError::Malformed),
            }
        }
    }
}

/// Every element name of all schemas, so that a name outlives its event without being copied.
fn known_name(name: &str) -> Result<&'static str, XmlError> {
    const NAMES: [&str; 22] = [
        "Delete",
        "Quiet",
        "Object",
        "Key",
        "VersionId",
        "ETag",
        "LastModifiedTime",
        "Size",
        "CompleteMultipartUpload",
        "Part",
        "PartNumber",
        "CreateBucketConfiguration",
        "LocationConstraint",
        "Location",
        "Bucket",
        "Tags",
        "Tag",
        "ChecksumCRC32",
        "ChecksumCRC32C",
        "VersioningConfiguration",
        "Status",
        "MfaDelete",
    ];
    const MORE_CHECKSUMS: [&str; 8] = [
        "ChecksumCRC64NVME",
        "ChecksumSHA1",
        "ChecksumSHA256",
        "ChecksumSHA512",
        "ChecksumMD5",
        "ChecksumXXHASH64",
        "ChecksumXXHASH3",
        "ChecksumXXHASH128",
    ];
    NAMES.iter().chain(&MORE_CHECKSUMS).find(|known| **known == name).copied().ok_or(XmlError::Malformed)
}

/// XML 1.0 section 2.11: a parser sees `\n` for `\r\n` and for `\r`. A key with a real carriage return sends `&#13;`.
fn push_normalised(out: &mut String, text: &str) {
    let mut lines = text.split('\r');
    out.push_str(lines.next().unwrap_or(""));
    for line in lines {
        out.push('\n');
        out.push_str(line.strip_prefix('\n').unwrap_or(line));
    }
}

/// `lt`, `#34`, `#x1`. XML 1.0 has no reference to a control character, but keys may hold one and could not be deleted
/// otherwise, so all of Unicode but NUL is taken.
fn reference(name: &str) -> Option<char> {
    let digits = match name {
        "lt" => return Some('<'),
        "gt" => return Some('>'),
        "amp" => return Some('&'),
        "quot" => return Some('"'),
        "apos" => return Some('\''),
        _ => name.strip_prefix('#')?,
    };
    let (digits, radix) = digits.strip_prefix('x').map_or((digits, 10), |digits| (digits, 16));
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    char::from_u32(u32::from_str_radix(digits, radix).ok()?).filter(|c| *c != '\0')
}

#[cfg(test)]
mod tests;
