//! What did a thread, or the process, use?

use std::time::Duration;

use nix::time::ClockId;

/// What a thread used since it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadUse {
    /// Time on a CPU.
    pub busy: Duration,
    /// Time in which it could have run and another ran. `None` where the kernel does not count it.
    pub waited: Option<Duration>,
    /// How often it had nothing to do and slept.
    pub sleeps: u64,
    /// How often another took its CPU.
    pub preemptions: u64,
}

/// What the process uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessUse {
    /// Time on CPUs of all threads, those of the ring's workers included.
    pub busy: Duration,
    /// Resident memory, huge pages of hugetlbfs included.
    pub resident_bytes: u64,
    pub descriptors: u64,
}

/// What the thread `id` of this process used; `None` when there is no such thread.
pub fn of_thread(id: u32) -> Option<ThreadUse> {
    let busy = clock(thread_clock(id))?;
    let folder = format!("/proc/self/task/{id}");
    let status = std::fs::read_to_string(format!("{folder}/status")).ok()?;
    // Documentation/scheduler/sched-stats.rst: time on a CPU, time waiting for one, both in nanoseconds, and timeslices.
    let schedule = std::fs::read_to_string(format!("{folder}/schedstat")).ok();
    let waited = schedule.and_then(|text| text.split(' ').nth(1)?.parse().ok()).map(Duration::from_nanos);
    let sleeps = field(&status, "voluntary_ctxt_switches:")?;
    Some(ThreadUse { busy, waited, sleeps, preemptions: field(&status, "nonvoluntary_ctxt_switches:")? })
}

/// What this process uses.
pub fn of_process() -> Option<ProcessUse> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = field(&status, "VmRSS:")? + field(&status, "HugetlbPages:").unwrap_or(0);
    // One of the entries is the descriptor that reads them.
    let descriptors = (std::fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1);
    Some(ProcessUse { busy: clock(ClockId::CLOCK_PROCESS_CPUTIME_ID)?, resident_bytes: kib * 1024, descriptors })
}

/// The CPU clock of another thread, as pthread_getcpuclockid(3) makes it: kernel ABI, `CPUCLOCK_PERTHREAD_MASK` and `CPUCLOCK_SCHED`.
fn thread_clock(id: u32) -> ClockId {
    ClockId::from_raw((!id).cast_signed() << 3 | 4 | 2)
}

fn clock(id: ClockId) -> Option<Duration> {
    id.now().ok().map(Duration::from)
}

/// The number behind `name` at the start of a line of /proc/PID/status.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_thread_that_works_is_busy_and_one_that_sleeps_is_not() {
        let (begun, begin) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let sleeper = std::thread::spawn(move || {
            begun.send(super::super::cpu::thread_id()).unwrap();
            let _ = ended.recv();
        });
        let sleeping = begin.recv().unwrap();
        let own = super::super::cpu::thread_id();
        let before = of_thread(own).unwrap();
        let mut busy = before.busy;
        let since = Instant::now();
        while busy < before.busy + Duration::from_millis(20) && since.elapsed() < Duration::from_secs(60) {
            busy = of_thread(own).unwrap().busy;
        }
        assert!(busy >= before.busy + Duration::from_millis(20));
        assert!(of_thread(sleeping).unwrap().busy < Duration::from_millis(20));
        drop(end);
        sleeper.join().unwrap();
        assert_eq!(of_thread(u32::MAX >> 8), None);
    }

    #[test]
    fn the_process_uses_what_its_threads_use() {
        let process = of_process().unwrap();
        assert!(process.busy >= of_thread(super::super::cpu::thread_id()).unwrap().busy);
        assert!(process.resident_bytes > 100 * 1024 && process.descriptors >= 3);
    }

    #[test]
    fn fields_are_those_at_the_start_of_a_line() {
        let status = "VmRSS:\t    1234 kB\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t8\n";
        let numbers = ["VmRSS:", "voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:", "HugetlbPages:"];
        assert_eq!(numbers.map(|name| field(status, name)), [Some(1234), Some(7), Some(8), None]);
    }
}
