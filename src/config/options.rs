//! Every option, once: its flag, its help, its environment variable and its key in the file.

use clap::{Args, Command};
use serde::{Deserialize, Deserializer};

/// A value as it was written; it is understood when all layers are known, so that an error can name the layer it came from.
pub type Text = String;

/// One layer of options, as text. A doc comment here is the option's help.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The directory to serve: its subdirectories are buckets, their files are objects.
    #[arg(value_name = "DIR")]
    #[serde(deserialize_with = "scalar")]
    pub directory: Option<Text>,

    /// Address to listen on: `127.0.0.1:9000`, `:9000`, `https://[::1]:9443`, `localhost:9000`. Repeats. Without a scheme it is
    /// https when a certificate is given, else http [default: 127.0.0.1:9000].
    #[arg(long, value_name = "ADDRESS")]
    #[serde(deserialize_with = "list")]
    pub listen: Option<Vec<Text>>,

    /// Address to serve metrics on, as text for Prometheus and for `sluice top`: `127.0.0.1:9002`. Over http, to everybody who reaches
    /// it [default: off].
    #[arg(long, value_name = "ADDRESS")]
    #[serde(deserialize_with = "scalar")]
    pub metrics_listen: Option<Text>,

    /// CPUs to run data cores on: `auto` for those that `sluice tune` would name, or a list such as `0,2-5` [default: auto].
    #[arg(long, value_name = "LIST")]
    #[serde(deserialize_with = "scalar")]
    pub cores: Option<Text>,

    /// Directory for generated keys and run-time configuration [default: DIR/.sluice/config].
    #[arg(long, value_name = "DIRECTORY")]
    #[serde(deserialize_with = "scalar")]
    pub config_dir: Option<Text>,

    /// Certificate chain for https, PEM. Repeats, with as many --tls-key: clients choose by server name, the first is the default.
    #[arg(long, value_name = "FILE")]
    #[serde(deserialize_with = "list")]
    pub tls_cert: Option<Vec<Text>>,

    /// Private key of the certificate in the same place, PEM. Repeats.
    #[arg(long, value_name = "FILE")]
    #[serde(deserialize_with = "list")]
    pub tls_key: Option<Vec<Text>>,

    /// Domain for virtual-hosted-style requests: with `s3.example.org`, `photos.s3.example.org` is the bucket `photos`. Repeats.
    #[arg(long, value_name = "SUFFIX")]
    #[serde(deserialize_with = "list")]
    pub domain: Option<Vec<Text>>,

    /// When a change is acknowledged: `acked` after a barrier shared with others, `strict` after its own fsync, `relaxed` at once
    /// (a power cut then loses the last seconds) [default: acked].
    #[arg(long, value_name = "MODE")]
    #[serde(deserialize_with = "scalar")]
    pub durability: Option<Text>,

    /// How downloads read: `auto` takes what the page cache has and the rest past it, `direct` always O_DIRECT, `cached` never
    /// [default: auto].
    #[arg(long, value_name = "MODE")]
    #[serde(deserialize_with = "scalar")]
    pub read_mode: Option<Text>,

    /// Which objects are compared with their checksums while they are sent, so that a bad disk is found out by the server: `passing`
    /// those that come from the disk through its own buffers, `always` all that are read whole [default: passing].
    #[arg(long, value_name = "MODE")]
    #[serde(deserialize_with = "scalar")]
    pub verify_reads: Option<Text>,

    /// What becomes of a listing that comes to a directory which the server's user may not read: `fail` answers AccessDenied,
    /// `skip` leaves its keys out and logs how many such directories there were [default: fail].
    #[arg(long, value_name = "MODE")]
    #[serde(deserialize_with = "scalar")]
    pub list_unreadable: Option<Text>,

    /// The only region that clients may sign for; others are told it. Without it any is believed, and each client is told that it is
    /// in its own [default: any].
    #[arg(long, value_name = "NAME")]
    #[serde(deserialize_with = "scalar")]
    pub region: Option<Text>,

    /// Believe Signature Version 2 as well, for old clients and benchmarks. Weak: HMAC-SHA1 over neither body, host nor most
    /// parameters, and links that may live for ever [default: false].
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(deserialize_with = "scalar")]
    pub allow_sigv2: Option<Text>,

    /// Memory for object data in flight, all cores together, such as `64MiB` or `1G` [default: 128MiB, or 2MiB per core].
    #[arg(long, value_name = "SIZE")]
    #[serde(deserialize_with = "scalar")]
    pub buffer_memory: Option<Text>,

    /// Memory for everything else that requests hold, all cores together: documents, listing pages, small bodies, cached
    /// directories [default: 256MiB].
    #[arg(long, value_name = "SIZE")]
    #[serde(deserialize_with = "scalar")]
    pub request_memory: Option<Text>,

    /// How long requests in flight may take to finish after SIGTERM, such as `30s` or `500ms` [default: 30s].
    #[arg(long, value_name = "DURATION")]
    #[serde(deserialize_with = "scalar")]
    pub drain_timeout: Option<Text>,

    /// `error`, `warn`, `info`, `debug` or `trace` [default: info].
    #[arg(long, value_name = "LEVEL")]
    #[serde(deserialize_with = "scalar")]
    pub log_level: Option<Text>,

    /// Log a line for every request, not only for errors [default: false].
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(deserialize_with = "scalar")]
    pub log_requests: Option<Text>,

    /// Time for a request's head to arrive [default: 30s].
    #[arg(long, value_name = "DURATION")]
    #[serde(deserialize_with = "scalar")]
    pub head_timeout: Option<Text>,

    /// Time that a connection may be idle between requests [default: 75s].
    #[arg(long, value_name = "DURATION")]
    #[serde(deserialize_with = "scalar")]
    pub idle_timeout: Option<Text>,

    /// Time without any byte of a body before its request is given up [default: 30s].
    #[arg(long, value_name = "DURATION")]
    #[serde(deserialize_with = "scalar")]
    pub body_stall_timeout: Option<Text>,

    /// Time for one request, all in all [default: 24h].
    #[arg(long, value_name = "DURATION")]
    #[serde(deserialize_with = "scalar")]
    pub total_timeout: Option<Text>,

    /// Bytes a second below which a body counts as stalled; 0 for no minimum [default: 1KiB].
    #[arg(long, value_name = "SIZE")]
    #[serde(deserialize_with = "scalar")]
    pub minimum_rate: Option<Text>,

    /// Bytes of one PUT and of one part, at most [default: 5GiB].
    #[arg(long, value_name = "SIZE")]
    #[serde(deserialize_with = "scalar")]
    pub put_size_max: Option<Text>,

    /// Bytes of a request's XML document, at most; none is taken beyond 2 MiB, or 4 MiB for CompleteMultipartUpload
    /// [default: 4MiB].
    #[arg(long, value_name = "SIZE")]
    #[serde(deserialize_with = "scalar")]
    pub xml_size_max: Option<Text>,

    /// Connections that one core serves at a time. Beyond, somebody idle is closed for a newcomer, who has sent nothing signed before
    /// who has; with none idle, health is answered and all else is 503 SlowDown [default: 16384].
    #[arg(long, value_name = "COUNT")]
    #[serde(deserialize_with = "scalar")]
    pub connections_per_core_max: Option<Text>,

    /// File with the root access key, instead of SLUICE_ROOT_ACCESS_KEY.
    #[arg(long, value_name = "FILE")]
    #[serde(deserialize_with = "scalar")]
    pub root_access_key_file: Option<Text>,

    /// File with the root secret key, instead of SLUICE_ROOT_SECRET_KEY.
    #[arg(long, value_name = "FILE")]
    #[serde(deserialize_with = "scalar")]
    pub root_secret_key_file: Option<Text>,
}

impl Options {
    /// The layer that the environment is. A variable set to nothing counts as not set, as in files for systemd and compose
    /// that list all variables; a list is separated by commas.
    pub fn from_environment(lookup: &dyn Fn(&str) -> Option<String>) -> Self {
        let mut table = toml::Table::new();
        for (name, is_list) in names() {
            let Some(text) = lookup(&environment_name(&name)).filter(|text| !text.trim().is_empty()) else { continue };
            let value = if is_list {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                toml::Value::Array(items.map(|item| toml::Value::String(item.to_owned())).collect())
            } else {
                toml::Value::String(text)
            };
            table.insert(name, value);
        }
        // Names and types come from `Options` itself, so that nothing can be unknown or of the wrong type here.
        Options::deserialize(table).unwrap_or_default()
    }

    /// The layer that a TOML file is; the error has the line and what was expected. It does not quote the line, as TOML's own
    /// message does: a secret that somebody put there would be in the log.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            format!("line {}: {}", before.matches('\n').count() + 1, error.message())
        })
    }

    /// Whether some option has this environment variable.
    pub fn has_environment_name(variable: &str) -> bool {
        names().any(|(name, _)| environment_name(&name) == variable)
    }
}

/// The environment variable of the option `name`: `buffer_memory` is `SLUICE_BUFFER_MEMORY`.
pub fn environment_name(name: &str) -> String {
    format!("SLUICE_{}", name.to_ascii_uppercase())
}

/// Every option's name, and whether it is a list.
fn names() -> impl Iterator<Item = (String, bool)> {
    let command = Options::augment_args(Command::new("names"));
    let names: Vec<_> = command
        .get_arguments()
        .map(|argument| (argument.get_id().to_string(), matches!(argument.get_action(), clap::ArgAction::Append)))
        .collect();
    names.into_iter()
}

/// A value of a file: `"30s"`, `1000` and `true` are all texts to us.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a string, an integer or a boolean")]
enum Scalar {
    Text(String),
    Integer(i64),
    Boolean(bool),
}

impl From<Scalar> for Text {
    fn from(value: Scalar) -> Text {
        match value {
            Scalar::Text(text) => text,
            Scalar::Integer(number) => number.to_string(),
            Scalar::Boolean(truth) => truth.to_string(),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

fn scalar<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Text>, D::Error> {
    Ok(Some(Scalar::deserialize(deserializer)?.into()))
}

fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Text>>, D::Error> {
    Ok(Some(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(text) => vec![text],
        OneOrMany::Many(texts) => texts,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_speaks_of_the_same_options() {
        let options = Options::from_environment(&|name| match name {
            "SLUICE_LISTEN" => Some("127.0.0.1:1, https://[::1]:2,".into()),
            "SLUICE_REGION" => Some("eu-central-1".into()),
            "SLUICE_CORES" => Some("0,1".into()),
            "SLUICE_DURABILITY" => Some(" ".into()),
            _ => None,
        });
        assert_eq!(options.listen, Some(vec!["127.0.0.1:1".to_owned(), "https://[::1]:2".to_owned()]));
        assert_eq!(options.region.as_deref(), Some("eu-central-1"));
        assert_eq!(options.cores.as_deref(), Some("0,1"), "a list of CPUs is one value");
        assert_eq!(options.durability, None, "set to nothing is not set");
        assert!(Options::has_environment_name("SLUICE_TLS_CERT"));
        assert!(!Options::has_environment_name("SLUICE_TLS_CRET"));
    }

    #[test]
    fn file_takes_natural_types_and_refuses_unknown_keys() {
        let options = Options::from_toml("listen = ':9000'\nlog_requests = true\nbuffer_memory = 67108864\ndomain = ['a', 'b']");
        let options = options.expect("valid file");
        assert_eq!(options.listen, Some(vec![":9000".to_owned()]));
        assert_eq!(options.log_requests.as_deref(), Some("true"));
        assert_eq!(options.buffer_memory.as_deref(), Some("67108864"));
        assert_eq!(options.domain.map(|domains| domains.len()), Some(2));
        let unknown = Options::from_toml("regoin = 'x'").expect_err("unknown key");
        assert!(unknown.contains("regoin") && unknown.contains("region") && unknown.contains("line 1"), "{unknown}");
        let secret = Options::from_toml("region = 'x'\nroot_secret_key = 'hunter22'").expect_err("unknown key");
        assert!(secret.contains("line 2") && !secret.contains("hunter22"), "{secret}");
        assert!(Options::from_toml("region = ['x']").is_err());
        assert!(Options::from_toml("region = 1.5").is_err());
        assert!(Options::from_toml("region = ").is_err());
    }
}
