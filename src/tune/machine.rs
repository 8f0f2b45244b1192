//! What was read about a machine: plain data, from which everything else is computed.

/// A machine as its kernel shows it to this process.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Those that are online, ascending.
    pub cpus: Vec<Cpu>,
    /// What affinity and cpuset leave to this process, ascending.
    pub allowed: Vec<usize>,
    /// CPUs whose time the cgroup pays for; `None` without a quota.
    pub quota: Option<usize>,
    /// NUMA nodes that have CPUs, ascending.
    pub nodes: Vec<usize>,
    /// Network cards: interfaces with a device behind them.
    pub cards: Vec<Card>,
    /// All interfaces, with what carries each: `bond0` by its ports.
    pub interfaces: Vec<Interface>,
    pub controllers: Vec<Controller>,
    pub gpus: Vec<Gpu>,
    /// The drives below the served directory; empty where there is none, or nobody says.
    pub drives: Vec<Drive>,
    pub kernel: Kernel,
}

/// A CPU as the kernel counts them: a hardware thread.
#[derive(Clone, Debug)]
pub struct Cpu {
    pub id: usize,
    pub node: usize,
    /// The threads of its physical core, itself among them, ascending.
    pub siblings: Vec<usize>,
    /// Its frequency governor, and those that it could have.
    pub governor: Option<(String, Vec<String>)>,
}

/// Where a device sits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seat {
    /// `None` where firmware does not say.
    pub node: Option<usize>,
    /// `0000:5e:00.0`.
    pub address: Option<String>,
    /// Its host bridge, `pci0000:5d`: devices below one bridge reach each other without crossing between sockets.
    pub bridge: Option<String>,
    /// The port below the bridge: devices below one port share a switch.
    pub port: Option<String>,
}

/// A network card.
#[derive(Clone, Debug)]
pub struct Card {
    pub name: String,
    pub driver: Option<String>,
    pub seat: Seat,
    pub is_up: bool,
    pub speed_mbps: Option<u32>,
    pub receive: Vec<Queue>,
    pub transmit: Vec<Queue>,
}

/// One queue of a card. A card may have one interrupt for a pair of queues.
#[derive(Clone, Debug)]
pub struct Queue {
    /// `rx-0`.
    pub name: String,
    pub interrupt: Option<Interrupt>,
    /// The CPUs of `rps_cpus` or `xps_cpus`; `None` where the kernel has no such file or does not let it be read.
    pub steering: Option<Vec<usize>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interrupt {
    pub number: u32,
    /// As /proc/interrupts calls it.
    pub name: String,
    /// `smp_affinity_list`.
    pub affinity: Vec<usize>,
    /// The one that gets it just now.
    pub effective: Vec<usize>,
}

/// What an address can belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    /// As packets carry it.
    pub index: Option<u32>,
    /// Names of the cards below it.
    pub cards: Vec<String>,
    pub has_default_route: bool,
}

/// An NVMe controller.
#[derive(Clone, Debug)]
pub struct Controller {
    pub name: String,
    pub model: Option<String>,
    pub seat: Seat,
    /// Queues for I/O that have an interrupt.
    pub interrupts: Vec<Interrupt>,
}

#[derive(Clone, Debug)]
pub struct Gpu {
    /// `NVIDIA`, `AMD`.
    pub vendor: &'static str,
    pub seat: Seat,
}

/// Settings of the kernel and limits of this process. `None`: not there.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    /// The word in brackets of `transparent_hugepage/enabled`.
    pub transparent_huge_pages: Option<String>,
    /// The word in brackets of `transparent_hugepage/defrag`.
    pub huge_page_defrag: Option<String>,
    /// Reserved huge pages of 2 MiB.
    pub huge_pages_reserved: Option<u64>,
    pub io_uring_disabled: Option<u32>,
    pub somaxconn: Option<u64>,
    pub nr_open: Option<u64>,
    pub numa_balancing: Option<u32>,
    /// Hard limit on open files; `u64::MAX` is none.
    pub open_files_max: Option<u64>,
    /// Hard limit on locked memory in bytes; `u64::MAX` is none.
    pub locked_memory_max: Option<u64>,
    /// irqbalance is running, which moves interrupts about.
    pub has_irqbalance: bool,
}

impl Machine {
    pub fn cpu(&self, id: usize) -> Option<&Cpu> {
        self.cpus.iter().find(|cpu| cpu.id == id)
    }

    pub fn card(&self, name: &str) -> Option<&Card> {
        self.cards.iter().find(|card| card.name == name)
    }

    /// Physical cores, by the CPU with the lowest number.
    pub fn physical_cores(&self) -> usize {
        self.cpus.iter().filter(|cpu| cpu.siblings.first() == Some(&cpu.id)).count()
    }
}

/// A disk: no partition, nothing that is made of others.
#[derive(Clone, Debug)]
pub struct Drive {
    pub name: String,
    pub kind: DriveKind,
    /// More than one for an NVMe drive with several paths.
    pub seats: Vec<Seat>,
    /// The scheduler, and those that it could have.
    pub scheduler: Option<(String, Vec<String>)>,
    /// Requests that each of its queues takes.
    pub requests: Option<u64>,
    pub queues: usize,
    pub is_rotational: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriveKind {
    Nvme,
    /// A virtual machine's: the host has a scheduler of its own.
    Virtio,
    /// Loop, zram: their seat is that of memory or of a file.
    Virtual,
    Other,
}
