//! What do a volume's times tell apart? Tried at start by the calls that change files and directories: change, look, change.
//!
//! Since Linux 6.13 most filesystems give a change another time than was seen before it (multigrain timestamps), however soon it
//! comes. Before, and elsewhere, two changes within a kernel tick have one time; on inodes of 128 bytes and on FAT within a second or
//! two. tmpfs is both: it takes the time of a directory to which a file is linked from that file, which nobody has looked at. So
//! nothing is concluded from the kernel's version or from the filesystem's name. Whoever believes something because a time is what it was
//! asks `Times::is_settled` first.

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::limits::{GRAIN_ASSUMED_NS, GRAIN_LOOK_DURATION, GRAIN_REMOTE_NS, TIMESTAMP_GRAIN_NS};
use crate::sys::path::Symlinks;
use crate::sys::{self, Errno, FileStat, Result};

const SECOND_NS: i64 = 1_000_000_000;
const MILLISECOND_NS: i64 = 1_000_000;

/// What the times of a volume tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grain {
    /// Of a file, whose bytes or attributes are changed.
    pub files: Times,
    /// Of a directory, whose names are.
    pub directories: Times,
    /// How finely a time is kept that somebody sets.
    pub kept_ns: i64,
    /// A name that is replaced while its directory is read is still met by who reads. Not so on btrfs, where a new name stands
    /// beyond the end of every reading that has begun, nor on tmpfs, where it stands in front.
    pub keeps_places: bool,
    /// `false`: nothing could be tried, so that the worst is assumed.
    pub is_tried: bool,
}

/// What a time says of changes that come after a look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// A change that follows a look gives another time than was seen, however soon.
    pub tell_apart: bool,
    /// Two changes that are farther apart have different times.
    pub width_ns: i64,
}

impl Times {
    /// Whether every change that comes gives another ctime than `ctime_ns`, which was seen between two instants. A ctime ahead of
    /// the clock is what a clock leaves behind that was put back: a change now gives the earlier time of now.
    pub fn is_settled(self, ctime_ns: i64, begun_ns: i64, ended_ns: i64) -> bool {
        let is_old = begun_ns.saturating_sub(ctime_ns) >= self.width_ns;
        self.tell_apart || is_old || ctime_ns.saturating_sub(ended_ns) >= self.width_ns
    }

    /// The same for a ctime that was seen between an instant and now.
    pub fn is_settled_since(self, ctime_ns: i64, begun_ns: i64) -> bool {
        self.tell_apart || self.is_settled(ctime_ns, begun_ns, sys::clock::realtime_ns())
    }

    /// Whether two changes can be a second apart and have one time. Then a clock that is put back by a step meets old times again.
    pub fn are_coarse(self) -> bool {
        self.width_ns >= SECOND_NS
    }
}

impl Grain {
    /// Tries it in a directory of our own, and leaves nothing there.
    pub fn probe(staging: &OwnedFd, is_remote: bool) -> Self {
        let tried = Probe::begin(staging, is_remote).and_then(|probe| {
            let grain = probe.run();
            clear(&probe.directory, true);
            grain
        });
        // What stays is cleared by the next start.
        let _ = sys::path::rmdir(staging, NAME);
        tried.unwrap_or_else(|errno| {
            tracing::warn!("the grain of the filesystem's times cannot be tried ({errno}): the worst is assumed");
            Self::ASSUMED
        })
    }

    /// The worst, where nothing can be tried: on a filesystem that is full or read-only.
    pub const ASSUMED: Self = {
        let times = Times { tell_apart: false, width_ns: GRAIN_ASSUMED_NS + TIMESTAMP_GRAIN_NS };
        Self { files: times, directories: times, kept_ns: GRAIN_ASSUMED_NS, keeps_places: false, is_tried: false }
    };

    /// The mtime with which a record is bound to a file that gets its name at `now_ns`. To the nanosecond it is nobody else's. Where
    /// less is kept it is so old that no later change can have it: an edit within the same second must not look like our own bytes.
    pub fn mtime_of_record(&self, now_ns: i64) -> i64 {
        if self.kept_ns < MILLISECOND_NS { now_ns } else { now_ns.saturating_sub(self.files.width_ns) }
    }

    /// For the start message.
    pub fn in_words(&self) -> String {
        let seconds = |times: Times| ((times.width_ns - TIMESTAMP_GRAIN_NS + SECOND_NS - 1) / SECOND_NS).max(1);
        let mut words = String::new();
        // Writing to a String cannot fail.
        let _ = match (self.files, self.directories) {
            (files, directories) if files.are_coarse() || directories.are_coarse() => {
                let (count, unit) = match seconds(files).max(seconds(directories)) {
                    1 => (1, "SECOND"),
                    count => (count, "SECONDS"),
                };
                write!(
                    words,
                    "OF {count} {unit}: for as long a file that another program changed has a new ETag with each request, and \
                     directories are read again for each page"
                )
            }
            (Times { tell_apart: true, .. }, Times { tell_apart: true, .. }) => {
                write!(words, "tell every change from the one before")
            }
            (Times { tell_apart: true, .. }, names) => write!(
                words,
                "tell every change of a file from the one before, of a directory after {} ms",
                names.width_ns / MILLISECOND_NS
            ),
            (files, names) => {
                write!(
                    words,
                    "tell a change from the one before after {} ms",
                    files.width_ns.max(names.width_ns) / MILLISECOND_NS
                )
            }
        };
        if !self.is_tried {
            words.push_str(" (assumed: the filesystem takes no file to try it with)");
        }
        words
    }
}

/// One look behind a change: when it was taken, and the time that was seen.
#[derive(Clone, Copy)]
struct Look {
    at: Duration,
    time_ns: i64,
}

/// What times are worth, from changes that are made and looked at one after the other. `kept_ns`: see `Grain`.
fn classify(kept_ns: i64, rest: &mut dyn FnMut(), next: &mut dyn FnMut() -> Result<Look>) -> Result<Times> {
    let coarse_ns = if kept_ns < MILLISECOND_NS { 0 } else { kept_ns };
    let at_least = |width_ns: i64| width_ns.max(coarse_ns + TIMESTAMP_GRAIN_NS);
    let mut seen = next()?;
    for _ in 0..STREAKS {
        match streak(&mut seen, next)? {
            ControlFlow::Break(true) if coarse_ns == 0 => {
                return Ok(Times { tell_apart: true, width_ns: TIMESTAMP_GRAIN_NS });
            }
            ControlFlow::Break(_) => break,
            ControlFlow::Continue(()) => {}
        }
    }
    let (begun, mut changed_at, mut is_whole) = (seen.at, None, true);
    while seen.at - begun < GRAIN_LOOK_DURATION {
        rest();
        let before = std::mem::replace(&mut seen, next()?);
        is_whole &= seen.time_ns % SECOND_NS == 0;
        if seen.time_ns == before.time_ns {
            continue;
        }
        if let Some(changed_at) = changed_at.replace(seen.at) {
            let tick_ns = i64::try_from((seen.at - changed_at).as_nanos()).unwrap_or(i64::MAX);
            return Ok(Times { tell_apart: false, width_ns: at_least(tick_ns.saturating_mul(4).max(TIMESTAMP_GRAIN_NS)) });
        }
    }
    // Not for so long: seconds, as far as the numbers show, or something that we do not understand.
    let width_ns = if is_whole { SECOND_NS } else { GRAIN_ASSUMED_NS };
    Ok(Times { tell_apart: false, width_ns: at_least(width_ns + TIMESTAMP_GRAIN_NS) })
}

/// Changes in a streak. On kernels without multigrain timestamps a time is that of the last tick, and no tick is shorter than a
/// millisecond: so many different times in fewer milliseconds are no ticks.
const STREAK: u32 = 16;
/// How often a machine that is too slow for that gets another chance.
const STREAKS: usize = 4;
const TICK_MIN: Duration = Duration::from_millis(1);

/// `Continue`: every change was told, but so slowly that it may have been by ticks.
fn streak(seen: &mut Look, next: &mut dyn FnMut() -> Result<Look>) -> Result<ControlFlow<bool>> {
    let begun = seen.at;
    for _ in 0..STREAK {
        let before = std::mem::replace(seen, next()?);
        if seen.time_ns == before.time_ns {
            return Ok(ControlFlow::Break(false));
        }
    }
    Ok(if seen.at - begun < TICK_MIN * (STREAK - 1) { ControlFlow::Break(true) } else { ControlFlow::Continue(()) })
}

/// A directory in which it is tried.
struct Probe {
    directory: OwnedFd,
    file: OwnedFd,
    is_remote: bool,
}

/// Nobody else has a directory of this name where ours is.
const NAME: &[u8] = b"probe-times";
const PRIVATE: u32 = 0o700;

/// Removes what a probe has made in its directory, and, `with_directories`, what is in those.
fn clear(directory: &OwnedFd, with_directories: bool) {
    let mut names = Vec::new();
    let mut buffer = sys::dir::buffer(4096);
    let _ = sys::dir::read(directory, &mut buffer, |entry| {
        names.push(entry.name.to_vec());
        ControlFlow::<()>::Continue(())
    });
    for name in names {
        if sys::path::unlink(directory, &name).is_err() && with_directories {
            if let Ok(inside) = sys::path::open_dir(directory, &name, Symlinks::Deny) {
                clear(&inside, false);
            }
            let _ = sys::path::rmdir(directory, &name);
        }
    }
}

impl Probe {
    fn begin(staging: &OwnedFd, is_remote: bool) -> Result<Self> {
        match sys::path::mkdir(staging, NAME, PRIVATE) {
            // Of a process that died in here.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        let directory = sys::path::open_dir(staging, NAME, Symlinks::Deny)?;
        clear(&directory, true);
        let file = sys::path::create_new(&directory, b"file", PRIVATE, false)?;
        Ok(Self { directory, file, is_remote })
    }

    fn run(&self) -> Result<Grain> {
        sys::file::write_all_at(&self.file, b"0", 0)?;
        let kept_ns = self.kept_ns()?;
        let mut grain = Grain {
            files: self.measure_both(kept_ns, &|turn| self.change_file(turn), &|turn| self.remake_file(turn))?,
            directories: self.measure_both(kept_ns, &|turn| self.change_directory(turn), &|turn| self.remake_directory(turn))?,
            kept_ns,
            keeps_places: self.keeps_places()?,
            is_tried: true,
        };
        if self.is_remote {
            // A foreign clock, and times that a cache may hold back: what a change gave here proves little.
            sys::file::write_all_at(&self.file, b"1", 0)?;
            let skew_ns = sys::clock::realtime_ns().saturating_sub(self.look(&self.file)?.ctime_ns).saturating_abs();
            for times in [&mut grain.files, &mut grain.directories] {
                let width_ns = times.width_ns.max(GRAIN_REMOTE_NS).saturating_add(skew_ns);
                *times = Times { tell_apart: false, width_ns };
            }
        }
        Ok(grain)
    }

    fn look(&self, file: impl AsFd) -> Result<FileStat> {
        if self.is_remote { sys::stat::of_fresh(file) } else { sys::stat::of(file) }
    }

    /// How finely a time is kept that is set: what is read back of an odd number of seconds, and of nanoseconds.
    fn kept_ns(&self) -> Result<i64> {
        const SET_NS: i64 = 1_000_000_001_123_456_789;
        const GRAINS_NS: [i64; 7] = [1, 100, 1000, MILLISECOND_NS, 10 * MILLISECOND_NS, SECOND_NS, 2 * SECOND_NS];
        sys::path::set_mtime(&self.file, SET_NS)?;
        let read_ns = self.look(&self.file)?.mtime_ns;
        let kept = GRAINS_NS.into_iter().find(|grain| read_ns % grain == 0 && (read_ns - SET_NS).abs() < *grain);
        Ok(kept.unwrap_or(GRAIN_ASSUMED_NS))
    }

    /// What both kinds of change are told by.
    fn measure_both(
        &self,
        kept_ns: i64,
        change: &dyn Fn(usize) -> Result<i64>,
        remake: &dyn Fn(usize) -> Result<i64>,
    ) -> Result<Times> {
        let changed = self.measure(kept_ns, change)?;
        if !changed.tell_apart {
            return Ok(changed);
        }
        let remade = self.measure(kept_ns, remake)?;
        Ok(Times { tell_apart: remade.tell_apart, width_ns: changed.width_ns.max(remade.width_ns) })
    }

    /// `change` makes the change of a turn and answers the time that it gave.
    fn measure(&self, kept_ns: i64, change: &dyn Fn(usize) -> Result<i64>) -> Result<Times> {
        let started = Instant::now();
        let mut turns = 0..;
        let mut next = || {
            let time_ns = change(turns.next().unwrap_or_default())?;
            Ok(Look { at: started.elapsed(), time_ns })
        };
        classify(kept_ns, &mut || std::thread::sleep(TICK_MIN), &mut next)
    }

    fn change_file(&self, turn: usize) -> Result<i64> {
        let byte = [b'a' + (turn % 20) as u8];
        if turn.is_multiple_of(2) {
            sys::file::write_all_at(&self.file, &byte, 0)?;
            return Ok(self.look(&self.file)?.mtime_ns);
        }
        sys::xattr::write(&self.file, c"user.sluice.probe", &byte)?;
        Ok(self.look(&self.file)?.ctime_ns)
    }

    /// What is made where something was removed may get its inode. It must not get its times, too: whoever remembers the one would
    /// take the other for it.
    fn remake_file(&self, turn: usize) -> Result<i64> {
        if turn > 0 {
            sys::path::unlink(&self.directory, b"again")?;
        }
        let file = sys::path::create_new(&self.directory, b"again", PRIVATE, false)?;
        Ok(self.look(&file)?.ctime_ns)
    }

    /// As `remake_file`.
    fn remake_directory(&self, turn: usize) -> Result<i64> {
        let name = b"directory-again";
        if turn > 0 {
            sys::path::rmdir(&self.directory, name)?;
        }
        sys::path::mkdir(&self.directory, name, PRIVATE)?;
        let directory = sys::path::open_dir(&self.directory, name, Symlinks::Deny)?;
        Ok(self.look(&directory)?.ctime_ns)
    }

    /// The calls by which names come and go, each in its turn.
    fn change_directory(&self, turn: usize) -> Result<i64> {
        let directory = &self.directory;
        match turn % 7 {
            0 => drop(sys::path::create_new(directory, b"made", PRIVATE, false)?),
            1 => match sys::path::link(&self.file, directory, b"linked") {
                Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => {
                    drop(sys::path::create_new(directory, b"linked", PRIVATE, false)?);
                }
                linked => linked?,
            },
            2 => sys::path::rename(directory, b"made", directory, b"renamed")?,
            3 => sys::path::unlink(directory, b"linked")?,
            4 => sys::path::unlink(directory, b"renamed")?,
            5 => sys::path::mkdir(directory, b"directory", PRIVATE)?,
            _ => sys::path::rmdir(directory, b"directory")?,
        }
        Ok(self.look(directory)?.ctime_ns)
    }

    /// Whether all names are met by who reads a directory in which each is replaced after the first was met.
    fn keeps_places(&self) -> Result<bool> {
        const NAMES: usize = 12;
        // So long, and the buffer so small, that the reading takes several calls.
        let name = |index: usize| format!("{index:0200}").into_bytes();
        sys::path::mkdir(&self.directory, b"places", PRIVATE)?;
        let places = sys::path::open_dir(&self.directory, b"places", Symlinks::Deny)?;
        for index in 0..NAMES {
            drop(sys::path::create_new(&places, &name(index), PRIVATE, false)?);
        }
        let replace = |index: usize| {
            drop(sys::path::create_new(&self.directory, b"new", PRIVATE, false)?);
            sys::path::rename(&self.directory, b"new", &places, &name(index))
        };
        let mut met = Vec::new();
        let mut buffer = sys::dir::buffer(512);
        let read = sys::dir::read(&places, &mut buffer, |entry| {
            met.push(entry.name.to_vec());
            let replaced = if met.len() == 1 { (0..NAMES).try_for_each(replace) } else { Ok(()) };
            replaced.map_or_else(ControlFlow::Break, ControlFlow::Continue)
        })?;
        if let ControlFlow::Break(errno) = read {
            return Err(errno);
        }
        Ok((0..NAMES).all(|index| met.contains(&name(index))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_NS: i64 = 1_700_000_000 * SECOND_NS + 123_456_789;

    /// Times of changes that take `step` each, on a clock that gives `stamp` of its now.
    fn classified(kept_ns: i64, step: Duration, stamp: impl Fn(i64, usize) -> i64) -> Times {
        let at = std::cell::Cell::new(Duration::ZERO);
        let mut turn = 0;
        let mut next = || {
            at.set(at.get() + step);
            turn += 1;
            Ok(Look { at: at.get(), time_ns: stamp(START_NS + at.get().as_nanos() as i64, turn) })
        };
        classify(kept_ns, &mut || at.set(at.get() + TICK_MIN), &mut next).unwrap()
    }

    fn floor(grain_ns: i64) -> impl Fn(i64, usize) -> i64 {
        move |now, _| now - now % grain_ns
    }

    #[test]
    fn clocks_are_told_by_what_they_give() {
        let (fast, slow) = (Duration::from_micros(20), Duration::from_millis(3));
        let width = |times: Times| (times.tell_apart, times.width_ns / MILLISECOND_NS);
        assert_eq!(width(classified(1, fast, |now, _| now)), (true, 20), "multigrain");
        for tick_ms in [1, 4, 10] {
            assert!(!classified(1, fast, floor(tick_ms * MILLISECOND_NS)).tell_apart, "{tick_ms}");
        }
        assert_eq!(width(classified(1, fast, floor(4 * MILLISECOND_NS))), (false, 20));
        let width_of_10 = classified(1, fast, floor(10 * MILLISECOND_NS)).width_ns;
        assert!((20 * MILLISECOND_NS..80 * MILLISECOND_NS).contains(&width_of_10), "{width_of_10}");
        assert!(!classified(1, slow, |now, _| now).tell_apart, "too slow to know");
        assert_eq!(width(classified(SECOND_NS, fast, floor(SECOND_NS))), (false, 1020));
        assert_eq!(width(classified(2 * SECOND_NS, fast, floor(2 * SECOND_NS))), (false, 2020));
        assert_eq!(width(classified(1, fast, floor(SECOND_NS))), (false, 1020), "set to the nanosecond, given in seconds");
        assert_eq!(width(classified(1, fast, |_, _| START_NS)), (false, 2020), "a cache that holds them back");
        // tmpfs: every third kind of change repeats the time before.
        assert_eq!(width(classified(1, fast, |now, turn| if turn % 3 == 0 { now - 20_000 } else { now })), (false, 20));
    }

    /// What follows is the promise: behind a settled time no change can give the same one.
    #[test]
    fn a_settled_time_is_given_to_no_later_change() {
        let tick = 4 * MILLISECOND_NS;
        for (times, grain_ns) in [
            (classified(1, Duration::from_micros(20), floor(tick)), 1),
            (classified(SECOND_NS, Duration::from_micros(20), floor(SECOND_NS)), SECOND_NS),
            (classified(2 * SECOND_NS, Duration::from_micros(20), floor(2 * SECOND_NS)), 2 * SECOND_NS),
        ] {
            let given = |now: i64| {
                let ticked = now - now % tick;
                ticked - ticked % grain_ns
            };
            for age_ms in (0..2500).step_by(7) {
                for phase_ms in (0..2000).step_by(33) {
                    let changed_at = START_NS + phase_ms * MILLISECOND_NS;
                    let seen_at = changed_at + age_ms * MILLISECOND_NS;
                    if times.is_settled(given(changed_at), seen_at, seen_at) {
                        assert_ne!(given(seen_at), given(changed_at), "{grain_ns} {age_ms} {phase_ms}");
                    }
                }
            }
        }
    }

    #[test]
    fn young_until_it_is_old_enough_and_not_when_the_clock_was_put_back() {
        let ticks = Times { tell_apart: false, width_ns: TIMESTAMP_GRAIN_NS };
        let settled = |times: Times, now_ns: i64| times.is_settled(START_NS, now_ns, now_ns);
        assert!(!settled(ticks, START_NS) && !settled(ticks, START_NS + TIMESTAMP_GRAIN_NS - 1));
        assert!(settled(ticks, START_NS + TIMESTAMP_GRAIN_NS));
        assert!(settled(ticks, START_NS - 3600 * SECOND_NS), "an hour back");
        assert!(!settled(ticks, START_NS - TIMESTAMP_GRAIN_NS + 1), "a moment back: the same tick may come again");
        assert!(settled(Times { tell_apart: true, ..ticks }, START_NS));
        let later = START_NS + SECOND_NS;
        assert!(
            !ticks.is_settled(START_NS, START_NS - SECOND_NS, later),
            "who looked was held up: it may be that of a moment ago"
        );
        assert!(ticks.is_settled(i64::MIN, i64::MAX, i64::MAX) && ticks.is_settled(i64::MAX, i64::MIN, i64::MIN));
    }

    /// A record's mtime is never that of a change that comes after it.
    #[test]
    fn no_later_change_has_the_time_of_a_record() {
        for kept_ns in [SECOND_NS, 2 * SECOND_NS, 10 * MILLISECOND_NS] {
            let times = classified(kept_ns, Duration::from_micros(20), floor(kept_ns));
            let grain = Grain { files: times, directories: times, kept_ns, keeps_places: true, is_tried: true };
            for phase_ms in 0..2000 {
                let now = START_NS + phase_ms * MILLISECOND_NS;
                let kept = |time_ns: i64| time_ns - time_ns % kept_ns;
                let earliest = kept(now - 10 * MILLISECOND_NS);
                assert!(kept(grain.mtime_of_record(now)) < earliest, "{kept_ns} {phase_ms}");
            }
        }
        let fine = Grain { kept_ns: 1, ..Grain::ASSUMED };
        assert_eq!(fine.mtime_of_record(START_NS), START_NS);
    }

    #[test]
    fn it_is_tried_and_leaves_nothing() {
        let top = tempfile::tempdir().unwrap();
        let staging = OwnedFd::from(std::fs::File::open(top.path()).unwrap());
        let grain = Grain::probe(&staging, false);
        assert!(grain.is_tried);
        assert!(std::fs::read_dir(top.path()).unwrap().next().is_none());
        // A process that died in its probe.
        std::fs::create_dir_all(top.path().join("probe-times/places")).unwrap();
        for name in ["file", "linked", "places/0"] {
            std::fs::write(top.path().join("probe-times").join(name), b"").unwrap();
        }
        assert!(Grain::probe(&staging, false).is_tried && std::fs::read_dir(top.path()).unwrap().next().is_none());
        let remote = Grain::probe(&staging, true);
        assert!(!remote.files.tell_apart && remote.files.width_ns >= GRAIN_REMOTE_NS);
        let gone = OwnedFd::from(std::fs::File::open("/proc").unwrap());
        assert_eq!(Grain::probe(&gone, false), Grain::ASSUMED);
    }

    #[test]
    fn said_in_one_line() {
        let times = |tell_apart, width_ms| Times { tell_apart, width_ns: width_ms * MILLISECOND_NS };
        let words = |files, directories| Grain { files, directories, kept_ns: 1, keeps_places: true, is_tried: true }.in_words();
        assert_eq!(words(times(true, 20), times(true, 20)), "tell every change from the one before");
        assert!(words(times(true, 20), times(false, 20)).ends_with("of a directory after 20 ms"));
        assert!(words(times(false, 20), times(false, 20)).ends_with("after 20 ms"));
        assert!(words(times(false, 1020), times(false, 1020)).starts_with("OF 1 SECOND:"));
        assert!(Grain::ASSUMED.in_words().starts_with("OF 2 SECONDS:") && Grain::ASSUMED.in_words().contains("assumed"));
        assert!(!Grain::ASSUMED.in_words().contains('\n'));
    }
}
