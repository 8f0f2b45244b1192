//! Writes settings, and says for each what came of it.

use std::io::Write;

use super::setting::{How, Setting};
use super::tree::Tree;
use crate::base::cpus;
use crate::limits::CORES_MAX;

/// What came of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was right before.
    Unchanged,
    /// Written, and read back.
    Written,
    /// Not for us to do.
    ByHand,
    /// Why it is not as it should be.
    Failed(String),
}

/// Whether this process is root, as the kernel's files want it. Root in a container may still be refused, file by file.
pub fn may_write() -> bool {
    rustix::process::geteuid().is_root()
}

/// Writes every setting that a write can change, in order; none is left out because an earlier one failed.
pub fn apply(tree: &Tree, settings: &[Setting]) -> Vec<Outcome> {
    settings.iter().map(|setting| apply_one(tree, setting)).collect()
}

fn apply_one(tree: &Tree, setting: &Setting) -> Outcome {
    let How::Write { file, text } = &setting.how else {
        return if setting.changes() { Outcome::ByHand } else { Outcome::Unchanged };
    };
    // Without `create`: what is not there is no setting of this kernel.
    let opened = std::fs::OpenOptions::new().write(true).truncate(true).open(tree.place(file));
    if let Err(error) = opened.and_then(|mut opened| opened.write_all(format!("{text}\n").as_bytes())) {
        return Outcome::Failed(explain(&error));
    }
    // The kernel takes some values and keeps others: only what it says afterwards counts.
    match tree.text(file) {
        Some(now) if says(file, &now, text) => Outcome::Written,
        Some(now) => Outcome::Failed(format!("the kernel took it and says {now}")),
        None => Outcome::Failed("it was written, and cannot be read back".into()),
    }
}

/// What a write into sysfs or procfs means when it fails.
fn explain(error: &std::io::Error) -> String {
    let meaning = match error.raw_os_error() {
        Some(libc::EIO) => "the kernel manages this interrupt itself",
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => "not allowed, as in a container whose /proc and /sys are read-only",
        Some(libc::ENOENT) => "this kernel has no such setting",
        Some(libc::EINVAL) => "the kernel refuses the value",
        Some(libc::EBUSY) => "in use",
        _ => return error.to_string(),
    };
    format!("{meaning} ({error})")
}

/// Whether a file's text means the value: as it stands, as the word in brackets, as the same CPUs in another form (the kernel
/// fills masks with zeros).
fn says(file: &str, text: &str, value: &str) -> bool {
    let chosen = text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(word, _)| word);
    let same = |parse: fn(&str, usize) -> Option<Vec<usize>>| {
        let (text, value) = (parse(text, CORES_MAX), parse(value, CORES_MAX));
        text.is_some() && text == value
    };
    match file.rsplit_once('/').map_or(file, |(_, name)| name) {
        "rps_cpus" | "xps_cpus" => same(cpus::parse_mask),
        "smp_affinity_list" => same(cpus::parse_list),
        _ => text == value || chosen == Some(value),
    }
}

#[cfg(test)]
mod tests {
    use super::says;

    #[test]
    fn values_are_known_in_the_kernels_forms() {
        let same = [
            ("/proc/irq/3/smp_affinity_list", "0-3", "0,1,2,3"),
            ("/sys/block/sda/queue/scheduler", "none [mq-deadline]", "mq-deadline"),
            ("/proc/sys/net/core/somaxconn", "4096", "4096"),
            ("/sys/class/net/e/queues/rx-0/rps_cpus", "00000000,0000000f", "f"),
            ("/sys/class/net/e/queues/rx-0/rps_cpus", "00", "0"),
        ];
        for (file, text, value) in same {
            assert!(says(file, text, value), "{text} {value}");
        }
        let different = [
            ("/sys/block/sda/queue/scheduler", "[none] mq-deadline", "mq-deadline"),
            ("/proc/irq/3/smp_affinity_list", "0-3", "0"),
            ("/proc/sys/net/core/somaxconn", "128", "4096"),
            ("/proc/sys/net/core/somaxconn", "", "0"),
            ("/sys/class/net/e/queues/rx-0/rps_cpus", "00000001,0000000f", "f"),
        ];
        for (file, text, value) in different {
            assert!(!says(file, text, value), "{text} {value}");
        }
    }
}
