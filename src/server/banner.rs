//! What a person reads when the server has started: facts in, text out.

use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::root_keys::RootOrigin;
use crate::base::{cpus, shell};
use crate::config::{Durability, ListUnreadable, Listen, REGION_DEFAULT, ReadMode, Scheme};

/// All that the start message says.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Name, version and commit.
    pub version: String,
    pub listen: Vec<Listen>,
    pub metrics: Option<SocketAddr>,
    pub cpus: Vec<usize>,
    /// Why these, a sentence each.
    pub reasons: Vec<String>,
    pub directory: PathBuf,
    /// `ext4`, `xfs`.
    pub filesystem: String,
    pub direct: DirectIo,
    /// Things in `.sluice/aside`.
    pub kept_aside: usize,
    /// What the filesystem cannot do, and what that costs, a line each.
    pub costs: Vec<String>,
    /// What the filesystem's times tell.
    pub times: String,
    pub durability: Durability,
    pub read_mode: ReadMode,
    pub buffer_memory: u64,
    pub request_memory: u64,
    /// The only one that clients may sign for.
    pub region: Option<String>,
    pub allow_sigv2: bool,
    pub list_unreadable: ListUnreadable,
    pub access_key: String,
    /// What `x-amz-expected-bucket-owner` must say.
    pub account_id: String,
    pub root_origin: RootOrigin,
}

/// Whether data goes past the page cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectIo {
    /// Bytes to which offsets, lengths and memory are aligned.
    On { alignment: u32 },
    /// Said with its cost; why the filesystem refuses.
    Off { reason: String },
}

impl Facts {
    /// The line that lists the buckets of this server, to be copied into a shell on this machine. The secret is read from where it
    /// is kept: it is neither printed nor left in a shell's history.
    pub fn aws_line(&self) -> String {
        let mut line = format!("AWS_ACCESS_KEY_ID={} AWS_SECRET_ACCESS_KEY=", self.access_key);
        match &self.root_origin {
            RootOrigin::Environment => line.push_str("\"$SLUICE_ROOT_SECRET_KEY\""),
            RootOrigin::SecretFile(path) => line.extend(["\"$(cat ", &shell::quote(path), ")\""]),
            RootOrigin::Stored { path, .. } => {
                line.extend(["\"$(sed -n 's/^secret_key = \"\\(.*\\)\"/\\1/p' ", &shell::quote(path), ")\""]);
            }
        }
        let endpoint = self.listen.first().map(reachable).unwrap_or_default();
        // Writing to a String cannot fail.
        let region = self.region.as_deref().unwrap_or(REGION_DEFAULT);
        let _ = write!(line, " AWS_REGION={region} aws --endpoint-url {endpoint} s3 ls");
        line
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.version)?;
        for listen in &self.listen {
            writeln!(f, "  endpoint    {listen}")?;
        }
        if let Some(address) = self.metrics {
            writeln!(f, "  metrics     http://{address}/metrics")?;
        }
        let cores = self.cpus.len();
        let plural = if cores == 1 { "data core" } else { "data cores" };
        writeln!(f, "  cores       {cores} {plural}, pinned to CPU {}", cpus::list(&self.cpus))?;
        for reason in &self.reasons {
            writeln!(f, "              {reason}")?;
        }
        writeln!(f, "  directory   {} ({})", self.directory.display(), self.filesystem)?;
        for cost in &self.costs {
            writeln!(f, "              {cost}")?;
        }
        match &self.direct {
            DirectIo::On { alignment } => {
                writeln!(f, "  O_DIRECT    on, alignment {alignment} bytes, reads {}", self.read_mode.as_str())?
            }
            DirectIo::Off { reason } => writeln!(f, "  O_DIRECT    off, data passes the page cache: {reason}")?,
        }
        writeln!(f, "  times       {}", self.times)?;
        writeln!(f, "  durability  {}", durability_sentence(self.durability))?;
        if self.kept_aside > 0 {
            let things = if self.kept_aside == 1 { "thing is" } else { "things are" };
            writeln!(f, "  kept aside  {} {things} in .sluice/aside: somebody's own, look there", self.kept_aside)?;
        }
        if self.allow_sigv2 {
            writeln!(f, "  signatures  4, AND 2, WHICH IS WEAK: no body, host or most parameters are signed")?;
        }
        if self.list_unreadable == ListUnreadable::Skip {
            writeln!(f, "  listings    LEAVE OUT WHAT IS IN DIRECTORIES THAT THE SERVER MAY NOT READ")?;
        }
        let mib = |bytes: u64| bytes / (1024 * 1024);
        writeln!(f, "  buffers     {} MiB", mib(self.buffer_memory))?;
        writeln!(f, "  requests    {} MiB for all that they hold beside buffers", mib(self.request_memory))?;
        writeln!(f, "  root keys   {}", self.root_sentence())?;
        writeln!(f, "  account     {}", self.account_id)?;
        writeln!(f, "  try         {}", self.aws_line())
    }
}

impl Facts {
    fn root_sentence(&self) -> String {
        match &self.root_origin {
            RootOrigin::Environment => "from the environment".to_owned(),
            RootOrigin::SecretFile(path) => format!("secret read from {}", path.display()),
            RootOrigin::Stored { path, is_new: true } => format!("a new pair was generated, kept in {}", path.display()),
            RootOrigin::Stored { path, is_new: false } => format!("kept in {}", path.display()),
        }
    }
}

fn durability_sentence(durability: Durability) -> &'static str {
    match durability {
        Durability::Acked => "acked: an answered change survives a power cut",
        Durability::Strict => "strict: an answered change survives a power cut, each with its own fsync",
        Durability::Relaxed => "RELAXED: A POWER CUT LOSES THE CHANGES OF THE LAST SECONDS, ALSO ANSWERED ONES",
    }
}

/// The URL under which a client on this machine reaches the listener: one that takes all addresses is no address to call.
fn reachable(listen: &Listen) -> String {
    let ip = match listen.address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let scheme: Scheme = listen.scheme;
    format!("{}://{}", scheme.as_str(), SocketAddr::new(ip, listen.address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        let listen = |scheme, address: &str| Listen { scheme, address: address.parse().expect("address") };
        Facts {
            version: "sluice 1.2.3 (abc)".into(),
            listen: vec![listen(Scheme::Http, "0.0.0.0:9000"), listen(Scheme::Https, "[::1]:9443")],
            metrics: Some("127.0.0.1:9002".parse().expect("address")),
            cpus: vec![0, 1, 2],
            reasons: vec!["The machine has one NUMA node.".into()],
            directory: "/srv/my data".into(),
            filesystem: "xfs".into(),
            direct: DirectIo::On { alignment: 4096 },
            kept_aside: 0,
            costs: vec!["no such thing: another way, one call more".into()],
            times: "tell every change from the one before".into(),
            durability: Durability::Acked,
            read_mode: ReadMode::Auto,
            buffer_memory: 128 << 20,
            request_memory: 256 << 20,
            region: None,
            allow_sigv2: false,
            list_unreadable: ListUnreadable::Fail,
            access_key: "SLKEXAMPLE".into(),
            account_id: "012345678901".into(),
            root_origin: RootOrigin::Stored { path: "/srv/my data/.sluice/config/root.toml".into(), is_new: true },
        }
    }

    #[test]
    fn says_what_an_operator_asks() {
        let text = facts().to_string();
        let expected = [
            "sluice 1.2.3 (abc)",
            "http://0.0.0.0:9000",
            "https://[::1]:9443",
            "http://127.0.0.1:9002/metrics",
            "3 data cores, pinned to CPU 0-2",
            "The machine has one NUMA node.",
            "/srv/my data (xfs)\n              no such thing: another way, one call more\n",
            "on, alignment 4096 bytes",
            "  times       tell every change from the one before\n",
            "acked",
            "a new pair was generated, kept in /srv/my data/.sluice/config/root.toml",
            "  account     012345678901\n",
        ];
        for part in expected {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(!text.contains("signatures") && !text.contains("aside"), "{text}");
        let kept = Facts { kept_aside: 2, ..facts() }.to_string();
        assert!(kept.contains("  kept aside  2 things are in .sluice/aside"), "{kept}");
        let weak = Facts { allow_sigv2: true, ..facts() }.to_string();
        assert!(weak.contains("signatures  4, AND 2, WHICH IS WEAK"), "{weak}");
        assert!(!text.contains("listings"), "{text}");
        let skipping = Facts { list_unreadable: ListUnreadable::Skip, ..facts() }.to_string();
        assert!(skipping.contains("listings    LEAVE OUT"), "{skipping}");
        let relaxed = Facts { durability: Durability::Relaxed, direct: DirectIo::Off { reason: "tmpfs".into() }, ..facts() };
        let text = relaxed.to_string();
        assert!(text.contains("RELAXED") && text.contains("off, data passes the page cache: tmpfs"), "{text}");
    }

    #[test]
    fn the_aws_line_can_be_pasted() {
        assert_eq!(
            facts().aws_line(),
            "AWS_ACCESS_KEY_ID=SLKEXAMPLE AWS_SECRET_ACCESS_KEY=\"$(sed -n 's/^secret_key = \"\\(.*\\)\"/\\1/p' \
             '/srv/my data/.sluice/config/root.toml')\" AWS_REGION=us-east-1 aws --endpoint-url http://127.0.0.1:9000 s3 ls"
        );
        let from_file = Facts { root_origin: RootOrigin::SecretFile("/run/secrets/s".into()), ..facts() };
        assert!(from_file.aws_line().contains("AWS_SECRET_ACCESS_KEY=\"$(cat /run/secrets/s)\""));
        let from_environment = Facts { root_origin: RootOrigin::Environment, ..facts() };
        assert!(from_environment.aws_line().contains("=\"$SLUICE_ROOT_SECRET_KEY\""));
    }

    #[test]
    fn the_shell_reads_the_secret_that_the_line_names() {
        let directory = tempfile::Builder::new().prefix("it's a $(test) ").tempdir().expect("temporary directory");
        let path = directory.path().join("root.toml");
        std::fs::write(&path, "# secret_key = \"no\"\naccess_key = \"SLKX\"\nsecret_key = \"s3cr3t\"\n").expect("write");
        let line = Facts { root_origin: RootOrigin::Stored { path, is_new: false }, ..facts() }.aws_line();
        let (settings, _) = line.split_once(" AWS_REGION").expect("region follows");
        let script = format!("{settings}; printf %s \"$AWS_SECRET_ACCESS_KEY\"");
        let output = std::process::Command::new("sh").args(["-c", &script]).output().expect("sh");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "s3cr3t");
    }
}
