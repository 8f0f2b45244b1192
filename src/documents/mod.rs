//! Does what was configured survive? Documents of JSON in the configuration directory, each with its format, its generation and a CRC
//! of the rest: what is damaged is said, and never taken for something else.
//!
//! Imports `limits` and `digest`. Knows no meaning of what it keeps. Blocks: never called on a core. Limits: `DOCUMENT_SIZE_MAX`.
//!
//! A document is two lines: what is said of it, and itself. It is published whole: written aside, synced, given its name, and the
//! directory synced, so that a power cut leaves it or none.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags, RenameFlags};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::digest::Algorithm;
use crate::digest::checksum::Hasher;
use crate::limits::DOCUMENT_SIZE_MAX;

const FORMAT: u32 = 1;

/// Why a document cannot be had, or made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentError {
    /// Its bytes are not those that were written.
    Damaged,
    /// A later version of this program has written it.
    Newer,
    /// The kernel refused.
    Io(Errno),
}

/// What is said of a document, in front of it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: u32,
    /// Which life of the document it is, random, and how often it was written in it.
    incarnation: String,
    number: u64,
    /// CRC-32C of the line that follows.
    crc32c: String,
}

/// The documents below a directory.
#[derive(Clone, Debug)]
pub struct Documents {
    directory: PathBuf,
}

impl Documents {
    /// Those in `directory`, which need not be there yet.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_path_buf() }
    }

    /// Where the document of this name is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Reads one; `None` where there is none.
    pub fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, DocumentError> {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(self.path(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(&error)),
        };
        let mut bytes = Vec::new();
        file.take(DOCUMENT_SIZE_MAX + 1).read_to_end(&mut bytes).map_err(|error| io(&error))?;
        decode(&bytes).map(Some)
    }

    /// Makes one that is not there yet; false where somebody was quicker.
    pub fn create<T: Serialize>(&self, name: &str, content: &T) -> Result<bool, DocumentError> {
        let path = self.path(name);
        make_folders(path.parent().unwrap_or(&self.directory)).map_err(DocumentError::Io)?;
        let mut incarnation = [0; 8];
        getrandom::fill(&mut incarnation).map_err(|_| DocumentError::Io(Errno::IO))?;
        let bytes = encode(content, u64::from_le_bytes(incarnation)).ok_or(DocumentError::Io(Errno::INVAL))?;
        publish_new(&path, &bytes).map_err(DocumentError::Io)
    }
}

/// Makes a folder, and those above it that are missing, private and to last.
pub fn make_folders(folder: &Path) -> Result<(), Errno> {
    // The parent of a name alone is no name, and is where we are.
    let here = |path: &Path| if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_path_buf() };
    if folder.is_dir() {
        return Ok(());
    }
    let above = &here(folder.parent().ok_or(Errno::INVAL)?);
    make_folders(above)?;
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(errno(&error)),
        _ => {}
    }
    sync(above)
}

/// Has the names in a folder last. One whose names may be written and not read, or that has no way to be synced, does what it can.
fn sync(folder: &Path) -> Result<(), Errno> {
    match File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| errno(&error)) {
        Err(Errno::ACCESS | Errno::INVAL) => Ok(()),
        synced => synced,
    }
}

/// Gives `path` to a file of these bytes that only its owner reads, if nobody has it; false otherwise. After a crash it is there whole, or
/// not at all.
pub fn publish_new(path: &Path, bytes: &[u8]) -> Result<bool, Errno> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::INVAL) };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    // Of this start alone: in containers every process has the same id.
    let mut chance = [0; 8];
    getrandom::fill(&mut chance).map_err(|_| Errno::IO)?;
    let temporary = folder.join(format!(".{}.{:016x}", name.to_string_lossy(), u64::from_le_bytes(chance)));
    let published = write_private(&temporary, bytes).and_then(|()| rename_new(&temporary, path));
    if !matches!(published, Ok(true)) {
        let _ = std::fs::remove_file(&temporary);
    }
    sync(folder)?;
    published
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Errno> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| errno(&error))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| errno(&error))
}

/// Renames without replacing; false when the name is taken. NFS and some others cannot refuse to replace: there it is linked, which
/// can, and the first name removed.
fn rename_new(from: &Path, to: &Path) -> Result<bool, Errno> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(Errno::INVAL | Errno::NOSYS) => match std::fs::hard_link(from, to) {
            Ok(()) => std::fs::remove_file(from).map(|()| true).map_err(|error| errno(&error)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(errno(&error)),
        },
        Err(errno) => Err(errno),
    }
}

fn encode<T: Serialize>(content: &T, incarnation: u64) -> Option<Vec<u8>> {
    let body = serde_json::to_string(content).ok()?;
    let head = Head { format: FORMAT, incarnation: format!("{incarnation:016x}"), number: 1, crc32c: crc_of(body.as_bytes()) };
    Some(format!("{}\n{body}\n", serde_json::to_string(&head).ok()?).into_bytes())
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DocumentError> {
    if bytes.len() as u64 > DOCUMENT_SIZE_MAX {
        return Err(DocumentError::Damaged);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| DocumentError::Damaged)?;
    let (head, body) = text.split_once('\n').ok_or(DocumentError::Damaged)?;
    let body = body.strip_suffix('\n').ok_or(DocumentError::Damaged)?;
    // Before anything else of it: a later format may have other fields.
    let format = serde_json::from_str::<serde_json::Value>(head).ok().and_then(|head| head.get("format")?.as_u64());
    if format.ok_or(DocumentError::Damaged)? > u64::from(FORMAT) {
        return Err(DocumentError::Newer);
    }
    let head: Head = serde_json::from_str(head).map_err(|_| DocumentError::Damaged)?;
    if head.crc32c != crc_of(body.as_bytes()) {
        return Err(DocumentError::Damaged);
    }
    serde_json::from_str(body).map_err(|_| DocumentError::Damaged)
}

fn crc_of(bytes: &[u8]) -> String {
    let mut hasher = Hasher::new(Algorithm::Crc32c);
    hasher.update(bytes);
    crate::base::hex::encode(hasher.finish().as_bytes())
}

fn io(error: &std::io::Error) -> DocumentError {
    DocumentError::Io(errno(error))
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Content {
        name: String,
        number: u32,
    }

    fn content() -> Content {
        Content { name: "a\n\u{fc}\"b".into(), number: 7 }
    }

    #[test]
    fn what_is_made_is_read_private_and_made_once() {
        let top = tempfile::tempdir().unwrap();
        let documents = Documents::new(&top.path().join("config"));
        assert_eq!(documents.read::<Content>("of/one.json"), Ok(None));
        assert_eq!(documents.create("of/one.json", &content()), Ok(true));
        assert_eq!(documents.read("of/one.json"), Ok(Some(content())));
        assert_eq!(documents.create("of/one.json", &Content { number: 8, ..content() }), Ok(false));
        assert_eq!(documents.read("of/one.json"), Ok(Some(content())));
        let stat = std::fs::metadata(documents.path("of/one.json")).unwrap();
        assert_eq!(stat.mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(top.path().join("config/of")).unwrap().mode() & 0o777, 0o700);
        assert_eq!(std::fs::read_dir(top.path().join("config/of")).unwrap().count(), 1, "no temporary is left");
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_damage() {
        let bytes = encode(&content(), 9).unwrap();
        assert_eq!(decode(&bytes), Ok(content()));
        for at in 0..bytes.len() {
            assert!(decode::<Content>(&bytes[..at]).is_err(), "cut at {at}");
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let read = decode::<Content>(&changed);
            // Who it is, and how often it was written, is not of its content.
            let is_head = at < bytes.iter().position(|byte| *byte == b'\n').unwrap();
            assert!(read.is_err() || (is_head && read == Ok(content())), "{}", String::from_utf8_lossy(&changed));
        }
        for text in ["", "\n", "{}\n{}\n", "{\"format\":1}\n{}\n", "[]\n[]\n"] {
            assert_eq!(decode::<Content>(text.as_bytes()), Err(DocumentError::Damaged), "{text:?}");
        }
        assert_eq!(decode::<Content>(b"{\"format\":2,\"x\":[]}\nbinary"), Err(DocumentError::Damaged));
        assert_eq!(decode::<Content>(b"{\"format\":2,\"x\":[]}\nbinary\n"), Err(DocumentError::Newer));
    }

    #[test]
    fn what_is_no_file_is_no_document() {
        let top = tempfile::tempdir().unwrap();
        let documents = Documents::new(top.path());
        symlink("/dev/zero", documents.path("link")).unwrap();
        assert_eq!(documents.read::<Content>("link"), Err(DocumentError::Io(Errno::LOOP)));
        std::fs::create_dir(documents.path("folder")).unwrap();
        assert!(documents.read::<Content>("folder").is_err());
        std::fs::write(documents.path("large"), vec![b'x'; DOCUMENT_SIZE_MAX as usize + 5]).unwrap();
        assert_eq!(documents.read::<Content>("large"), Err(DocumentError::Damaged));
    }
}
