//! What is in a directory? getdents64(2) into a buffer that the caller keeps.

use super::errno::{Errno, Result};
use super::stat::{self, FileKind};
use rustix::fd::AsFd;
use rustix::fs::{FileType, RawDir};
use std::mem::MaybeUninit;
use std::ops::ControlFlow;

/// One entry, never `.` or `..`.
#[derive(Clone, Copy, Debug)]
pub struct DirEntry<'a> {
    pub name: &'a [u8],
    pub inode: u64,
    /// `None`: this filesystem does not tell (DT_UNKNOWN); ask `stat::at`.
    pub kind: Option<FileKind>,
}

impl DirEntry<'_> {
    /// The kind, asked for where the entry does not tell it.
    pub fn kind_in(&self, dir: impl AsFd) -> Result<FileKind> {
        match self.kind {
            Some(kind) => Ok(kind),
            None => stat::at(dir, self.name).map(|stat| stat.kind),
        }
    }
}

/// Reads the directory from its start, in the filesystem's order, until `visit` breaks. `dir` must be its reader's own
/// descriptor: the position is part of it.
pub fn read<B>(
    dir: impl AsFd,
    buffer: &mut [MaybeUninit<u8>],
    mut visit: impl FnMut(DirEntry<'_>) -> ControlFlow<B>,
) -> Result<ControlFlow<B>> {
    rustix::fs::seek(dir.as_fd(), rustix::fs::SeekFrom::Start(0))?;
    let mut entries = RawDir::new(dir.as_fd(), buffer);
    while let Some(entry) = entries.next() {
        let entry = match entry {
            Err(Errno::INTR) => continue,
            entry => entry?,
        };
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::RegularFile => Some(FileKind::Regular),
            FileType::Directory => Some(FileKind::Directory),
            FileType::Symlink => Some(FileKind::Symlink),
            FileType::Unknown => None,
            _ => Some(FileKind::Other),
        };
        if let ControlFlow::Break(value) = visit(DirEntry { name, inode: entry.ino(), kind }) {
            return Ok(ControlFlow::Break(value));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// A buffer for `read`.
pub fn buffer(size: usize) -> Box<[MaybeUninit<u8>]> {
    Box::new_uninit_slice(size)
}

/// Whether the directory has no entry at all.
pub fn is_empty(dir: impl AsFd) -> Result<bool> {
    let mut buffer = [MaybeUninit::uninit(); 1024];
    Ok(read(dir, &mut buffer, |_| ControlFlow::Break(()))?.is_continue())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn every_entry_once_with_its_kind() {
        let top = tempfile::tempdir().unwrap();
        let handle = std::fs::File::open(top.path()).unwrap();
        assert!(is_empty(&handle).unwrap());
        for index in 0..300 {
            std::fs::write(top.path().join(format!("file-{index}")), b"").unwrap();
        }
        std::fs::create_dir(top.path().join("sub")).unwrap();
        std::os::unix::fs::symlink("x", top.path().join("link")).unwrap();
        let mut seen = BTreeMap::new();
        let mut buffer = buffer(1024);
        for _ in 0..2 {
            seen.clear();
            let end = read(&handle, &mut buffer, |entry| {
                assert!(seen.insert(entry.name.to_vec(), entry.kind_in(&handle).unwrap()).is_none());
                ControlFlow::<()>::Continue(())
            });
            assert!(end.unwrap().is_continue());
        }
        assert_eq!(seen.len(), 302);
        assert_eq!(seen[&b"sub"[..]], FileKind::Directory);
        assert_eq!(seen[&b"link"[..]], FileKind::Symlink);
        assert_eq!(seen[&b"file-7"[..]], FileKind::Regular);
        assert!(!is_empty(&handle).unwrap());
    }
}
