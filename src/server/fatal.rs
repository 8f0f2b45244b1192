//! Why the server does not start, or stops: each reason with its cause, its remedy and its exit code.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use rustix::io::Errno;

use crate::base::cpus;
use crate::config::{ConfigError, Listen};
use crate::orders::Refused;

/// Something went wrong at run time: trying again may help.
pub const EXIT_RUNTIME: u8 = 1;
/// The command line is wrong; clap uses the same code.
pub const EXIT_USAGE: u8 = 2;
/// `EX_CONFIG` of sysexits.h: no restart helps before somebody changes the configuration. Units name it in
/// `RestartPreventExitStatus=`.
pub const EXIT_CONFIG: u8 = 78;

/// The reason.
#[derive(Debug)]
pub enum Fatal {
    Config(ConfigError),
    Directory {
        path: PathBuf,
        problem: DirectoryProblem,
    },
    IoUring(IoUringProblem),
    Listen {
        listen: Listen,
        problem: ListenProblem,
    },
    MetricsListen {
        address: SocketAddr,
        problem: ListenProblem,
    },
    /// CPUs were listed that this process may not run on.
    Cpus {
        refused: Vec<usize>,
        allowed: Vec<usize>,
    },
    /// Fewer blocks than every core needs for one transfer.
    BufferMemory {
        bytes: u64,
        least: u64,
        cores: usize,
    },
    Descriptors {
        limit: u64,
        least: u64,
    },
    RootKeys {
        path: PathBuf,
        problem: RootKeysProblem,
    },
    /// The account's document cannot be believed.
    Account {
        path: PathBuf,
        problem: AccountProblem,
    },
    /// The data was served with another configuration.
    Cluster {
        /// The configuration directory.
        path: PathBuf,
        problem: ClusterProblem,
    },
    /// What is configured cannot be read.
    Settings {
        path: PathBuf,
        reason: Refused,
    },
    /// The thread that changes what is configured ended by itself.
    ControlLost,
    /// A thread could not be started, a core's ring could not be built.
    CoreStart {
        core: usize,
        reason: String,
    },
    /// A data core ended by itself: its connections are gone, and the rest may be inconsistent with it.
    CoreLost {
        core: usize,
    },
    /// A certificate or its key cannot be used.
    Certificate {
        /// Which file, why, and what to do.
        reason: String,
    },
    /// The served filesystem is refused for what it cannot do.
    Volume {
        path: PathBuf,
        reason: String,
    },
    System {
        doing: &'static str,
        errno: Errno,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub enum DirectoryProblem {
    Missing,
    /// Missing, in a directory that is not ours to write.
    NotMakeable,
    NotDirectory,
    NoAccess,
    ReadOnly,
    NotWritable,
    /// `.sluice` is a symlink or a file.
    StateNotDirectory,
    /// `.sluice` belongs to another user.
    StateForeign,
    NoUserXattr {
        filesystem: String,
    },
    /// Another server holds the lock.
    InUse {
        pid: Option<u32>,
    },
    Other(Errno),
}

#[derive(Debug, PartialEq, Eq)]
pub enum IoUringProblem {
    /// `kernel.io_uring_disabled` has this value.
    Sysctl(u32),
    /// Refused although the sysctl allows it: a seccomp filter, as Docker's default one.
    Seccomp,
    /// The kernel, or a filter that pretends, has no such call.
    Missing,
    /// No SINGLE_ISSUER and DEFER_TASKRUN: older than Linux 6.1.
    TooOld,
    /// `RLIMIT_MEMLOCK` in bytes; `None` when it is unlimited.
    Memory {
        memlock: Option<u64>,
    },
    Other(Errno),
}

#[derive(Debug, PartialEq, Eq)]
pub enum ListenProblem {
    Taken,
    Privileged,
    NotLocal,
    NoFamily,
    Other(Errno),
}

#[derive(Debug, PartialEq, Eq)]
pub enum ClusterProblem {
    /// `.sluice/cluster-id` of the data names another one.
    Another {
        expected: String,
        found: String,
    },
    /// It names one, and this is none.
    Empty {
        expected: String,
    },
    /// `cluster.json` cannot be believed.
    Damaged,
    /// `.sluice/cluster-id` is no id.
    Illegible {
        path: PathBuf,
    },
    Io(Errno),
}

#[derive(Debug, PartialEq, Eq)]
pub enum AccountProblem {
    Damaged,
    Newer,
    Io(Errno),
}

#[derive(Debug, PartialEq, Eq)]
pub enum RootKeysProblem {
    /// Group or others may read it.
    Readable {
        mode: u32,
    },
    /// Not a regular file of `access_key` and `secret_key`.
    Malformed,
    AccessKeyInvalid,
    SecretInvalid,
    NoRandomness,
    Io(Errno),
}

impl Fatal {
    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Fatal::Config(error) if error.is_usage() => EXIT_USAGE,
            Fatal::Config(_) | Fatal::Cpus { .. } | Fatal::BufferMemory { .. } => EXIT_CONFIG,
            Fatal::Directory { problem, .. } => match problem {
                DirectoryProblem::InUse { .. } | DirectoryProblem::Other(_) => EXIT_RUNTIME,
                _ => EXIT_CONFIG,
            },
            Fatal::Listen { problem: ListenProblem::Privileged | ListenProblem::NoFamily, .. }
            | Fatal::MetricsListen { problem: ListenProblem::Privileged | ListenProblem::NoFamily, .. } => EXIT_CONFIG,
            Fatal::RootKeys { problem: RootKeysProblem::NoRandomness | RootKeysProblem::Io(_), .. } => EXIT_RUNTIME,
            Fatal::Account { problem: AccountProblem::Io(errno), .. } if !is_lasting(*errno) => EXIT_RUNTIME,
            Fatal::Cluster { problem: ClusterProblem::Io(errno), .. } if !is_lasting(*errno) => EXIT_RUNTIME,
            Fatal::RootKeys { .. } | Fatal::Account { .. } | Fatal::Cluster { .. } => EXIT_CONFIG,
            // The file system's abilities do not change by a restart either.
            Fatal::Volume { .. } | Fatal::Certificate { .. } => EXIT_CONFIG,
            _ => EXIT_RUNTIME,
        }
    }
}

/// Whether somebody has to change something before it goes away.
fn is_lasting(errno: Errno) -> bool {
    matches!(errno, Errno::ACCESS | Errno::PERM | Errno::NOTDIR | Errno::LOOP)
}

impl From<ConfigError> for Fatal {
    fn from(error: ConfigError) -> Self {
        Fatal::Config(error)
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fatal::Config(error) => error.fmt(f),
            Fatal::Directory { path, problem } => write!(f, "cannot serve {}: {problem}", path.display()),
            Fatal::IoUring(problem) => write!(f, "io_uring is not available: {problem}"),
            Fatal::Listen { listen, problem } => write!(f, "cannot listen on {listen}: {problem}"),
            Fatal::MetricsListen { address, problem } => {
                write!(f, "cannot serve metrics on {address} (--metrics-listen): {problem}")
            }
            Fatal::Cpus { refused, allowed } => {
                let (refused, allowed) = (cpus::list(refused), cpus::list(allowed));
                write!(f, "--cores names CPU {refused}, which this process may not use; ")?;
                write!(f, "choose from {allowed}, or widen its affinity (taskset, cpuset, AllowedCPUs=)")
            }
            Fatal::BufferMemory { bytes, least, cores } => write!(
                f,
                "--buffer-memory {bytes} is too little for {cores} cores; give at least {least} bytes, or fewer --cores"
            ),
            Fatal::Descriptors { limit, least } => write!(
                f,
                "only {limit} open files are allowed and {least} are needed at least; raise the hard limit (ulimit -Hn, LimitNOFILE=)"
            ),
            Fatal::RootKeys { path, problem } => write!(f, "root keys in {}: {problem}", path.display()),
            Fatal::Account { path, problem } => write!(f, "the account in {}: {problem}", path.display()),
            Fatal::Cluster { path, problem } => write!(f, "the configuration in {}: {problem}", path.display()),
            Fatal::Settings { path, reason } => {
                write!(
                    f,
                    "what is configured in {} cannot be read ({reason:?}); check the path and its permissions",
                    path.display()
                )
            }
            Fatal::ControlLost => f.write_str("the thread that changes the configuration is lost; the log above has its panic"),
            Fatal::CoreStart { core, reason } => write!(f, "the data core on CPU {core} did not start: {reason}"),
            Fatal::CoreLost { core } => write!(f, "the data core on CPU {core} is lost; the log above has its panic"),
            Fatal::Certificate { reason } => f.write_str(reason),
            Fatal::Volume { path, reason } => write!(f, "cannot serve {}: {reason}", path.display()),
            Fatal::System { doing, errno } => write!(f, "{doing}: {errno}"),
        }
    }
}

impl DirectoryProblem {
    /// Nothing can be written at the moment; what is there can be read.
    pub fn is_no_room(&self) -> bool {
        matches!(self, DirectoryProblem::ReadOnly | DirectoryProblem::Other(Errno::NOSPC | Errno::DQUOT))
    }
}

impl fmt::Display for DirectoryProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            DirectoryProblem::Missing => {
                "neither it nor the directory above it exists; create it (mkdir -p), or mount its filesystem first"
            }
            DirectoryProblem::NotMakeable => {
                "it does not exist and this user may not create it; create it (mkdir) and hand it over (chown)"
            }
            DirectoryProblem::NotDirectory => "it is not a directory; name the directory that holds the buckets",
            DirectoryProblem::NoAccess => "this user may not open it; run as its owner, or allow this user to read and enter it",
            DirectoryProblem::ReadOnly => "its filesystem is mounted read-only; remount it read-write (mount -o remount,rw)",
            DirectoryProblem::NotWritable => {
                "this user may not write to it; run as its owner, or allow this user to write (chown, chmod, setfacl)"
            }
            DirectoryProblem::StateNotDirectory => ".sluice in it is not a directory of ours; move that away",
            DirectoryProblem::StateForeign => {
                ".sluice in it belongs to another user; run as that user, or hand the directory over (chown -R)"
            }
            DirectoryProblem::NoUserXattr { filesystem } => {
                return write!(
                    f,
                    "its filesystem ({filesystem}) keeps no user extended attributes, in which metadata lives; \
                     use ext4, XFS, Btrfs or ZFS, tmpfs since Linux 6.6, or mount with user_xattr"
                );
            }
            DirectoryProblem::InUse { pid } => {
                f.write_str("another Sluice serves it")?;
                if let Some(pid) = pid {
                    write!(f, " (process {pid})")?;
                }
                "; stop that one first (or the program that locks the directory, if it is another), or serve another directory"
            }
            DirectoryProblem::Other(errno) => return write!(f, "{errno}"),
        };
        f.write_str(text)
    }
}

impl fmt::Display for IoUringProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            IoUringProblem::Sysctl(value) => {
                return write!(
                    f,
                    "the sysctl kernel.io_uring_disabled is {value}; allow it (sysctl -w kernel.io_uring_disabled=0){}",
                    if *value == 1 { ", or add this user's group to kernel.io_uring_group" } else { "" }
                );
            }
            IoUringProblem::Seccomp => {
                "a seccomp filter refuses it, as Docker's default profile does; run with a profile that allows io_uring_setup, \
                 io_uring_enter and io_uring_register (--security-opt seccomp=FILE, or SystemCallFilter= in a unit)"
            }
            IoUringProblem::Missing => {
                "this kernel has no io_uring, or a sandbox hides it; use Linux 6.1 or newer, and a container runtime that \
                 allows io_uring"
            }
            IoUringProblem::TooOld => "this kernel is too old (it lacks DEFER_TASKRUN); use Linux 6.1 or newer",
            IoUringProblem::Memory { memlock } => {
                f.write_str("no memory for a ring; give the process more memory")?;
                return match memlock {
                    Some(bytes) => write!(f, ", or raise the locked-memory limit of {bytes} bytes (ulimit -l, LimitMEMLOCK=)"),
                    None => Ok(()),
                };
            }
            IoUringProblem::Other(errno) => return write!(f, "{errno}"),
        };
        f.write_str(text)
    }
}

impl fmt::Display for ListenProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ListenProblem::Taken => "the port is taken; stop what listens there (ss -ltnp shows it), or choose another port",
            ListenProblem::Privileged => {
                "this user may not use low ports; choose a port from 1024 on, or allow it \
                 (setcap cap_net_bind_service=+ep, AmbientCapabilities=, sysctl net.ipv4.ip_unprivileged_port_start)"
            }
            ListenProblem::NotLocal => "no interface of this machine has that address; choose one that `ip address` shows",
            ListenProblem::NoFamily => "this machine does not speak that address family; choose an IPv4 address, or enable IPv6",
            ListenProblem::Other(errno) => return write!(f, "{errno}"),
        })
    }
}

impl fmt::Display for ClusterProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const REMEDY: &str = "check --config-dir, and whether its filesystem is mounted; if the configuration that the data was served \
                              with is given up for good, remove .sluice/cluster-id in the served directory";
        match self {
            ClusterProblem::Another { expected, found } => {
                write!(f, "it is {found}, and the data was served with {expected}; {REMEDY}")
            }
            ClusterProblem::Empty { expected } => {
                write!(f, "there is none, and the data was served with {expected}; {REMEDY}")
            }
            ClusterProblem::Damaged => {
                f.write_str("cluster.json is damaged, or a later version has written it; put it back from a copy")
            }
            ClusterProblem::Illegible { path } => {
                write!(
                    f,
                    "{} holds no id of a configuration; put it back, or remove it if this configuration is the right one",
                    path.display()
                )
            }
            ClusterProblem::Io(errno) => write!(f, "{errno}; check the path and its permissions"),
        }
    }
}

impl fmt::Display for AccountProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AccountProblem::Damaged => {
                "the file is damaged: put it back from a copy, or remove it and start with the root access key of the first start"
            }
            AccountProblem::Newer => "a later version of this program has written it; start that one",
            AccountProblem::Io(errno) => return write!(f, "{errno}; check the path and its permissions"),
        })
    }
}

impl fmt::Display for RootKeysProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RootKeysProblem::Readable { mode } => {
                return write!(
                    f,
                    "others may read it (mode {mode:04o}); chmod 600 it, and if somebody else may have read it, delete it for a \
                     new pair"
                );
            }
            RootKeysProblem::Malformed => {
                "it does not hold access_key = \"...\" and secret_key = \"...\"; restore it, or delete it for a new pair"
            }
            RootKeysProblem::AccessKeyInvalid => "an access key is 3 to 128 letters, digits, '-', '_' or '.'; change it",
            RootKeysProblem::SecretInvalid => "a secret key is 8 to 128 printable characters without spaces; change it",
            RootKeysProblem::NoRandomness => {
                "the kernel gives no random numbers; set SLUICE_ROOT_ACCESS_KEY and SLUICE_ROOT_SECRET_KEY"
            }
            RootKeysProblem::Io(errno) => return write!(f, "{errno}; check the path and its permissions"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Scheme;

    #[test]
    fn exit_codes_say_whether_a_restart_helps() {
        let listen = Listen { scheme: Scheme::Http, address: "127.0.0.1:80".parse().expect("address") };
        let directory = |problem| Fatal::Directory { path: "/d".into(), problem };
        let cases = [
            (Fatal::Config(ConfigError::Missing { option: "directory", remedy: "" }), EXIT_USAGE),
            (Fatal::Config(ConfigError::Conflict { option: "listen", remedy: "" }), EXIT_CONFIG),
            (directory(DirectoryProblem::Missing), EXIT_CONFIG),
            (directory(DirectoryProblem::InUse { pid: Some(7) }), EXIT_RUNTIME),
            (Fatal::Listen { listen, problem: ListenProblem::Taken }, EXIT_RUNTIME),
            (Fatal::Listen { listen, problem: ListenProblem::Privileged }, EXIT_CONFIG),
            (Fatal::IoUring(IoUringProblem::Seccomp), EXIT_RUNTIME),
            (Fatal::CoreLost { core: 1 }, EXIT_RUNTIME),
        ];
        for (fatal, code) in cases {
            assert_eq!(fatal.exit_code(), code, "{fatal}");
            assert!(fatal.to_string().contains([';', ':']), "no remedy: {fatal}");
        }
    }
}
