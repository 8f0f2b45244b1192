//! What else could be set, and why: interrupts, huge pages, clocks, limits, drives. What is right already is said too.

use super::disk::Served;
use super::machine::{Drive, DriveKind, Kernel, Machine};
use super::network;
use super::place::Placement;
use super::setting::{How, Setting};
use crate::limits::{BLOCK_SIZE, BUFFER_MEMORY_DEFAULT, CONNECTIONS_PER_CORE_DEFAULT, LISTEN_BACKLOG, descriptors_for};

/// Everything that could be set for this placement, in the order in which it is best done.
pub fn advise(machine: &Machine, placement: &Placement, served: Option<&Served>) -> Vec<Setting> {
    let mut settings = Vec::new();
    network::advise(machine, placement, &mut settings);
    controllers(machine, &mut settings);
    if let Some(served) = served {
        directory(served, &mut settings);
    }
    machine.drives.iter().for_each(|drive| scheduler(drive, &mut settings));
    governors(machine, placement, &mut settings);
    huge_pages(&machine.kernel, &mut settings);
    kernel(machine, placement, &mut settings);
    limits(&machine.kernel, placement, &mut settings);
    settings
}

/// The kernel ties the queues of NVMe drives to CPUs by itself, and refuses to have them moved.
fn controllers(machine: &Machine, settings: &mut Vec<Setting>) {
    for controller in machine.controllers.iter().filter(|controller| !controller.interrupts.is_empty()) {
        let queues = controller.interrupts.len();
        let reason = match queues < machine.cpus.len() {
            false => {
                "The drive has a queue for each CPU, and the kernel ties its interrupt to it: a core is told by its own queue."
            }
            true => {
                "The kernel ties each queue's interrupt to the CPUs that use it, and has it moved by nobody; CPUs share queues here."
            }
        };
        settings.push(Setting::fine(&format!("drive.{}.interrupts", controller.name), &format!("{queues} queues"), reason));
    }
}

fn directory(served: &Served, settings: &mut Vec<Setting>) {
    let filesystem = served.mount.filesystem.as_str();
    let about = |setting: Setting| setting.about(filesystem.to_owned());
    settings.push(about(match served.shared_barrier {
        true => Setting::fine(
            "directory.barrier",
            "shared",
            "One journal orders all changes: one barrier makes many of them durable.",
        ),
        false => Setting::new(
            "directory.barrier",
            "each by itself",
            "shared",
            "This filesystem has no journal that orders all changes, so that each file and directory is synced by itself.",
            How::ByHand("serve a directory on ext4 with a journal, or on XFS without a realtime device".into()),
        ),
    }));
    settings.push(about(match served.direct_alignment {
        Some(0) => Setting::new(
            "directory.direct",
            "refused",
            "on",
            "The filesystem refuses O_DIRECT: data goes through the page cache and is copied once more.",
            How::ByHand("serve a directory on ext4 or XFS".into()),
        ),
        Some(bytes) => Setting::fine(
            "directory.direct",
            &format!("aligned to {bytes} bytes"),
            "O_DIRECT works: objects of more than 128 KiB go past the page cache.",
        ),
        None => {
            Setting::fine("directory.direct", "unknown", "No file could be made there to try it; the server tries it at start.")
        }
    }));
}

/// Drives that order requests themselves, or whose host does, gain nothing from a second order.
fn scheduler(drive: &Drive, settings: &mut Vec<Setting>) {
    let Some((current, available)) = drive.scheduler.as_ref().filter(|_| drive.kind != DriveKind::Virtual) else { return };
    let (wanted, reason) = match drive.kind {
        DriveKind::Nvme => {
            ("none", "The drive takes as many requests as there are and orders them itself: a scheduler only costs CPU.")
        }
        DriveKind::Virtio => {
            ("none", "The host orders the requests of a virtual drive: a second scheduler above it only costs CPU.")
        }
        _ if drive.is_rotational => {
            ("mq-deadline", "Order saves a turning disk its seeks, and a deadline keeps reads from waiting behind writes.")
        }
        _ => ("none", "A drive without moving parts has no seeks to save: a scheduler only costs CPU."),
    };
    let wanted = if available.iter().any(|name| name == wanted) { wanted } else { current };
    let folder = format!("/sys/block/{}/queue", drive.name);
    settings.push(Setting::write(
        &format!("drive.{}.scheduler", drive.name),
        current,
        wanted,
        reason,
        format!("{folder}/scheduler"),
    ));
    let Some(requests) = drive.requests else { return };
    // Without a scheduler the drive's own depth counts, and the kernel has set it already.
    let least = (BUFFER_MEMORY_DEFAULT / BLOCK_SIZE as u64).div_ceil(drive.queues as u64);
    let proposed = if wanted == "none" { requests } else { requests.max(least) };
    let reason = match wanted {
        "none" => "Without a scheduler the queue is as deep as the drive's own.",
        _ => "All blocks of the arena find a place in the queue: who finds none is handed to a kernel thread, and waits there.",
    };
    let (id, file) = (format!("drive.{}.requests", drive.name), format!("{folder}/nr_requests"));
    settings.push(Setting::write(&id, &requests.to_string(), &proposed.to_string(), reason, file));
}

fn governors(machine: &Machine, placement: &Placement, settings: &mut Vec<Setting>) {
    const WANTED: &str = "performance";
    let mut is_scaled = false;
    for cpu in machine.cpus.iter().filter(|cpu| placement.data.contains(&cpu.id)) {
        let Some((current, available)) = &cpu.governor else { continue };
        is_scaled = true;
        let wanted = if available.iter().any(|name| name == WANTED) { WANTED } else { current };
        let file = format!("/sys/devices/system/cpu/cpu{}/cpufreq/scaling_governor", cpu.id);
        let reason = "A core that waits for packets looks idle, and would be slowed down just before each of them.";
        settings.push(Setting::write(&format!("cpu.{}.governor", cpu.id), current, wanted, reason, file));
    }
    if !is_scaled {
        settings.push(Setting::fine(
            "cpu.governor",
            "none",
            "The kernel does not scale the clock here: firmware or a host does.",
        ));
    }
}

fn huge_pages(kernel: &Kernel, settings: &mut Vec<Setting>) {
    let folder = "/sys/kernel/mm/transparent_hugepage";
    match kernel.transparent_huge_pages.as_deref() {
        Some(current) => {
            let wanted = if current == "never" { "madvise" } else { current };
            let reason =
                "The arena asks for transparent huge pages; without them O_DIRECT has to look up 512 times as many pages.";
            settings.push(Setting::write("memory.transparent_huge_pages", current, wanted, reason, format!("{folder}/enabled")));
        }
        None => settings.push(Setting::fine(
            "memory.transparent_huge_pages",
            "not in this kernel",
            "The arena runs on small pages, and O_DIRECT costs more.",
        )),
    }
    if let Some(current) = kernel.huge_page_defrag.as_deref() {
        let wanted = if current == "never" { "madvise" } else { current };
        let reason = "When memory is in pieces, a huge page is made for who asked for one, which the arena does once.";
        settings.push(Setting::write("memory.huge_page_defrag", current, wanted, reason, format!("{folder}/defrag")));
    }
    if let Some(reserved) = kernel.huge_pages_reserved {
        let reason = match reserved {
            0 => "The arena uses transparent huge pages: reserved ones would lie idle.",
            _ => "The arena uses transparent huge pages: the reserved ones are for other programs, and are left to them.",
        };
        settings.push(Setting::fine("memory.huge_pages_reserved", &reserved.to_string(), reason));
    }
}

fn kernel(machine: &Machine, placement: &Placement, settings: &mut Vec<Setting>) {
    let kernel = &machine.kernel;
    let at_least = |id: &str, current: Option<u64>, least: u64, file: &str, reason: &str| {
        let current = current?;
        Some(Setting::write(id, &current.to_string(), &current.max(least).to_string(), reason, file.to_owned()))
    };
    if let Some(current) = kernel.io_uring_disabled {
        let reason = "The data cores run on io_uring: 1 allows it to one group and to root, 2 to nobody.";
        settings.push(Setting::write(
            "kernel.io_uring_disabled",
            &current.to_string(),
            "0",
            reason,
            "/proc/sys/kernel/io_uring_disabled".into(),
        ));
    }
    let backlog = u64::try_from(LISTEN_BACKLOG).unwrap_or_default();
    settings.extend(at_least(
        "net.core.somaxconn",
        kernel.somaxconn,
        backlog,
        "/proc/sys/net/core/somaxconn",
        "Each core queues so many connections until it accepts them; the kernel cuts the queue to this value.",
    ));
    settings.extend(at_least(
        "fs.nr_open",
        kernel.nr_open,
        descriptors_for(placement.data.len(), CONNECTIONS_PER_CORE_DEFAULT),
        "/proc/sys/fs/nr_open",
        "No process can have more open files than this, whatever its limit: a socket for each connection of each core, and its file.",
    ));
    if let Some(current) = kernel.numa_balancing.filter(|_| machine.nodes.len() > 1) {
        let reason = "Threads and their memory are pinned to their node: looking for a better one only costs page faults.";
        settings.push(Setting::write(
            "kernel.numa_balancing",
            &current.to_string(),
            "0",
            reason,
            "/proc/sys/kernel/numa_balancing".into(),
        ));
    }
}

fn limits(kernel: &Kernel, placement: &Placement, settings: &mut Vec<Setting>) {
    let amount = |limit: u64| if limit == u64::MAX { "unlimited".to_owned() } else { limit.to_string() };
    if let Some(current) = kernel.open_files_max {
        let least = descriptors_for(placement.data.len(), CONNECTIONS_PER_CORE_DEFAULT);
        let how =
            How::ByHand(format!("LimitNOFILE={least} in the unit, or ulimit -Hn {least}; root raises it at start by itself"));
        let reason = "A socket for each connection of each core, and a file for every fourth; with fewer the server takes fewer connections.";
        settings.push(Setting::new("limit.open_files", &amount(current), &amount(current.max(least)), reason, how));
    }
    if let Some(current) = kernel.locked_memory_max {
        let reason = "Nothing is locked: no buffer is registered, and since Linux 5.12 the rings' memory counts for the cgroup.";
        settings.push(Setting::fine("limit.locked_memory", &amount(current), reason));
    }
}
