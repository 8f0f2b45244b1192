//! The served directory: is it there, is it ours to write, does anybody else serve it, and does it keep attributes?

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{self, AtFlags, FlockOperation, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use crate::server::fatal::{DirectoryProblem, Fatal};
use crate::sys::mount::Mount;

const PRIVATE_DIRECTORY: Mode = Mode::RWXU;
const PRIVATE_FILE: Mode = Mode::RUSR.union(Mode::WUSR);

/// The directory, opened, probed and locked.
pub struct Directory {
    pub handle: OwnedFd,
    /// It was not there, and has been made.
    pub is_new: bool,
    pub lock: OwnedFd,
    pub filesystem: String,
    pub trusted_xattr: bool,
}

/// Opens the directory (makes it, if only its last component is missing), makes `.sluice` in it, takes the lock and tries what the filesystem must be able to do.
pub fn open(path: &Path) -> Result<Directory, Fatal> {
    inspect(path).map_err(|problem| Fatal::Directory { path: path.to_path_buf(), problem })
}

fn inspect(path: &Path) -> Result<Directory, DirectoryProblem> {
    let (handle, is_new) = match open_served(path) {
        Err(DirectoryProblem::Missing) => (make_served(path)?, true),
        opened => (opened?, false),
    };
    let filesystem = filesystem_type(&handle);
    let state = open_state(&handle)?;
    let lock = lock(&state)?;
    let trusted_xattr = probe_attributes(&state, &filesystem)?;
    Ok(Directory { handle, is_new, lock, filesystem, trusted_xattr })
}

fn open_served(path: &Path) -> Result<OwnedFd, DirectoryProblem> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::NOENT => DirectoryProblem::Missing,
        Errno::NOTDIR => DirectoryProblem::NotDirectory,
        Errno::ACCESS | Errno::PERM => DirectoryProblem::NoAccess,
        other => DirectoryProblem::Other(other),
    })
}

/// One level only: a path of which more is missing is mistyped, or its filesystem is not mounted. The new name is made durable
/// before anything is promised below it.
fn make_served(path: &Path) -> Result<OwnedFd, DirectoryProblem> {
    fs::mkdir(path, Mode::from_raw_mode(0o777)).map_err(|errno| match errno {
        Errno::ROFS => DirectoryProblem::ReadOnly,
        // A link that leads nowhere is there and cannot be opened.
        Errno::NOENT | Errno::EXIST => DirectoryProblem::Missing,
        Errno::ACCESS | Errno::PERM => DirectoryProblem::NotMakeable,
        other => DirectoryProblem::Other(other),
    })?;
    let handle = open_served(path)?;
    let parent = open_directory_above(&handle)?;
    fs::fsync(&parent).map_err(DirectoryProblem::Other)?;
    Ok(handle)
}

fn open_directory_above(directory: &OwnedFd) -> Result<OwnedFd, DirectoryProblem> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    fs::openat(directory, "..", flags, Mode::empty()).map_err(DirectoryProblem::Other)
}

/// `.sluice`, mode 0700. A symlink in its place is refused: it could lead our state anywhere.
fn open_state(directory: &OwnedFd) -> Result<OwnedFd, DirectoryProblem> {
    make_directory(directory, ".sluice")?;
    let state = open_directory(directory, ".sluice")?;
    let stat = fs::fstat(&state).map_err(DirectoryProblem::Other)?;
    if stat.st_mode & 0o077 != 0 {
        fs::fchmod(&state, PRIVATE_DIRECTORY).map_err(|_| DirectoryProblem::StateForeign)?;
    }
    Ok(state)
}

fn make_directory(parent: &OwnedFd, name: &str) -> Result<(), DirectoryProblem> {
    match fs::mkdirat(parent, name, PRIVATE_DIRECTORY) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(Errno::ROFS) => Err(DirectoryProblem::ReadOnly),
        Err(Errno::ACCESS | Errno::PERM) => Err(DirectoryProblem::NotWritable),
        Err(other) => Err(DirectoryProblem::Other(other)),
    }
}

fn open_directory(parent: &OwnedFd, name: &str) -> Result<OwnedFd, DirectoryProblem> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(parent, name, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::LOOP | Errno::NOTDIR => DirectoryProblem::StateNotDirectory,
        Errno::ACCESS | Errno::PERM => DirectoryProblem::StateForeign,
        other => DirectoryProblem::Other(other),
    })
}

/// One server a directory: two would each trust their own caches and key locks. The kernel drops the lock with the process,
/// however it ends. The file keeps the owner's process id, for the message only.
fn lock(state: &OwnedFd) -> Result<OwnedFd, DirectoryProblem> {
    make_directory(state, "locks")?;
    let locks = open_directory(state, "locks")?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = fs::openat(&locks, "server", flags, PRIVATE_FILE).map_err(state_problem)?;
    match fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Err(DirectoryProblem::InUse { pid: read_pid(&file) }),
        Err(other) => return Err(DirectoryProblem::Other(other)),
    }
    // A full disk must not keep the server from starting: reads and deletes still work, and only the message loses its number.
    let _ = fs::ftruncate(&file, 0);
    let _ = rustix::io::pwrite(&file, std::process::id().to_string().as_bytes(), 0);
    Ok(file)
}

fn read_pid(file: &OwnedFd) -> Option<u32> {
    let mut digits = [0; 16];
    let length = rustix::io::pread(file, &mut digits, 0).ok()?;
    std::str::from_utf8(digits.get(..length)?).ok()?.trim().parse().ok()
}

/// Tries a record of the size that stays inside an inode, and whether `trusted.*` is ours to write. The probe file is removed
/// by name at once; one that a crash left behind is removed by the next start, which holds the lock.
fn probe_attributes(state: &OwnedFd, filesystem: &str) -> Result<bool, DirectoryProblem> {
    const NAME: &str = "probe";
    let _ = fs::unlinkat(state, NAME, AtFlags::empty());
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match fs::openat(state, NAME, flags, PRIVATE_FILE) {
        Ok(file) => file,
        // Full: nothing can be tried, and reads and deletes are to go on.
        Err(Errno::NOSPC | Errno::DQUOT) => return Ok(false),
        Err(errno) => return Err(state_problem(errno)),
    };
    let _ = fs::unlinkat(state, NAME, AtFlags::empty());
    match fs::fsetxattr(&file, "user.sluice", &[0; 64], XattrFlags::empty()) {
        Ok(()) | Err(Errno::NOSPC | Errno::DQUOT) => {}
        Err(Errno::OPNOTSUPP | Errno::PERM) => {
            return Err(DirectoryProblem::NoUserXattr { filesystem: filesystem.to_owned() });
        }
        Err(other) => return Err(DirectoryProblem::Other(other)),
    }
    Ok(fs::fsetxattr(&file, "trusted.sluice", &[0; 8], XattrFlags::empty()).is_ok())
}

fn state_problem(errno: Errno) -> DirectoryProblem {
    match errno {
        Errno::ACCESS | Errno::PERM => DirectoryProblem::StateForeign,
        Errno::ROFS => DirectoryProblem::ReadOnly,
        Errno::LOOP => DirectoryProblem::StateNotDirectory,
        other => DirectoryProblem::Other(other),
    }
}

/// The type as `mount` shows it, which can tell ext3 from ext4; the magic number of statfs cannot.
fn filesystem_type(directory: &OwnedFd) -> String {
    Mount::of(directory).map(|mount| mount.filesystem).unwrap_or_else(|| match fs::fstatfs(directory) {
        Ok(statfs) => format!("magic {:#x}", statfs.f_type),
        Err(_) => "unknown".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn opens_once_privately_and_leaves_only_its_state() {
        let directory = tempfile::tempdir().expect("temporary directory");
        std::fs::create_dir(directory.path().join(".sluice")).expect("create");
        std::fs::set_permissions(directory.path().join(".sluice"), PermissionsExt::from_mode(0o755)).expect("chmod");
        let opened = inspect(directory.path()).expect("first server");
        assert!(!opened.filesystem.is_empty());
        let mode = std::fs::metadata(directory.path().join(".sluice")).expect("stat").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let names: Vec<_> = std::fs::read_dir(directory.path().join(".sluice")).expect("read").flatten().collect();
        assert_eq!(names.iter().map(|name| name.file_name()).collect::<Vec<_>>(), ["locks"], "the probe is gone");
        let second = inspect(directory.path()).err();
        assert_eq!(second, Some(DirectoryProblem::InUse { pid: Some(std::process::id()) }));
        drop(opened);
        assert!(inspect(directory.path()).is_ok(), "the lock goes with its holder");
    }

    #[test]
    fn makes_the_last_component_of_its_path() {
        let directory = tempfile::tempdir().expect("temporary directory");
        for name in ["plain", "with a slash/"] {
            let path = directory.path().join(name);
            assert!(inspect(&path).expect("made").is_new);
            assert!(path.join(".sluice").is_dir());
            assert!(!inspect(&path).expect("there").is_new);
        }
    }

    #[test]
    fn refuses_what_is_no_directory_of_ours() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path();
        assert_eq!(inspect(&path.join("absent/below")).err(), Some(DirectoryProblem::Missing));
        assert!(!path.join("absent").exists());
        symlink(path.join("nowhere"), path.join("dangling")).expect("symlink");
        assert_eq!(inspect(&path.join("dangling")).err(), Some(DirectoryProblem::Missing));
        std::fs::write(path.join("file"), "").expect("write");
        assert_eq!(inspect(&path.join("file")).err(), Some(DirectoryProblem::NotDirectory));
        std::fs::create_dir(path.join("elsewhere")).expect("create");
        symlink(path.join("elsewhere"), path.join(".sluice")).expect("symlink");
        assert_eq!(inspect(path).err(), Some(DirectoryProblem::StateNotDirectory));
        assert_eq!(std::fs::read_dir(path.join("elsewhere")).expect("read").count(), 0, "nothing was written through it");
    }
}
