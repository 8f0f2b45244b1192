//! Network cards, NVMe controllers and GPUs, and where each of them sits.

use super::interrupts::{Direction, Interrupts, direction};
use super::machine::{Card, Controller, Gpu, Interface, Interrupt, Queue, Seat};
use super::tree::{Tree, ancestors, split_number};

/// Interfaces with a device behind them: `lo`, bonds, bridges and tunnels have none.
pub fn cards(tree: &Tree, interrupts: &Interrupts) -> Vec<Card> {
    let read = |name: &String| {
        let folder = format!("/sys/class/net/{name}");
        let device = tree.resolve(&format!("{folder}/device"))?;
        let own = interrupts.of_device(tree, &device);
        Some(Card {
            driver: tree.resolve(&format!("{device}/driver")).and_then(|path| path.rsplit('/').next().map(str::to_owned)),
            seat: seat(tree, &device),
            // `unknown` is what drivers without carrier detection say.
            is_up: matches!(tree.text(&format!("{folder}/operstate")).as_deref(), Some("up" | "unknown")),
            // -1 where there is no link; virtual cards refuse to say.
            speed_mbps: tree.number(&format!("{folder}/speed")),
            receive: queues(tree, &folder, "rx-", "rps_cpus", &of_direction(&own, Direction::Receive)),
            transmit: queues(tree, &folder, "tx-", "xps_cpus", &of_direction(&own, Direction::Transmit)),
            name: name.clone(),
        })
    };
    tree.names("/sys/class/net").iter().filter_map(read).collect()
}

/// The interrupts of one direction in the order of their queues: drivers count from 0 or 1, but count.
fn of_direction(all: &[Interrupt], wanted: Direction) -> Vec<Interrupt> {
    let of = |kind: Direction| {
        let mut found: Vec<Interrupt> = all.iter().filter(|one| direction(&one.name) == Some(kind)).cloned().collect();
        found.sort_by_key(|one| split_number(one.name.split('@').next().unwrap_or_default()).1);
        found
    };
    let own = of(wanted);
    if own.is_empty() { of(Direction::Both) } else { own }
}

fn queues(tree: &Tree, card: &str, prefix: &str, steering: &str, interrupts: &[Interrupt]) -> Vec<Queue> {
    let names = tree.names(&format!("{card}/queues")).into_iter().filter(|name| name.starts_with(prefix));
    let read = |(rank, name): (usize, String)| Queue {
        interrupt: interrupts.get(rank).cloned(),
        steering: tree.cpu_mask(&format!("{card}/queues/{name}/{steering}")),
        name,
    };
    names.enumerate().map(read).collect()
}

/// All interfaces, the cards that carry each, and whether a default route, IPv4 or IPv6, goes by it.
pub fn interfaces(tree: &Tree, cards: &[Card]) -> Vec<Interface> {
    let (ipv4, ipv6) = (tree.text("/proc/net/route").unwrap_or_default(), tree.text("/proc/net/ipv6_route").unwrap_or_default());
    let of_ipv4 = ipv4.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.first().filter(|_| fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000")).copied()
    });
    let of_ipv6 = ipv6.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_default = fields.first()?.bytes().all(|byte| byte == b'0') && fields.get(1) == Some(&"00");
        // Without a default route the kernel keeps one on `lo`, which refuses.
        fields.get(9).filter(|name| is_default && **name != "lo").copied()
    });
    let routed: Vec<&str> = of_ipv4.chain(of_ipv6).collect();
    let read = |name: String| Interface {
        index: tree.number(&format!("/sys/class/net/{name}/ifindex")),
        cards: carriers(tree, cards, &name),
        has_default_route: routed.contains(&name.as_str()),
        name,
    };
    tree.names("/sys/class/net").into_iter().map(read).collect()
}

/// The cards below an interface: itself, the ports of a bond or bridge, what a VLAN lies on.
fn carriers(tree: &Tree, cards: &[Card], interface: &str) -> Vec<String> {
    const DEPTH_MAX: usize = 4;
    let mut found = Vec::new();
    let mut level = vec![interface.to_owned()];
    for _ in 0..DEPTH_MAX {
        let (here, below): (Vec<String>, Vec<String>) =
            level.into_iter().partition(|name| cards.iter().any(|card| card.name == *name));
        found.extend(here);
        let lower = |name: &String| tree.names(&format!("/sys/class/net/{name}"));
        level = below.iter().flat_map(lower).filter_map(|entry| entry.strip_prefix("lower_").map(str::to_owned)).collect();
    }
    found.dedup();
    found
}

/// NVMe controllers, also those over fabrics, which have no seat.
pub fn controllers(tree: &Tree, interrupts: &Interrupts) -> Vec<Controller> {
    let read = |name: &String| {
        let device = tree.resolve(&format!("/sys/class/nvme/{name}"))?;
        // `nvme0q0` is the queue of commands that are no I/O.
        let own = interrupts.of_device(tree, &device).into_iter();
        let own =
            own.filter(|one| one.name.strip_prefix(name.as_str()).is_some_and(|queue| queue.starts_with('q') && queue != "q0"));
        Some(Controller {
            name: name.clone(),
            model: tree.text(&format!("{device}/model")),
            seat: seat(tree, &device),
            interrupts: own.collect(),
        })
    };
    tree.names("/sys/class/nvme").iter().filter_map(read).collect()
}

/// Display and 3D controllers (PCI classes 0300 and 0302) of those who make GPUs that compute.
pub fn gpus(tree: &Tree) -> Vec<Gpu> {
    let read = |address: &String| {
        let folder = format!("/sys/bus/pci/devices/{address}");
        let class = tree.text(&format!("{folder}/class"))?;
        if !class.starts_with("0x0300") && !class.starts_with("0x0302") {
            return None;
        }
        let vendor = match tree.text(&format!("{folder}/vendor"))?.as_str() {
            "0x10de" => "NVIDIA",
            "0x1002" => "AMD",
            _ => return None,
        };
        Some(Gpu { vendor, seat: seat(tree, &tree.resolve(&folder)?) })
    };
    tree.names("/sys/bus/pci/devices").iter().filter_map(read).collect()
}

/// Where a device sits, from its path: `/sys/devices/pci0000:5d/0000:5d:00.0/0000:5e:00.0/…`.
pub fn seat(tree: &Tree, device: &str) -> Seat {
    let functions: Vec<&str> = device.split('/').filter(|part| is_function(part)).collect();
    let is_bridge =
        |part: &&str| part.strip_prefix("pci").and_then(|rest| rest.split_once(':')).is_some_and(|(domain, _)| is_hex(domain));
    // The node of a virtio device or a namespace is that of the function above it.
    let node = ancestors(device).find_map(|above| tree.number::<i64>(&format!("{above}/numa_node")));
    Seat {
        node: node.and_then(|node| usize::try_from(node).ok()),
        address: functions.last().map(|part| (*part).to_owned()),
        bridge: device.split('/').find(is_bridge).map(str::to_owned),
        port: functions.first().filter(|_| functions.len() > 1).map(|part| (*part).to_owned()),
    }
}

/// `0000:5e:00.0`.
fn is_function(part: &str) -> bool {
    let fields: Vec<&str> = part.split([':', '.']).collect();
    fields.len() == 4 && fields.iter().all(|field| is_hex(field))
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
