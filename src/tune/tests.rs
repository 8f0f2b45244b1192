//! Machines and what the rules of this room's page say about them.

use super::fixture::{Sketch, served};
use super::{Clients, How, Machine, Outcome, Placement, Report, Setting, Wish, advise, apply, arrival, place, place_on};

/// One socket with SMT: 16 cores, CPU n and n + 16 are siblings; one card, two drives.
fn one_socket() -> Sketch {
    let mut sketch = Sketch::new(1, 16, 2);
    sketch.card("eth0", "pci0000:00/0000:00:01.1/0000:01:00.0", 0, 32, 100_000);
    sketch.nvme(0, "pci0000:00/0000:00:03.1/0000:02:00.0", 0, 32);
    sketch.nvme(1, "pci0000:40/0000:40:03.1/0000:41:00.0", 0, 32);
    sketch.default_route("eth0");
    sketch
}

/// Two sockets of 32 cores with SMT (node 0 has CPU 0-31 and 64-95): a card of two ports on each, one for administration, eight
/// drives, four GPUs on the second.
fn two_sockets() -> Sketch {
    let mut sketch = Sketch::new(2, 32, 2);
    sketch.card("eth0", "pci0000:15/0000:15:01.0/0000:16:00.0", 0, 32, 200_000);
    sketch.card("eth1", "pci0000:15/0000:15:01.0/0000:16:00.1", 0, 32, 200_000);
    sketch.card("eth2", "pci0000:a0/0000:a0:01.0/0000:a1:00.0", 1, 32, 200_000);
    sketch.card("mgmt", "pci0000:00/0000:00:1c.0/0000:03:00.0", 0, 4, 1_000);
    for rank in 0..8 {
        let (bridge, node) = if rank < 4 { (0x30, 0) } else { (0xb0, 1) };
        let path = format!("pci0000:{bridge:x}/0000:{bridge:x}:0{rank}.0/0000:{:02x}:00.0", bridge + 1 + rank);
        sketch.nvme(rank, &path, node, 16);
    }
    for rank in 0..4 {
        sketch.gpu(&format!("pci0000:a0/0000:a0:0{}.0/0000:a{}:00.0", rank + 2, rank + 2), 1);
    }
    sketch
}

fn wish(interfaces: &[&str]) -> Wish {
    Wish { interfaces: interfaces.iter().map(|name| (*name).to_owned()).collect(), ..Wish::default() }
}

fn placed(machine: &Machine, interfaces: &[&str]) -> Placement {
    place(machine, &wish(interfaces)).expect("the interfaces are there")
}

fn run(first: usize, count: usize) -> Vec<usize> {
    (first..first + count).collect()
}

fn setting<'a>(settings: &'a [Setting], id: &str) -> &'a Setting {
    settings.iter().find(|setting| setting.id == id).unwrap_or_else(|| panic!("{id} is missing"))
}

fn said(placement: &Placement, words: &str) -> bool {
    placement.reasons.iter().any(|reason| reason.contains(words))
}

#[test]
fn one_socket_serves_on_one_thread_of_each_core_but_one() {
    let machine = one_socket().read(Some(&served(259, 1)));
    assert_eq!((machine.cpus.len(), machine.physical_cores(), machine.cards.len(), machine.controllers.len()), (32, 16, 1, 2));
    assert_eq!(machine.controllers[1].interrupts.len(), 32, "the queue for administration is none of them");
    assert_eq!(machine.controllers[1].seat.bridge.as_deref(), Some("pci0000:40"));
    assert_eq!(machine.drives[0].name, "nvme1n1");
    let placement = placed(&machine, &[]);
    assert_eq!(placement.data, run(1, 15));
    assert_eq!(placement.spare, [0, 16], "one core in sixteen, with its sibling");
    assert!(said(&placement, "eth0") && said(&placement, "One thread of each core") && said(&placement, "stays free"));
    let all = place(&machine, &Wish { siblings: true, ..wish(&[]) }).expect("placed");
    assert_eq!(all.data, [run(1, 15), run(17, 15)].concat());
}

#[test]
fn a_queue_for_each_core_interrupts_that_core() {
    let machine = one_socket().read(None);
    let placement = placed(&machine, &[]);
    let settings = advise(&machine, &placement, None);
    let card = machine.card("eth0").expect("eth0");
    for (i, queue) in card.receive.iter().enumerate() {
        let number = queue.interrupt.as_ref().expect("an interrupt").number;
        let core = (1 + i % 15).to_string();
        let interrupt = setting(&settings, &format!("interrupt.{number}.affinity"));
        assert_eq!((interrupt.current.as_str(), &interrupt.proposed), ("0-31", &core));
        let steering = setting(&settings, &format!("card.eth0.tx-{i}.xps_cpus"));
        assert_eq!(steering.proposed, format!("{:x}", 1_u32 << (1 + i % 15)), "sent by the queue that interrupts the sender");
        assert!(!setting(&settings, &format!("card.eth0.rx-{i}.rps_cpus")).changes(), "the card spreads by itself");
    }
    let queues = setting(&settings, "card.eth0.queues");
    assert_eq!((queues.current.as_str(), queues.proposed.as_str()), ("32", "15"), "32 over 15 is uneven");
    assert!(matches!(&queues.how, How::ByHand(line) if line.contains("ethtool -L eth0 combined 15")));
    let drive = setting(&settings, "drive.nvme0.interrupts");
    assert!(!drive.changes() && drive.reason.contains("kernel ties"));
}

#[test]
fn two_sockets_use_the_node_of_the_card_and_say_so_when_the_drive_disagrees() {
    let machine = two_sockets().read(Some(&served(259, 5)));
    assert_eq!((machine.nodes.len(), machine.controllers.len(), machine.gpus.len()), (2, 8, 4));
    let placement = placed(&machine, &["eth0"]);
    assert_eq!(placement.nodes, [0]);
    assert_eq!(placement.data, run(2, 30), "two of 32 cores are spare");
    assert_eq!(placement.spare, [0, 1, 64, 65]);
    assert!(said(&placement, "card wins"), "{:?}", placement.reasons);
    let agreeing = placed(&two_sockets().read(Some(&served(259, 5))), &["eth2"]);
    assert_eq!((agreeing.data, agreeing.nodes), (run(34, 30), vec![1]));
    assert!(!agreeing.reasons.iter().any(|reason| reason.contains("wins")));
}

#[test]
fn several_cards_share_the_cores_of_their_nodes() {
    let placement = placed(&two_sockets().read(None), &[]);
    // Nobody has a default route: the three fast ports count, the one for administration does not.
    let share = |card: &str| placement.shares.iter().find(|share| share.card == card).map(|share| share.cores.clone());
    assert_eq!(share("eth0"), Some(run(2, 15)));
    assert_eq!(share("eth1"), Some(run(17, 15)));
    assert_eq!(share("eth2"), Some(run(34, 30)));
    assert_eq!(share("mgmt"), None);
    assert_eq!(placement.data, [run(2, 30), run(34, 30)].concat());
    assert_eq!(placement.nodes, [0, 1]);
}

#[test]
fn a_bond_stands_for_its_ports_also_below_a_vlan() {
    let sketch = two_sockets();
    sketch.above("bond0", &["eth0", "eth1"]);
    sketch.above("bond0.7", &["bond0"]);
    sketch.default_route("bond0.7");
    let placement = placed(&sketch.read(None), &[]);
    let cards: Vec<&str> = placement.shares.iter().map(|share| share.card.as_str()).collect();
    assert_eq!((cards, placement.data.clone()), (vec!["eth0", "eth1"], run(2, 30)));
    assert!(said(&placement, "default route through bond0.7"));
}

#[test]
fn a_slow_port_with_the_default_route_is_for_administration() {
    let sketch = two_sockets();
    sketch.default_route("mgmt");
    let placement = placed(&sketch.read(None), &[]);
    assert_eq!(placement.shares.iter().map(|share| share.card.as_str()).collect::<Vec<_>>(), ["eth0", "eth1", "eth2"]);
}

#[test]
fn without_a_card_the_drive_decides_and_then_the_gpu() {
    let here = Wish { clients: Clients::Here, ..Wish::default() };
    let sketch = two_sockets();
    let by_drive = place(&sketch.read(Some(&served(259, 2))), &here).expect("placed");
    assert_eq!((by_drive.nodes, by_drive.shares.len()), (vec![0], 0));
    let by_gpu = place(&sketch.read(None), &here).expect("placed");
    assert_eq!(by_gpu.nodes, [1]);
    assert!(by_gpu.reasons.iter().any(|reason| reason.contains("GPU")));
    // A volume over drives of both nodes: the one where the GPUs are is preferred.
    let volume = "/sys/devices/virtual/block/dm-0";
    sketch.block(volume, (253, 0), "none", 128, 1);
    for rank in [0, 4] {
        sketch.link(&format!("{volume}/slaves/nvme{rank}n1"), &format!("/sys/class/block/nvme{rank}n1"));
    }
    let machine = sketch.read(Some(&served(253, 0)));
    let names: Vec<&str> = machine.drives.iter().map(|drive| drive.name.as_str()).collect();
    assert_eq!(names, ["nvme0n1", "nvme4n1"]);
    let preferred = place(&machine, &here).expect("placed");
    assert_eq!(preferred.nodes, [1]);
    assert!(said(&preferred, "GPUs are there too"));
}

#[test]
fn gpus_are_shown_with_what_shares_their_bridge() {
    let machine = two_sockets().read(None);
    let placement = placed(&machine, &[]);
    let text = Report { machine: &machine, placement: &placement, settings: &[], served: None, outcomes: None }.to_string();
    assert!(text.contains("NVIDIA GPU, 0000:a2:00.0 below pci0000:a0, node 1, with eth2"), "{text}");
}

/// A virtual machine: four CPUs, a card of one queue, a disk; no node, no clock, no NVMe.
fn virtual_machine() -> Sketch {
    let mut sketch = Sketch::new(1, 4, 1);
    sketch.virtio_card("eth0", "pci0000:00/0000:00:03.0", 2, 1);
    sketch.block("/sys/devices/pci0000:00/0000:00:02.0/virtio1/block/vda", (254, 0), "none [mq-deadline] kyber", 256, 1);
    sketch.file("/sys/devices/pci0000:00/0000:00:02.0/virtio1/block/vda/vda1/partition", "1");
    sketch.link("/sys/dev/block/254:1", "/sys/devices/pci0000:00/0000:00:02.0/virtio1/block/vda/vda1");
    sketch.default_route("eth0");
    sketch
}

#[test]
fn a_virtual_machine_uses_all_cores_and_spreads_packets_in_the_kernel() {
    let machine = virtual_machine().read(Some(&served(254, 1)));
    let placement = placed(&machine, &[]);
    assert_eq!((placement.data.clone(), placement.spare.clone()), (run(0, 4), vec![]));
    let settings = advise(&machine, &placement, None);
    assert_eq!(setting(&settings, "card.eth0.rx-0.rps_cpus").proposed, "f");
    assert!(settings.iter().all(|setting| !setting.id.contains("xps")), "one queue leaves no choice");
    let drive = setting(&settings, "drive.vda.scheduler");
    assert_eq!((drive.current.as_str(), drive.proposed.as_str()), ("mq-deadline", "none"));
    let clock = setting(&settings, "cpu.governor");
    assert!(!clock.changes() && clock.current == "none");
}

#[test]
fn fewer_queues_than_cores_interrupt_the_spare_core() {
    let mut sketch = Sketch::new(1, 8, 1);
    sketch.virtio_card("eth0", "pci0000:00/0000:00:03.0", 0, 2);
    let machine = sketch.read(None);
    let placement = placed(&machine, &["eth0"]);
    assert_eq!((placement.data.clone(), placement.spare.clone()), (run(1, 7), vec![0]));
    let settings = advise(&machine, &placement, None);
    let card = machine.card("eth0").expect("eth0");
    for queue in card.receive.iter().chain(&card.transmit) {
        let number = queue.interrupt.as_ref().expect("an interrupt").number;
        assert_eq!(setting(&settings, &format!("interrupt.{number}.affinity")).proposed, "0");
    }
    // CPU 1-3 and 4-7: every data core in one part.
    assert_eq!(setting(&settings, "card.eth0.rx-0.rps_cpus").proposed, "e");
    assert_eq!(setting(&settings, "card.eth0.rx-1.rps_cpus").proposed, "f0");
}

#[test]
fn a_cpuset_and_a_quota_are_kept_to() {
    let sketch = two_sockets();
    sketch.allow("40-43,104-105");
    let placement = placed(&sketch.read(None), &["eth0"]);
    assert_eq!(placement.data, run(40, 4), "the card's node is out of reach");
    assert!(said(&placement, "node 1 only"));
    assert_eq!(placement.spare, [104, 105], "only siblings are left");
    assert!(!placement.spare_is_whole);

    let sketch = one_socket();
    sketch.file("/proc/self/cgroup", "0::/pod/one");
    sketch.file("/sys/fs/cgroup/pod/one/cpu.max", "max 100000");
    sketch.file("/sys/fs/cgroup/pod/cpu.max", "250000 100000");
    let machine = sketch.read(None);
    assert_eq!(machine.quota, Some(3));
    let placement = placed(&machine, &[]);
    assert_eq!(placement.data, run(0, 3));
    assert!(said(&placement, "quota"));
}

#[test]
fn one_core_gives_both_of_its_threads() {
    let placement = placed(&Sketch::new(1, 1, 2).read(None), &[]);
    assert_eq!((placement.data.clone(), placement.spare.clone()), (vec![0, 1], vec![]));
    assert!(said(&placement, "only core"));
    assert!(said(&placement, "No network card"));
}

#[test]
fn an_interface_without_a_card_is_refused_with_a_choice() {
    let sketch = one_socket();
    sketch.above("lo", &[]);
    for name in ["lo", "eth9"] {
        let error = place(&sketch.read(None), &wish(&[name])).expect_err("no card");
        assert!(error.to_string().contains(name) && error.to_string().contains("eth0"), "{error}");
    }
}

/// A card of `queues` queues on a machine of eight cores, each queue's interrupt on one CPU.
fn with_interrupts(queues: usize, cpu_of: impl Fn(usize) -> usize) -> Sketch {
    let mut sketch = Sketch::new(1, 8, 1);
    sketch.card("eth0", "pci0000:00/0000:00:01.1/0000:01:00.0", 0, queues, 100_000);
    sketch.above("bond0", &["eth0"]);
    for (i, queue) in sketch.read(None).card("eth0").expect("eth0").receive.iter().enumerate() {
        let number = queue.interrupt.as_ref().expect("an interrupt").number;
        sketch.file(&format!("/proc/irq/{number}/effective_affinity_list"), &cpu_of(i).to_string());
    }
    sketch
}

#[test]
fn connections_follow_packets_only_where_packets_are_spread_evenly() {
    let indices = |sketch: &Sketch| {
        let machine = sketch.read(None);
        let arrival = arrival(&machine, &placed(&machine, &["eth0"]));
        assert!(!arrival.reason.is_empty());
        arrival.interfaces
    };
    let even = with_interrupts(7, |queue| queue + 1);
    let index = |name: &str| even.text(&format!("/sys/class/net/{name}/ifindex")).parse().expect("a number");
    let mut both: Vec<u32> = vec![index("eth0"), index("bond0")];
    let mut found = indices(&even);
    both.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, both, "packets of a port may carry the bond's number");
    // All on one core: it would accept every connection.
    assert_eq!(indices(&with_interrupts(7, |_| 1)), [0; 0]);
    // One core more than twice as often as others; one that is no data core; fewer queues than cores.
    assert_eq!(indices(&with_interrupts(9, |queue| 1 + queue % 7)), [0; 0]);
    assert_eq!(indices(&with_interrupts(8, |queue| queue)), [0; 0]);
    assert_eq!(indices(&with_interrupts(2, |queue| queue + 1)), [0; 0]);
    // RPS spreads what few queues bring in.
    let steered = with_interrupts(2, |_| 0);
    steered.file("/sys/class/net/eth0/queues/rx-0/rps_cpus", "fe");
    assert_eq!(indices(&steered), [0; 0], "the other queue does not");
    steered.file("/sys/class/net/eth0/queues/rx-1/rps_cpus", "fe");
    assert_eq!(indices(&steered).len(), 2);
    // What moves about cannot be relied on.
    even.file("/proc/321/comm", "irqbalance");
    assert_eq!(indices(&even), [0; 0]);
}

#[test]
fn listed_cores_are_taken_as_they_are() {
    let machine = two_sockets().read(None);
    let placement = place_on(&machine, &wish(&["eth0", "eth2"]), vec![3, 4, 40]).expect("placed");
    assert_eq!((placement.data, placement.nodes, placement.spare), (vec![3, 4, 40], vec![0, 1], vec![]));
    assert_eq!(placement.shares[0].cores, [3, 4]);
    assert_eq!(placement.shares[1].cores, [40]);
}

#[test]
fn settings_of_the_kernel_are_put_right() {
    let sketch = one_socket();
    let directory = served(259, 0);
    let right = advise(&sketch.read(Some(&directory)), &placed(&sketch.read(None), &[]), Some(&directory));
    let ids = ["memory.", "kernel.", "net.", "fs.", "limit.", "directory.", "drive."];
    for setting in right.iter().filter(|setting| ids.iter().any(|id| setting.id.starts_with(id))) {
        assert!(!setting.changes(), "{setting:?}");
    }
    let wrong = [
        ("/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]", "memory.transparent_huge_pages", "madvise"),
        ("/proc/sys/kernel/io_uring_disabled", "2", "kernel.io_uring_disabled", "0"),
        ("/proc/sys/net/core/somaxconn", "128", "net.core.somaxconn", "4096"),
        ("/proc/sys/fs/nr_open", "1024", "fs.nr_open", "307952"),
        ("/sys/block/nvme0n1/queue/scheduler", "none [mq-deadline]", "drive.nvme0n1.scheduler", "none"),
    ];
    for (file, text, _, _) in wrong {
        sketch.file(file, text);
    }
    sketch.limits("1024");
    for cpu in [0, 1] {
        sketch.file(&format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"), "powersave");
        sketch.file(&format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_available_governors"), "performance powersave");
    }
    let machine = sketch.read(Some(&served(259, 0)));
    let settings = advise(&machine, &placed(&machine, &[]), None);
    for (file, _, id, value) in wrong {
        let found = setting(&settings, id);
        assert_eq!((found.proposed.as_str(), &found.how), (value, &How::Write { file: file.into(), text: value.into() }));
    }
    // 512 and 15 cores of 16,384 connections, a fourth of them with a file, and 16 connections beyond.
    assert_eq!(setting(&settings, "limit.open_files").proposed, "307952");
    assert_eq!(setting(&settings, "cpu.1.governor").proposed, "performance");
    assert!(settings.iter().all(|setting| setting.id != "cpu.0.governor"), "CPU 0 is no data core");
}

#[test]
fn what_is_applied_lands_once_and_failures_are_named() {
    let sketch = one_socket();
    sketch.file("/proc/sys/net/core/somaxconn", "128");
    let look = || {
        let machine = sketch.read(Some(&served(259, 0)));
        let placement = placed(&machine, &[]);
        advise(&machine, &placement, None)
    };
    let settings = look();
    let outcomes = apply(&sketch.tree(), &settings);
    for (setting, outcome) in settings.iter().zip(&outcomes) {
        match &setting.how {
            How::Nothing => assert_eq!(*outcome, Outcome::Unchanged, "{}", setting.id),
            How::ByHand(_) => assert_eq!(*outcome, Outcome::ByHand, "{}", setting.id),
            How::Write { file, text } => {
                assert_eq!(*outcome, Outcome::Written, "{}", setting.id);
                assert_eq!(sketch.text(file), *text);
            }
        }
    }
    assert_eq!(sketch.text("/proc/sys/net/core/somaxconn"), "4096");
    assert!(outcomes.iter().filter(|outcome| **outcome == Outcome::Written).count() > 64, "32 interrupts, 32 masks, a sysctl");
    let again = look();
    let left: Vec<&str> =
        again.iter().filter(|setting| matches!(setting.how, How::Write { .. })).map(|one| one.id.as_str()).collect();
    assert_eq!(left, [""; 0], "a second time there is nothing to write");

    // A file that went away in between, and one that cannot be written.
    let gone = Setting::write("a", "0", "1", "", "/proc/sys/no/such".into());
    let folder = Setting::write("b", "0", "1", "", "/proc/sys/net".into());
    let fine = Setting::write("c", "4096", "128", "", "/proc/sys/net/core/somaxconn".into());
    let outcomes = apply(&sketch.tree(), &[gone, folder, fine]);
    assert!(matches!(&outcomes[0], Outcome::Failed(reason) if reason.contains("no such setting")), "{outcomes:?}");
    assert!(
        matches!(&outcomes[1], Outcome::Failed(_)) && outcomes[2] == Outcome::Written,
        "a failure stops nothing: {outcomes:?}"
    );
}

#[test]
fn the_json_says_the_same_as_the_text() {
    let machine = one_socket().read(Some(&served(259, 0)));
    let placement = placed(&machine, &[]);
    let settings = advise(&machine, &placement, None);
    let directory = served(259, 0);
    let report =
        Report { machine: &machine, placement: &placement, served: Some(&directory), settings: &settings, outcomes: None };
    let json: serde_json::Value = serde_json::from_str(&report.json().expect("JSON")).expect("JSON");
    assert_eq!(json["format"], 1);
    assert_eq!(json["placement"]["cores_list"], "1-15");
    assert_eq!(json["placement"]["serve"], "sluice serve /srv/data --cores 1-15");
    assert_eq!(json["machine"]["directory"]["drives"][0]["name"], "nvme0n1");
    let listed = json["settings"].as_array().expect("a list");
    assert_eq!(listed.len(), settings.len());
    let text = report.to_string();
    for one in listed {
        assert!(text.contains(one["id"].as_str().expect("an id")), "{one}");
        assert!(one["reason"].as_str().is_some_and(|reason| reason.ends_with('.')), "one sentence: {one}");
        assert_eq!(one["change"] == true, !one["apply"].is_null(), "{one}");
        assert_eq!(one["change"] == true, one["current"] != one["proposed"], "{one}");
    }
    let nothing = Report { settings: &[], ..report };
    assert!(nothing.to_string().contains("Nothing to change."));
}
