//! How values are written: sizes, durations, addresses, lists of CPUs. Each refusal is the sentence that tells how to write it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::{Cores, Durability, ListUnreadable, LogLevel, ReadMode, Scheme, VerifyReads};
use crate::base::cpus;
use crate::limits;

/// What to write instead.
pub type Remedy = &'static str;

/// `65536`, `64MiB`, `1G`: K, M, G and T count by 1,024, also as KiB and so on; KB, MB, GB and TB by 1,000.
pub fn size(text: &str) -> Result<u64, Remedy> {
    const REMEDY: Remedy = "write a size such as 65536, 512KiB, 64MiB or 1G";
    let (number, unit) = number_and_unit(text).ok_or(REMEDY)?;
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "ki" | "kib" => 1 << 10,
        "m" | "mi" | "mib" => 1 << 20,
        "g" | "gi" | "gib" => 1 << 30,
        "t" | "ti" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(REMEDY),
    };
    number.checked_mul(factor).ok_or(REMEDY)
}

/// `500ms`, `30s`, `2m`, `24h`, `7d`; a number alone is seconds, as systemd has it. Never zero, at most 30 days.
pub fn timeout(text: &str) -> Result<Duration, Remedy> {
    const REMEDY: Remedy = "write a duration such as 500ms, 30s, 2m or 24h, above zero and at most 30d";
    let (number, unit) = number_and_unit(text).ok_or(REMEDY)?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(REMEDY),
    };
    let duration = Duration::from_millis(number.checked_mul(unit_ms).ok_or(REMEDY)?);
    if duration.is_zero() || duration > Duration::from_secs(limits::TIMEOUT_MAX_S) {
        return Err(REMEDY);
    }
    Ok(duration)
}

/// An address, and its scheme where one is written. No name is looked up: a name can change its address under a running
/// server; `localhost` is 127.0.0.1.
pub fn listen(text: &str) -> Result<(Option<Scheme>, SocketAddr), Remedy> {
    const REMEDY: Remedy = "write ADDRESS:PORT with an IP address or localhost, such as 127.0.0.1:9000, :9000, http://0.0.0.0:9000 or \
                            https://[::1]:9443";
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Some(Scheme::Http), rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Some(Scheme::Https), rest),
        Some(_) => return Err(REMEDY),
        None => (None, text),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if let Ok(address) = rest.parse::<SocketAddr>() {
        return Ok((scheme, address));
    }
    let (host, port) = rest.rsplit_once(':').ok_or(REMEDY)?;
    let port = decimal(port).and_then(|port| u16::try_from(port).ok()).ok_or(REMEDY)?;
    let ip = match host {
        "" => Ipv4Addr::UNSPECIFIED,
        _ if host.eq_ignore_ascii_case("localhost") => Ipv4Addr::LOCALHOST,
        _ => return Err(REMEDY),
    };
    Ok((scheme, SocketAddr::new(IpAddr::V4(ip), port)))
}

/// An address for metrics, which have no TLS.
pub fn metrics_listen(text: &str) -> Result<SocketAddr, Remedy> {
    match listen(text)? {
        (Some(Scheme::Https), _) => {
            Err("metrics are served over http only; put a proxy with TLS in front where they leave the machine")
        }
        (_, address) => Ok(address),
    }
}

/// `auto`, or CPUs as in `taskset -c`: `0,2-5`.
pub fn cores(text: &str) -> Result<Cores, Remedy> {
    const REMEDY: Remedy = "write auto, or CPU numbers and ranges such as 0,2-5";
    if text == "auto" {
        return Ok(Cores::Auto);
    }
    let mut cpus = cpus::parse_list(text, limits::CORES_MAX).filter(|cpus| !cpus.is_empty()).ok_or(REMEDY)?;
    cpus.sort_unstable();
    let count = cpus.len();
    cpus.dedup();
    if cpus.len() != count {
        return Err("name every CPU once: two data cores on one CPU only take turns");
    }
    Ok(Cores::List(cpus))
}

pub fn durability(text: &str) -> Result<Durability, Remedy> {
    match text {
        "acked" => Ok(Durability::Acked),
        "strict" => Ok(Durability::Strict),
        "relaxed" => Ok(Durability::Relaxed),
        _ => Err("write acked, strict or relaxed"),
    }
}

pub fn read_mode(text: &str) -> Result<ReadMode, Remedy> {
    match text {
        "auto" => Ok(ReadMode::Auto),
        "direct" => Ok(ReadMode::Direct),
        "cached" => Ok(ReadMode::Cached),
        _ => Err("write auto, direct or cached"),
    }
}

pub fn verify_reads(text: &str) -> Result<VerifyReads, Remedy> {
    match text {
        "passing" => Ok(VerifyReads::Passing),
        "always" => Ok(VerifyReads::Always),
        _ => Err("write passing or always"),
    }
}

pub fn list_unreadable(text: &str) -> Result<ListUnreadable, Remedy> {
    match text {
        "fail" => Ok(ListUnreadable::Fail),
        "skip" => Ok(ListUnreadable::Skip),
        _ => Err("write fail or skip"),
    }
}

pub fn log_level(text: &str) -> Result<LogLevel, Remedy> {
    match text.to_ascii_lowercase().as_str() {
        "error" => Ok(LogLevel::Error),
        "warn" => Ok(LogLevel::Warn),
        "info" => Ok(LogLevel::Info),
        "debug" => Ok(LogLevel::Debug),
        "trace" => Ok(LogLevel::Trace),
        _ => Err("write error, warn, info, debug or trace"),
    }
}

pub fn boolean(text: &str) -> Result<bool, Remedy> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("write true or false"),
    }
}

/// A region is part of the credential scope, where `/` separates.
pub fn region(text: &str) -> Result<String, Remedy> {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text.is_empty() || text.len() > 63 || !text.bytes().all(legal) {
        return Err("write a region such as us-east-1: lower-case letters, digits and hyphens, at most 63");
    }
    Ok(text.to_owned())
}

/// A host name (RFC 1123 section 2.1) without port; it may be one label.
pub fn domain(text: &str) -> Result<String, Remedy> {
    let label_ok = |label: &str| {
        let bytes = label.as_bytes();
        (1..=63).contains(&bytes.len())
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() > 253 || !text.split('.').all(label_ok) {
        return Err("write a host name such as s3.example.org, without port and without a leading dot");
    }
    Ok(text.to_ascii_lowercase())
}

pub fn connections(text: &str) -> Result<usize, Remedy> {
    const REMEDY: Remedy = "write a number of connections from 1 to 1048576";
    let count = decimal(text).and_then(|count| usize::try_from(count).ok()).ok_or(REMEDY)?;
    if count == 0 || count > limits::CONNECTIONS_PER_CORE_MAX {
        return Err(REMEDY);
    }
    Ok(count)
}

/// `64 MiB` as 64 and `MiB`.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    Some((decimal(number)?, unit.trim_start()))
}

/// Digits only: `parse` alone would take `+5`.
fn decimal(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let good = [
            ("0", 0),
            ("65536", 65536),
            ("64MiB", 64 << 20),
            ("64 mib", 64 << 20),
            ("1G", 1 << 30),
            ("2k", 2048),
            ("1TiB", 1 << 40),
            ("5MB", 5_000_000),
            ("7B", 7),
        ];
        for (text, bytes) in good {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "+1", "1.5G", "1X", "64MiBs", "99999999999999999999", "99999999T", "é"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations() {
        let good = [("500ms", 500), ("30s", 30_000), ("30", 30_000), ("2m", 120_000), ("1min", 60_000), ("24h", 86_400_000)];
        for (text, ms) in good {
            assert_eq!(timeout(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "0", "0s", "s", "-1s", "1.5s", "30S", "31d", "1y", "99999999999999999999h"] {
            assert!(timeout(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses() {
        let good = [
            ("127.0.0.1:9000", None, "127.0.0.1:9000"),
            (":9000", None, "0.0.0.0:9000"),
            ("localhost:9000", None, "127.0.0.1:9000"),
            ("http://10.0.0.1:80", Some(Scheme::Http), "10.0.0.1:80"),
            ("https://[::1]:9443", Some(Scheme::Https), "[::1]:9443"),
            ("https://:443/", Some(Scheme::Https), "0.0.0.0:443"),
            ("[::]:9000", None, "[::]:9000"),
        ];
        for (text, scheme, address) in good {
            assert_eq!(listen(text), Ok((scheme, address.parse().expect("an address"))), "{text}");
        }
        for text in ["", "9000", "127.0.0.1", "ftp://127.0.0.1:21", "example.org:9000", ":65536", "::1:9000", ":", ":+1", "[::1]"]
        {
            assert!(listen(text).is_err(), "{text}");
        }
    }

    #[test]
    fn cpu_lists() {
        assert_eq!(cores("auto"), Ok(Cores::Auto));
        assert_eq!(cores("3"), Ok(Cores::List(vec![3])));
        assert_eq!(cores("4-5, 0,2"), Ok(Cores::List(vec![0, 2, 4, 5])));
        for text in ["", "a", "1-", "-1", "5-2", "0,0", "0-3,2", "0-99999999999", "1,,2", "Auto"] {
            assert!(cores(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names() {
        assert_eq!(region("us-east-1").as_deref(), Ok("us-east-1"));
        assert_eq!(domain("S3.Example.org").as_deref(), Ok("s3.example.org"));
        assert_eq!(domain("localhost").as_deref(), Ok("localhost"));
        for text in ["", "us/east", "US", "a b", &"a".repeat(64)] {
            assert!(region(text).is_err(), "{text}");
        }
        for text in ["", ".example.org", "example.org.", "a..b", "-a.b", "a-.b", "a:80", &"a".repeat(64)] {
            assert!(domain(text).is_err(), "{text}");
        }
        assert!(connections("0").is_err() && connections("1048577").is_err() && connections("x").is_err());
        assert_eq!(connections("1000"), Ok(1000));
        assert_eq!((boolean("ON"), boolean("0"), boolean("maybe").is_err()), (Ok(true), Ok(false), true));
    }
}
