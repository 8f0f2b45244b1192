//! How does a file get its name so that it is there whole, or not at all? Written aside, synced, named, its directory synced.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

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
pub(super) fn sync(folder: &Path) -> Result<(), Errno> {
    match File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| errno(&error)) {
        Err(Errno::ACCESS | Errno::INVAL) => Ok(()),
        synced => synced,
    }
}

/// Gives `path` to a file of these bytes that only its owner reads, if nobody has it; false otherwise. After a crash it is there whole, or
/// not at all.
pub fn publish_new(path: &Path, bytes: &[u8]) -> Result<bool, Errno> {
    let temporary = temporary_of(path)?;
    let published = write_private(&temporary, bytes).and_then(|()| rename_new(&temporary, path));
    if !matches!(published, Ok(true)) {
        let _ = std::fs::remove_file(&temporary);
    }
    sync(folder_of(path))?;
    published
}

/// A name beside `path` that nobody else has. It begins with a point, which no document does.
pub(super) fn temporary_of(path: &Path) -> Result<PathBuf, Errno> {
    let name = path.file_name().ok_or(Errno::INVAL)?;
    // Of this start alone: in containers every process has the same id.
    Ok(folder_of(path).join(format!(".{}.{:016x}", name.to_string_lossy(), chance()?)))
}

/// Where the name is.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A random number.
pub(super) fn chance() -> Result<u64, Errno> {
    getrandom::u64().map_err(|_| Errno::IO)
}

pub(super) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Errno> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| errno(&error))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| errno(&error))
}

/// Renames without replacing; false when the name is taken. NFS and some others cannot refuse to replace: there it is linked, which
/// can, and the first name removed.
pub(super) fn rename_new(from: &Path, to: &Path) -> Result<bool, Errno> {
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

/// What the kernel said.
pub(super) fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
