//! Can a connection be accepted by the core on which its packets arrive?
//!
//! Then its softirq and its task share a core's caches. But it takes the spreading of connections away from the kernel's hash and
//! gives it to the card: where the card does not spread evenly, or the sender is a process of this machine (on loopback
//! packets arrive on the sender's core), one core would get everything. So only packets of cards count that arrive on all data cores
//! alike, and all others are spread by hash as ever.

use super::machine::{Card, Machine, Queue};
use super::place::{Placement, Share};

/// What can be relied on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// Numbers of the interfaces whose packets choose their core; empty: none does.
    pub interfaces: Vec<u32>,
    /// One sentence; empty where no card has a say.
    pub reason: String,
}

/// How often a core is interrupted, in parts of a queue.
const WHOLE_QUEUE: usize = 1 << 16;

pub fn arrival(machine: &Machine, placement: &Placement) -> Arrival {
    let by_hash = |reason: String| Arrival { interfaces: Vec::new(), reason };
    if placement.shares.is_empty() || placement.data.len() < 2 {
        return by_hash(String::new());
    }
    if machine.kernel.has_irqbalance {
        return by_hash("Connections are spread by hash: irqbalance may move the interrupts at any time.".into());
    }
    let is_even = |share: &Share| machine.card(&share.card).is_some_and(|card| arrives_evenly(card, share));
    let names: Vec<&str> = placement.shares.iter().map(|share| share.card.as_str()).collect();
    if let Some(uneven) = placement.shares.iter().find(|share| !is_even(share)) {
        return by_hash(format!(
            "Connections are spread by hash: packets of {} do not arrive on all its cores alike (see `sluice tune`).",
            uneven.card
        ));
    }
    // Packets of a port carry the number of the bond or VLAN above it.
    let carries = |cards: &[String]| !cards.is_empty() && cards.iter().all(|card| names.contains(&card.as_str()));
    let interfaces =
        machine.interfaces.iter().filter(|interface| carries(&interface.cards)).filter_map(|interface| interface.index);
    Arrival {
        interfaces: interfaces.collect(),
        reason: format!("Each connection is accepted by the core on which its packets from {} arrive.", names.join(" and ")),
    }
}

/// Whether each of the card's cores, and no other, gets the same part of its packets, give or take a quarter.
fn arrives_evenly(card: &Card, share: &Share) -> bool {
    let mut parts = vec![0; share.cores.len()];
    for queue in &card.receive {
        let processed_on = processing_cpus(queue);
        for cpu in processed_on {
            let Some(core) = share.cores.iter().position(|core| core == cpu) else { return false };
            parts[core] += WHOLE_QUEUE / processed_on.len();
        }
    }
    let (least, most) = (parts.iter().min().copied().unwrap_or(0), parts.iter().max().copied().unwrap_or(0));
    least > 0 && most - least <= least / 4
}

/// Where packets of a queue meet their socket: where RPS hands them, else where it interrupts.
fn processing_cpus(queue: &Queue) -> &[usize] {
    match (&queue.steering, &queue.interrupt) {
        (Some(steered), _) if !steered.is_empty() => steered,
        (_, Some(interrupt)) => &interrupt.effective,
        (_, None) => &[],
    }
}
