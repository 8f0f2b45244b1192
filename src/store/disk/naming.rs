//! How does a name come to be that must be new? By RENAME_NOREPLACE where the filesystem has it, else by link and unlink, of which
//! the link decides in one step. A filesystem with neither is refused: whatever else could be done shows a reader half an object, or
//! replaces a file that appeared in between.

use std::os::fd::OwnedFd;

use crate::sys::{self, Errno};

/// How a name is given that must be new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewNames {
    /// RENAME_NOREPLACE.
    Renamed,
    /// link(2), then unlink(2) of the old name. What is left after a crash between them is one name too many for a whole file.
    Linked,
}

/// Moves a name to where nothing is: EEXIST otherwise, and then nothing has happened.
pub(super) fn rename_new(way: NewNames, from_dir: &OwnedFd, from: &[u8], to_dir: &OwnedFd, to: &[u8]) -> sys::Result<()> {
    if way == NewNames::Renamed {
        return sys::path::rename_new(from_dir, from, to_dir, to);
    }
    match sys::path::link_name(from_dir, from, to_dir, to) {
        Ok(()) => {
            // It has its new name. An old one that stays is swept at the next start.
            let _ = sys::path::unlink(from_dir, from);
            Ok(())
        }
        // A directory, which has one name at a time: rename(2) replaces only an empty one, and this one is ours.
        Err(Errno::PERM) if sys::stat::at(from_dir, from)?.kind == sys::FileKind::Directory => {
            sys::path::mkdir(to_dir, to, 0o700)?;
            sys::path::rename(from_dir, from, to_dir, to).inspect_err(|_| {
                let _ = sys::path::rmdir(to_dir, to);
            })
        }
        Err(errno) => Err(errno),
    }
}

/// The same where it happens too rarely for what the filesystem can do to be known.
pub(super) fn rename_new_somehow(from_dir: &OwnedFd, from: &[u8], to_dir: &OwnedFd, to: &[u8]) -> sys::Result<()> {
    match rename_new(NewNames::Renamed, from_dir, from, to_dir, to) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => rename_new(NewNames::Linked, from_dir, from, to_dir, to),
        answer => answer,
    }
}

/// Tries the ways, best first, on the file `name`, which ends as `to`.
pub(super) fn find_out(folder: &OwnedFd, name: &[u8], to: &[u8]) -> sys::Result<NewNames> {
    const TAKEN: &[u8] = b"taken";
    sys::path::create_new(folder, TAKEN, 0o600, false)?;
    let mut refused = Errno::OPNOTSUPP;
    for way in [NewNames::Renamed, NewNames::Linked] {
        match rename_new(way, folder, name, folder, to) {
            // FUSE answers EEXIST by itself for a name that it knows, so that this alone would say nothing.
            Ok(()) if rename_new(way, folder, to, folder, TAKEN) == Err(Errno::EXIST) => return Ok(way),
            Ok(()) => sys::path::rename(folder, to, folder, name)?,
            Err(errno) if sys::errno::is_no_room(errno) => return Err(errno),
            Err(errno) => refused = errno,
        }
    }
    Err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_taken_stays_either_way() {
        for way in [NewNames::Renamed, NewNames::Linked] {
            let top = tempfile::tempdir().unwrap();
            let at = |name: &str| std::fs::read(top.path().join(name)).ok();
            let folder = sys::path::open_root(top.path().as_os_str().as_encoded_bytes()).unwrap();
            std::fs::write(top.path().join("from"), b"ours").unwrap();
            std::fs::write(top.path().join("taken"), b"somebody's").unwrap();
            std::fs::create_dir(top.path().join("directory")).unwrap();
            std::fs::write(top.path().join("directory/in"), b"in").unwrap();
            for name in [b"from".as_slice(), b"directory"] {
                assert_eq!(rename_new(way, &folder, name, &folder, b"taken"), Err(Errno::EXIST), "{way:?}");
                assert_eq!(rename_new(way, &folder, name, &folder, b"none/to"), Err(Errno::NOENT), "{way:?}");
            }
            assert_eq!((at("from").unwrap(), at("taken").unwrap()), (b"ours".to_vec(), b"somebody's".to_vec()));
            rename_new(way, &folder, b"from", &folder, b"to").unwrap();
            rename_new(way, &folder, b"directory", &folder, b"moved").unwrap();
            assert_eq!((at("from"), at("to").unwrap(), at("moved/in").unwrap()), (None, b"ours".to_vec(), b"in".to_vec()));
            assert!(!top.path().join("directory").exists());
            assert_eq!(sys::stat::at(&folder, b"to").unwrap().nlink, 1);
        }
    }

    #[test]
    fn a_probe_leaves_the_file_under_its_new_name() {
        let top = tempfile::tempdir().unwrap();
        let folder = sys::path::open_root(top.path().as_os_str().as_encoded_bytes()).unwrap();
        std::fs::write(top.path().join("file"), b"").unwrap();
        assert!(find_out(&folder, b"file", b"new").is_ok());
        assert!(top.path().join("new").exists() && !top.path().join("file").exists());
    }
}
