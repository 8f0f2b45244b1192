//! Removes spilled records that nothing points to any more: rarely, slowly, and only on proof.
//!
//! A round is several complete walks (`walk`), hours apart, and one look through `.sluice/spill`. What goes was there, untouched,
//! for a grace before the round began; no walk, no read and no commit has met a pointer to it; and it is removed under the lock
//! that all of these take. A round that ends early, by an error or with the process, removes nothing, and nothing of it is kept.

use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::walk::{Incomplete, Order, Walk};
use crate::base::hex;
use crate::limits::{SPILL_GRACE, SPILL_SWEEP_DELAY, SPILL_SWEEP_REST, SPILL_SWEEP_STEP, SPILL_WALK_INTERVAL, SPILL_WALKS};
use crate::store::disk::displace::{self, Outcome, Takes};
use crate::store::disk::pins::Round;
use crate::store::disk::root::Disk;
use crate::store::disk::spot::Spot;
use crate::store::disk::staging::Identity;
use crate::sys::path::Symlinks;
use crate::sys::{self, Errno, FileKind, FileStat};

/// The thread that sweeps a disk, until this is dropped.
pub struct Sweeper {
    stop: Arc<Stop>,
}

/// When things happen.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Timing {
    /// From the start to the first round.
    pub(in crate::store) delay: Duration,
    /// How old a file must be when a round begins.
    pub(in crate::store) grace: Duration,
    /// From walk to walk, and from round to round.
    pub(in crate::store) interval: Duration,
}

impl Timing {
    fn of_this_process() -> Self {
        #[cfg(feature = "seams")]
        if let Some(duration) = crate::store::disk::seams::spill_duration() {
            return Self { delay: duration, grace: duration, interval: duration };
        }
        Self { delay: SPILL_SWEEP_DELAY, grace: SPILL_GRACE, interval: SPILL_WALK_INTERVAL }
    }
}

impl Sweeper {
    /// Starts the thread.
    pub fn start(disk: Arc<Disk>) -> std::io::Result<Self> {
        let stop = Arc::new(Stop::default());
        let (stops, timing) = (stop.clone(), Timing::of_this_process());
        std::thread::Builder::new().name("sweep".into()).spawn(move || run(&disk, timing, &stops))?;
        Ok(Self { stop })
    }
}

impl Drop for Sweeper {
    /// The thread is not waited for: whatever it is at can be cut off.
    fn drop(&mut self) {
        self.stop.stop();
    }
}

fn run(disk: &Disk, timing: Timing, stop: &Stop) {
    let mut is_stopped = stop.wait(timing.delay);
    while !is_stopped {
        match round(disk, timing, stop) {
            Ok(None | Some(0)) | Err(Incomplete { errno: Errno::CANCELED, .. }) => {}
            Ok(Some(count)) => tracing::info!(count, "removed metadata in .sluice/spill that no object has any more"),
            Err(Incomplete { errno, path }) => tracing::warn!(
                %errno, path = %String::from_utf8_lossy(&path),
                "metadata of removed objects stays in .sluice/spill: not everything in the served directory could be looked at"
            ),
        }
        is_stopped = stop.wait(timing.interval);
    }
}

/// One round: how many files it removed; `None` where there was nothing to do.
pub(super) fn round(disk: &Disk, timing: Timing, stop: &Stop) -> Result<Option<u64>, Incomplete> {
    let mut pace = Pace { stop, since: Instant::now() };
    let begun_ns = sys::clock::realtime_ns();
    let grace_ns = i64::try_from(timing.grace.as_nanos()).unwrap_or(i64::MAX);
    // ctime as well: nobody can set it, so a file that came with a restored backup is young, whatever its mtime.
    let is_old =
        |stat: &FileStat| stat.kind == FileKind::Regular && stat.mtime_ns.max(stat.ctime_ns).saturating_add(grace_ns) < begun_ns;
    let of_spill = |errno| Incomplete { errno, path: b".sluice/spill".to_vec() };
    if !has_old(disk, &is_old, &mut pace).map_err(of_spill)? {
        return Ok(None);
    }
    let round = disk.pins.begin_round();
    let orders = [Order::Forward, Order::Backward].into_iter().cycle().take(SPILL_WALKS);
    for (index, order) in orders.enumerate() {
        if index > 0 && stop.wait(timing.interval) {
            return Err(of_spill(Errno::CANCELED));
        }
        walk(disk, order, &mut pace)?;
    }
    // A volume that failed may have lost changes that the walks saw.
    if !disk.takes_changes() {
        return Ok(None);
    }
    remove(disk, &round, &is_old, &mut pace).map(Some).map_err(of_spill)
}

fn walk(disk: &Disk, order: Order, pace: &mut Pace<'_>) -> Result<(), Incomplete> {
    let root = sys::path::open_dir(&disk.root, b"", Symlinks::Deny);
    let root = root.map_err(|errno| Incomplete { errno, path: Vec::new() })?;
    Walk::new(disk, order, &mut |_| pace.rest()).run(root)
}

/// Whether a round would be worth anything.
fn has_old(disk: &Disk, is_old: &dyn Fn(&FileStat) -> bool, pace: &mut Pace<'_>) -> sys::Result<bool> {
    let mut has_old = false;
    each(disk, pace, &mut |_, stat| {
        has_old = is_old(stat);
        Ok(!has_old)
    })?;
    Ok(has_old)
}

fn remove(disk: &Disk, round: &Round<'_>, is_old: &dyn Fn(&FileStat) -> bool, pace: &mut Pace<'_>) -> sys::Result<u64> {
    let Some(own) = disk.own_if_any() else { return Ok(0) };
    let mut count = 0;
    each(disk, pace, &mut |text, stat| {
        // Anything else in there is not ours.
        if let Some(name) = hex::decode(text).filter(|_| is_old(stat)) {
            let spot = Spot { directory: &own.spill, top: ".sluice", folder: b"spill", name: text };
            let takes = Takes::Only(Identity::of(stat));
            let remove = || displace::remove(disk, spot, stat, takes).map(|outcome| outcome == Outcome::Done);
            count += u64::from(round.remove_unseen(&name, remove).map_err(|error| error.errno())?);
        }
        Ok(true)
    })?;
    Ok(count)
}

/// Calls `take` for what is in `.sluice/spill`, until that answers false.
fn each(disk: &Disk, pace: &mut Pace<'_>, take: &mut dyn FnMut(&[u8], &FileStat) -> sys::Result<bool>) -> sys::Result<()> {
    // Its position is that of this walk alone.
    let Some(own) = disk.own_if_any() else { return Ok(()) };
    let directory = sys::path::open_dir(&own.spill, b"", Symlinks::Deny)?;
    let mut buffer = sys::dir::buffer(32 * 1024);
    let mut take_name = |name: &[u8]| {
        pace.rest()?;
        match sys::stat::at(&directory, name) {
            Ok(stat) => take(name, &stat),
            Err(Errno::NOENT) => Ok(true),
            Err(errno) => Err(errno),
        }
    };
    // What this misses, the next round finds.
    let read = sys::dir::read(&directory, &mut buffer, |entry| match take_name(entry.name) {
        Ok(true) => ControlFlow::Continue(()),
        Ok(false) => ControlFlow::Break(Ok(())),
        Err(errno) => ControlFlow::Break(Err(errno)),
    })?;
    if let ControlFlow::Break(broken) = read { broken } else { Ok(()) }
}

/// Keeps to a share of the time, whether that is spent on the processor or waiting for the disk.
pub(super) struct Pace<'a> {
    stop: &'a Stop,
    since: Instant,
}

impl Pace<'_> {
    /// Rests when it is time to. ECANCELED: it is over.
    fn rest(&mut self) -> sys::Result<()> {
        let worked = self.since.elapsed();
        if worked < SPILL_SWEEP_STEP {
            return Ok(());
        }
        if self.stop.wait(worked * SPILL_SWEEP_REST) {
            return Err(Errno::CANCELED);
        }
        self.since = Instant::now();
        Ok(())
    }
}

/// Tells the thread to end, also while it waits.
#[derive(Default)]
pub(super) struct Stop {
    is_stopped: Mutex<bool>,
    stopped: Condvar,
}

impl Stop {
    pub(super) fn stop(&self) {
        *self.is_stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stopped.notify_all();
    }

    /// Waits so long, or until told to stop: whether it was.
    fn wait(&self, duration: Duration) -> bool {
        let is_stopped = self.is_stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.stopped.wait_timeout_while(is_stopped, duration, |is_stopped| !*is_stopped);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
