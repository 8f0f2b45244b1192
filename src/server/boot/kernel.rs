//! The kernel's side: io_uring, descriptors, CPUs, capabilities.

use std::os::fd::OwnedFd;
use std::path::Path;

use io_uring::{IoUring, cqueue, squeue};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities};

use super::Privileges;
use crate::config::{Config, Cores};
use crate::limits::{self, descriptors_for, descriptors_reserved};
use crate::server::fatal::{Fatal, IoUringProblem};
use crate::sys::{self, mount::Mount};
use crate::tune::{self, Arrival, Clients, Machine, Placement, Tree, Wish};

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
    let for_connections = usize::try_from(allowed).unwrap_or(usize::MAX) - descriptors_reserved(cores);
    Ok(wanted.min(for_connections / 5 * 4 / cores))
}

/// Makes the size that no file may exceed one at which an O_DIRECT write can end: the kernel cuts a write at the limit, and refuses one
/// that is cut inside a sector as if it had never been aligned (EINVAL).
pub fn align_file_size_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Fsize);
    let aligned = current.map(|size| size - size % limits::BLOCK_ALIGN as u64).filter(|size| *size > 0);
    if aligned.is_some() && aligned != current {
        // Refused, such a write is told as the filesystem's error.
        let _ = setrlimit(Resource::Fsize, Rlimit { current: aligned, maximum });
    }
}

/// Limits of this process under which it serves, but not everything or not for ever (setrlimit(2)).
pub fn limits_that_bite() -> Vec<String> {
    let warn = |resource, sentence: fn(u64) -> String| getrlimit(resource).current.map(sentence);
    let found = [
        warn(Resource::Fsize, |size| {
            format!(
                "no file may be larger than {size} bytes (ulimit -f, LimitFSIZE=): larger objects are refused with EntityTooLarge"
            )
        }),
        warn(Resource::As, |size| {
            format!(
                "{size} bytes of address space are allowed (ulimit -v, LimitAS=): an allocation that does not fit ends the server"
            )
        }),
        warn(Resource::Data, |size| {
            format!("{size} bytes of memory are allowed (ulimit -d, LimitDATA=): an allocation that does not fit ends the server")
        }),
        warn(Resource::Cpu, |seconds| {
            format!("{seconds} s of CPU time are allowed (ulimit -t, LimitCPU=): the server stops when they are used")
        }),
    ];
    found.into_iter().flatten().collect()
}

/// The CPUs that this process may use: its affinity mask, not the machine's count. Containers and taskset speak through it.
pub fn allowed_cpus() -> Result<Vec<usize>, Fatal> {
    sys::cpu::available().map_err(|errno| Fatal::System { doing: "reading the CPU affinity", errno })
}

/// Listed CPUs that may not be used are refused before anything else is tried.
pub fn check_cpus(cores: &Cores, allowed: &[usize]) -> Result<(), Fatal> {
    let Cores::List(listed) = cores else { return Ok(()) };
    let refused: Vec<usize> = listed.iter().copied().filter(|cpu| !allowed.contains(cpu)).collect();
    if refused.is_empty() { Ok(()) } else { Err(Fatal::Cpus { refused, allowed: allowed.to_vec() }) }
}

/// Where to serve, by the rules of `sluice tune`; and the cards whose packets choose their core.
pub fn place(config: &Config, directory: &OwnedFd, allowed: &[usize]) -> (Placement, Arrival) {
    let mount = Mount::of(directory);
    let machine = Machine::read(&Tree::new(Path::new("/")), mount.as_ref());
    let is_local = config.listen.iter().all(|listen| listen.address.ip().is_loopback());
    let wish = Wish { clients: if is_local { Clients::Here } else { Clients::Remote }, ..Wish::default() };
    let placed = match &config.cores {
        Cores::Auto => tune::place(&machine, &wish),
        Cores::List(listed) => tune::place_on(&machine, &wish, listed.clone()),
    };
    match placed {
        Ok(placement) if !placement.data.is_empty() => {
            let arrival = tune::arrival(&machine, &placement);
            (placement, arrival)
        }
        // No interface was named; and without /sys there is nothing to go by but the mask.
        _ => (Placement::everywhere(allowed), Arrival::default()),
    }
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
        assert!(check_cpus(&Cores::Auto, &[1, 3]).is_ok());
        assert!(check_cpus(&Cores::List(vec![3]), &[1, 3]).is_ok());
        let refused = check_cpus(&Cores::List(vec![0, 3]), &[1, 3]).expect_err("CPU 0 is outside");
        let text = refused.to_string();
        assert!(text.contains("CPU 0") && text.contains("1,3"), "{text}");
        assert!(!allowed_cpus().expect("affinity").is_empty());
    }
}
