//! CPUs, nodes and settings of the kernel, from sysfs and procfs.

use super::devices;
use super::disk;
use super::machine::{Cpu, Kernel, Machine};
use super::tree::{Tree, split_number};
use crate::sys::mount::Mount;

impl Machine {
    /// Reads a machine, with the drives below a mount. Whatever is missing is left out: containers and virtual machines show less.
    pub fn read(tree: &Tree, mount: Option<&Mount>) -> Self {
        let cpus = cpus(tree);
        let allowed = match status_field(tree, "Cpus_allowed_list") {
            Some(list) => crate::base::cpus::parse_list(&list, crate::limits::CORES_MAX).unwrap_or_default(),
            None => cpus.iter().map(|cpu| cpu.id).collect(),
        };
        let allowed = allowed.into_iter().filter(|id| cpus.iter().any(|cpu| cpu.id == *id)).collect();
        let mut nodes: Vec<usize> = cpus.iter().map(|cpu| cpu.node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let interrupts = super::interrupts::Interrupts::read(tree);
        let cards = devices::cards(tree, &interrupts);
        let interfaces = devices::interfaces(tree, &cards);
        Self {
            allowed,
            quota: quota(tree),
            nodes,
            interfaces,
            cards,
            controllers: devices::controllers(tree, &interrupts),
            gpus: devices::gpus(tree),
            drives: mount.map(|mount| disk::drives(tree, mount)).unwrap_or_default(),
            kernel: kernel(tree),
            cpus,
        }
    }
}

fn cpus(tree: &Tree) -> Vec<Cpu> {
    const FOLDER: &str = "/sys/devices/system/cpu";
    let online = tree.cpu_list(&format!("{FOLDER}/online")).unwrap_or_default();
    let nodes: Vec<(usize, Vec<usize>)> = tree
        .names("/sys/devices/system/node")
        .iter()
        .filter_map(|name| split_number(name).1.filter(|_| name.starts_with("node")))
        .map(|node| (node, tree.cpu_list(&format!("/sys/devices/system/node/node{node}/cpulist")).unwrap_or_default()))
        .collect();
    let read = |id: usize| {
        let folder = format!("{FOLDER}/cpu{id}");
        let siblings = tree.cpu_list(&format!("{folder}/topology/thread_siblings_list"));
        let governor = tree.text(&format!("{folder}/cpufreq/scaling_governor"));
        let governors = tree.text(&format!("{folder}/cpufreq/scaling_available_governors")).unwrap_or_default();
        Cpu {
            id,
            // A kernel without NUMA has one node, and does not say so.
            node: nodes.iter().find(|(_, cpus)| cpus.contains(&id)).map_or(0, |(node, _)| *node),
            siblings: siblings.filter(|all| all.contains(&id)).unwrap_or_else(|| vec![id]),
            governor: governor.map(|now| (now, governors.split_whitespace().map(str::to_owned).collect())),
        }
    };
    online.into_iter().map(read).collect()
}

fn kernel(tree: &Tree) -> Kernel {
    Kernel {
        transparent_huge_pages: tree.chosen("/sys/kernel/mm/transparent_hugepage/enabled"),
        huge_page_defrag: tree.chosen("/sys/kernel/mm/transparent_hugepage/defrag"),
        huge_pages_reserved: tree.number("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"),
        io_uring_disabled: tree.number("/proc/sys/kernel/io_uring_disabled"),
        somaxconn: tree.number("/proc/sys/net/core/somaxconn"),
        nr_open: tree.number("/proc/sys/fs/nr_open"),
        numa_balancing: tree.number("/proc/sys/kernel/numa_balancing"),
        open_files_max: hard_limit(tree, "Max open files"),
        locked_memory_max: hard_limit(tree, "Max locked memory"),
        has_irqbalance: runs(tree, "irqbalance"),
    }
}

/// A field of /proc/self/status.
fn status_field(tree: &Tree, name: &str) -> Option<String> {
    let text = tree.text("/proc/self/status")?;
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned()))
}

/// The third column of /proc/self/limits: `Max open files            1024                 524288               files`.
fn hard_limit(tree: &Tree, name: &str) -> Option<u64> {
    let text = tree.text("/proc/self/limits")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().nth(1)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// How many CPUs' time the process's cgroup and those above it may use (cgroup v2, `cpu.max`), rounded up.
fn quota(tree: &Tree) -> Option<usize> {
    let own = tree.text("/proc/self/cgroup")?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let of = |path: &str| {
        let text = tree.text(&format!("/sys/fs/cgroup{}/cpu.max", path.trim_end_matches('/')))?;
        let (most, period) = text.split_once(' ')?;
        let (most, period): (usize, usize) = (most.parse().ok()?, period.parse().ok()?);
        (period > 0).then(|| most.div_ceil(period).max(1))
    };
    super::tree::ancestors(own).filter_map(of).min()
}

/// Whether a process of this name runs.
fn runs(tree: &Tree, name: &str) -> bool {
    let processes = tree.names("/proc").into_iter().filter(|entry| entry.bytes().all(|byte| byte.is_ascii_digit()));
    processes.into_iter().any(|process| tree.text(&format!("/proc/{process}/comm")).as_deref() == Some(name))
}
