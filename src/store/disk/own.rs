//! Our own directory, `.sluice`, and what is in it: made where it is missing, also while we serve, and opened once for all.

use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::staging::Staging;
use crate::sys::path::Symlinks;
use crate::sys::{self, Errno};

/// The name of our own directory, never listed, never served.
pub const OWN_DIRECTORY: &[u8] = b".sluice";
/// Mode of what is in there: nobody else's business.
const PRIVATE: u32 = 0o700;

/// Our directories, open.
pub(in crate::store) struct Own {
    /// `.sluice` itself.
    pub(in crate::store) directory: OwnedFd,
    /// Names on their way, of this process.
    pub(in crate::store) staging: Arc<Staging>,
    pub(in crate::store) uploads: OwnedFd,
    pub(super) spill: OwnedFd,
}

/// What of ours is not where it was: removed by somebody, moved away, or replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) directory: bool,
    pub(super) staging: bool,
    pub(super) uploads: bool,
    pub(super) spill: bool,
}

impl Own {
    /// Opens them, and makes what is not there.
    pub(super) fn open(root: &OwnedFd) -> sys::Result<Self> {
        let directory = ensure(root, OWN_DIRECTORY)?;
        let below = |name: &[u8]| ensure(&directory, name);
        let (staging, uploads, spill) = (below(b"staging")?, below(b"uploads")?, below(b"spill")?);
        let home = directory.try_clone().map_err(|_| Errno::MFILE)?;
        let staging = Arc::new(Staging::new(staging, home, ".sluice/".into()));
        Ok(Self { directory, staging, uploads, spill })
    }

    /// Whether each is still reached by its name.
    pub(super) fn missing(&self, root: &OwnedFd) -> sys::Result<Missing> {
        let is_missing = |parent: &OwnedFd, name: &[u8], known: &OwnedFd| match sys::stat::at(parent, name) {
            Ok(found) => sys::stat::of(known).map(|known| (known.device, known.inode) != (found.device, found.inode)),
            Err(errno) if sys::errno::is_gone(errno) => Ok(true),
            Err(errno) => Err(errno),
        };
        Ok(Missing {
            directory: is_missing(root, OWN_DIRECTORY, &self.directory)?,
            staging: is_missing(&self.directory, b"staging", self.staging.directory())?,
            uploads: is_missing(&self.directory, b"uploads", &self.uploads)?,
            spill: is_missing(&self.directory, b"spill", &self.spill)?,
        })
    }
}

impl Missing {
    pub(super) fn is_nothing(self) -> bool {
        self == Self::default()
    }

    /// The names, for the log.
    pub(super) fn names(self) -> String {
        let all = [
            (self.directory, ".sluice"),
            (self.staging, ".sluice/staging"),
            (self.uploads, ".sluice/uploads"),
            (self.spill, ".sluice/spill"),
        ];
        let names: Vec<&str> = all.into_iter().filter_map(|(is_missing, name)| is_missing.then_some(name)).collect();
        names.join(", ")
    }
}

/// The names in a directory of ours.
pub(in crate::store) fn names_in(directory: &OwnedFd) -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    let mut buffer = sys::dir::buffer(32 * 1024);
    let listed = sys::path::open_dir(directory, b"", Symlinks::Deny).and_then(|directory| {
        sys::dir::read(&directory, &mut buffer, |entry| {
            names.push(entry.name.to_vec());
            ControlFlow::<()>::Continue(())
        })
    });
    if let Err(errno) = listed {
        tracing::warn!(%errno, "what an earlier process left in .sluice stays there");
    }
    names
}

fn ensure(parent: &OwnedFd, name: &[u8]) -> sys::Result<OwnedFd> {
    let open = || sys::path::open_dir(parent, name, Symlinks::Deny);
    match open() {
        Err(Errno::NOENT) => {}
        opened => return opened,
    }
    match sys::path::mkdir(parent, name, PRIVATE) {
        Ok(()) | Err(Errno::EXIST) => open(),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_and_made_again() {
        let top = tempfile::tempdir().unwrap();
        let root = sys::path::open_root(top.path().as_os_str().as_encoded_bytes()).unwrap();
        let own = Own::open(&root).unwrap();
        assert!(own.missing(&root).unwrap().is_nothing());
        std::fs::remove_dir(top.path().join(".sluice/staging")).unwrap();
        std::fs::rename(top.path().join(".sluice/spill"), top.path().join("away")).unwrap();
        std::fs::create_dir(top.path().join(".sluice/spill")).unwrap();
        let missing = own.missing(&root).unwrap();
        assert_eq!(missing.names(), ".sluice/staging, .sluice/spill");
        assert!(Own::open(&root).unwrap().missing(&root).unwrap().is_nothing());
        std::fs::remove_dir_all(top.path().join(".sluice")).unwrap();
        assert!(own.missing(&root).unwrap().directory);
    }
}
