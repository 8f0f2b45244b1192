//! Every family of metrics: its name, its help, where its numbers come from. README's "Watching it" says how to use them.

use super::Sources;
use super::text::{Label, Page};
use crate::limits::BLOCK_SIZE;
use crate::metrics::record::{self, AtLimit, CoreCells, Counter, ErrorClass, Opened, ReadFrom, RingOperation, Work};
use crate::s3::ask::operation::Counted;
use crate::sys::usage;

/// All of them, as they are now.
pub(super) fn render(sources: &Sources) -> String {
    let mut page = Page::default();
    requests(&mut page, sources);
    traffic(&mut page, sources);
    connections(&mut page, sources);
    threads(&mut page, sources);
    ring_and_helpers(&mut page, sources);
    blocks_and_lanes(&mut page, sources);
    reads(&mut page, sources);
    request_memory(&mut page, sources);
    durability(&mut page, sources);
    configured(&mut page, sources);
    process(&mut page);
    page.finish()
}

/// Operations that a core has never seen have no samples: 26 of them with 100 buckets each would be most of the page.
fn requests(page: &mut Page, sources: &Sources) {
    let each = |name: &str, write: &mut dyn FnMut(&str, &[Label<'_>], &record::OperationCells)| {
        for (cpu, cells) in &sources.cores {
            for (operation, label) in cells.operations.iter().zip(Counted::NAMES) {
                if operation.whole.count() > 0 {
                    write(name, &[("core", cpu), ("operation", label)], operation);
                }
            }
        }
    };
    page.counter("sluice_requests_total", "Requests answered.");
    each("sluice_requests_total", &mut |name, labels, cells| page.sample(name, labels, cells.whole.count()));
    page.counter("sluice_request_errors_total", "Requests answered with an error, by its kind, or not answered whole (cut_off).");
    each("sluice_request_errors_total", &mut |name, labels, cells| {
        for (class, count) in ErrorClass::NAMES.iter().zip(&cells.errors).filter(|(_, count)| count.get() > 0) {
            page.sample(name, &[labels, &[("class", class)]].concat(), count.get());
        }
    });
    page.histogram("sluice_request_first_byte_seconds", "From the first byte of a request to the first of its answer.");
    each("sluice_request_first_byte_seconds", &mut |name, labels, cells| page.latency(name, labels, &cells.first_byte));
    page.histogram("sluice_request_seconds", "From the first byte of a request to the last of its answer, its body included.");
    each("sluice_request_seconds", &mut |name, labels, cells| page.latency(name, labels, &cells.whole));
}

fn traffic(page: &mut Page, sources: &Sources) {
    let about = "Bytes of requests received, heads and framing included, TLS taken off.";
    per_core(page, sources, "sluice_received_bytes_total", about, |cells| &cells.bytes_received);
    let about = "Bytes of answers handed to the kernel, heads included, before TLS.";
    per_core(page, sources, "sluice_sent_bytes_total", about, |cells| &cells.bytes_sent);
}

fn connections(page: &mut Page, sources: &Sources) {
    page.gauge("sluice_connections_open", "Connections open now, idle ones included.");
    for (cpu, cells) in &sources.cores {
        page.sample("sluice_connections_open", &[("core", cpu)], cells.connections_open.get());
    }
    per_core(page, sources, "sluice_connections_accepted_total", "Connections accepted.", |cells| &cells.connections_accepted);
    let about = "Connections that ended without a TLS handshake.";
    per_core(page, sources, "sluice_connections_refused_total", about, |cells| &cells.connections_refused);
    let about = "What was done at --connections-per-core-max: an idle connection closed for a newcomer, a request put off, health answered.";
    labelled(page, sources, ("sluice_at_limit_total", about), ("outcome", AtLimit::NAMES), |cells| &cells.at_limit);
    let about = "Pauses of 50 ms without accepting: the process had no descriptors.";
    per_core(page, sources, "sluice_accept_pauses_total", about, |cells| &cells.accept_pauses);
}

/// What the kernel knows of the cores' threads: it costs them nothing.
fn threads(page: &mut Page, sources: &Sources) {
    let threads: Vec<_> = sources.cores.iter().map(|(cpu, cells)| (cpu, usage::of_thread(cells.thread.get() as u32))).collect();
    let found = || threads.iter().filter_map(|(cpu, thread)| Some((*cpu, thread.as_ref()?)));
    page.counter("sluice_core_busy_seconds_total", "Time that the core's thread ran. Its rate is the busy share of the core.");
    for (cpu, thread) in found() {
        page.seconds("sluice_core_busy_seconds_total", &[("core", cpu)], thread.busy);
    }
    page.counter("sluice_core_runnable_seconds_total", "Time that the core's thread could have run while another had its CPU.");
    for (cpu, waited) in found().filter_map(|(cpu, thread)| Some((cpu, thread.waited?))) {
        page.seconds("sluice_core_runnable_seconds_total", &[("core", cpu)], waited);
    }
    let about = "Times that the core's thread slept, which it does in io_uring_enter with nothing to do.";
    page.counter("sluice_core_sleeps_total", about);
    for (cpu, thread) in found() {
        page.sample("sluice_core_sleeps_total", &[("core", cpu)], thread.sleeps);
    }
    page.counter("sluice_core_preemptions_total", "Times that another thread took the CPU from the core's.");
    for (cpu, thread) in found() {
        page.sample("sluice_core_preemptions_total", &[("core", cpu)], thread.preemptions);
    }
}

fn ring_and_helpers(page: &mut Page, sources: &Sources) {
    let about = "Operations put on the core's ring. A poll waits until a socket is ready.";
    let kinds = ("operation", RingOperation::NAMES);
    labelled(page, sources, ("sluice_ring_operations_total", about), kinds, |cells| &cells.ring_begun);
    let about = "Operations on the core's ring now: its depth. Each idle connection is a poll.";
    page.gauge("sluice_ring_operations_in_flight", about);
    for (cpu, cells) in &sources.cores {
        for (index, kind) in RingOperation::NAMES.iter().enumerate() {
            // What has ended is read first, so that nothing ends before it began.
            let ended = cells.ring_ended[index].get();
            let in_flight = cells.ring_begun[index].get().saturating_sub(ended);
            page.sample("sluice_ring_operations_in_flight", &[("core", cpu), ("operation", kind)], in_flight);
        }
    }
    let queues = |cells: &'static CoreCells| Work::NAMES.iter().zip(&cells.helpers);
    page.gauge("sluice_helper_queue", "Work that waits for a helper thread of the core.");
    for (cpu, cells) in &sources.cores {
        for (work, queue) in queues(cells) {
            page.sample("sluice_helper_queue", &[("core", cpu), ("work", work)], queue.waiting.get());
        }
    }
    page.counter("sluice_helper_work_total", "Work given to the helper threads of the core: what blocks, such as commits.");
    for (cpu, cells) in &sources.cores {
        for (work, queue) in queues(cells) {
            page.sample("sluice_helper_work_total", &[("core", cpu), ("work", work)], queue.queued.get());
        }
    }
}

fn blocks_and_lanes(page: &mut Page, sources: &Sources) {
    page.gauge("sluice_block_bytes", "Size of a block.");
    page.sample("sluice_block_bytes", &[], BLOCK_SIZE);
    page.gauge("sluice_blocks", "Blocks of the core's arena.");
    for (cpu, cells) in &sources.cores {
        page.sample("sluice_blocks", &[("core", cpu)], cells.blocks.get());
    }
    page.gauge("sluice_blocks_in_use", "Blocks that transfers hold now.");
    for (cpu, cells) in &sources.cores {
        page.sample("sluice_blocks_in_use", &[("core", cpu)], cells.blocks_in_use.get());
    }
    let about = "Transfers that had to wait for their first block: --buffer-memory is small for this load.";
    per_core(page, sources, "sluice_block_waits_total", about, |cells| &cells.block_waits);
    let about = "MD5 streams advanced side by side in one step: how full the lanes are. Small objects, hashed together when they are committed, are not counted.";
    page.histogram("sluice_md5_step_streams", about);
    for (cpu, cells) in &sources.cores {
        page.sizes("sluice_md5_step_streams", &[("core", cpu)], &cells.md5_streams);
    }
}

fn reads(page: &mut Page, sources: &Sources) {
    let about = "Objects opened: at once from cached directories and inodes, or by a helper.";
    labelled(page, sources, ("sluice_opens_total", about), ("how", Opened::NAMES), |cells| &cells.opens);
    let about = "Bytes of objects read to be sent: from the page cache, from the disk past it, or buffered by a helper.";
    labelled(page, sources, ("sluice_read_bytes_total", about), ("from", ReadFrom::NAMES), |cells| &cells.bytes_read);
    let about = "Objects whose bytes were not those that were stored: the disk, the memory or somebody's hand.";
    per_core(page, sources, "sluice_corrupt_objects_total", about, |cells| &cells.corrupt);
    let snapshots = sources.settings.volume.snapshot_use();
    page.counter(
        "sluice_listing_snapshots_total",
        "Directories that listings needed in order: from the cache, or read and sorted.",
    );
    page.sample("sluice_listing_snapshots_total", &[("from", &"cache")], snapshots.hits);
    page.sample("sluice_listing_snapshots_total", &[("from", &"directory")], snapshots.builds);
    page.gauge("sluice_listing_snapshot_bytes", "Memory of the cached directories.");
    page.sample("sluice_listing_snapshot_bytes", &[], snapshots.size);
}

fn request_memory(page: &mut Page, sources: &Sources) {
    let memory = &sources.settings.memory;
    let (waits, refusals) = memory.waits_and_refusals();
    page.gauge(
        "sluice_request_memory_bytes",
        "What requests and cached directories may hold: --request-memory without what is fixed.",
    );
    page.sample("sluice_request_memory_bytes", &[], memory.size());
    page.gauge("sluice_request_memory_in_use_bytes", "What of it is held, or kept by a core for its next requests.");
    page.sample("sluice_request_memory_in_use_bytes", &[], memory.size() - memory.free());
    page.counter(
        "sluice_request_memory_waits_total",
        "Requests that had to wait for memory: --request-memory is small for this load.",
    );
    page.sample("sluice_request_memory_waits_total", &[], waits);
    page.counter("sluice_request_memory_refusals_total", "Requests that were refused (SlowDown) because none came free.");
    page.sample("sluice_request_memory_refusals_total", &[], refusals);
}

fn durability(page: &mut Page, sources: &Sources) {
    let volume = &sources.settings.volume;
    page.gauge("sluice_durability_info", "Always 1; the mode that was asked for, and what it means on this filesystem.");
    let labels: [Label<'_>; 3] = [
        ("mode", &sources.durability.as_str()),
        ("way", &volume.disk().facts().durability),
        ("filesystem", &volume.disk().facts().filesystem),
    ];
    page.sample("sluice_durability_info", &labels, 1);
    page.gauge("sluice_takes_changes", "1, or 0 after a failed fsync: reads go on, nothing is acknowledged any more.");
    page.sample("sluice_takes_changes", &[], u8::from(volume.disk().takes_changes()));
    let barrier = volume.disk().barrier().cells();
    page.histogram("sluice_barrier_changes", "Changes that one barrier made durable: the size of its batch.");
    page.sizes("sluice_barrier_changes", &[], &barrier.batch);
    page.histogram("sluice_barrier_sync_seconds", "How long the filesystem took for one barrier.");
    page.latency("sluice_barrier_sync_seconds", &[], &barrier.sync);
    page.histogram("sluice_barrier_wait_seconds", "How long a change waited for its barrier after it was made.");
    for (cpu, cells) in &sources.cores {
        page.latency("sluice_barrier_wait_seconds", &[("core", cpu)], &cells.barrier_wait);
    }
}

fn configured(page: &mut Page, sources: &Sources) {
    let live = sources.settings.live.reader().snapshot();
    page.gauge("sluice_damaged_buckets", "Buckets of which nobody knows what they are set to: the log names them.");
    page.sample("sluice_damaged_buckets", &[], live.catalog.damaged_count());
}

fn process(page: &mut Page) {
    page.counter("sluice_panics_total", "Panics caught. Each is a bug, and has a line in the log.");
    page.sample("sluice_panics_total", &[], record::panics());
    page.gauge("sluice_build_info", "Always 1; what is running.");
    let labels: [Label<'_>; 2] = [("version", &env!("CARGO_PKG_VERSION")), ("commit", &env!("BUILD_COMMIT"))];
    page.sample("sluice_build_info", &labels, 1);
    // The names that Prometheus' client libraries use.
    let Some(process) = usage::of_process() else { return };
    page.counter("process_cpu_seconds_total", "CPU time of all threads.");
    page.seconds("process_cpu_seconds_total", &[], process.busy);
    page.gauge("process_resident_memory_bytes", "Resident memory.");
    page.sample("process_resident_memory_bytes", &[], process.resident_bytes);
    page.gauge("process_open_fds", "Open descriptors.");
    page.sample("process_open_fds", &[], process.descriptors);
}

/// A counter of every core.
fn per_core(page: &mut Page, sources: &Sources, name: &str, help: &str, of: impl Fn(&'static CoreCells) -> &'static Counter) {
    page.counter(name, help);
    for (cpu, cells) in &sources.cores {
        page.sample(name, &[("core", cpu)], of(cells).get());
    }
}

/// Counters of every core, one for each value of a label.
fn labelled<const N: usize>(
    page: &mut Page,
    sources: &Sources,
    (name, help): (&str, &str),
    (label, values): (&str, &[&str]),
    of: impl Fn(&'static CoreCells) -> &'static [Counter; N],
) {
    page.counter(name, help);
    for (cpu, cells) in &sources.cores {
        for (value, count) in values.iter().zip(of(cells)) {
            page.sample(name, &[("core", cpu), (label, value)], count.get());
        }
    }
}
