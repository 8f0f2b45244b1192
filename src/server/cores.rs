//! The volume and the data cores: started, drained and reloaded.

use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::banner::DirectIo;
use super::boot::{self, Boot};
use super::fatal::Fatal;
use super::root_keys::RootKeys;
use super::{CoreLife, Event};
use crate::auth::RootCredentials;
use crate::base::principal::Account;
use crate::base::published::Published;
use crate::catalog::Catalog;
use crate::config::{Config, Scheme};
use crate::control::{Control, Unable, Work};
use crate::documents::Documents;
use crate::io::{self, Helpers, Listener};
use crate::limits::{ARENA_LOOK_INTERVAL, DRAIN_POLL, LISTEN_BACKLOG, RECENT_SHARE, REQUEST_MEMORY_FIXED, ROOM_LOOK_INTERVAL};
use crate::mem::{Arena, RequestMemory, Room};
use crate::metrics::export::Sources;
use crate::metrics::record::{self, CoreCells};
use crate::net::{self, CertificateError, Listening, Timeouts, TlsSettings, Watchers};
use crate::s3::service::{self, Core, Live, Settings};
use crate::store::disk::{Lookout, Sweeper};
use crate::store::volume;
use crate::sys;

/// The served filesystem, probed.
pub struct Volume {
    pub direct: DirectIo,
    /// Things in `.sluice/aside`.
    pub kept_aside: usize,
    /// What it cannot do, each with the way that is taken instead.
    pub costs: Vec<String>,
    /// What its times tell, in words.
    pub times: String,
    store: volume::Volume,
    memory: Arc<RequestMemory>,
}

/// Opens the served directory and finds out what its filesystem can do.
pub fn open_volume(boot: &Boot) -> Result<Volume, Fatal> {
    let config = &boot.config;
    // The directory that was locked, whatever stands at its path by now.
    let root = boot.directory.try_clone().map_err(|error| Fatal::System {
        doing: "opening the served directory",
        errno: rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO),
    })?;
    // The least that is taken leaves some (`limits`).
    let leased = config.request_memory.saturating_sub(REQUEST_MEMORY_FIXED as u64);
    let memory = RequestMemory::new(usize::try_from(leased).unwrap_or(usize::MAX / 2));
    let opened = volume::Volume::serve(root, config.directory.as_os_str().as_bytes(), config.durability, memory.clone());
    let store = opened.map_err(|error| Fatal::Volume { path: config.directory.clone(), reason: error.advice() })?;
    let (disk, facts) = (store.disk(), store.disk().facts());
    let direct = match (facts.direct, disk.untried()) {
        (Some(align), _) => DirectIo::On { alignment: align.offset },
        (None, Some(errno)) => DirectIo::Off { reason: format!("it could not be tried ({errno})") },
        (None, None) => {
            DirectIo::Off { reason: format!("{} refuses O_DIRECT; objects go through the page cache", facts.filesystem) }
        }
    };
    let costs = match disk.untried() {
        Some(errno) => vec![format!(
            "NOTHING CAN BE WRITTEN ({errno}): reads and deletes are served; uploads are refused, and taken as soon as there is room"
        )],
        None => facts.costs().into_iter().map(str::to_owned).collect(),
    };
    tracing::info!(durability = facts.durability, filesystem = facts.filesystem, "volume opened");
    Ok(Volume { direct, kept_aside: store.kept_aside(), costs, times: facts.grain.in_words(), store, memory })
}

/// The running data cores.
pub struct Cores {
    settings: Arc<Settings>,
    account: Arc<Account>,
    stop: Arc<AtomicBool>,
    tls: Option<Arc<TlsSettings>>,
    timeouts: Arc<ArcSwap<Timeouts>>,
    cells: Vec<(usize, &'static CoreCells)>,
    control: Control,
    _sweeper: Sweeper,
    _lookout: Lookout,
}

/// What one core's thread starts with.
struct Start {
    cpu: usize,
    config: Arc<Config>,
    settings: Arc<Settings>,
    stop: Arc<AtomicBool>,
    arena_size: usize,
    listeners: Vec<socket2::Socket>,
    seed: u64,
    cells: &'static CoreCells,
    tls: Option<Arc<TlsSettings>>,
    timeouts: Arc<ArcSwap<Timeouts>>,
    cores: usize,
}

impl Cores {
    /// One pinned thread per CPU, each with its own ring, arena, helpers, and listeners on all addresses. Returns when all of
    /// them accept.
    pub fn start(boot: &Boot, volume: Volume, events: &Sender<Event>) -> Result<Self, Fatal> {
        let (config, cpus) = (&boot.config, &boot.placement.data);
        let store = Arc::new(volume.store);
        let live = Published::new(live(config, &boot.root, &boot.account, Arc::default()));
        // Before anybody is served: a request sees what is configured.
        let control = start_control(boot, &store, &live, events)?;
        let settings = Arc::new(Settings {
            volume: store,
            memory: volume.memory,
            region: config.region.clone(),
            read_mode: config.read_mode,
            live,
            orders: control.orders().clone(),
            is_draining: AtomicBool::new(false),
        });
        let stop = Arc::new(AtomicBool::new(false));
        let tls = match config.tls.as_slice() {
            [] => None,
            files => Some(Arc::new(TlsSettings::load(files).map_err(certificate)?)),
        };
        let timeouts = Arc::new(ArcSwap::from_pointee(timeouts(config)));
        let arena_size = usize::try_from(config.buffer_memory).unwrap_or(usize::MAX) / cpus.len();
        let cells: Vec<_> = cpus.iter().map(|&cpu| (cpu, CoreCells::leak())).collect();
        let (ready, started) = mpsc::channel();
        for &(cpu, cells) in &cells {
            let failed = |error: std::io::Error| Fatal::CoreStart { core: cpu, reason: error.to_string() };
            let listeners = listeners(config).map_err(failed)?;
            if Some(&cpu) == cpus.last() {
                follow_packets(boot, &listeners);
            }
            let seed = getrandom::u64().map_err(|error| failed(std::io::Error::other(error.to_string())))?;
            let start = Start {
                cpu,
                config: config.clone(),
                settings: settings.clone(),
                stop: stop.clone(),
                arena_size,
                listeners,
                seed,
                cells,
                tls: tls.clone(),
                timeouts: timeouts.clone(),
                cores: cpus.len(),
            };
            let (life, ready) = (CoreLife::new(cpu, events.clone()), ready.clone());
            let thread = std::thread::Builder::new().name(format!("core-{cpu}"));
            let failed = |error: std::io::Error| Fatal::CoreStart { core: cpu, reason: with_remedy(&error) };
            thread.spawn(move || run_core(start, life, &ready)).map_err(failed)?;
        }
        drop(ready);
        for _ in cpus {
            match started.recv() {
                Ok(Ok(())) => {}
                Ok(Err((core, reason))) => return Err(Fatal::CoreStart { core, reason }),
                Err(_) => return Err(Fatal::CoreStart { core: cpus[0], reason: "its thread ended".into() }),
            }
        }
        let (volume, disk) = (settings.volume.clone(), settings.volume.disk().clone());
        let sweeper = Sweeper::start(disk.clone());
        let sweeper = sweeper.map_err(|error| Fatal::CoreStart { core: cpus[0], reason: error.to_string() })?;
        let lookout = Lookout::start(&disk, move || volume.look());
        let lookout = lookout.map_err(|error| Fatal::CoreStart { core: cpus[0], reason: error.to_string() })?;
        let account = boot.account.clone();
        Ok(Self { settings, account, stop, tls, timeouts, cells, control, _sweeper: sweeper, _lookout: lookout })
    }

    /// How many cores will report that they are drained, or lost.
    pub fn count(&self) -> usize {
        self.cells.len()
    }

    /// What metrics are made of.
    pub fn sources(&self, config: &Config) -> Sources {
        Sources { cores: self.cells.clone(), settings: self.settings.clone(), durability: config.durability }
    }

    /// Tells all cores to accept no more and to finish what is in flight.
    pub fn drain(&self) {
        self.settings.is_draining.store(true, Ordering::Relaxed);
        self.stop.store(true, Ordering::Release);
    }

    /// Hands all cores a new configuration and the root keys as they are now. An error leaves them with what they had.
    pub fn reload(&self, config: &Arc<Config>, root: &RootKeys) -> Result<(), Fatal> {
        if let Some(tls) = &self.tls {
            // Loaded whole before any of it is published; running connections keep what they shook hands with.
            tls.reload(&config.tls).map_err(certificate)?;
        }
        self.timeouts.store(Arc::new(timeouts(config)));
        self.settings.live.change(|now| live(config, root, &self.account, now.catalog.clone()));
        Ok(())
    }

    /// Ends the thread that changes what is configured: no core serves any more.
    pub fn end_control(self) {
        if !self.control.end() {
            tracing::warn!("a change of the configuration hangs in a filesystem, and is cut off");
        }
    }
}

/// The thread that changes what is configured, which has published it.
fn start_control(
    boot: &Boot,
    store: &Arc<volume::Volume>,
    live: &Arc<Published<Live>>,
    events: &Sender<Event>,
) -> Result<Control, Fatal> {
    let documents = Documents::new(&boot.config.config_dir);
    let work = Work { volume: store.clone(), documents, cluster: boot.cluster.clone() };
    let (live, events) = (live.clone(), events.clone());
    let publish = move |catalog: Arc<Catalog>| live.change(|now| Live { catalog, ..now.clone() });
    // Nobody listens any more when the process is on its way out.
    let lost = move || _ = events.send(Event::ControlLost);
    Control::start(work, publish, lost).map_err(|unable| match unable {
        Unable::Read(reason) => Fatal::Settings { path: boot.config.config_dir.clone(), reason },
        Unable::Thread(error) => Fatal::System {
            doing: "starting the thread that changes the configuration",
            errno: rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO),
        },
    })
}

fn live(config: &Config, root: &RootKeys, account: &Arc<Account>, catalog: Arc<Catalog>) -> Live {
    let RootKeys { credentials, .. } = root;
    let credentials = RootCredentials::new(credentials.access_key.clone(), credentials.secret.clone(), account.clone());
    Live {
        credentials: Arc::new(credentials),
        catalog,
        domains: config.domains.clone(),
        allow_sigv2: config.allow_sigv2,
        list_unreadable: config.list_unreadable,
        verify_reads: config.verify_reads,
        log_requests: config.log_requests,
        put_size_max: config.put_size_max,
        xml_size_max: usize::try_from(config.xml_size_max).unwrap_or(usize::MAX),
    }
}

fn timeouts(config: &Config) -> Timeouts {
    Timeouts {
        head: config.head_timeout,
        idle: config.idle_timeout,
        body_stall: config.body_stall_timeout,
        total: config.total_timeout,
        rate_min: config.minimum_rate,
    }
}

fn certificate(error: CertificateError) -> Fatal {
    Fatal::Certificate { reason: error.advice() }
}

fn listeners(config: &Config) -> std::io::Result<Vec<socket2::Socket>> {
    let listen = |address| {
        let socket = boot::bind_shared(address)?;
        socket.set_nonblocking(true)?;
        socket.listen(LISTEN_BACKLOG)?;
        Ok(socket)
    };
    config.listen.iter().map(|one| listen(one.address)).collect()
}

/// Connections are accepted where their packets arrive, if that is known to spread them. A refusal costs speed only.
fn follow_packets(boot: &Boot, listeners: &[socket2::Socket]) {
    if boot.arrival.interfaces.is_empty() {
        return;
    }
    // The last core's sockets: by now the group of each address has those of all cores, in the order of the CPUs.
    for listener in listeners {
        if let Err(errno) = sys::reuseport::follow_packets(listener, &boot.arrival.interfaces, &boot.placement.data) {
            tracing::warn!(%errno, "connections are spread by hash: the kernel refused the program that lets them follow their packets");
        }
    }
}

type Ready = Sender<Result<(), (usize, String)>>;

/// One core's life, on its own thread.
fn run_core(start: Start, life: CoreLife, ready: &Ready) {
    let cpu = start.cpu;
    let refuse = |reason: String| {
        let _ = ready.send(Err((cpu, reason)));
    };
    record::start_core(start.cells, sys::cpu::thread_id());
    if let Err(errno) = sys::cpu::pin(cpu) {
        return refuse(format!("pinning the thread: {errno}"));
    }
    let on_start = move || {
        // The helpers share their core's CPU: what they touch is warm there, and other cores are left alone.
        let _ = sys::cpu::pin(cpu);
    };
    let helpers = Helpers::start(usize::MAX, on_start);
    let (helpers, arena) = match (helpers, Arena::new(start.arena_size)) {
        (Ok(helpers), Ok(arena)) => (helpers, arena),
        (Err(error), _) | (_, Err(error)) => return refuse(with_remedy(&error)),
    };
    helpers.record_in(&start.cells.helpers);
    if let Err(error) = io::run_core(helpers, || serve(start, arena, ready)) {
        return refuse(with_remedy(&error));
    }
    life.drained();
}

/// pthread_create(3) has one error for every limit that it meets, mmap(2) another.
fn with_remedy(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => {
            format!("{error}: raise the limits of threads (ulimit -u, TasksMax=, pids.max) and of memory (ulimit -v, ulimit -d)")
        }
        Some(libc::ENOMEM) => {
            format!("{error}: raise the limits of memory (ulimit -v, ulimit -d, memory.max), or lower --buffer-memory")
        }
        _ => error.to_string(),
    }
}

/// Gives memory back that transfers of an earlier moment needed, for as long as the core runs.
async fn release_idle_memory(arena: Arena) {
    loop {
        io::sleep(ARENA_LOOK_INTERVAL).await;
        arena.release_idle();
    }
}

/// Has those look again that wait for room, for as long as the core runs: other cores tell nobody here what they gave back.
async fn look_for_room(room: Room) {
    loop {
        io::sleep(ROOM_LOOK_INTERVAL).await;
        room.look_again();
    }
}

/// The core's tasks: listeners, the sweep of deadlines, and the wait for the end.
async fn serve(start: Start, arena: Arena, ready: &Ready) {
    let Start { cpu, config, settings, stop, listeners, seed, tls, timeouts, cores, .. } = start;
    io::spawn(release_idle_memory(arena.clone()));
    let room = Room::new(settings.memory.clone(), cores);
    io::spawn(look_for_room(room.clone()));
    let core = Rc::new(Core::new(settings, arena, room.clone(), seed, config.connections_per_core_max / RECENT_SHARE));
    io::spawn(core.clone().forget_recent());
    let service = Rc::new(async move |exchange: &mut net::Exchange| service::serve_exchange(&core, exchange).await);
    let watchers = Watchers::new(config.connections_per_core_max);
    let mut sockets = Vec::new();
    for (socket, listen) in listeners.into_iter().zip(&config.listen) {
        let tls = tls.clone().filter(|_| listen.scheme == Scheme::Https);
        let shutdown = socket.try_clone();
        match (Listener::new(socket.into()), shutdown) {
            (Ok(listener), Ok(shutdown)) => {
                let listening = Listening { listener, tls, room: room.clone() };
                io::spawn(net::serve(listening, watchers.clone(), timeouts.clone(), service.clone()));
                sockets.push(shutdown);
            }
            (Err(error), _) | (_, Err(error)) => {
                let _ = ready.send(Err((cpu, error.to_string())));
                return;
            }
        }
    }
    io::spawn(watchers.clone().sweep());
    let _ = ready.send(Ok(()));
    while !stop.load(Ordering::Acquire) {
        io::sleep(DRAIN_POLL).await;
    }
    drain(&watchers, sockets).await;
}

/// Connections that wait in the queue are still served; then the listeners close, idle connections end, busy ones finish.
async fn drain(watchers: &Watchers, sockets: Vec<socket2::Socket>) {
    // One more turn of the accept loops empties the queue that a closed listener would reset.
    io::sleep(Duration::from_millis(1)).await;
    for socket in sockets {
        let _ = socket.shutdown(std::net::Shutdown::Both);
    }
    loop {
        watchers.drain();
        if watchers.count() == 0 {
            return;
        }
        io::sleep(DRAIN_POLL).await;
    }
}
