//! Where does this file lie? The line of its mount in /proc/self/mountinfo (proc_pid_mountinfo(5)).

use rustix::fd::AsFd;
use rustix::fs::{AtFlags, StatxFlags};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Major and minor number of its device; major 0 where it is none (btrfs, overlay, network).
    pub device: (u32, u32),
    /// The type as `mount` shows it, which can tell ext3 from ext4.
    pub filesystem: String,
    /// `/dev/sda1`, `server:/export`.
    pub source: String,
    /// Options of the superblock.
    pub options: String,
}

impl Mount {
    /// The mount that an open file lies on.
    pub fn of(file: impl AsFd) -> Option<Self> {
        let answer = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
        let table = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        Self::find(&table, answer.stx_mnt_id)
    }

    /// The mount of this id: `ID parent major:minor root mount-point options ... - type source super-options`.
    fn find(mountinfo: &str, id: u64) -> Option<Self> {
        let line = mountinfo.lines().find(|line| line.split(' ').next().and_then(|field| field.parse().ok()) == Some(id))?;
        let (left, right) = line.split_once(" - ")?;
        let (major, minor) = left.split(' ').nth(2)?.split_once(':')?;
        let mut fields = right.split(' ');
        Some(Self {
            device: (major.parse().ok()?, minor.parse().ok()?),
            filesystem: fields.next()?.to_owned(),
            source: fields.next()?.to_owned(),
            options: fields.next().unwrap_or_default().to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_as_in_its_manual_page() {
        let text = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n\
                    37 35 0:5 / /data\\040dir rw - xfs /dev/b rw\n";
        let mount = Mount::find(text, 36).unwrap();
        assert_eq!((mount.device, mount.filesystem.as_str(), mount.source.as_str()), ((98, 0), "ext3", "/dev/root"));
        assert_eq!(mount.options, "rw,errors=continue");
        assert_eq!(Mount::find(text, 37).unwrap().filesystem, "xfs");
        assert_eq!(Mount::find(text, 3), None);
        assert_eq!(Mount::find("36 garbage", 36), None);
    }

    #[test]
    fn proc_lies_on_its_own_mount() {
        let mount = Mount::of(std::fs::File::open("/proc").unwrap()).unwrap();
        assert_eq!((mount.device.0, mount.filesystem.as_str()), (0, "proc"));
    }
}
