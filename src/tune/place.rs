//! Which CPUs become data cores, and why. One function for each rule, in the order in which they decide.

use std::fmt;

use super::machine::{Card, Machine, Seat};
use crate::base::cpus;
use crate::limits::{CORES_PER_SPARE, CORES_UNSPARED_MAX};

/// What the operator decided.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Interfaces by which clients come; empty: find out.
    pub interfaces: Vec<String>,
    /// Every SMT thread a data core.
    pub siblings: bool,
    pub clients: Clients,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clients {
    /// They come by a network card.
    #[default]
    Remote,
    /// All of them are on this machine: no card has a say.
    Here,
}

/// The cores, and what decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// For `--cores`, ascending.
    pub data: Vec<usize>,
    /// CPUs on the same nodes for interrupts and the control thread; empty: there are none to spare.
    pub spare: Vec<usize>,
    /// Whether the spare ones are cores of their own, or only SMT siblings of data cores.
    pub spare_is_whole: bool,
    pub nodes: Vec<usize>,
    pub shares: Vec<Share>,
    /// One sentence for each rule that decided something.
    pub reasons: Vec<String>,
}

/// The data cores of one network card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    pub card: String,
    pub cores: Vec<usize>,
}

/// An interface was named that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoInterface {
    pub name: String,
    /// The interfaces with a card behind them.
    pub known: Vec<String>,
}

/// A physical core: its threads that this process may use.
struct Core {
    node: usize,
    threads: Vec<usize>,
}

impl Placement {
    /// Every CPU of the mask: for a machine that shows nothing of itself.
    pub fn everywhere(allowed: &[usize]) -> Self {
        let reasons =
            vec!["Every CPU that this process may use: the kernel shows nothing of the machine (is /sys mounted?).".into()];
        Self { data: allowed.to_vec(), spare: Vec::new(), spare_is_whole: false, nodes: Vec::new(), shares: Vec::new(), reasons }
    }
}

/// Applies the rules of this room's page.
pub fn place(machine: &Machine, wish: &Wish) -> Result<Placement, NoInterface> {
    let mut reasons = Vec::new();
    let cores = usable_cores(machine);
    let cards = choose_cards(machine, wish, &mut reasons)?;
    let nodes = choose_nodes(machine, &cards, &cores, &mut reasons);
    let here: Vec<&Core> = cores.iter().filter(|core| nodes.contains(&core.node)).collect();
    let kept = spare_some(machine, &here, &nodes, &mut reasons);
    let data = choose_threads(wish, &kept, here.len(), &mut reasons);
    let left = here.iter().filter(|core| core.threads.iter().all(|cpu| !data.contains(cpu)));
    let mut spare: Vec<usize> = left.flat_map(|core| core.threads.iter().copied()).collect();
    let spare_is_whole = !spare.is_empty();
    if spare.is_empty() {
        spare = here.iter().flat_map(|core| core.threads.iter().copied()).filter(|cpu| !data.contains(cpu)).collect();
    }
    spare.sort_unstable();
    let shares = share(machine, &cards, &data, &mut reasons);
    Ok(Placement { data, spare, spare_is_whole, nodes, shares, reasons })
}

/// The placement on CPUs that the operator listed: only how the cards share them is left to say.
pub fn place_on(machine: &Machine, wish: &Wish, data: Vec<usize>) -> Result<Placement, NoInterface> {
    let cards = choose_cards(machine, wish, &mut Vec::new())?;
    let mut nodes: Vec<usize> = data.iter().filter_map(|id| machine.cpu(*id)).map(|cpu| cpu.node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let shares = share(machine, &cards, &data, &mut Vec::new());
    Ok(Placement { data, spare: Vec::new(), spare_is_whole: false, nodes, shares, reasons: Vec::new() })
}

fn usable_cores(machine: &Machine) -> Vec<Core> {
    let threads = |siblings: &[usize]| siblings.iter().copied().filter(|cpu| machine.allowed.contains(cpu)).collect::<Vec<_>>();
    let mut cores: Vec<Core> = Vec::new();
    for cpu in machine.cpus.iter().filter(|cpu| machine.allowed.contains(&cpu.id)) {
        if cores.iter().all(|core| !core.threads.contains(&cpu.id)) {
            cores.push(Core { node: cpu.node, threads: threads(&cpu.siblings) });
        }
    }
    cores
}

/// The cards by which clients come: those named; the one with the default route; the fast ones.
fn choose_cards<'a>(machine: &'a Machine, wish: &Wish, reasons: &mut Vec<String>) -> Result<Vec<&'a Card>, NoInterface> {
    let by_name = |names: &[String]| machine.cards.iter().filter(|card| names.contains(&card.name)).collect::<Vec<_>>();
    if !wish.interfaces.is_empty() {
        let mut names = Vec::new();
        for interface in &wish.interfaces {
            let found = machine.interfaces.iter().find(|one| one.name == *interface && !one.cards.is_empty());
            let known = || machine.cards.iter().map(|card| card.name.clone()).collect();
            let found = found.ok_or_else(|| NoInterface { name: interface.clone(), known: known() })?;
            names.extend(found.cards.iter().cloned());
        }
        reasons.push(format!("Clients come by {}, as asked for.", names.join(" and ")));
        return Ok(by_name(&names));
    }
    if wish.clients == Clients::Here {
        reasons.push("No network card has a say: all addresses to listen on are those of this machine alone.".into());
        return Ok(Vec::new());
    }
    let up: Vec<&Card> = machine.cards.iter().filter(|card| card.is_up).collect();
    let fastest = up.iter().filter_map(|card| card.speed_mbps).max().unwrap_or(0);
    let routes: Vec<_> = machine.interfaces.iter().filter(|one| one.has_default_route).collect();
    if let [route] = routes.as_slice()
        && !route.cards.is_empty()
    {
        let cards = by_name(&route.cards);
        // A port for administration has the default route on many machines whose data goes by others.
        let is_slow = cards.iter().filter_map(|card| card.speed_mbps).max().is_some_and(|speed| speed <= fastest / 10);
        if !is_slow {
            let through = if route.cards == [route.name.clone()] { String::new() } else { format!(" through {}", route.name) };
            reasons.push(format!("Clients come by {}: it has the default route{through}.", route.cards.join(" and ")));
            return Ok(cards);
        }
    }
    let fast: Vec<&Card> = up.into_iter().filter(|card| card.speed_mbps.unwrap_or(fastest) >= fastest / 2).collect();
    let names: Vec<&str> = fast.iter().map(|card| card.name.as_str()).collect();
    reasons.push(match names.as_slice() {
        [] => "No network card is to be seen that is up: none has a say.".into(),
        [one] => format!("Clients come by {one}: it is the fastest card that is up."),
        _ => format!(
            "Clients come by {}: they are the fastest cards that are up, and no single default route says otherwise.",
            names.join(" and ")
        ),
    });
    Ok(fast)
}

/// The nodes of the cards, else of the drives, else of the GPUs, else all.
fn choose_nodes(machine: &Machine, cards: &[&Card], cores: &[Core], reasons: &mut Vec<String>) -> Vec<usize> {
    let mut all: Vec<usize> = cores.iter().map(|core| core.node).collect();
    all.sort_unstable();
    all.dedup();
    if machine.nodes.len() <= 1 {
        reasons.push("The machine has one NUMA node: every core is as near to every device.".into());
        return all;
    }
    if let [only] = all.as_slice() {
        reasons.push(format!("This process may use CPUs of node {only} only."));
        return all;
    }
    let usable = |seats: &mut dyn Iterator<Item = &Seat>| -> Vec<usize> {
        let mut nodes: Vec<usize> = seats.filter_map(|seat| seat.node).filter(|node| all.contains(node)).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    };
    let of_cards = usable(&mut cards.iter().map(|card| &card.seat));
    let of_drives = usable(&mut machine.drives.iter().flat_map(|drive| &drive.seats));
    let of_gpus = usable(&mut machine.gpus.iter().map(|gpu| &gpu.seat));
    let gpu_drives: Vec<usize> = of_drives.iter().copied().filter(|node| of_gpus.contains(node)).collect();
    let names = |nodes: &[usize]| cpus::list(nodes);
    let (nodes, reason) = if !of_cards.is_empty() {
        let reason = match () {
            () if of_drives.is_empty() => format!("The network card is on node {}.", names(&of_cards)),
            () if of_drives.iter().all(|node| of_cards.contains(node)) => {
                format!("The network card is on node {}, the drives on node {}.", names(&of_cards), names(&of_drives))
            }
            () => format!(
                "The network card is on node {}, the drives are on node {}: the card wins, because cores touch each byte that they copy \
                 into a socket, whereas the drives' DMA crosses the link between the nodes by itself.",
                names(&of_cards),
                names(&of_drives)
            ),
        };
        (of_cards, reason)
    } else if !gpu_drives.is_empty() && gpu_drives != of_drives {
        let reason = format!(
            "Drives are on node {}; node {} is preferred, because GPUs are there too.",
            names(&of_drives),
            names(&gpu_drives)
        );
        (gpu_drives, reason)
    } else if !of_drives.is_empty() {
        (of_drives.clone(), format!("The drives are on node {}, and no network card says otherwise.", names(&of_drives)))
    } else if !of_gpus.is_empty() {
        (of_gpus.clone(), format!("The GPUs are on node {}, and neither card nor drive says otherwise.", names(&of_gpus)))
    } else {
        (all, "All NUMA nodes: neither card, drive nor GPU says where it is.".into())
    };
    reasons.push(reason);
    nodes
}

/// The cores that are left when quota and spare ones are taken off.
fn spare_some<'a>(machine: &Machine, here: &[&'a Core], nodes: &[usize], reasons: &mut Vec<String>) -> Vec<&'a Core> {
    if let Some(quota) = machine.quota.filter(|quota| *quota < here.len()) {
        reasons.push(format!(
            "The cgroup's quota (cpu.max) pays for {quota} CPUs: more data cores would only be throttled in turn."
        ));
        return take_evenly(here, nodes, quota);
    }
    let mut kept = Vec::new();
    let mut spared = Vec::new();
    for node in nodes {
        let on_node: Vec<&Core> = here.iter().copied().filter(|core| core.node == *node).collect();
        let count = if on_node.len() > CORES_UNSPARED_MAX { on_node.len().div_ceil(CORES_PER_SPARE) } else { 0 };
        let (free, data) = on_node.split_at(count);
        spared.extend(free.iter().flat_map(|core| core.threads.iter().copied()));
        kept.extend_from_slice(data);
    }
    spared.sort_unstable();
    if spared.is_empty() {
        reasons.push(format!("No core is spared: a node of up to {CORES_UNSPARED_MAX} cores has none to lose."));
    } else {
        reasons.push(format!(
            "CPU {} stays free for interrupts, the kernel's threads and the control thread: one core in {CORES_PER_SPARE} of a node of more \
             than {CORES_UNSPARED_MAX}.",
            cpus::list(&spared)
        ));
    }
    kept
}

/// `count` cores, the same number of each node as far as they go.
fn take_evenly<'a>(here: &[&'a Core], nodes: &[usize], count: usize) -> Vec<&'a Core> {
    let mut ranked: Vec<(usize, &Core)> = Vec::new();
    for node in nodes {
        ranked.extend(here.iter().copied().filter(|core| core.node == *node).enumerate());
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().take(count).map(|(_, core)| core).collect()
}

/// One thread of each core, unless the siblings are wanted, or there is only one core.
fn choose_threads(wish: &Wish, kept: &[&Core], cores: usize, reasons: &mut Vec<String>) -> Vec<usize> {
    let has_siblings = kept.iter().any(|core| core.threads.len() > 1);
    let both = has_siblings && (wish.siblings || cores == 1);
    if has_siblings {
        reasons.push(match () {
            () if wish.siblings => "Every SMT thread is a data core, as asked for.".into(),
            () if both => "Both threads of the only core are data cores: one hides the other's cache misses.".into(),
            () => "One thread of each core: two would share its caches and its digest units; the sibling is left to the kernel."
                .to_owned(),
        });
    }
    let taken = |core: &&Core| core.threads.iter().copied().take(if both { core.threads.len() } else { 1 }).collect::<Vec<_>>();
    let mut data: Vec<usize> = kept.iter().flat_map(taken).collect();
    data.sort_unstable();
    data
}

/// Each card gets cores of its own node; several cards there share them, in a row.
fn share(machine: &Machine, cards: &[&Card], data: &[usize], reasons: &mut Vec<String>) -> Vec<Share> {
    let node_of = |cpu: &usize| machine.cpu(*cpu).map(|cpu| cpu.node);
    let near = |card: &Card| -> Vec<usize> {
        let own: Vec<usize> =
            data.iter().copied().filter(|cpu| card.seat.node.is_some() && node_of(cpu) == card.seat.node).collect();
        if own.is_empty() { data.to_vec() } else { own }
    };
    let shares: Vec<Share> = cards
        .iter()
        .map(|card| {
            let own = near(card);
            let rivals: Vec<&&Card> = cards.iter().filter(|other| near(other) == own).collect();
            let rank = rivals.iter().position(|other| other.name == card.name).unwrap_or(0);
            let part = own.get(rank * own.len() / rivals.len()..(rank + 1) * own.len() / rivals.len()).unwrap_or_default();
            Share { card: card.name.clone(), cores: if part.is_empty() { own } else { part.to_vec() } }
        })
        .collect();
    if shares.len() > 1 {
        let parts: Vec<String> =
            shares.iter().map(|share| format!("{} has CPU {}", share.card, cpus::list(&share.cores))).collect();
        reasons.push(format!("The cards share the cores, each those of its own node: {}.", parts.join(", ")));
    }
    shares
}

impl fmt::Display for NoInterface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is no network card, and none lies below it; ", self.name)?;
        match self.known.as_slice() {
            [] => write!(f, "this machine shows no network card at all"),
            known => write!(f, "choose from {}", known.join(", ")),
        }
    }
}
