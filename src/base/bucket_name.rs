//! Which names may a bucket have? <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>

/// Whether S3 would create a general purpose bucket of this name. `store` serves no directory whose name is not legal, so no
/// legal name means anything to a path: no slash, no `..`, nothing hidden.
pub fn is_legal(name: &str) -> bool {
    let is_edge = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (3..=63).contains(&name.len())
        && name.bytes().all(|byte| is_edge(byte) || matches!(byte, b'.' | b'-'))
        // Each label as in DNS, so that virtual-hosted addressing works: not empty, no hyphen at its ends.
        && name.split('.').all(|label| label.starts_with(|c| is_edge(c as u8)) && label.ends_with(|c| is_edge(c as u8)))
        && name.parse::<std::net::Ipv4Addr>().is_err()
        && !RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        && !RESERVED_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

const RESERVED_PREFIXES: [&str; 3] = ["xn--", "sthree-", "amzn-s3-demo-"];
const RESERVED_SUFFIXES: [&str; 5] = ["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"];

#[cfg(test)]
mod tests {
    use super::is_legal;

    #[test]
    fn the_rules_of_the_user_guide() {
        let longest = "a".repeat(63);
        for name in ["abc", "my-bucket", "a.b", "docexamplewebsite.com", "0aa", "1.2.3", "health", "minio", &longest] {
            assert!(is_legal(name), "{name}");
        }
        let too_long = "a".repeat(64);
        for name in [
            "",
            "ab",
            "Abc",
            "a_b",
            "-ab",
            "ab-",
            ".ab",
            "ab.",
            "a..b",
            "a.-b",
            "a-.b",
            "192.168.5.4",
            "xn--abc",
            "a/b",
            "a b",
            "...",
            "abc-s3alias",
            "abc--x-s3",
            "$extremelyunlikelytoexist$",
            ".sluice",
            "büc",
            &too_long,
        ] {
            assert!(!is_legal(name), "{name}");
        }
    }
}
