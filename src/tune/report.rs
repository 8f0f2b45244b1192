//! What was found and what is proposed, for people.

use std::fmt;

use super::apply::Outcome;
use super::disk::Served;
use super::machine::{Machine, Seat};
use super::place::Placement;
use super::setting::{How, Setting};
use crate::base::{cpus, shell};

/// All of it.
pub struct Report<'a> {
    pub machine: &'a Machine,
    pub placement: &'a Placement,
    pub served: Option<&'a Served>,
    pub settings: &'a [Setting],
    /// For each setting what came of it, when it was applied.
    pub outcomes: Option<&'a [Outcome]>,
}

impl Report<'_> {
    /// The line that serves with this placement.
    pub(super) fn serve_line(&self) -> String {
        let directory = self.served.map(|served| shell::quote(&served.path));
        format!("sluice serve {} --cores {}", directory.as_deref().unwrap_or("DIR"), cpus::list(&self.placement.data))
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Machine")?;
        self.write_machine(f)?;
        writeln!(f, "\nPlacement")?;
        let placement = self.placement;
        writeln!(f, "  cores  {}", cpus::list(&placement.data))?;
        for reason in &placement.reasons {
            writeln!(f, "         {reason}")?;
        }
        writeln!(f, "  serve  {}", self.serve_line())?;
        let (change, keep): (Vec<_>, Vec<_>) = self.settings.iter().enumerate().partition(|(_, setting)| setting.changes());
        if !keep.is_empty() {
            writeln!(f, "\nRight as it is")?;
            self.write_settings(f, &keep)?;
        }
        if change.is_empty() {
            return writeln!(f, "\nNothing to change.");
        }
        writeln!(f, "\nTo change")?;
        self.write_settings(f, &change)?;
        self.write_close(f, change.iter().map(|(_, setting)| *setting))
    }
}

impl Report<'_> {
    fn write_machine(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = self.machine;
        let all: Vec<usize> = machine.cpus.iter().map(|cpu| cpu.id).collect();
        let (threads, cores) = (count(all.len(), "CPU"), count(machine.physical_cores(), "core"));
        let allowed = cpus::list(&machine.allowed);
        writeln!(f, "  {threads} in {cores} on {}; this process may use CPU {allowed}", count(machine.nodes.len(), "NUMA node"))?;
        for card in &machine.cards {
            let driver = card.driver.as_deref().unwrap_or("driver unknown");
            let speed = card.speed_mbps.map_or(String::new(), |speed| format!(", {speed} Mb/s"));
            let state = if card.is_up { "" } else { ", down" };
            let queues = format!("{} to receive, {} to send", count(card.receive.len(), "queue"), card.transmit.len());
            writeln!(f, "  card {} ({driver}{speed}{state}), {}; {queues}", card.name, sits(&card.seat))?;
        }
        for controller in &machine.controllers {
            let model = controller.model.as_deref().unwrap_or("NVMe");
            writeln!(
                f,
                "  drive {} ({model}), {}; {}",
                controller.name,
                sits(&controller.seat),
                count(controller.interrupts.len(), "queue")
            )?;
        }
        for gpu in &machine.gpus {
            let near = self.below_same_bridge(&gpu.seat);
            let near = if near.is_empty() { String::new() } else { format!(", with {}", near.join(", ")) };
            writeln!(f, "  {} GPU, {}{near}", gpu.vendor, sits(&gpu.seat))?;
        }
        if let Some(served) = self.served {
            let names: Vec<&str> = machine.drives.iter().map(|drive| drive.name.as_str()).collect();
            let on = if names.is_empty() { served.mount.source.clone() } else { names.join(", ") };
            writeln!(f, "  {} is {} on {on}", served.path.display(), served.mount.filesystem)?;
        }
        Ok(())
    }

    /// The cards and drives that reach a GPU without leaving its host bridge.
    fn below_same_bridge(&self, seat: &Seat) -> Vec<&str> {
        let cards = self.machine.cards.iter().map(|card| (&card.name, &card.seat));
        let drives = self.machine.controllers.iter().map(|controller| (&controller.name, &controller.seat));
        let is_near = |other: &Seat| other.bridge.is_some() && other.bridge == seat.bridge;
        cards.chain(drives).filter(|(_, other)| is_near(other)).map(|(name, _)| name.as_str()).collect()
    }

    /// A reason that several settings in a row have is said once.
    fn write_settings(&self, f: &mut fmt::Formatter<'_>, settings: &[(usize, &Setting)]) -> fmt::Result {
        for (position, (i, setting)) in settings.iter().enumerate() {
            let about = if setting.about.is_empty() { String::new() } else { format!(" ({})", setting.about) };
            let outcome = self.outcomes.and_then(|all| all.get(*i)).map_or(String::new(), |outcome| format!(": {outcome}"));
            match &setting.how {
                How::Nothing => writeln!(f, "  {}{about} = {}", setting.id, setting.current)?,
                _ => writeln!(f, "  {}{about}: {} → {}{outcome}", setting.id, or_nothing(&setting.current), setting.proposed)?,
            }
            match &setting.how {
                How::Nothing => {}
                How::Write { file, text } => writeln!(f, "      echo {text} > {file}")?,
                How::ByHand(line) => writeln!(f, "      by hand: {line}")?,
            }
            let next = settings.get(position + 1).map(|(_, next)| next.reason.as_str());
            if next != Some(setting.reason.as_str()) {
                writeln!(f, "    {}", setting.reason)?;
            }
        }
        Ok(())
    }

    fn write_close<'s>(&self, f: &mut fmt::Formatter<'_>, changes: impl Iterator<Item = &'s Setting>) -> fmt::Result {
        let (writes, by_hand): (Vec<_>, Vec<_>) = changes.partition(|setting| matches!(setting.how, How::Write { .. }));
        match self.outcomes {
            Some(outcomes) => {
                let failed = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Failed(_))).count();
                let written = outcomes.iter().filter(|outcome| **outcome == Outcome::Written).count();
                writeln!(
                    f,
                    "\n{written} written, {failed} failed, {} left to be done by hand. It holds until the next boot.",
                    by_hand.len()
                )
            }
            None => writeln!(
                f,
                "\n{} for `sluice tune --apply` to write as root, until the next boot; {} to be done by hand.",
                writes.len(),
                by_hand.len()
            ),
        }
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn or_nothing(text: &str) -> &str {
    if text.is_empty() { "nothing" } else { text }
}

fn sits(seat: &Seat) -> String {
    let address = seat.address.as_deref().unwrap_or("no PCI address");
    let bridge = seat.bridge.as_deref().map_or(String::new(), |bridge| format!(" below {bridge}"));
    let node = seat.node.map_or("no node named".to_owned(), |node| format!("node {node}"));
    format!("{address}{bridge}, {node}")
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Unchanged => f.write_str("unchanged"),
            Outcome::Written => f.write_str("written"),
            Outcome::ByHand => f.write_str("by hand"),
            Outcome::Failed(reason) => write!(f, "failed: {reason}"),
        }
    }
}
