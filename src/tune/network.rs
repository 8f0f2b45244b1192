//! The settings of a network card: which core each queue interrupts, who processes its packets, who sends by it.

use super::machine::{Card, Interrupt, Machine};
use super::place::{Placement, Share};
use super::setting::{How, Setting};
use crate::base::cpus;

/// The settings of all cards by which clients come.
pub fn advise(machine: &Machine, placement: &Placement, settings: &mut Vec<Setting>) {
    for share in &placement.shares {
        if let Some(card) = machine.card(&share.card) {
            let plan = Plan::new(machine, placement, card, share);
            plan.count(settings);
            plan.interrupts(settings);
            plan.receive_steering(settings);
            plan.transmit_steering(settings);
        }
    }
    if placement.shares.is_empty() || machine.cards.is_empty() {
        return;
    }
    let by_hand = How::ByHand("systemctl disable --now irqbalance".into());
    settings.push(match machine.kernel.has_irqbalance {
        true => Setting::new("irqbalance", "running", "stopped", "It would move the interrupts away again.", by_hand),
        false => Setting::fine("irqbalance", "not running", "Nothing moves the interrupts away again."),
    });
}

/// How the queues of one card meet its cores.
struct Plan<'a> {
    card: &'a Card,
    cores: &'a [usize],
    /// Spare cores on the card's node.
    spare: Vec<usize>,
    /// Each core has a queue of its own, at least.
    is_matched: bool,
}

impl<'a> Plan<'a> {
    fn new(machine: &Machine, placement: &Placement, card: &'a Card, share: &'a Share) -> Self {
        let is_near = |id: &usize| card.seat.node.is_none() || machine.cpu(*id).map(|cpu| cpu.node) == card.seat.node;
        let is_first = |id: &usize| machine.cpu(*id).is_some_and(|cpu| cpu.siblings.first() == Some(id));
        let spare = placement.spare.iter().copied().filter(|id| placement.spare_is_whole && is_near(id) && is_first(id));
        Self { card, cores: &share.cores, spare: spare.collect(), is_matched: card.receive.len() >= share.cores.len() }
    }

    /// Surplus queues would interrupt some cores twice as often as others.
    fn count(&self, settings: &mut Vec<Setting>) {
        let (queues, cores, name) = (self.card.receive.len(), self.cores.len(), &self.card.name);
        if queues > cores && !queues.is_multiple_of(cores) {
            let how = How::ByHand(format!("ethtool -L {name} combined {cores}, then tune again"));
            let reason = "With more queues than cores some cores would take twice the packets of others.";
            settings.push(Setting::new(&format!("card.{name}.queues"), &queues.to_string(), &cores.to_string(), reason, how));
        }
    }

    fn interrupts(&self, settings: &mut Vec<Setting>) {
        let mut seen: Vec<u32> = Vec::new();
        for queues in [&self.card.receive, &self.card.transmit] {
            for (i, queue) in queues.iter().enumerate() {
                let Some(interrupt) = queue.interrupt.as_ref().filter(|one| !seen.contains(&one.number)) else { continue };
                seen.push(interrupt.number);
                settings.push(self.interrupt(i, interrupt));
            }
        }
    }

    fn interrupt(&self, rank: usize, interrupt: &Interrupt) -> Setting {
        let (targets, reason): (&[usize], _) = match () {
            () if self.is_matched => (
                self.cores,
                "The card has a queue for each core: a packet is processed on the core that will read it, without a second hand.",
            ),
            () if !self.spare.is_empty() => (
                &self.spare,
                "The card has fewer queues than cores: the spare core takes its interrupts, and no data core more than another.",
            ),
            () => (
                self.cores,
                "The card has fewer queues than cores, and none is spare: a queue interrupts one core, and always the same.",
            ),
        };
        let target = targets.get(rank % targets.len().max(1)).copied().unwrap_or_default();
        let id = format!("interrupt.{}.affinity", interrupt.number);
        let file = format!("/proc/irq/{}/smp_affinity_list", interrupt.number);
        // What counts is where it arrives: a wide affinity may already mean the right CPU, until the kernel thinks again.
        let setting = Setting::write(&id, &cpus::list(&interrupt.affinity), &target.to_string(), reason, file);
        setting.about(format!("{} of {}", interrupt.name, self.card.name))
    }

    fn receive_steering(&self, settings: &mut Vec<Setting>) {
        let reason = match self.is_matched {
            true => "The card itself spreads packets over its queues: handing them on would cost a second interrupt.",
            false => "With fewer queues than cores the kernel spreads packets over the cores, so that each processes its part.",
        };
        self.steering("rx", "rps_cpus", !self.is_matched, reason, settings);
    }

    fn transmit_steering(&self, settings: &mut Vec<Setting>) {
        // With one queue there is nothing to choose, and the kernel refuses the file.
        if self.card.transmit.len() > 1 {
            let reason =
                "A core sends by a queue of its own, or of few: no lock is shared, and what was sent is freed where it was made.";
            self.steering("tx", "xps_cpus", true, reason, settings);
        }
    }

    fn steering(&self, direction: &str, file: &str, is_wanted: bool, reason: &str, settings: &mut Vec<Setting>) {
        let queues = if direction == "rx" { &self.card.receive } else { &self.card.transmit };
        for (i, queue) in queues.iter().enumerate() {
            let Some(current) = &queue.steering else { continue };
            let wanted = if is_wanted { part(self.cores, i, queues.len()) } else { &[] };
            let path = format!("/sys/class/net/{}/queues/{}/{file}", self.card.name, queue.name);
            let id = format!("card.{}.{}.{file}", self.card.name, queue.name);
            let setting = Setting::write(&id, &cpus::mask(current), &cpus::mask(wanted), reason, path);
            settings.push(setting.about(if wanted.is_empty() { "no CPU".into() } else { format!("CPU {}", cpus::list(wanted)) }));
        }
    }
}

/// The cores that belong to queue `index` of `count`: a run of them, or with more queues than cores one.
fn part(cores: &[usize], index: usize, count: usize) -> &[usize] {
    let (first, end) = match count < cores.len() {
        true => (index * cores.len() / count, (index + 1) * cores.len() / count),
        false => (index % cores.len().max(1), index % cores.len().max(1) + 1),
    };
    cores.get(first..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::part;

    #[test]
    fn every_core_belongs_to_a_queue_and_every_queue_has_one() {
        for cores in 1..20 {
            let list: Vec<usize> = (100..100 + cores).collect();
            for queues in 1..40 {
                let parts: Vec<&[usize]> = (0..queues).map(|i| part(&list, i, queues)).collect();
                assert!(parts.iter().all(|one| !one.is_empty()), "{cores} {queues}");
                assert!(list.iter().all(|core| parts.iter().any(|one| one.contains(core))), "{cores} {queues}");
                if queues <= cores {
                    assert_eq!(parts.concat(), list, "none twice");
                }
            }
        }
        assert_eq!(part(&[], 0, 4), &[] as &[usize]);
    }
}
