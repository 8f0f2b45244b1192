//! Which interrupt serves which queue? Drivers say it only in the name, and each has its own form.

use super::machine::Interrupt;
use super::tree::{Tree, ancestors, split_number};

/// Everything in /proc/interrupts that has a number.
pub struct Interrupts {
    named: Vec<(u32, String)>,
}

/// Which queues of a card an interrupt serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Receive,
    Transmit,
    Both,
}

impl Interrupts {
    pub fn read(tree: &Tree) -> Self {
        let text = tree.text("/proc/interrupts").unwrap_or_default();
        let mut lines = text.lines();
        let columns = lines.next().map_or(0, |header| header.split_whitespace().count());
        Self { named: lines.filter_map(|line| parse(line, columns)).collect() }
    }

    /// The interrupts of a device, ascending: the message-signalled ones of the nearest device above that has them (a virtio device
    /// has those of its PCI function).
    pub fn of_device(&self, tree: &Tree, device: &str) -> Vec<Interrupt> {
        let folder = ancestors(device).map(|above| format!("{above}/msi_irqs")).find(|folder| tree.has(folder));
        let numbers = folder.map(|folder| tree.names(&folder)).unwrap_or_default();
        let mut numbers: Vec<u32> = numbers.iter().filter_map(|name| name.parse().ok()).collect();
        numbers.sort_unstable();
        let read = |number: u32| {
            let (_, name) = self.named.iter().find(|(known, _)| *known == number)?;
            let affinity = tree.cpu_list(&format!("/proc/irq/{number}/smp_affinity_list"))?;
            let effective = tree.cpu_list(&format!("/proc/irq/{number}/effective_affinity_list"));
            // Before Linux 4.13 nothing tells which one of them it is.
            let effective = effective.filter(|cpus| !cpus.is_empty()).unwrap_or_else(|| affinity.clone());
            Some(Interrupt { number, name: name.clone(), affinity, effective })
        };
        numbers.into_iter().filter_map(read).collect()
    }
}

/// ` 38:   0   4752  PCI-MSIX-0000:00:03.0   1-edge      virtio2-input.0`: number, a count for each CPU, controller, trigger, name.
fn parse(line: &str, columns: usize) -> Option<(u32, String)> {
    let (number, rest) = line.split_once(':')?;
    let name = rest.split_whitespace().skip(columns).last()?;
    Some((number.trim().parse().ok()?, name.to_owned()))
}

/// The queues that a network card's interrupt serves, by its name; `None` when it serves none (configuration, link, errors).
/// `eth0-TxRx-3`, `i40e-eth0-TxRx-3`, `eth0-Tx-Rx-3`, `mlx5_comp3@pci:0000:5e:00.0`, `eth0-rx-3`, `virtio2-input.3`, `eth0`.
pub fn direction(name: &str) -> Option<Direction> {
    const NO_QUEUES: &[&str] = &["config", "async", "asyn", "mgmnt", "mgmt", "misc", "fdir", "admin", "ctrl", "control", "ptp"];
    let name = name.split('@').next().unwrap_or(name).to_ascii_lowercase();
    let (stem, number) = split_number(&name);
    number?;
    let stem = stem.trim_end_matches(['-', '.', '_']);
    if NO_QUEUES.iter().any(|word| stem.ends_with(word)) {
        return None;
    }
    Some(match () {
        () if stem.ends_with("txrx") || stem.ends_with("tx-rx") => Direction::Both,
        () if stem.ends_with("-rx") || stem.ends_with("-input") => Direction::Receive,
        () if stem.ends_with("-tx") || stem.ends_with("-output") => Direction::Transmit,
        () => Direction::Both,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_many_drivers() {
        let both =
            ["eth0-TxRx-3", "i40e-ens1-TxRx-12", "eth0-Tx-Rx-0", "mlx5_comp3@pci:0000:5e:00.0", "eth0", "bnxt_en-eth0-TxRx-7"];
        for name in both {
            assert_eq!(direction(name), Some(Direction::Both), "{name}");
        }
        for (name, expected) in [("eth1-rx-0", Direction::Receive), ("virtio2-input.0", Direction::Receive)] {
            assert_eq!(direction(name), Some(expected), "{name}");
        }
        assert_eq!(direction("virtio2-output.3"), Some(Direction::Transmit));
        for name in
            ["virtio2-config", "mlx5_async0@pci:0000:5e:00.0", "ena-mgmnt@pci:0000:00:05.0", "ice-eth0:misc", "i40e-fdir-TxRx"]
        {
            assert_eq!(direction(name), None, "{name}");
        }
    }

    #[test]
    fn lines_as_the_kernel_writes_them() {
        assert_eq!(
            parse(" 38:          0       4752 PCI-MSIX-0000:00:03.0   1-edge      virtio2-input.0", 2),
            Some((38, "virtio2-input.0".into()))
        );
        assert_eq!(parse("NMI:          0          0   Non-maskable interrupts", 2), None);
        assert_eq!(parse(" 40: 1 2", 2), None);
        assert_eq!(parse("", 2), None);
    }
}
