//! The volume and the data cores, started, drained and reloaded.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, StatxFlags, statx};
use rustix::thread::{CpuSet, sched_setaffinity};
use socket2::Socket;

use super::banner::DirectIo;
use super::boot::{self, Boot};
use super::fatal::Fatal;
use super::root_keys::RootKeys;
use super::{CoreLife, Event};
use crate::config::Config;

/// The served filesystem, probed.
pub struct Volume {
    pub direct: DirectIo,
}

/// Asks the filesystem how O_DIRECT has to be aligned.
pub fn open_volume(boot: &Boot) -> Result<Volume, Fatal> {
    let asked = statx(&boot.directory, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS);
    asked.map_err(|errno| Fatal::System { doing: "asking about the served directory", errno })?;
    Ok(Volume { direct: DirectIo::Off { reason: "data is not served yet".to_owned() } })
}

/// The running data cores.
pub struct Cores {
    stop: Arc<AtomicBool>,
    count: usize,
}

impl Cores {
    /// One pinned thread per CPU, each with its own listeners on all addresses. Returns when all of them accept.
    pub fn start(boot: &Boot, _volume: Volume, events: &Sender<Event>) -> Result<Self, Fatal> {
        let stop = Arc::new(AtomicBool::new(false));
        for &cpu in &boot.cpus {
            let failed = |error: std::io::Error| Fatal::CoreStart { core: cpu, reason: error.to_string() };
            let listeners = listeners(&boot.config).map_err(failed)?;
            let (stop, life) = (stop.clone(), CoreLife::new(cpu, events.clone()));
            let thread = std::thread::Builder::new().name(format!("core-{cpu}"));
            thread.spawn(move || serve(cpu, &listeners, &stop, life)).map_err(failed)?;
        }
        Ok(Self { stop, count: boot.cpus.len() })
    }

    /// How many cores will report that they are drained, or lost.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Tells all cores to accept no more and to finish what is in flight.
    pub fn drain(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Hands all cores a new configuration and the root keys as they are now. An error leaves them with what they had.
    pub fn reload(&self, config: &Arc<Config>, root: &RootKeys) -> Result<(), Fatal> {
        tracing::debug!(domains = config.domains.len(), keys = ?root.origin, "configuration handed to the cores");
        Ok(())
    }
}

fn listeners(config: &Config) -> std::io::Result<Vec<Socket>> {
    let listen = |address| {
        let socket = boot::bind_shared(address)?;
        socket.set_nonblocking(true)?;
        socket.listen(1024)?;
        Ok(socket)
    };
    config.listen.iter().map(|one| listen(one.address)).collect()
}

fn serve(cpu: usize, listeners: &[Socket], stop: &AtomicBool, life: CoreLife) {
    let mut set = CpuSet::new();
    set.set(cpu);
    if let Err(errno) = sched_setaffinity(None, &set) {
        tracing::error!(cpu, %errno, "pinning the data core");
        return;
    }
    let wait = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    while !stop.load(Ordering::Acquire) {
        let mut ready: Vec<PollFd<'_>> =
            listeners.iter().map(|socket| PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)).collect();
        if poll(&mut ready, Some(&wait)).is_err() {
            continue;
        }
        for listener in listeners {
            while let Ok((connection, _)) = listener.accept() {
                drop(connection);
            }
        }
    }
    life.drained();
}
