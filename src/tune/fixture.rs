//! Machines made of folders: a compact description becomes the files that a kernel would show. Their forms are those that
//! Linux 6.x was seen to have.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::disk::Served;
use super::machine::Machine;
use super::tree::Tree;
use crate::base::cpus;
use crate::sys::mount::Mount;

/// A machine under construction.
pub struct Sketch {
    folder: TempDir,
    cpus: usize,
    next_interrupt: u32,
    interrupts: Vec<(u32, String)>,
}

impl Sketch {
    /// Nodes of so many physical cores with so many threads each, numbered as Linux does: first threads first. Settings of the
    /// kernel are as they should be.
    pub fn new(nodes: usize, cores_per_node: usize, threads: usize) -> Self {
        let cores = nodes * cores_per_node;
        let count = cores * threads;
        let sketch = Self { folder: TempDir::new().expect("folder"), cpus: count, next_interrupt: 40, interrupts: Vec::new() };
        for cpu in 0..count {
            let siblings: Vec<usize> = (0..threads).map(|thread| cpu % cores + thread * cores).collect();
            let folder = format!("/sys/devices/system/cpu/cpu{cpu}");
            sketch.file(&format!("{folder}/topology/thread_siblings_list"), &cpus::list(&siblings));
        }
        sketch.file("/sys/devices/system/cpu/online", &cpus::list(&(0..count).collect::<Vec<_>>()));
        for node in 0..nodes {
            let own: Vec<usize> = (0..count).filter(|cpu| cpu % cores / cores_per_node == node).collect();
            sketch.file(&format!("/sys/devices/system/node/node{node}/cpulist"), &cpus::list(&own));
        }
        sketch.file("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never");
        sketch.file("/sys/kernel/mm/transparent_hugepage/defrag", "always defer defer+madvise [madvise] never");
        sketch.file("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "0");
        for (name, value) in [("kernel/io_uring_disabled", "0"), ("net/core/somaxconn", "4096"), ("fs/nr_open", "1073741816")] {
            sketch.file(&format!("/proc/sys/{name}"), value);
        }
        sketch.file("/proc/sys/kernel/numa_balancing", "0");
        sketch.limits("1048576");
        sketch.allow(&cpus::list(&(0..count).collect::<Vec<_>>()));
        sketch
    }

    pub fn tree(&self) -> Tree {
        Tree::new(self.folder.path())
    }

    pub fn read(&self, served: Option<&Served>) -> Machine {
        let counts = " 0".repeat(self.cpus);
        let header: String = (0..self.cpus).map(|cpu| format!(" CPU{cpu}")).collect();
        let lines = self
            .interrupts
            .iter()
            .map(|(number, name)| format!("{number:4}:{counts}  IR-PCI-MSIX-0000:00:00.0  1-edge  {name}\n"));
        self.file("/proc/interrupts", &format!("{header}\n{}NMI:{counts}   Non-maskable interrupts", lines.collect::<String>()));
        Machine::read(&self.tree(), served.map(|served| &served.mount))
    }

    pub fn file(&self, path: &str, text: &str) {
        let place = self.place(path);
        std::fs::create_dir_all(place.parent().expect("below the root")).expect("folders");
        std::fs::write(place, format!("{text}\n")).expect("file");
    }

    pub fn text(&self, path: &str) -> String {
        std::fs::read_to_string(self.place(path)).expect("file").trim().to_owned()
    }

    pub fn link(&self, path: &str, target: &str) {
        let place = self.place(path);
        std::fs::create_dir_all(place.parent().expect("below the root")).expect("folders");
        std::os::unix::fs::symlink(self.place(target), place).expect("link");
    }

    fn place(&self, path: &str) -> PathBuf {
        self.folder.path().join(path.trim_start_matches('/'))
    }

    /// What the cpuset leaves to this process.
    pub fn allow(&self, list: &str) {
        self.file(
            "/proc/self/status",
            &format!("Name:\tsluice\nCpus_allowed:\tff\nCpus_allowed_list:\t{list}\nMems_allowed_list:\t0"),
        );
    }

    pub fn limits(&self, open_files: &str) {
        let lines = format!(
            "Limit                     Soft Limit           Hard Limit           Units     \n\
             Max open files            1024                 {open_files}              files     \n\
             Max locked memory         8388608              8388608              bytes     "
        );
        self.file("/proc/self/limits", &lines);
    }

    /// A PCI function at `path` below /sys/devices, with so many interrupts named by `name`.
    fn function(&mut self, path: &str, node: i32, names: &[String]) {
        self.file(&format!("/sys/devices/{path}/numa_node"), &node.to_string());
        let all = cpus::list(&(0..self.cpus).collect::<Vec<_>>());
        for name in names {
            let number = self.next_interrupt;
            self.next_interrupt += 1;
            self.interrupts.push((number, name.clone()));
            self.file(&format!("/sys/devices/{path}/msi_irqs/{number}"), "msix");
            self.file(&format!("/proc/irq/{number}/smp_affinity_list"), &all);
            self.file(&format!("/proc/irq/{number}/effective_affinity_list"), "0");
        }
    }

    fn interface(&self, name: &str, device: &str, driver: &str, queues: usize, speed_mbps: i64) {
        let folder = format!("/sys/devices/{device}/net/{name}");
        self.link(&format!("{folder}/device"), &format!("/sys/devices/{device}"));
        self.file(&format!("/sys/bus/drivers/{driver}/new_id"), "");
        self.link(&format!("/sys/devices/{device}/driver"), &format!("/sys/bus/drivers/{driver}"));
        self.link(&format!("/sys/class/net/{name}"), &folder);
        self.file(&format!("{folder}/ifindex"), &self.next_interrupt.to_string());
        self.file(&format!("{folder}/operstate"), if speed_mbps < 0 { "down" } else { "up" });
        if speed_mbps != 0 {
            self.file(&format!("{folder}/speed"), &speed_mbps.to_string());
        }
        for queue in 0..queues {
            self.file(&format!("{folder}/queues/rx-{queue}/rps_cpus"), "00");
            self.file(&format!("{folder}/queues/tx-{queue}/xps_cpus"), "00");
        }
    }

    /// A network card with queues in pairs, as mlx5 names them.
    pub fn card(&mut self, name: &str, path: &str, node: i32, queues: usize, speed_mbps: i64) {
        let address = path.rsplit('/').next().expect("an address");
        let mut names = vec![format!("mlx5_async0@pci:{address}")];
        names.extend((0..queues).map(|queue| format!("mlx5_comp{queue}@pci:{address}")));
        self.function(path, node, &names);
        self.interface(name, path, "mlx5_core", queues, speed_mbps);
    }

    /// A virtual card, which says neither node nor speed, with an interrupt for each queue and direction.
    pub fn virtio_card(&mut self, name: &str, path: &str, rank: usize, queues: usize) {
        let mut names = vec![format!("virtio{rank}-config")];
        names.extend(
            (0..queues).flat_map(|queue| [format!("virtio{rank}-input.{queue}"), format!("virtio{rank}-output.{queue}")]),
        );
        self.function(path, -1, &names);
        self.interface(name, &format!("{path}/virtio{rank}"), "virtio_net", queues, 0);
    }

    /// An interface above others.
    pub fn above(&self, name: &str, lower: &[&str]) {
        let folder = format!("/sys/devices/virtual/net/{name}");
        self.file(&format!("{folder}/ifindex"), &(1000 + name.len()).to_string());
        self.file(&format!("{folder}/operstate"), "up");
        for port in lower {
            self.link(&format!("{folder}/lower_{port}"), &format!("/sys/class/net/{port}"));
        }
        self.link(&format!("/sys/class/net/{name}"), &folder);
    }

    pub fn default_route(&self, interface: &str) {
        let header = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";
        let line = format!("{interface}\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0");
        self.file(
            "/proc/net/route",
            &format!("{header}\n{line}\n{interface}\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0"),
        );
    }

    /// An NVMe drive `nvmeN` with its namespace `nvmeNn1`, number 259:N.
    pub fn nvme(&mut self, rank: usize, path: &str, node: i32, queues: usize) {
        let names: Vec<String> = (0..=queues).map(|queue| format!("nvme{rank}q{queue}")).collect();
        self.function(path, node, &names);
        let device = format!("/sys/devices/{path}/nvme/nvme{rank}");
        self.file(&format!("{device}/model"), "Fast Drive 4000");
        self.link(&format!("/sys/class/nvme/nvme{rank}"), &device);
        self.block(&format!("{device}/nvme{rank}n1"), (259, rank), "[none] mq-deadline", 1023, queues);
    }

    pub fn block(&self, device: &str, number: (usize, usize), scheduler: &str, requests: usize, queues: usize) {
        let name = device.rsplit('/').next().expect("a name");
        self.file(&format!("{device}/queue/scheduler"), scheduler);
        self.file(&format!("{device}/queue/nr_requests"), &requests.to_string());
        self.file(&format!("{device}/queue/rotational"), "0");
        for queue in 0..queues {
            self.file(&format!("{device}/mq/{queue}/cpu_list"), "0");
        }
        self.link(&format!("/sys/class/block/{name}"), device);
        self.link(&format!("/sys/block/{name}"), device);
        self.link(&format!("/sys/dev/block/{}:{}", number.0, number.1), device);
    }

    pub fn gpu(&self, path: &str, node: i32) {
        let address = path.rsplit('/').next().expect("an address");
        let device = format!("/sys/devices/{path}");
        for (name, text) in [("class", "0x030200"), ("vendor", "0x10de"), ("numa_node", &node.to_string())] {
            self.file(&format!("{device}/{name}"), text);
        }
        self.link(&format!("/sys/bus/pci/devices/{address}"), &device);
    }
}

/// A directory on ext4 with a journal, on the device of this number.
pub fn served(major: u32, minor: u32) -> Served {
    let mount = Mount { device: (major, minor), filesystem: "ext4".into(), source: "/dev/of-data".into(), options: "rw".into() };
    Served { path: Path::new("/srv/data").to_path_buf(), mount, shared_barrier: true, direct_alignment: Some(512) }
}
