//! The kernel's side: io_uring, descriptors, CPUs, capabilities.

use io_uring::{IoUring, cqueue, squeue};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CpuSet, capabilities, sched_getaffinity};

use super::Privileges;
use crate::config::Cores;
use crate::limits::{self, descriptors_for};
use crate::server::fatal::{Fatal, IoUringProblem};

/// Builds a ring as a data core does, and lets it go: only the kernel itself knows about sysctls, filters and limits together.
pub fn probe_io_uring() -> Result<(), Fatal> {
    let ring = IoUring::<squeue::Entry, cqueue::Entry>::builder().setup_single_issuer().setup_defer_taskrun().build(8);
    match ring {
        Ok(_) => Ok(()),
        Err(error) => {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            let sysctl = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
            let sysctl = sysctl.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
            Err(Fatal::IoUring(why_no_ring(errno, sysctl, getrlimit(Resource::Memlock).current)))
        }
    }
}

/// io_uring_setup(2): EPERM comes from the sysctl or a filter, EINVAL from flags that are newer than the kernel.
fn why_no_ring(errno: Errno, sysctl: u32, memlock: Option<u64>) -> IoUringProblem {
    match errno {
        Errno::PERM | Errno::ACCESS if sysctl > 0 => IoUringProblem::Sysctl(sysctl),
        Errno::PERM | Errno::ACCESS => IoUringProblem::Seccomp,
        Errno::NOSYS => IoUringProblem::Missing,
        Errno::INVAL => IoUringProblem::TooOld,
        Errno::NOMEM => IoUringProblem::Memory { memlock },
        other => IoUringProblem::Other(other),
    }
}

/// Raises the limit of open files, and gives the connections per core that fit under it.
pub fn raise_descriptors(cores: usize, connections: usize, warnings: &mut Vec<String>) -> Result<usize, Fatal> {
    let wanted = descriptors_for(cores, connections);
    let hard = getrlimit(Resource::Nofile).maximum;
    // Who may raise the hard limit does so as far as it is needed; everybody may raise the soft one to it. A refusal leaves the
    // limit as it was, and that is then what counts.
    if hard.is_some_and(|hard| hard < wanted) {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: Some(wanted) });
    }
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    let Some(allowed) = getrlimit(Resource::Nofile).current else { return Ok(connections) };
    let fit = connections_that_fit(allowed, cores, connections)?;
    if fit < connections {
        warnings.push(format!(
            "{allowed} open files are allowed: {fit} instead of {connections} connections per core; raise the hard limit (ulimit -Hn, \
             LimitNOFILE=)"
        ));
    }
    Ok(fit)
}

fn connections_that_fit(allowed: u64, cores: usize, wanted: usize) -> Result<usize, Fatal> {
    let cores = cores.max(1);
    let least = descriptors_for(cores, 4);
    if allowed < least {
        return Err(Fatal::Descriptors { limit: allowed, least });
    }
    let for_connections = usize::try_from(allowed).unwrap_or(usize::MAX) - limits::DESCRIPTORS_RESERVED;
    Ok(wanted.min(for_connections / 5 * 4 / cores))
}

/// The CPUs to use. `auto` is the process's affinity mask, not the machine's count: containers and taskset speak through it.
pub fn cpus(cores: &Cores) -> Result<Vec<usize>, Fatal> {
    let mask = sched_getaffinity(None).map_err(|errno| Fatal::System { doing: "reading the CPU affinity", errno })?;
    let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| mask.is_set(*cpu)).collect();
    choose_cpus(cores, allowed)
}

fn choose_cpus(cores: &Cores, allowed: Vec<usize>) -> Result<Vec<usize>, Fatal> {
    let Cores::List(listed) = cores else { return Ok(allowed) };
    let refused: Vec<usize> = listed.iter().copied().filter(|cpu| !allowed.contains(cpu)).collect();
    if refused.is_empty() { Ok(listed.clone()) } else { Err(Fatal::Cpus { refused, allowed }) }
}

/// `trusted_xattr` was tried on the filesystem, because a capability inside a user namespace does not count for it.
pub fn privileges(trusted_xattr: bool) -> Privileges {
    let effective = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    Privileges {
        chown: effective.contains(CapabilitySet::CHOWN),
        trusted_xattr,
        low_ports: effective.contains(CapabilitySet::NET_BIND_SERVICE) || unprivileged_port_start() <= 80,
    }
}

/// Containers often let everybody use the ports from 0 or 80 on (ip-sysctl: `ip_unprivileged_port_start`).
fn unprivileged_port_start() -> u16 {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").ok();
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_of_a_ring_has_its_cause() {
        assert_eq!(why_no_ring(Errno::PERM, 2, None), IoUringProblem::Sysctl(2));
        assert_eq!(why_no_ring(Errno::PERM, 1, None), IoUringProblem::Sysctl(1));
        assert_eq!(why_no_ring(Errno::PERM, 0, None), IoUringProblem::Seccomp);
        assert_eq!(why_no_ring(Errno::NOSYS, 0, None), IoUringProblem::Missing);
        assert_eq!(why_no_ring(Errno::INVAL, 0, None), IoUringProblem::TooOld);
        assert_eq!(why_no_ring(Errno::NOMEM, 0, Some(65536)), IoUringProblem::Memory { memlock: Some(65536) });
        assert_eq!(why_no_ring(Errno::MFILE, 0, None), IoUringProblem::Other(Errno::MFILE));
    }

    #[test]
    fn connections_follow_descriptors() {
        assert_eq!(connections_that_fit(1 << 20, 2, 16384).ok(), Some(16384));
        for (allowed, cores) in [(20_000, 1), (20_000, 2), (4_096, 3), (1_024, 8)] {
            let fit = connections_that_fit(allowed, cores, 16384).expect("enough");
            assert!(fit > 0 && descriptors_for(cores, fit) <= allowed, "{fit} of {allowed}");
            assert!(descriptors_for(cores, fit + 8) > allowed, "{fit} wastes {allowed}");
        }
        assert!(matches!(connections_that_fit(256, 2, 16384), Err(Fatal::Descriptors { limit: 256, .. })));
    }

    #[test]
    fn only_cpus_of_the_mask() {
        assert_eq!(choose_cpus(&Cores::Auto, vec![1, 3]).ok(), Some(vec![1, 3]));
        assert_eq!(choose_cpus(&Cores::List(vec![3]), vec![1, 3]).ok(), Some(vec![3]));
        let refused = choose_cpus(&Cores::List(vec![0, 3]), vec![1, 3]).expect_err("CPU 0 is outside");
        let text = refused.to_string();
        assert!(text.contains("CPU 0") && text.contains("1,3"), "{text}");
        assert!(!cpus(&Cores::Auto).expect("affinity").is_empty());
    }
}
