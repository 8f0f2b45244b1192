//! What did the operator ask for? One plain [`Config`], put together from flags, environment, file and defaults, in this
//! order of precedence.
//!
//! Imports `limits` and `base`. Reads no file, no clock and no environment by itself: whoever asks hands the texts in
//! ([`Layers`]), so that every precedence is tested as plain data. One definition ([`Options`]) is the command line, the
//! help text, the environment (`SLUICE_` and the field's name in capitals) and the file's keys.

mod options;
mod resolve;
pub mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::base::secret::Secret;

pub use options::{Options, environment_name};
pub use resolve::{ConfigError, ConfigFile, Layers, RootEnvironment, Source};
pub use values::timeout as duration;

/// The region that is named where none was asked for and one must be.
pub const REGION_DEFAULT: &str = "us-east-1";

/// Everything an operator decides, resolved and validated.
#[derive(Clone, Debug)]
pub struct Config {
    /// The served directory.
    pub directory: PathBuf,
    /// Never empty; no address twice.
    pub listen: Vec<Listen>,
    /// Where metrics are served over http; nowhere when `None`.
    pub metrics_listen: Option<SocketAddr>,
    pub cores: Cores,
    /// Where the root keys and everything else that is configured at run time is kept.
    pub config_dir: PathBuf,
    /// In the order given: the first serves clients that send no server name.
    pub tls: Vec<CertificateFiles>,
    /// Suffixes for virtual-hosted-style addressing, lower case, without a leading dot.
    pub domains: Vec<String>,
    pub durability: Durability,
    pub read_mode: ReadMode,
    pub verify_reads: VerifyReads,
    pub list_unreadable: ListUnreadable,
    /// The only one that credentials may be scoped to; any is believed when `None`.
    pub region: Option<String>,
    /// Requests and links of Signature Version 2 are believed, too: a weakness, for old programs.
    pub allow_sigv2: bool,
    /// Bytes of all blocks of all cores.
    pub buffer_memory: u64,
    /// Bytes that requests hold beside blocks, at most.
    pub request_memory: u64,
    pub drain_timeout: Duration,
    pub log_level: LogLevel,
    /// One log line per request, not only per error.
    pub log_requests: bool,
    pub head_timeout: Duration,
    pub idle_timeout: Duration,
    pub body_stall_timeout: Duration,
    pub total_timeout: Duration,
    /// Bytes a second; 0 lets any rate pass that does not stall.
    pub minimum_rate: u64,
    /// Bytes of one PUT and of one part, at most.
    pub put_size_max: u64,
    /// Bytes of a request's XML document, at most.
    pub xml_size_max: u64,
    pub connections_per_core_max: usize,
    pub root: RootSource,
    /// `SLUICE_*` variables that name no option: said once at start, because a mistyped one silently has no effect.
    pub unknown_environment: Vec<String>,
}

impl Config {
    /// Options in which `new` differs and which only a restart can change. SIGHUP takes over all the others.
    pub fn needs_restart(&self, new: &Config) -> Vec<&'static str> {
        let compared = [
            ("directory", self.directory != new.directory),
            ("listen", self.listen != new.listen),
            ("metrics_listen", self.metrics_listen != new.metrics_listen),
            ("cores", self.cores != new.cores),
            ("config_dir", self.config_dir != new.config_dir),
            ("durability", self.durability != new.durability),
            ("read_mode", self.read_mode != new.read_mode),
            ("region", self.region != new.region),
            ("buffer_memory", self.buffer_memory != new.buffer_memory),
            ("request_memory", self.request_memory != new.request_memory),
            ("connections_per_core_max", self.connections_per_core_max != new.connections_per_core_max),
        ];
        compared.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
    }

    /// `new`, with everything that needs a restart as it is now.
    pub fn reloaded(&self, new: Config) -> Config {
        Config {
            directory: self.directory.clone(),
            listen: self.listen.clone(),
            metrics_listen: self.metrics_listen,
            cores: self.cores.clone(),
            config_dir: self.config_dir.clone(),
            durability: self.durability,
            read_mode: self.read_mode,
            region: self.region.clone(),
            buffer_memory: self.buffer_memory,
            request_memory: self.request_memory,
            connections_per_core_max: self.connections_per_core_max,
            ..new
        }
    }
}

/// An address to accept connections on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    pub scheme: Scheme,
    /// Port 0 lets the kernel choose; the start message says which port it was.
    pub address: SocketAddr,
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.address)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// The CPUs that data cores are pinned to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    /// Those that the machine's layout suggests, of the ones that the process may run on.
    Auto,
    /// Exactly these, ascending, none twice.
    List(Vec<usize>),
}

/// A certificate chain and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// When a change counts as acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// After a barrier that it shares with others.
    Acked,
    /// After its own fsync of file and directories, on any filesystem.
    Strict,
    /// At once: a power cut loses the last seconds.
    Relaxed,
}

impl Durability {
    pub fn as_str(self) -> &'static str {
        match self {
            Durability::Acked => "acked",
            Durability::Strict => "strict",
            Durability::Relaxed => "relaxed",
        }
    }
}

/// Where the bytes of a download come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadMode {
    /// From the page cache where they are in it, else O_DIRECT.
    Auto,
    Direct,
    Cached,
}

impl ReadMode {
    pub fn as_str(self) -> &'static str {
        match self {
            ReadMode::Auto => "auto",
            ReadMode::Direct => "direct",
            ReadMode::Cached => "cached",
        }
    }
}

/// Which objects are compared with their checksums while they are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VerifyReads {
    /// Those that come from the disk through the server's own buffers.
    #[default]
    Passing,
    /// All that are read whole; they pass through those buffers for it.
    Always,
}

/// What becomes of a listing that comes to a directory which the server's user may not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListUnreadable {
    /// It fails: who takes what is not listed for gone would delete it elsewhere.
    #[default]
    Fail,
    /// Its keys are left out.
    Skip,
}

/// The least important kind of line that is still logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Where the root keys come from. The keys themselves are read at start and at reload, by `server`.
#[derive(Clone, Debug)]
pub enum RootSource {
    /// Both named by the operator.
    Given { access_key: KeyPart, secret: KeyPart },
    /// Generated once and kept in the configuration directory.
    Stored,
}

/// One half of a pair of keys.
#[derive(Clone, Debug)]
pub enum KeyPart {
    Environment(Secret),
    File(PathBuf),
}

/// The root identity's keys.
#[derive(Clone, Debug)]
pub struct RootCredentials {
    pub access_key: String,
    pub secret: Secret,
}
