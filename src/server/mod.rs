//! How is it put together, and how does it end? Boot checks, volume, cores, start message, signals, drain.
//!
//! May import every room below. This thread is the control thread: it waits for events, and carries no byte of an object.

mod account;
mod banner;
mod boot;
mod cluster;
mod cores;
mod fatal;
mod log;
mod root_keys;
mod signals;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Instant;

pub use banner::{DirectIo, Facts};
pub use boot::{Boot, Privileges};
pub use fatal::{
    AccountProblem, ClusterProblem, DirectoryProblem, EXIT_CONFIG, EXIT_RUNTIME, EXIT_USAGE, Fatal, IoUringProblem,
    ListenProblem, RootKeysProblem,
};
pub use root_keys::{RootKeys, RootOrigin};
pub use signals::Signals;

use crate::config::{Config, ConfigError};
use crate::metrics::export::Exporter;
use cores::Cores;
use log::Log;

/// What the control thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP.
    Reload,
    /// A core has finished its last request after `drain`.
    CoreDrained { core: usize },
    /// A core's thread ended otherwise.
    CoreLost { core: usize },
    /// So did the one that changes what is configured.
    ControlLost,
}

/// Held by a data core's thread as long as it runs. However the thread ends, the control thread hears of it.
pub struct CoreLife {
    core: usize,
    events: Sender<Event>,
    is_drained: bool,
}

impl CoreLife {
    /// `core` is the CPU, as messages name it.
    pub fn new(core: usize, events: Sender<Event>) -> Self {
        Self { core, events, is_drained: false }
    }

    /// The core ends because it was told to, with nothing left in flight.
    pub fn drained(mut self) {
        self.is_drained = true;
    }
}

impl Drop for CoreLife {
    fn drop(&mut self) {
        let core = self.core;
        // Nobody listens any more when the process is on its way out.
        let _ = self.events.send(if self.is_drained { Event::CoreDrained { core } } else { Event::CoreLost { core } });
    }
}

/// Serves until told to stop. `reload` reads the configuration again, for SIGHUP; `version` is what the start message begins with.
pub fn run(config: Config, reload: &dyn Fn() -> Result<Config, ConfigError>, version: &str) -> Result<(), Fatal> {
    // Before the first thread: the mask is inherited.
    let signals = Signals::block()?;
    let log = Log::start(config.log_level);
    let served = serve(config, reload, version, signals, &log);
    match &served {
        Ok(()) => tracing::info!("stopped"),
        Err(fatal) => tracing::error!(exit_code = fatal.exit_code(), "{fatal}"),
    }
    served
}

fn serve(
    config: Config,
    reload: &dyn Fn() -> Result<Config, ConfigError>,
    version: &str,
    signals: Signals,
    log: &Log,
) -> Result<(), Fatal> {
    let (events, inbox) = mpsc::channel();
    signals.forward(events.clone())?;
    let mut boot = boot::check(config)?;
    stay_off_data_cores(&boot);
    let volume = cores::open_volume(&boot)?;
    let facts = facts(&boot, version, &volume);
    let cores = Cores::start(&boot, volume, &events)?;
    let exporter = boot.metrics.take().map(|listener| Exporter::start(listener, cores.sources(&boot.config)));
    let exporter = exporter.transpose().map_err(|error| Fatal::System {
        doing: "starting the thread for metrics",
        errno: rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO),
    })?;
    announce(&boot, &facts);
    wait_for_stop(&inbox, &boot, &cores, reload, log)?;
    drain(&inbox, &boot.config, &cores)?;
    // Last: a drain that takes long is what somebody may want to watch.
    if let Some(exporter) = exporter {
        exporter.stop();
    }
    cores.end_control();
    Ok(())
}

/// This thread, and those that it starts and that pin themselves nowhere, keep to the CPUs that no data core has. Where there
/// are none they run anywhere, and a refusal means the same.
fn stay_off_data_cores(boot: &Boot) {
    if !boot.placement.spare.is_empty() {
        let _ = crate::sys::cpu::allow(&boot.placement.spare);
    }
}

/// Returns at the first request to stop.
fn wait_for_stop(
    inbox: &Receiver<Event>,
    boot: &Boot,
    cores: &Cores,
    reload: &dyn Fn() -> Result<Config, ConfigError>,
    log: &Log,
) -> Result<(), Fatal> {
    let mut current = boot.config.clone();
    loop {
        match inbox.recv() {
            Ok(Event::Stop) | Err(_) => return Ok(()),
            Ok(Event::CoreLost { core } | Event::CoreDrained { core }) => return Err(Fatal::CoreLost { core }),
            Ok(Event::ControlLost) => return Err(Fatal::ControlLost),
            Ok(Event::Reload) => current = reload_into(&current, cores, reload, log),
        }
    }
}

/// The configuration to go on with: the new one, or the old one when the new one is not valid. A reload never ends the server.
fn reload_into(current: &Arc<Config>, cores: &Cores, reload: &dyn Fn() -> Result<Config, ConfigError>, log: &Log) -> Arc<Config> {
    let new = match reload() {
        Ok(new) => new,
        Err(error) => {
            tracing::error!("not reloaded, the configuration stays as it was: {error}");
            return current.clone();
        }
    };
    for option in current.needs_restart(&new) {
        tracing::warn!(option, "changed in the configuration; it takes effect at the next start");
    }
    let new = Arc::new(current.reloaded(new));
    if let Err(fatal) = root_keys::establish(&new).and_then(|root| cores.reload(&new, &root)) {
        tracing::error!("not reloaded, the configuration stays as it was: {fatal}");
        return current.clone();
    }
    log.change_level(new.log_level);
    warn_of_weak_signatures(&new);
    tracing::info!("configuration reloaded");
    new
}

/// Lets requests in flight finish, for so long and no longer. Having cut some off is no failure: it is what was configured.
fn drain(inbox: &Receiver<Event>, config: &Config, cores: &Cores) -> Result<(), Fatal> {
    tracing::info!(timeout_ms = config.drain_timeout.as_millis() as u64, "draining");
    cores.drain();
    let deadline = Instant::now() + config.drain_timeout;
    let mut running = cores.count();
    while running > 0 {
        match inbox.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Event::CoreDrained { .. }) => running -= 1,
            Ok(Event::CoreLost { core }) => return Err(Fatal::CoreLost { core }),
            Ok(Event::ControlLost) => return Err(Fatal::ControlLost),
            // A second Stop never gets here: the signal thread has ended the process.
            Ok(Event::Stop | Event::Reload) => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                tracing::warn!(cores = running, "the drain timeout is over: requests still in flight are cut off");
                return Ok(());
            }
        }
    }
    Ok(())
}

fn facts(boot: &Boot, version: &str, volume: &cores::Volume) -> Facts {
    let config = &boot.config;
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    Facts {
        version: version.to_owned(),
        listen: config.listen.clone(),
        metrics: boot.metrics.as_ref().and_then(|listener| listener.local_addr().ok()),
        cpus: boot.placement.data.clone(),
        reasons: reasons(boot),
        directory: absolute(&config.directory),
        filesystem: boot.filesystem.clone(),
        direct: volume.direct.clone(),
        kept_aside: volume.kept_aside,
        costs: volume.costs.clone(),
        times: volume.times.clone(),
        durability: config.durability,
        read_mode: config.read_mode,
        buffer_memory: config.buffer_memory,
        request_memory: config.request_memory,
        region: config.region.clone(),
        allow_sigv2: config.allow_sigv2,
        list_unreadable: config.list_unreadable,
        access_key: boot.root.credentials.access_key.clone(),
        account_id: boot.account.id.to_string(),
        root_origin: match &boot.root.origin {
            RootOrigin::Environment => RootOrigin::Environment,
            RootOrigin::SecretFile(path) => RootOrigin::SecretFile(absolute(path)),
            RootOrigin::Stored { path, is_new } => RootOrigin::Stored { path: absolute(path), is_new: *is_new },
        },
    }
}

/// What decided about the cores, and who accepts.
fn reasons(boot: &Boot) -> Vec<String> {
    let arrival = Some(boot.arrival.reason.clone()).filter(|reason| !reason.is_empty());
    boot.placement.reasons.iter().cloned().chain(arrival).collect()
}

/// The start message on standard output, and what is worth a warning in the log.
fn announce(boot: &Boot, facts: &Facts) {
    for warning in boot.warnings.iter().chain(&facts.costs) {
        tracing::warn!("{warning}");
    }
    if let Some(sentence) = boot.privileges.sentence() {
        tracing::info!("{sentence}");
    }
    if boot.config.durability == crate::config::Durability::Relaxed {
        tracing::warn!("durability is relaxed: a power cut loses the changes of the last seconds, also answered ones");
    }
    if facts.kept_aside > 0 {
        tracing::warn!(
            count = facts.kept_aside,
            "files or directories that are somebody's are kept in .sluice/aside: they had no place any more; look at them, and move or remove them"
        );
    }
    warn_of_weak_signatures(&boot.config);
    // Nobody needs to read it: a closed standard output is no reason to stop.
    let mut out = std::io::stdout().lock();
    let _ = write!(out, "{facts}").and_then(|()| out.flush());
    tracing::info!(cores = facts.cpus.len(), filesystem = facts.filesystem, "serving {}", facts.directory.display());
}

fn warn_of_weak_signatures(config: &Config) {
    if config.allow_sigv2 {
        tracing::warn!(
            "Signature Version 2 is accepted: it signs neither body nor host, and a link may live for ever; \
             drop --allow-sigv2 when no client needs it"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_ends_is_heard_of() {
        let (events, inbox) = mpsc::channel();
        CoreLife::new(3, events.clone()).drained();
        assert_eq!(inbox.try_recv(), Ok(Event::CoreDrained { core: 3 }));
        let life = CoreLife::new(4, events);
        let ended = std::thread::spawn(move || {
            let _life = life;
            std::panic::resume_unwind(Box::new("lost"));
        })
        .join();
        assert!(ended.is_err());
        assert_eq!(inbox.try_recv(), Ok(Event::CoreLost { core: 4 }));
    }
}
