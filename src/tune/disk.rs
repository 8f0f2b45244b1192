//! The served directory, and the drives below it.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::devices::seat;
use super::machine::{Drive, DriveKind, Seat};
use super::tree::Tree;
use crate::store::disk::error::VolumeError;
use crate::store::disk::probe;
use crate::sys::mount::Mount;

/// What the kernel says about a directory when it is opened. The drives below it are found in sysfs.
#[derive(Clone, Debug)]
pub struct Served {
    pub path: PathBuf,
    pub mount: Mount,
    /// One barrier makes all changes durable.
    pub shared_barrier: bool,
    /// Bytes to which O_DIRECT aligns; 0 where it is refused, `None` where that could not be tried.
    pub direct_alignment: Option<u32>,
}

impl Served {
    /// Looks at a directory, and leaves nothing in it.
    pub fn look(path: &Path) -> Result<Self, VolumeError> {
        let survey = probe::survey(path.as_os_str().as_bytes())?;
        let unknown = || Mount { device: (0, 0), filesystem: "unknown".into(), source: String::new(), options: String::new() };
        Ok(Self {
            path: path.to_path_buf(),
            mount: Mount::of(&survey.root).unwrap_or_else(unknown),
            shared_barrier: survey.shared_barrier,
            direct_alignment: survey.direct.map(|direct| direct.map_or(0, |align| align.offset)),
        })
    }
}

/// Finds the drives below a mount.
pub fn drives(tree: &Tree, mount: &Mount) -> Vec<Drive> {
    let (major, minor) = mount.device;
    let by_number = tree.resolve(&format!("/sys/dev/block/{major}:{minor}"));
    // A filesystem over several devices has no number of its own, but its mount names one of them.
    let by_name = || {
        let name = mount.source.strip_prefix("/dev/")?;
        tree.resolve(&format!("/sys/class/block/{}", name.rsplit('/').next()?))
    };
    let mut drives = Vec::new();
    if let Some(device) = by_number.or_else(by_name) {
        descend(tree, &device, &mut drives, 0);
    }
    drives
}

/// Through partitions, RAID, LVM and encryption down to drives.
fn descend(tree: &Tree, device: &str, drives: &mut Vec<Drive>, depth: usize) {
    const DEPTH_MAX: usize = 8;
    let whole =
        if tree.has(&format!("{device}/partition")) { device.rsplit_once('/').map_or(device, |(disk, _)| disk) } else { device };
    let below = tree.names(&format!("{whole}/slaves"));
    if !below.is_empty() && depth < DEPTH_MAX {
        for name in below {
            if let Some(lower) = tree.resolve(&format!("{whole}/slaves/{name}")) {
                descend(tree, &lower, drives, depth + 1);
            }
        }
        return;
    }
    let drive = read(tree, whole);
    if drives.iter().all(|known| known.name != drive.name) {
        drives.push(drive);
    }
}

fn read(tree: &Tree, device: &str) -> Drive {
    let name = device.rsplit('/').next().unwrap_or_default().to_owned();
    let kind = match () {
        () if name.starts_with("nvme") => DriveKind::Nvme,
        () if device.contains("/virtio") => DriveKind::Virtio,
        () if device.starts_with("/sys/devices/virtual/") => DriveKind::Virtual,
        () => DriveKind::Other,
    };
    let scheduler = tree.text(&format!("{device}/queue/scheduler"));
    let available = |text: &str| text.split_whitespace().map(|word| word.trim_matches(['[', ']']).to_owned()).collect();
    Drive {
        seats: seats(tree, device),
        scheduler: tree.chosen(&format!("{device}/queue/scheduler")).zip(scheduler.as_deref().map(available)),
        requests: tree.number(&format!("{device}/queue/nr_requests")),
        queues: tree.names(&format!("{device}/mq")).len().max(1),
        is_rotational: tree.text(&format!("{device}/queue/rotational")).as_deref() == Some("1"),
        kind,
        name,
    }
}

/// A drive with several paths hangs below `nvme-subsystem`, whose controllers are links beside it.
fn seats(tree: &Tree, device: &str) -> Vec<Seat> {
    let Some((subsystem, _)) = device.rsplit_once('/').filter(|(above, _)| above.contains("/nvme-subsystem/")) else {
        return vec![seat(tree, device)];
    };
    let is_controller =
        |name: &&String| name.strip_prefix("nvme").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
    let controllers = tree.names(subsystem);
    let resolve = |name: &String| tree.resolve(&format!("{subsystem}/{name}"));
    controllers.iter().filter(is_controller).filter_map(resolve).map(|path| seat(tree, &path)).collect()
}
