//! What did it cost? CPU time of this process, and CPU time and memory of a server on the same machine, from proc(5).

use std::time::Duration;

use super::BenchError;

/// CPU time and memory of some processes at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// User and system time of all threads, also of those that have ended; io_uring's workers are threads of the process.
    pub cpu_seconds: f64,
    /// The most memory that was resident since the process began, huge pages included.
    pub peak_bytes: u64,
}

/// What the kernel says about `pids`, added up.
pub fn usage(pids: &[u32]) -> Result<Usage, BenchError> {
    let mut sum = Usage::default();
    for pid in pids {
        let read = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            std::fs::read_to_string(&path).map_err(|error| BenchError::Usage(format!("--server-pid {pid}: {path}: {error}")))
        };
        let ticks = cpu_ticks(&read("stat")?);
        let ticks =
            ticks.ok_or_else(|| BenchError::Usage(format!("--server-pid {pid}: /proc says nothing about its CPU time")))?;
        let status = read("status")?;
        // VmHWM leaves out huge pages of hugetlbfs.
        let kib = kibibytes(&status, "VmHWM:") + kibibytes(&status, "HugetlbPages:");
        sum.cpu_seconds += ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
        sum.peak_bytes += kib * 1024;
    }
    Ok(sum)
}

/// CPU time of this process so far.
pub fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// `utime` and `stime` of a stat line, whose second field is a name that may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// The value of a line of status, 0 where there is none.
fn kibibytes(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_as_its_manual_says() {
        let stat = "1234 (a) b) S 1 1234 1234 0 -1 4194304 100 0 0 0 250 50 7 8 20 0 3 0 100 1000 200 1844";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(cpu_ticks("1 (x) S 1"), None);
        let status = "Name:\tx\nVmHWM:\t    5120 kB\nHugetlbPages:\t    2048 kB\n";
        assert_eq!(
            (kibibytes(status, "VmHWM:"), kibibytes(status, "HugetlbPages:"), kibibytes(status, "None:")),
            (5120, 2048, 0)
        );
    }

    #[test]
    fn this_process_has_used_some() {
        let own = usage(&[std::process::id()]).unwrap();
        assert!(own.peak_bytes > 100_000);
        // At least: other tests make this process grow meanwhile.
        assert!(usage(&[std::process::id(); 2]).unwrap().peak_bytes >= 2 * own.peak_bytes);
        let error = usage(&[u32::MAX]).unwrap_err().to_string();
        assert!(error.contains("--server-pid 4294967295"), "{error}");
    }
}
