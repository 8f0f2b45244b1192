//! What was found and what is proposed, for programs: one JSON document.
//!
//! It keeps its shape: `format` counts up when a field changes its meaning or goes away. Fields may be added.

use std::path::Path;

use serde::Serialize;

use super::apply::Outcome;
use super::disk::Served;
use super::machine::{Card, Drive, Machine, Seat};
use super::report::Report;
use super::setting::{How, Setting};
use crate::base::cpus;

const FORMAT: u32 = 1;

impl Report<'_> {
    /// The report as one JSON document.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(&self.document())
    }

    fn document(&self) -> Document<'_> {
        let (machine, placement) = (self.machine, self.placement);
        let settings = self.settings.iter().enumerate();
        Document {
            format: FORMAT,
            machine: machine_document(machine, self.served),
            placement: PlacementDocument {
                cores: &placement.data,
                cores_list: cpus::list(&placement.data),
                spare: &placement.spare,
                nodes: &placement.nodes,
                cards: placement.shares.iter().map(|share| ShareDocument { card: &share.card, cores: &share.cores }).collect(),
                reasons: &placement.reasons,
                serve: self.serve_line(),
            },
            settings: settings.map(|(i, setting)| setting_document(setting, self.outcomes.and_then(|all| all.get(i)))).collect(),
        }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    format: u32,
    machine: MachineDocument<'a>,
    placement: PlacementDocument<'a>,
    settings: Vec<SettingDocument<'a>>,
}

#[derive(Serialize)]
struct MachineDocument<'a> {
    cpus: Vec<usize>,
    allowed: &'a [usize],
    quota: Option<usize>,
    physical_cores: usize,
    nodes: Vec<NodeDocument>,
    cards: Vec<CardDocument<'a>>,
    nvme: Vec<NvmeDocument<'a>>,
    gpus: Vec<GpuDocument<'a>>,
    directory: Option<DirectoryDocument<'a>>,
}

#[derive(Serialize)]
struct NodeDocument {
    node: usize,
    cpus: Vec<usize>,
}

#[derive(Serialize)]
struct SeatDocument<'a> {
    node: Option<usize>,
    address: Option<&'a str>,
    bridge: Option<&'a str>,
    port: Option<&'a str>,
}

#[derive(Serialize)]
struct CardDocument<'a> {
    name: &'a str,
    driver: Option<&'a str>,
    seat: SeatDocument<'a>,
    is_up: bool,
    speed_mbps: Option<u32>,
    receive_queues: usize,
    transmit_queues: usize,
}

#[derive(Serialize)]
struct NvmeDocument<'a> {
    name: &'a str,
    model: Option<&'a str>,
    seat: SeatDocument<'a>,
    queues: usize,
}

#[derive(Serialize)]
struct GpuDocument<'a> {
    vendor: &'a str,
    seat: SeatDocument<'a>,
}

#[derive(Serialize)]
struct DirectoryDocument<'a> {
    path: &'a Path,
    filesystem: &'a str,
    source: &'a str,
    shared_barrier: bool,
    direct_alignment: Option<u32>,
    drives: Vec<DriveDocument<'a>>,
}

#[derive(Serialize)]
struct DriveDocument<'a> {
    name: &'a str,
    seats: Vec<SeatDocument<'a>>,
    scheduler: Option<&'a str>,
    requests: Option<u64>,
    queues: usize,
}

#[derive(Serialize)]
struct PlacementDocument<'a> {
    cores: &'a [usize],
    cores_list: String,
    spare: &'a [usize],
    nodes: &'a [usize],
    cards: Vec<ShareDocument<'a>>,
    reasons: &'a [String],
    serve: String,
}

#[derive(Serialize)]
struct ShareDocument<'a> {
    card: &'a str,
    cores: &'a [usize],
}

#[derive(Serialize)]
struct SettingDocument<'a> {
    id: &'a str,
    about: &'a str,
    current: &'a str,
    proposed: &'a str,
    change: bool,
    reason: &'a str,
    apply: Option<ApplyDocument<'a>>,
    outcome: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum ApplyDocument<'a> {
    Write { file: &'a str, text: &'a str },
    ByHand(&'a str),
}

fn seat_document(seat: &Seat) -> SeatDocument<'_> {
    SeatDocument { node: seat.node, address: seat.address.as_deref(), bridge: seat.bridge.as_deref(), port: seat.port.as_deref() }
}

fn card_document(card: &Card) -> CardDocument<'_> {
    CardDocument {
        name: &card.name,
        driver: card.driver.as_deref(),
        seat: seat_document(&card.seat),
        is_up: card.is_up,
        speed_mbps: card.speed_mbps,
        receive_queues: card.receive.len(),
        transmit_queues: card.transmit.len(),
    }
}

fn machine_document<'a>(machine: &'a Machine, served: Option<&'a Served>) -> MachineDocument<'a> {
    let node = |node: &usize| NodeDocument {
        node: *node,
        cpus: machine.cpus.iter().filter(|cpu| cpu.node == *node).map(|cpu| cpu.id).collect(),
    };
    MachineDocument {
        cpus: machine.cpus.iter().map(|cpu| cpu.id).collect(),
        allowed: &machine.allowed,
        quota: machine.quota,
        physical_cores: machine.physical_cores(),
        nodes: machine.nodes.iter().map(node).collect(),
        cards: machine.cards.iter().map(card_document).collect(),
        nvme: machine
            .controllers
            .iter()
            .map(|one| NvmeDocument {
                name: &one.name,
                model: one.model.as_deref(),
                seat: seat_document(&one.seat),
                queues: one.interrupts.len(),
            })
            .collect(),
        gpus: machine.gpus.iter().map(|gpu| GpuDocument { vendor: gpu.vendor, seat: seat_document(&gpu.seat) }).collect(),
        directory: served.map(|served| directory_document(served, &machine.drives)),
    }
}

fn directory_document<'a>(served: &'a Served, drives: &'a [Drive]) -> DirectoryDocument<'a> {
    let drives = drives.iter().map(|drive| DriveDocument {
        name: &drive.name,
        seats: drive.seats.iter().map(seat_document).collect(),
        scheduler: drive.scheduler.as_ref().map(|(now, _)| now.as_str()),
        requests: drive.requests,
        queues: drive.queues,
    });
    DirectoryDocument {
        path: &served.path,
        filesystem: &served.mount.filesystem,
        source: &served.mount.source,
        shared_barrier: served.shared_barrier,
        direct_alignment: served.direct_alignment,
        drives: drives.collect(),
    }
}

fn setting_document<'a>(setting: &'a Setting, outcome: Option<&Outcome>) -> SettingDocument<'a> {
    SettingDocument {
        id: &setting.id,
        about: &setting.about,
        current: &setting.current,
        proposed: &setting.proposed,
        change: setting.changes(),
        reason: &setting.reason,
        apply: match &setting.how {
            How::Nothing => None,
            How::Write { file, text } => Some(ApplyDocument::Write { file, text }),
            How::ByHand(line) => Some(ApplyDocument::ByHand(line)),
        },
        outcome: outcome.map(ToString::to_string),
    }
}
