//! Does what was configured survive? Documents of JSON in the configuration directory, each with its format, its generation and a CRC
//! of the rest: what is damaged is said, and never taken for something else.
//!
//! Imports `limits`, `base`, `digest` and `sys`. Knows no meaning of what it keeps. Blocks: never called on a core. Limits:
//! `DOCUMENT_SIZE_MAX`, and `GENERATION_LOG_SIZE_MAX` for the log of changes.
//!
//! A document is two lines: what is said of it, and itself (`format`). It is published whole: written aside, synced, given its name,
//! and the directory synced, so that a power cut leaves it or none (`publish`). Several programs, on several hosts, may change them: under
//! a lock, each only what is still as it has seen it (`change`); and learn of each other's changes by a log (`log`).
//!
//! | | |
//! |---|---|
//! | `generation` | the log of changes |
//! | `locks/documents` | whose first byte is locked by who changes any |
//! | `.NAME.CHANCE` | a document on its way to its name |

mod change;
mod format;
mod log;
mod publish;

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::limits::DOCUMENT_SIZE_MAX;
use change::{Change, Locked, Step};

pub use format::Generation;
pub use log::{Seen, Watch};
pub use publish::{make_folders, publish_new};

/// Why a document cannot be had, or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentError {
    /// Its bytes are not those that were written.
    Damaged,
    /// A later version of this program has written it.
    Newer,
    /// It is not as whoever changes it has seen it: somebody was quicker.
    Changed,
    /// Somebody else has been changing documents for too long.
    Busy,
    /// The kernel refused.
    Io(Errno),
}

impl From<Errno> for DocumentError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno)
    }
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
        Ok(self.find(name)?.map(|(content, _)| content))
    }

    /// Reads one, with the generation that it has.
    pub fn find<T: DeserializeOwned>(&self, name: &str) -> Result<Option<(T, Generation)>, DocumentError> {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(self.path(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(publish::errno(&error).into()),
        };
        let mut bytes = Vec::new();
        file.take(DOCUMENT_SIZE_MAX + 1).read_to_end(&mut bytes).map_err(|error| publish::errno(&error))?;
        format::decode(&bytes).map(Some)
    }

    /// The names of all in a folder, damaged ones too.
    pub fn names(&self, folder: &str) -> Result<Vec<String>, DocumentError> {
        let entries = match std::fs::read_dir(self.path(folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(publish::errno(&error).into()),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(|error| publish::errno(&error))?.file_name().into_string();
            names.extend(name.ok().filter(|name| !name.starts_with('.')).map(|name| format!("{folder}/{name}")));
        }
        Ok(names)
    }

    /// Makes one that is not there yet; false where somebody was quicker.
    pub fn create<T: Serialize>(&self, name: &str, content: &T) -> Result<bool, DocumentError> {
        match self.write(name, content, None) {
            Ok(_) => Ok(true),
            Err(DocumentError::Changed | DocumentError::Damaged | DocumentError::Newer) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes one that has the generation `expected`, or is not there (`None`). Answers the generation that it has then. After an error
    /// of the kernel it may be the new one all the same.
    pub fn write<T: Serialize>(
        &self,
        name: &str,
        content: &T,
        expected: Option<Generation>,
    ) -> Result<Generation, DocumentError> {
        self.write_in_steps(name, content, expected, |_| {})
    }

    fn write_in_steps<T: Serialize>(
        &self,
        name: &str,
        content: &T,
        expected: Option<Generation>,
        reached: impl FnMut(Step),
    ) -> Result<Generation, DocumentError> {
        let _locked = self.lock()?;
        if self.generation(name)? != expected {
            return Err(DocumentError::Changed);
        }
        let after = change::next(expected)?;
        let bytes = format::encode(content, after).ok_or(Errno::INVAL)?;
        self.change(name, |change| change.write(&bytes, expected, after, reached))?;
        Ok(after)
    }

    /// Removes one that has the generation `expected`.
    pub fn remove(&self, name: &str, expected: Generation) -> Result<(), DocumentError> {
        self.remove_in_steps(name, expected, |_| {})
    }

    fn remove_in_steps(&self, name: &str, expected: Generation, reached: impl FnMut(Step)) -> Result<(), DocumentError> {
        let _locked = self.lock()?;
        if self.generation(name)? != Some(expected) {
            return Err(DocumentError::Changed);
        }
        self.change(name, |change| change.remove(expected, reached))
    }

    /// Removes what a crash has left in a folder that is on its way to a name.
    pub fn sweep(&self, folder: &str) -> Result<(), DocumentError> {
        if !self.path(folder).is_dir() {
            return Ok(());
        }
        let _locked = self.lock()?;
        for entry in std::fs::read_dir(self.path(folder)).map_err(|error| publish::errno(&error))?.flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    /// What has changed since `watch` looked before.
    pub fn look(&self, watch: &mut Watch) -> Result<Seen, DocumentError> {
        Ok(watch.look(&self.log())?)
    }

    fn generation(&self, name: &str) -> Result<Option<Generation>, DocumentError> {
        Ok(self.find::<IgnoredAny>(name)?.map(|(_, generation)| generation))
    }

    fn lock(&self) -> Result<Locked, DocumentError> {
        Locked::take(&self.directory.join("locks/documents"))
    }

    fn log(&self) -> PathBuf {
        self.directory.join("generation")
    }

    fn change<T>(&self, name: &str, act: impl FnOnce(&Change<'_>) -> Result<T, DocumentError>) -> Result<T, DocumentError> {
        act(&Change { log: &self.log(), path: &self.path(name), name })
    }
}

#[cfg(test)]
mod tests;
