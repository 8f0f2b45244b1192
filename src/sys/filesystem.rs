//! Which filesystem is this, and how much room has it?

use super::errno::Result;
use rustix::fd::AsFd;

/// What the magic number says. It names; what the filesystem can do is probed, not guessed from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystemKind {
    Ext,
    Xfs,
    Btrfs,
    Zfs,
    Tmpfs,
    Overlay,
    Nfs,
    Smb,
    Fuse,
    Ceph,
    F2fs,
    Other(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSystem {
    pub kind: FileSystemKind,
    pub block_size: u64,
    pub size: u64,
    /// Bytes that an ordinary user may still write.
    pub available: u64,
    pub inodes_free: u64,
    pub name_size_max: u64,
}

/// fstatfs(2).
#[allow(clippy::unnecessary_cast, reason = "field types differ between architectures")]
pub fn of(file: impl AsFd) -> Result<FileSystem> {
    let answer = rustix::fs::fstatfs(file)?;
    let block_size = answer.f_bsize as u64;
    Ok(FileSystem {
        kind: kind_of(answer.f_type as u32),
        block_size,
        size: block_size.saturating_mul(answer.f_blocks as u64),
        available: block_size.saturating_mul(answer.f_bavail as u64),
        inodes_free: answer.f_ffree as u64,
        name_size_max: answer.f_namelen as u64,
    })
}

impl FileSystemKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Zfs => "zfs",
            Self::Tmpfs => "tmpfs",
            Self::Overlay => "overlay",
            Self::Nfs => "nfs",
            Self::Smb => "smb",
            Self::Fuse => "fuse",
            Self::Ceph => "ceph",
            Self::F2fs => "f2fs",
            Self::Other(_) => "unknown",
        }
    }

    /// Whether other machines may change it behind our back: timestamps come from a foreign clock, caches from a lease.
    pub fn is_remote(self) -> bool {
        matches!(self, Self::Nfs | Self::Smb | Self::Ceph | Self::Fuse | Self::Other(_))
    }

    /// Whether inotify tells of every change of a name: nothing but this kernel's own calls changes one. An overlay's layers may
    /// be changed behind it, and of ZFS we know too little.
    pub fn tells_changes(self) -> bool {
        matches!(self, Self::Ext | Self::Xfs | Self::Btrfs | Self::Tmpfs | Self::F2fs)
    }
}

/// Magic numbers of <linux/magic.h>; ZFS has its own.
fn kind_of(magic: u32) -> FileSystemKind {
    match magic {
        0xef53 => FileSystemKind::Ext,
        0x5846_5342 => FileSystemKind::Xfs,
        0x9123_683e => FileSystemKind::Btrfs,
        0x2fc1_2fc1 => FileSystemKind::Zfs,
        0x0102_1994 => FileSystemKind::Tmpfs,
        0x794c_7630 => FileSystemKind::Overlay,
        0x6969 => FileSystemKind::Nfs,
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => FileSystemKind::Smb,
        0x6573_5546 => FileSystemKind::Fuse,
        0x00c3_6400 => FileSystemKind::Ceph,
        0xf2f5_2010 => FileSystemKind::F2fs,
        other => FileSystemKind::Other(other),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn proc_is_none_of_ours_and_tmp_has_room() {
        let proc = std::fs::File::open("/proc").unwrap();
        assert_eq!(super::of(&proc).unwrap().kind, super::FileSystemKind::Other(0x9fa0));
        let temporary = tempfile::tempdir().unwrap();
        let answer = super::of(std::fs::File::open(temporary.path()).unwrap()).unwrap();
        assert!(answer.size > answer.available && answer.available > 0);
        assert_eq!(answer.name_size_max, 255);
    }
}
