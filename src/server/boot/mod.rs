//! What is this machine able to do for us, and what must an operator change? Everything that can be known before the first
//! request is found out here, and never by a failing request.

mod directory;
mod kernel;
mod patience;
mod ports;

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use super::fatal::Fatal;
use super::root_keys::{self, RootKeys};
use super::{account, cluster};
use crate::base::principal::Account;
use crate::config::{Config, ConfigError};
use crate::limits;
use crate::model::Cluster;
use crate::tune::{Arrival, Placement};

use patience::Patience;
pub use ports::bind_shared;

/// What the checks found, for whoever opens the volume and starts the cores. Keep it alive as long as the server runs: it
/// holds the lock on the directory and the ports.
pub struct Boot {
    /// With the ports that the kernel chose for port 0, and no more connections than there are descriptors for.
    pub config: Arc<Config>,
    /// The CPUs to start a data core on, ascending, and those for everything else.
    pub placement: Placement,
    /// The interfaces whose packets choose the core that accepts.
    pub arrival: Arrival,
    pub root: RootKeys,
    /// To whom buckets belong.
    pub account: Arc<Account>,
    /// Which configuration it is, if that could be written down.
    pub cluster: Option<Cluster>,
    /// The served directory, open.
    pub directory: OwnedFd,
    /// The type of its filesystem as `mount` calls it: `ext4`, `xfs`.
    pub filesystem: String,
    pub privileges: Privileges,
    /// Where metrics are asked for.
    pub metrics: Option<TcpListener>,
    /// What is worth a line at start and no reason to stop.
    pub warnings: Vec<String>,
    _lock: Option<OwnedFd>,
    _ports: Vec<socket2::Socket>,
}

/// What an ordinary user cannot do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Privileges {
    /// Give files to the user who wrote them over S3.
    pub chown: bool,
    /// Keep what grants or retains in attributes that POSIX users cannot forge.
    pub trusted_xattr: bool,
    /// Listen below port 1024.
    pub low_ports: bool,
}

/// All checks, the ones with the clearest remedy first: a second server on the same directory is told so, and not that its
/// port is taken.
pub fn check(mut config: Config) -> Result<Boot, Fatal> {
    let mut warnings = Vec::new();
    let allowed = kernel::allowed_cpus()?;
    kernel::check_cpus(&config.cores, &allowed)?;
    check_config_dir(&config)?;
    let patience = Patience::start();
    let directory = directory::open(&config.directory, &patience)?;
    let (placement, arrival) = kernel::place(&config, &directory.handle, &allowed);
    let cores = placement.data.len();
    check_buffer_memory(&mut config, cores)?;
    if directory.is_new {
        warnings.push(format!("{} did not exist; it was created", config.directory.display()));
    }
    kernel::probe_io_uring()?;
    let connections = kernel::raise_descriptors(cores, config.connections_per_core_max, &mut warnings)?;
    config.connections_per_core_max = connections;
    kernel::align_file_size_limit();
    warnings.extend(kernel::limits_that_bite());
    let ports = ports::reserve(&mut config.listen, &patience)?;
    let metrics = config.metrics_listen.map(|address| ports::listen_for_metrics(address, &patience)).transpose()?;
    // First of all that is read there: in a wrong place nothing is to be made.
    let cluster = cluster::establish(&config.config_dir, &config.directory)?;
    let root = root_keys::establish(&config)?;
    let account = account::establish(&config.config_dir, &root.credentials.access_key)?;
    for variable in &config.unknown_environment {
        warnings.push(format!("the environment variable {variable} is no option of this server; check its spelling"));
    }
    Ok(Boot {
        config: Arc::new(config),
        placement,
        arrival,
        root,
        account,
        cluster,
        privileges: kernel::privileges(directory.trusted_xattr),
        directory: directory.handle,
        filesystem: directory.filesystem,
        metrics,
        warnings,
        _lock: directory.lock,
        _ports: ports,
    })
}

impl Privileges {
    /// What is missing, in one sentence; `None` when nothing is.
    pub fn sentence(self) -> Option<String> {
        let missing: Vec<&str> = [
            (self.chown, "files belong to this user whoever writes them (CAP_CHOWN)"),
            (self.trusted_xattr, "tags and retention are kept under .sluice (CAP_SYS_ADMIN)"),
            (self.low_ports, "ports below 1024 cannot be used (CAP_NET_BIND_SERVICE)"),
        ]
        .into_iter()
        .filter_map(|(has, sentence)| (!has).then_some(sentence))
        .collect();
        (!missing.is_empty()).then(|| format!("running without privileges: {}", missing.join("; ")))
    }
}

/// Every core needs the blocks of one transfer. The default grows with the cores; what an operator wrote is not changed.
fn check_buffer_memory(config: &mut Config, cores: usize) -> Result<(), Fatal> {
    let least = (limits::BLOCK_SIZE * limits::BLOCKS_PER_TRANSFER_MAX * cores) as u64;
    if config.buffer_memory == limits::BUFFER_MEMORY_DEFAULT {
        config.buffer_memory = config.buffer_memory.max(least);
    }
    if config.buffer_memory < least {
        return Err(Fatal::BufferMemory { bytes: config.buffer_memory, least, cores });
    }
    Ok(())
}

/// A configuration directory inside the served one and outside `.sluice` would be a bucket, with the root keys as an object.
fn check_config_dir(config: &Config) -> Result<(), Fatal> {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let (served, config_dir) = (absolute(&config.directory), absolute(&config.config_dir));
    if config_dir.starts_with(&served) && !config_dir.starts_with(served.join(".sluice")) {
        let remedy = "it lies inside the served directory, where its keys would be objects; choose one outside, or below .sluice";
        return Err(ConfigError::Conflict { option: "config_dir", remedy }.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_privileges_are_one_sentence() {
        let all = Privileges { chown: true, trusted_xattr: true, low_ports: true };
        assert_eq!(all.sentence(), None);
        let none = Privileges { chown: false, trusted_xattr: false, low_ports: false };
        let sentence = none.sentence().expect("something is missing");
        for word in ["CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_NET_BIND_SERVICE"] {
            assert!(sentence.contains(word), "{sentence}");
        }
        assert!(!Privileges { chown: true, ..none }.sentence().expect("two are missing").contains("CHOWN"));
    }
}
