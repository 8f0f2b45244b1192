//! How is a document changed, by one of several who may want to? Under a lock, if it still is as whoever changes it has seen it:
//! written aside, said in the log, named, its folder synced, said once more. A crash between any two steps leaves the old document or the
//! new one, and whoever watches learns which.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Instant;

use rustix::io::Errno;

use super::DocumentError;
use super::format::Generation;
use super::log;
use super::publish::{chance, errno, folder_of, make_folders, rename_new, sync, temporary_of, write_private};
use crate::limits::{DOCUMENT_LOCK_PATIENCE, DOCUMENT_LOCK_POLL};
use crate::sys::lock;

/// What has been done when a crash may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It lies aside, whole.
    Aside,
    /// The log says that it changes.
    Said,
    /// It has its name, or has none any more.
    Named,
    /// That lasts.
    Synced,
    /// The log says so once more.
    SaidAgain,
}

/// The change of one document, by one who holds the lock.
pub(super) struct Change<'a> {
    pub(super) log: &'a Path,
    /// Where the document is, and how the log calls it.
    pub(super) path: &'a Path,
    pub(super) name: &'a str,
}

/// The lock of all who write documents here, until it is dropped.
pub(super) struct Locked {
    _file: File,
}

impl Locked {
    /// Takes the first byte of `file`. An open file description's lock ends with its process, however that ends.
    pub(super) fn take(file: &Path) -> Result<Self, DocumentError> {
        make_folders(folder_of(file))?;
        let flags = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
        let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(file);
        let opened = opened.map_err(|error| errno(&error))?;
        let until = Instant::now() + DOCUMENT_LOCK_PATIENCE;
        // Over a network nobody tells when it is free.
        while !lock::try_range(&opened, 0, 1)? {
            if Instant::now() > until {
                return Err(DocumentError::Busy);
            }
            std::thread::sleep(DOCUMENT_LOCK_POLL);
        }
        Ok(Self { _file: opened })
    }
}

impl Change<'_> {
    /// Gives the document the state that `bytes` has, which follows `before`.
    pub(super) fn write(
        &self,
        bytes: &[u8],
        before: Option<Generation>,
        after: Generation,
        mut reached: impl FnMut(Step),
    ) -> Result<(), DocumentError> {
        make_folders(folder_of(self.path))?;
        let temporary = temporary_of(self.path)?;
        let written = write_private(&temporary, bytes).and_then(|()| {
            reached(Step::Aside);
            self.say(after)?;
            reached(Step::Said);
            match before {
                Some(_) => std::fs::rename(&temporary, self.path).map_err(|error| errno(&error)).map(|()| true),
                // Somebody who knows of no lock may have made one.
                None => rename_new(&temporary, self.path),
            }
        });
        match written {
            Ok(true) => {}
            failed => {
                let _ = std::fs::remove_file(&temporary);
                return failed.map_err(DocumentError::Io).and(Err(DocumentError::Changed));
            }
        }
        self.finish(after, reached)
    }

    /// Removes the document, which is in this state.
    pub(super) fn remove(&self, now: Generation, mut reached: impl FnMut(Step)) -> Result<(), DocumentError> {
        self.say(now)?;
        reached(Step::Said);
        std::fs::remove_file(self.path).map_err(|error| errno(&error))?;
        self.finish(now, reached)
    }

    fn finish(&self, generation: Generation, mut reached: impl FnMut(Step)) -> Result<(), DocumentError> {
        reached(Step::Named);
        sync(folder_of(self.path))?;
        reached(Step::Synced);
        self.say(generation)?;
        reached(Step::SaidAgain);
        Ok(())
    }

    fn say(&self, generation: Generation) -> Result<(), Errno> {
        log::append(self.log, self.name, generation.incarnation)
    }
}

/// The state that follows this one.
pub(super) fn next(before: Option<Generation>) -> Result<Generation, Errno> {
    Ok(match before {
        Some(before) => Generation { number: before.number.saturating_add(1), ..before },
        None => Generation { incarnation: chance()?, number: 1 },
    })
}
