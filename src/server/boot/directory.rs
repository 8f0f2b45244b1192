//! The served directory: is it there, is it ours to write, does anybody else serve it, and does it keep attributes?

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{self, AtFlags, FlockOperation, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use super::patience::Patience;
use crate::server::fatal::{DirectoryProblem, Fatal};
use crate::sys::mount::Mount;

const PRIVATE_DIRECTORY: Mode = Mode::RWXU;
const PRIVATE_FILE: Mode = Mode::RUSR.union(Mode::WUSR);

/// The directory, opened, probed and locked.
pub struct Directory {
    pub handle: OwnedFd,
    /// It was not there, and has been made.
    pub is_new: bool,
    /// Held beside that of the directory itself; `None` where there is no room for its file.
    pub lock: Option<OwnedFd>,
    pub filesystem: String,
    pub trusted_xattr: bool,
}

/// Opens the directory (makes it, if only its last component is missing), makes `.sluice` in it, takes the lock and tries what the filesystem must be able to do.
pub fn open(path: &Path, patience: &Patience) -> Result<Directory, Fatal> {
    inspect(path, patience).map_err(|problem| Fatal::Directory { path: path.to_path_buf(), problem })
}

fn inspect(path: &Path, patience: &Patience) -> Result<Directory, DirectoryProblem> {
    let (handle, is_new) = match open_served(path) {
        Err(DirectoryProblem::Missing) => (make_served(path)?, true),
        opened => (opened?, false),
    };
    let filesystem = filesystem_type(&handle);
    let is_taken = |problem: &DirectoryProblem| matches!(problem, DirectoryProblem::InUse { .. });
    let is_held = patience.wait_for("the directory", || lock_itself(&handle), is_taken)?;
    let state = match open_state(&handle) {
        // Reads and deletes are served all the same.
        Err(problem) if is_held && problem.is_no_room() => {
            return Ok(Directory { handle, is_new, lock: None, filesystem, trusted_xattr: false });
        }
        state => state?,
    };
    let lock = match patience.wait_for("the directory", || lock(&state), is_taken) {
        Err(problem) if is_held && problem.is_no_room() => None,
        lock => Some(lock?),
    };
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
        match fs::fchmod(&state, PRIVATE_DIRECTORY) {
            Ok(()) | Err(Errno::ROFS | Errno::NOSPC | Errno::DQUOT) => {}
            Err(_) => return Err(DirectoryProblem::StateForeign),
        }
    }
    Ok(state)
}

fn make_directory(parent: &OwnedFd, name: &str) -> Result<(), DirectoryProblem> {
    // A full filesystem says so before it says that the name is there.
    if fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        return Ok(());
    }
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

/// One server a directory: two would each trust their own caches and key locks. The lock is the directory's own, which nobody can
/// remove or replace beneath a server that holds it, and which goes where the directory is moved to. The kernel drops it with the
/// process, however it ends. Whether there is one: NFS, which makes a byte range of it, wants a file that can be written.
fn lock_itself(directory: &OwnedFd) -> Result<bool, DirectoryProblem> {
    match fs::flock(directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => {
            let file = fs::openat(directory, ".sluice/locks/server", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            Err(DirectoryProblem::InUse { pid: file.ok().and_then(|file| read_pid(&file)) })
        }
        Err(_) => Ok(false),
    }
}

/// The second lock, for filesystems that lock no directory, and for servers of before that knew only this one. The file keeps the
/// owner's process id, for the message only.
fn lock(state: &OwnedFd) -> Result<OwnedFd, DirectoryProblem> {
    make_directory(state, "locks")?;
    let locks = open_directory(state, "locks")?;
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match fs::openat(&locks, "server", flags | OFlags::CREATE, PRIVATE_FILE) {
        // A snapshot, or a filesystem that was mounted so: to be locked like any.
        Err(Errno::ROFS) => fs::openat(&locks, "server", flags - OFlags::RDWR, Mode::empty()),
        file => file,
    };
    let file = file.map_err(state_problem)?;
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
/// at once; one that a crash left behind is removed by the next start, which holds the lock.
fn probe_attributes(state: &OwnedFd, filesystem: &str) -> Result<bool, DirectoryProblem> {
    const NAME: &str = "probe";
    let _ = fs::unlinkat(state, NAME, AtFlags::empty());
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match fs::openat(state, NAME, flags, PRIVATE_FILE) {
        Ok(file) => file,
        // Full: nothing can be tried, and reads and deletes are to go on.
        Err(Errno::NOSPC | Errno::DQUOT | Errno::ROFS) => return Ok(false),
        Err(errno) => return Err(state_problem(errno)),
    };
    // While it has its name: some FUSE filesystems (mergerfs) know a file by nothing else.
    let kept = fs::fsetxattr(&file, "user.sluice", &[0; 64], XattrFlags::empty());
    let trusted = fs::fsetxattr(&file, "trusted.sluice", &[0; 8], XattrFlags::empty()).is_ok();
    let _ = fs::unlinkat(state, NAME, AtFlags::empty());
    match kept {
        Ok(()) | Err(Errno::NOSPC | Errno::DQUOT) => Ok(trusted),
        Err(Errno::OPNOTSUPP | Errno::PERM) => Err(DirectoryProblem::NoUserXattr { filesystem: filesystem.to_owned() }),
        Err(other) => Err(DirectoryProblem::Other(other)),
    }
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
        let opened = inspect(directory.path(), &Patience::over()).expect("first server");
        assert!(!opened.filesystem.is_empty());
        let mode = std::fs::metadata(directory.path().join(".sluice")).expect("stat").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let names: Vec<_> = std::fs::read_dir(directory.path().join(".sluice")).expect("read").flatten().collect();
        assert_eq!(names.iter().map(|name| name.file_name()).collect::<Vec<_>>(), ["locks"], "the probe is gone");
        let second = inspect(directory.path(), &Patience::over()).err();
        assert_eq!(second, Some(DirectoryProblem::InUse { pid: Some(std::process::id()) }));
        drop(opened);
        assert!(inspect(directory.path(), &Patience::over()).is_ok(), "the lock goes with its holder");
    }

    #[test]
    fn makes_the_last_component_of_its_path() {
        let directory = tempfile::tempdir().expect("temporary directory");
        for name in ["plain", "with a slash/"] {
            let path = directory.path().join(name);
            assert!(inspect(&path, &Patience::over()).expect("made").is_new);
            assert!(path.join(".sluice").is_dir());
            assert!(!inspect(&path, &Patience::over()).expect("there").is_new);
        }
    }

    #[test]
    fn refuses_what_is_no_directory_of_ours() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path();
        assert_eq!(inspect(&path.join("absent/below"), &Patience::over()).err(), Some(DirectoryProblem::Missing));
        assert!(!path.join("absent").exists());
        symlink(path.join("nowhere"), path.join("dangling")).expect("symlink");
        assert_eq!(inspect(&path.join("dangling"), &Patience::over()).err(), Some(DirectoryProblem::Missing));
        std::fs::write(path.join("file"), "").expect("write");
        assert_eq!(inspect(&path.join("file"), &Patience::over()).err(), Some(DirectoryProblem::NotDirectory));
        std::fs::create_dir(path.join("elsewhere")).expect("create");
        symlink(path.join("elsewhere"), path.join(".sluice")).expect("symlink");
        assert_eq!(inspect(path, &Patience::over()).err(), Some(DirectoryProblem::StateNotDirectory));
        assert_eq!(std::fs::read_dir(path.join("elsewhere")).expect("read").count(), 0, "nothing was written through it");
    }
}
