//! From layers of text to one [`Config`], with errors that name the option, the layer and the remedy.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::options::{Options, Text, environment_name};
use super::values::{self, Remedy};
use super::{
    CertificateFiles, Config, Cores, Durability, KeyPart, ListUnreadable, Listen, LogLevel, ReadMode, RootSource, Scheme,
    VerifyReads,
};
use crate::base::secret::Secret;
use crate::limits;

/// What the operator wrote, in the order of precedence.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    pub flags: Options,
    pub environment: Options,
    pub file: Option<ConfigFile>,
    pub root: RootEnvironment,
    /// Names of all `SLUICE_*` variables that are set.
    pub environment_names: Vec<String>,
}

/// The file of `--config`, read and parsed.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    pub path: PathBuf,
    pub options: Options,
}

/// The root keys themselves are taken from the environment only: flags show in `ps`, and a file of settings gets shared.
#[derive(Clone, Debug, Default)]
pub struct RootEnvironment {
    pub access_key: Option<Secret>,
    pub secret_key: Option<Secret>,
}

/// The layer that a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Flag,
    Environment,
    File(PathBuf),
}

/// Why there is no configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// A value that cannot be understood.
    Invalid { option: &'static str, source: Source, value: String, remedy: Remedy },
    /// Options that are each fine and do not fit together.
    Conflict { option: &'static str, remedy: Remedy },
    /// Nothing can stand in for this option.
    Missing { option: &'static str, remedy: Remedy },
    /// The file of `--config` cannot be read or is no TOML of ours.
    File { path: PathBuf, problem: String },
}

impl ConfigError {
    /// Whether the command line itself is at fault, which has an exit code of its own.
    pub fn is_usage(&self) -> bool {
        matches!(self, ConfigError::Invalid { source: Source::Flag, .. } | ConfigError::Missing { .. })
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Invalid { option, source, value, remedy } => {
                f.write_str("invalid value ")?;
                write!(f, "'{}' for ", value.escape_debug())?;
                match source {
                    Source::Flag => write!(f, "{}", flag_name(option))?,
                    Source::Environment => write!(f, "{} (environment)", environment_name(option))?,
                    Source::File(path) => write!(f, "{option} in {}", path.display())?,
                }
                write!(f, ": {remedy}")
            }
            ConfigError::Conflict { option, remedy } | ConfigError::Missing { option, remedy } => {
                write!(f, "{} ({}): {remedy}", flag_name(option), environment_name(option))
            }
            ConfigError::File { path, problem } => write!(f, "configuration file {}: {problem}", path.display()),
        }
    }
}

impl std::error::Error for ConfigError {}

/// `layers.value(...)` for the field of `Options` that has this name.
macro_rules! value {
    ($layers:expr, $field:ident, $parse:expr, $default:expr) => {
        $layers.value(stringify!($field), |options| options.$field.as_ref(), $parse, || $default)
    };
}

/// `layers.values(...)` for the field of `Options` that has this name.
macro_rules! values {
    ($layers:expr, $field:ident, $parse:expr) => {
        $layers.values(stringify!($field), |options| options.$field.as_ref(), $parse)
    };
}

impl Layers {
    /// The configuration, or the first thing that is wrong with it.
    pub fn resolve(&self) -> Result<Config, ConfigError> {
        let directory = self.directory()?;
        let tls = self.certificates()?;
        let listen = self.listen(!tls.is_empty())?;
        let metrics_listen = self.metrics_listen(&listen)?;
        let config_dir = value!(self, config_dir, path, directory.join(".sluice").join("config"))?;
        Ok(Config {
            listen,
            metrics_listen,
            cores: value!(self, cores, values::cores, Cores::Auto)?,
            config_dir,
            tls,
            domains: values!(self, domain, values::domain)?,
            durability: value!(self, durability, values::durability, Durability::Acked)?,
            read_mode: value!(self, read_mode, values::read_mode, ReadMode::Auto)?,
            verify_reads: value!(self, verify_reads, values::verify_reads, VerifyReads::Passing)?,
            list_unreadable: value!(self, list_unreadable, values::list_unreadable, ListUnreadable::Fail)?,
            region: value!(self, region, |text| values::region(text).map(Some), None)?,
            allow_sigv2: value!(self, allow_sigv2, values::boolean, false)?,
            buffer_memory: value!(self, buffer_memory, buffer_memory, limits::BUFFER_MEMORY_DEFAULT)?,
            request_memory: value!(self, request_memory, request_memory, limits::REQUEST_MEMORY_DEFAULT)?,
            drain_timeout: value!(self, drain_timeout, values::timeout, seconds(limits::DRAIN_TIMEOUT_DEFAULT_S))?,
            log_level: value!(self, log_level, values::log_level, LogLevel::Info)?,
            log_requests: value!(self, log_requests, values::boolean, false)?,
            head_timeout: value!(self, head_timeout, values::timeout, seconds(limits::HEAD_TIMEOUT_DEFAULT_S))?,
            idle_timeout: value!(self, idle_timeout, values::timeout, seconds(limits::IDLE_TIMEOUT_DEFAULT_S))?,
            body_stall_timeout: value!(self, body_stall_timeout, values::timeout, seconds(limits::BODY_STALL_TIMEOUT_DEFAULT_S))?,
            total_timeout: value!(self, total_timeout, values::timeout, seconds(limits::TOTAL_TIMEOUT_DEFAULT_S))?,
            minimum_rate: value!(self, minimum_rate, values::size, limits::MINIMUM_RATE_DEFAULT)?,
            put_size_max: value!(self, put_size_max, values::size, limits::PUT_SIZE_MAX)?,
            xml_size_max: value!(self, xml_size_max, values::size, limits::XML_COMPLETE_SIZE_MAX as u64)?,
            connections_per_core_max: value!(
                self,
                connections_per_core_max,
                values::connections,
                limits::CONNECTIONS_PER_CORE_DEFAULT
            )?,
            root: self.root()?,
            unknown_environment: self.unknown_environment(),
            directory,
        })
    }

    fn directory(&self) -> Result<PathBuf, ConfigError> {
        let remedy = "name the directory to serve: sluice serve DIR";
        let missing = || ConfigError::Missing { option: "directory", remedy };
        value!(self, directory, |text| path(text).map(Some), None)?.ok_or_else(missing)
    }

    fn listen(&self, has_certificate: bool) -> Result<Vec<Listen>, ConfigError> {
        let conflict = |remedy| Err(ConfigError::Conflict { option: "listen", remedy });
        let bare = if has_certificate { Scheme::Https } else { Scheme::Http };
        let written = values!(self, listen, values::listen)?;
        let mut listen: Vec<Listen> =
            written.into_iter().map(|(scheme, address)| Listen { scheme: scheme.unwrap_or(bare), address }).collect();
        if listen.is_empty() {
            listen.push(Listen { scheme: bare, address: SocketAddr::from(([127, 0, 0, 1], 9000)) });
        }
        if listen.len() > limits::LISTEN_COUNT_MAX {
            return conflict("name at most 64 addresses");
        }
        let is_repeated = |at: usize, one: &Listen| {
            one.address.port() != 0 && listen.iter().take(at).any(|earlier| earlier.address == one.address)
        };
        if listen.iter().enumerate().any(|(at, one)| is_repeated(at, one)) {
            return conflict("the same address is named twice; name it once");
        }
        let any_https = listen.iter().any(|one| one.scheme == Scheme::Https);
        match (any_https, has_certificate) {
            (true, false) => conflict("https needs a certificate; give --tls-cert FILE and --tls-key FILE, or listen on http://"),
            (false, true) => conflict("a certificate is given and no address uses it; listen on https://, or drop --tls-cert"),
            _ => Ok(listen),
        }
    }

    fn metrics_listen(&self, listen: &[Listen]) -> Result<Option<SocketAddr>, ConfigError> {
        let address = value!(self, metrics_listen, |text| values::metrics_listen(text).map(Some), None)?;
        match address {
            Some(address) if address.port() != 0 && listen.iter().any(|one| one.address == address) => {
                let remedy = "buckets are served on the same address; choose another port for metrics";
                Err(ConfigError::Conflict { option: "metrics_listen", remedy })
            }
            address => Ok(address),
        }
    }

    fn certificates(&self) -> Result<Vec<CertificateFiles>, ConfigError> {
        let certs = values!(self, tls_cert, path)?;
        let keys = values!(self, tls_key, path)?;
        if certs.len() != keys.len() {
            return Err(ConfigError::Conflict {
                option: "tls_cert",
                remedy: "give as many --tls-key as --tls-cert, in the same order",
            });
        }
        Ok(certs.into_iter().zip(keys).map(|(cert, key)| CertificateFiles { cert, key }).collect())
    }

    fn root(&self) -> Result<RootSource, ConfigError> {
        let access_key_file = value!(self, root_access_key_file, |text| path(text).map(Some), None)?;
        let secret_key_file = value!(self, root_secret_key_file, |text| path(text).map(Some), None)?;
        let access_key = key_part("root_access_key", &self.root.access_key, access_key_file)?;
        let secret = key_part("root_secret_key", &self.root.secret_key, secret_key_file)?;
        match (access_key, secret) {
            (Some(access_key), Some(secret)) => Ok(RootSource::Given { access_key, secret }),
            (None, None) => Ok(RootSource::Stored),
            (None, Some(_)) => Err(ConfigError::Conflict {
                option: "root_access_key",
                remedy: "a root secret key is given without an access key; set SLUICE_ROOT_ACCESS_KEY or its _FILE too, or neither",
            }),
            (Some(_), None) => Err(ConfigError::Conflict {
                option: "root_secret_key",
                remedy: "a root access key is given without a secret key; set SLUICE_ROOT_SECRET_KEY or its _FILE too, or neither",
            }),
        }
    }

    /// Kubernetes sets `SLUICE_PORT*` and `SLUICE_SERVICE_*` in every pod beside a service called `sluice`: those are nobody's typos.
    fn unknown_environment(&self) -> Vec<String> {
        let ours = ["SLUICE_CONFIG", "SLUICE_ROOT_ACCESS_KEY", "SLUICE_ROOT_SECRET_KEY"];
        let known = |name: &str| {
            ours.contains(&name)
                || Options::has_environment_name(name)
                || name.starts_with("SLUICE_PORT")
                || name.starts_with("SLUICE_SERVICE_")
        };
        let mut unknown: Vec<String> = self.environment_names.iter().filter(|name| !known(name)).cloned().collect();
        unknown.sort_unstable();
        unknown
    }

    /// The value of the first layer that has one, understood.
    fn value<T>(
        &self,
        option: &'static str,
        field: impl Fn(&Options) -> Option<&Text>,
        parse: impl Fn(&str) -> Result<T, Remedy>,
        default: impl FnOnce() -> T,
    ) -> Result<T, ConfigError> {
        let found = self.layers().find_map(|(options, source)| Some((field(options)?, source)));
        match found {
            Some((text, source)) => parse(text).map_err(|remedy| invalid(option, source, text, remedy)),
            None => Ok(default()),
        }
    }

    /// A list comes from one layer whole: a flag replaces the file's list and does not add to it.
    fn values<T>(
        &self,
        option: &'static str,
        field: impl Fn(&Options) -> Option<&Vec<Text>>,
        parse: impl Fn(&str) -> Result<T, Remedy>,
    ) -> Result<Vec<T>, ConfigError> {
        let found = self.layers().find_map(|(options, source)| Some((field(options)?, source)));
        let Some((texts, source)) = found else { return Ok(Vec::new()) };
        let understand = |text: &Text| parse(text).map_err(|remedy| invalid(option, source.clone(), text, remedy));
        texts.iter().map(understand).collect()
    }

    fn layers(&self) -> impl Iterator<Item = (&Options, Source)> {
        let file = self.file.iter().map(|file| (&file.options, Source::File(file.path.clone())));
        [(&self.flags, Source::Flag), (&self.environment, Source::Environment)].into_iter().chain(file)
    }
}

fn invalid(option: &'static str, source: Source, value: &str, remedy: Remedy) -> ConfigError {
    ConfigError::Invalid { option, source, value: value.to_owned(), remedy }
}

/// The half of the pair that the environment or a file gives; both at once are refused rather than one silently ignored.
fn key_part(option: &'static str, environment: &Option<Secret>, file: Option<PathBuf>) -> Result<Option<KeyPart>, ConfigError> {
    let environment = environment.as_ref().filter(|key| !key.expose().is_empty());
    match (environment, file) {
        (Some(_), Some(_)) => {
            Err(ConfigError::Conflict { option, remedy: "it is given by the environment and by a file; give one of them" })
        }
        (Some(key), None) => Ok(Some(KeyPart::Environment(key.clone()))),
        (None, file) => Ok(file.map(KeyPart::File)),
    }
}

/// Every block of one transfer must fit, else nothing can move.
fn buffer_memory(text: &str) -> Result<u64, Remedy> {
    const LEAST: u64 = (limits::BLOCK_SIZE * limits::BLOCKS_PER_TRANSFER_MAX) as u64;
    const { assert!(LEAST == 2 * 1024 * 1024, "the sentence below says 2MiB") };
    let bytes = values::size(text)?;
    if bytes < LEAST { Err("write at least 2MiB: the blocks of one transfer") } else { Ok(bytes) }
}

/// The largest request of each kind must fit beside what is fixed.
fn request_memory(text: &str) -> Result<u64, Remedy> {
    const LEAST: u64 = limits::REQUEST_MEMORY_MIN;
    const { assert!(LEAST == 96 * 1024 * 1024, "the sentence below says 96MiB") };
    let bytes = values::size(text)?;
    if bytes < LEAST { Err("write at least 96MiB: caches of uploads, and the largest documents") } else { Ok(bytes) }
}

fn path(text: &str) -> Result<PathBuf, Remedy> {
    if text.is_empty() || text.contains('\0') { Err("write a path") } else { Ok(Path::new(text).to_path_buf()) }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// `buffer_memory` as it is typed: `--buffer-memory`. Two are not flags: the directory, and keys, which `ps` would show.
fn flag_name(option: &str) -> String {
    match option {
        "directory" => "DIR".to_owned(),
        "root_access_key" | "root_secret_key" => "root keys".to_owned(),
        _ => format!("--{}", option.replace('_', "-")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toml(text: &str) -> Option<ConfigFile> {
        Some(ConfigFile { path: "/etc/sluice.toml".into(), options: Options::from_toml(text).expect("valid TOML") })
    }

    fn environment(pairs: &'static [(&str, &str)]) -> Options {
        let lookup = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Options::from_environment(&lookup)
    }

    fn flags(directory: &str) -> Options {
        Options { directory: Some(directory.into()), ..Options::default() }
    }

    fn only_flags(change: impl FnOnce(&mut Options)) -> Result<Config, ConfigError> {
        let mut options = flags("/data");
        change(&mut options);
        Layers { flags: options, ..Layers::default() }.resolve()
    }

    #[test]
    fn defaults() {
        let config = only_flags(|_| ()).expect("valid");
        assert_eq!(config.listen, [Listen { scheme: Scheme::Http, address: "127.0.0.1:9000".parse().expect("address") }]);
        assert_eq!((config.metrics_listen, config.config_dir), (None, "/data/.sluice/config".into()));
        assert_eq!((config.region, config.cores), (None, Cores::Auto));
        assert_eq!((config.durability, config.read_mode), (Durability::Acked, ReadMode::Auto));
        assert_eq!(config.drain_timeout, Duration::from_secs(30));
        assert_eq!(config.buffer_memory, limits::BUFFER_MEMORY_DEFAULT);
        assert_eq!(config.request_memory, limits::REQUEST_MEMORY_DEFAULT);
        assert!(matches!(config.root, RootSource::Stored));
        assert!(!config.log_requests && config.tls.is_empty() && config.domains.is_empty());
    }

    #[test]
    fn precedence_is_flag_environment_file_default() {
        // Every subset of the three layers sets the region; the first that is set must win.
        for subset in 0..8_u8 {
            let mut layers = Layers { flags: flags("/data"), ..Layers::default() };
            if subset & 1 != 0 {
                layers.flags.region = Some("from-flag".into());
            }
            if subset & 2 != 0 {
                layers.environment = environment(&[("SLUICE_REGION", "from-environment")]);
            }
            if subset & 4 != 0 {
                layers.file = toml("region = 'from-file'");
            }
            let expected = match subset {
                _ if subset & 1 != 0 => Some("from-flag"),
                _ if subset & 2 != 0 => Some("from-environment"),
                _ if subset & 4 != 0 => Some("from-file"),
                _ => None,
            };
            assert_eq!(layers.resolve().expect("valid").region.as_deref(), expected, "subset {subset:03b}");
        }
    }

    #[test]
    fn every_option_is_taken_from_every_layer() {
        const FILE: &str = "directory = '/d'\nlisten = ['https://127.0.0.1:1']\nmetrics_listen = ':2'\ncores = '1'\nconfig_dir = '/c'\n\
            tls_cert = 'c.pem'\ntls_key = ['k.pem']\ndomain = 'x.org'\ndurability = 'strict'\nread_mode = 'direct'\n\
            list_unreadable = 'skip'\nverify_reads = 'always'\nregion = 'r'\nbuffer_memory = '1G'\nrequest_memory = '2G'\ndrain_timeout = 1\nlog_level = 'debug'\nlog_requests = true\n\
            head_timeout = '2s'\nidle_timeout = '3s'\nbody_stall_timeout = '4s'\ntotal_timeout = '5s'\nminimum_rate = 6\nput_size_max = '7GiB'\nxml_size_max = 8\n\
            connections_per_core_max = 7\nroot_access_key_file = '/a'\nroot_secret_key_file = '/s'";
        let options = Options::from_toml(FILE).expect("valid TOML");
        let file = Layers { file: toml(FILE), ..Layers::default() };
        let environment = Layers { environment: options.clone(), ..Layers::default() };
        let flags = Layers { flags: options, ..Layers::default() };
        for layers in [file, environment, flags] {
            let config = layers.resolve().expect("valid");
            assert_eq!(config.directory, Path::new("/d"));
            assert_eq!(config.listen.first().map(ToString::to_string).as_deref(), Some("https://127.0.0.1:1"));
            assert_eq!(config.metrics_listen, Some("0.0.0.0:2".parse().expect("address")));
            assert_eq!((config.cores, config.config_dir), (Cores::List(vec![1]), "/c".into()));
            assert_eq!(config.tls, [CertificateFiles { cert: "c.pem".into(), key: "k.pem".into() }]);
            assert_eq!(config.domains, ["x.org"]);
            assert_eq!((config.durability, config.read_mode), (Durability::Strict, ReadMode::Direct));
            assert_eq!((config.list_unreadable, config.verify_reads), (ListUnreadable::Skip, VerifyReads::Always));
            assert_eq!((config.buffer_memory, config.request_memory, config.minimum_rate), (1 << 30, 2 << 30, 6));
            assert_eq!((config.put_size_max, config.xml_size_max), (7 << 30, 8));
            assert_eq!((config.log_level, config.log_requests), (LogLevel::Debug, true));
            let timeouts =
                [config.drain_timeout, config.head_timeout, config.idle_timeout, config.body_stall_timeout, config.total_timeout];
            assert_eq!(timeouts.map(|timeout| timeout.as_secs()), [1, 2, 3, 4, 5]);
            assert_eq!(config.connections_per_core_max, 7);
            assert!(matches!(config.root, RootSource::Given { access_key: KeyPart::File(_), secret: KeyPart::File(_) }));
        }
    }

    #[test]
    fn a_list_is_replaced_not_extended() {
        let mut layers = Layers { flags: flags("/data"), file: toml("listen = [':1', ':2']"), ..Layers::default() };
        assert_eq!(layers.resolve().expect("valid").listen.len(), 2);
        layers.environment = environment(&[("SLUICE_LISTEN", ":3,:4,:5")]);
        assert_eq!(layers.resolve().expect("valid").listen.len(), 3);
        layers.flags.listen = Some(vec![":6".into()]);
        assert_eq!(layers.resolve().expect("valid").listen.len(), 1);
    }

    #[test]
    fn errors_name_option_source_and_remedy() {
        let flag = only_flags(|options| options.buffer_memory = Some("lots".into())).expect_err("invalid");
        assert!(flag.is_usage());
        let text = flag.to_string();
        assert!(text.contains("'lots'") && text.contains("--buffer-memory") && text.contains("64MiB"), "{text}");

        let options = environment(&[("SLUICE_DRAIN_TIMEOUT", "soon")]);
        let error = Layers { flags: flags("/d"), environment: options, ..Layers::default() }.resolve().expect_err("invalid");
        assert!(!error.is_usage());
        assert!(error.to_string().contains("SLUICE_DRAIN_TIMEOUT"), "{error}");

        let layers = Layers { flags: flags("/d"), file: toml("read_mode = 'fast'"), ..Layers::default() };
        let text = layers.resolve().expect_err("invalid").to_string();
        assert!(text.contains("read_mode in /etc/sluice.toml") && text.contains("direct"), "{text}");

        assert!(Layers::default().resolve().expect_err("no directory").is_usage());
    }

    #[test]
    fn schemes_follow_certificates() {
        let certificate = |options: &mut Options| {
            options.tls_cert = Some(vec!["c".into()]);
            options.tls_key = Some(vec!["k".into()]);
        };
        let config = only_flags(certificate).expect("valid");
        assert_eq!(config.listen.first().map(|one| one.scheme), Some(Scheme::Https), "a certificate makes the default https");
        let both = only_flags(|options| {
            certificate(options);
            options.listen = Some(vec!["http://:9000".into(), ":9443".into()]);
        });
        let schemes: Vec<Scheme> = both.expect("valid").listen.iter().map(|one| one.scheme).collect();
        assert_eq!(schemes, [Scheme::Http, Scheme::Https]);
        let refused: [fn(&mut Options); 4] = [
            |options| options.listen = Some(vec!["https://:9443".into()]),
            |options| options.tls_cert = Some(vec!["c".into()]),
            |options| options.listen = Some(vec![":9000".into(), "http://0.0.0.0:9000".into()]),
            |options| {
                options.tls_cert = Some(vec!["c".into()]);
                options.tls_key = Some(vec!["k".into()]);
                options.listen = Some(vec!["http://:9000".into()]);
            },
        ];
        for change in refused {
            assert!(matches!(only_flags(change), Err(ConfigError::Conflict { .. })));
        }
    }

    #[test]
    fn metrics_have_an_address_of_their_own() {
        let on = |text: &str| only_flags(|options| options.metrics_listen = Some(text.into()));
        assert_eq!(on("http://localhost:9002").expect("valid").metrics_listen, Some("127.0.0.1:9002".parse().expect("address")));
        assert!(on("https://:9002").expect_err("no TLS here").to_string().contains("http only"));
        assert!(matches!(on("127.0.0.1:9000"), Err(ConfigError::Conflict { option: "metrics_listen", .. })));
        assert!(on("9002").expect_err("no address").is_usage());
    }

    #[test]
    fn half_a_pair_of_root_keys_is_refused() {
        let secret = |text: &str| Some(Secret::new(text.into()));
        let resolve = |access_key, secret_key, access_key_file: Option<&str>| {
            let mut layers = Layers { flags: flags("/data"), ..Layers::default() };
            layers.root = RootEnvironment { access_key, secret_key };
            layers.flags.root_access_key_file = access_key_file.map(Into::into);
            layers.resolve()
        };
        assert!(matches!(resolve(secret("a"), None, None), Err(ConfigError::Conflict { option: "root_secret_key", .. })));
        assert!(matches!(resolve(None, secret("s"), None), Err(ConfigError::Conflict { option: "root_access_key", .. })));
        assert!(matches!(resolve(secret("a"), secret("s"), Some("/f")), Err(ConfigError::Conflict { .. })));
        let mixed = resolve(None, secret("s"), Some("/f")).expect("one of each is a pair");
        assert!(!format!("{mixed:?}").contains("\"s\""), "a secret shows in Debug");
        let empty = resolve(secret(""), secret(""), None).expect("set to nothing is not set");
        assert!(matches!(empty.root, RootSource::Stored));
    }

    #[test]
    fn mistyped_environment_is_noticed() {
        let mut layers = Layers { flags: flags("/data"), ..Layers::default() };
        let names =
            ["SLUICE_DURABLITY", "SLUICE_REGION", "SLUICE_PORT_9000_TCP", "SLUICE_SERVICE_HOST", "SLUICE_ROOT_SECRET_KEY"];
        layers.environment_names = names.map(str::to_owned).to_vec();
        assert_eq!(layers.resolve().expect("valid").unknown_environment, ["SLUICE_DURABLITY"]);
    }

    #[test]
    fn reload_knows_what_needs_a_restart() {
        let old = only_flags(|_| ()).expect("valid");
        let new = only_flags(|options| {
            options.region = Some("eu".into());
            options.log_level = Some("debug".into());
            options.listen = Some(vec![":1".into()]);
        });
        let new = new.expect("valid");
        assert_eq!(old.needs_restart(&new), ["listen", "region"]);
        let reloaded = old.reloaded(new);
        assert!(old.needs_restart(&reloaded).is_empty());
        assert_eq!((reloaded.log_level, reloaded.region), (LogLevel::Debug, None));
        assert!(old.needs_restart(&old.clone()).is_empty());
    }
}
