//! Which CPUs are ours, and where does this thread run?

use super::errno::Result;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The CPUs this process may use (cgroup cpusets and taskset included), ascending.
pub fn available() -> Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
}

/// The id of the calling thread.
pub fn thread_id() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()
}

/// Pins the calling thread to one CPU.
pub fn pin(cpu: usize) -> Result<()> {
    allow(&[cpu])
}

/// Lets the calling thread run on these CPUs only.
pub fn allow(cpus: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus.iter().filter(|&&cpu| cpu < CpuSet::MAX_CPU) {
        set.set(cpu);
    }
    sched_setaffinity(None, &set)
}

/// Makes the calling thread step back for others on its CPU by so much, as nice(2) does, but for this thread alone.
pub fn yield_to_others(niceness: i32) -> Result<()> {
    const NICENESS_MAX: i32 = 19;
    let thread = Some(rustix::thread::gettid());
    let now = rustix::process::getpriority_process(thread)?;
    rustix::process::setpriority_process(thread, (now + niceness).min(NICENESS_MAX))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_pinned_thread_runs_on_its_cpu() {
        let cpus = super::available().unwrap();
        let last = *cpus.last().unwrap();
        std::thread::spawn(move || {
            super::pin(last).unwrap();
            assert_eq!(super::available().unwrap(), [last]);
            assert_eq!(rustix::thread::sched_getcpu(), last);
        })
        .join()
        .unwrap();
    }
}
