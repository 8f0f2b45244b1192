//! Which bucket, which key? From the path and the `Host` of a request, and from `x-amz-copy-source`.
//!
//! A key is decoded exactly once: `%252F` is the key `%2F`. What a key means as a path is `store`'s business.

use super::error::{Code, S3Error};
use super::operation::Level;
use crate::base::{bucket_name, percent};
use crate::limits;
use crate::policy::Resource;

/// What a request is about, before anything is known to exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub target: Target,
    /// The bucket came from `Host`.
    pub is_virtual_hosted: bool,
}

/// What a path addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Service,
    Bucket(BucketTarget),
    Object(ObjectTarget),
}

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketTarget {
    /// Never empty. It may be no legal name: see `check_bucket`.
    pub bucket: String,
}

/// An object, or a place for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectTarget {
    /// As that of a bucket.
    pub bucket: String,
    /// Never empty.
    pub key: String,
}

impl Target {
    /// Without a key, it is the bucket.
    fn of(bucket: String, key: Option<String>) -> Self {
        match key {
            None => Self::Bucket(BucketTarget { bucket }),
            Some(key) => Self::Object(ObjectTarget { bucket, key }),
        }
    }

    /// What it addresses.
    pub fn level(&self) -> Level {
        match self {
            Self::Service => Level::Service,
            Self::Bucket(_) => Level::Bucket,
            Self::Object(_) => Level::Object,
        }
    }

    /// The bucket in which it is, if in one.
    pub fn bucket(&self) -> Option<&str> {
        match self {
            Self::Service => None,
            Self::Bucket(BucketTarget { bucket }) | Self::Object(ObjectTarget { bucket, .. }) => Some(bucket),
        }
    }

    /// The same in the words of policies.
    pub fn resource(&self) -> Resource<'_> {
        match self {
            Self::Service => Resource::Service,
            Self::Bucket(BucketTarget { bucket }) => Resource::Bucket(bucket),
            Self::Object(ObjectTarget { bucket, key }) => Resource::Object(bucket, key.as_bytes()),
        }
    }

    /// Whether bucket and key can be such.
    pub fn check(&self, is_creation: bool) -> Result<(), S3Error> {
        match self {
            Self::Service => Ok(()),
            Self::Bucket(BucketTarget { bucket }) => check_bucket(bucket, is_creation),
            Self::Object(ObjectTarget { bucket, key }) => check_bucket(bucket, false).and_then(|()| check_key(key)),
        }
    }
}

/// Reads the raw path of a target (from `/` to before `?`) and its `Host`, with `domains` being the suffixes under which buckets
/// are host names: path style is always understood as well.
pub fn parse(path: &[u8], host: Option<&str>, domains: &[String]) -> Result<Address, S3Error> {
    let path = path.strip_prefix(b"/").ok_or_else(invalid_uri)?;
    if let Some(bucket) = host.and_then(|host| bucket_of_host(host, domains)) {
        let key = if path.is_empty() { None } else { Some(key_of(path)?) };
        return Ok(Address { target: Target::of(bucket, key), is_virtual_hosted: true });
    }
    let (bucket, key) = match path.iter().position(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (path, &b""[..]),
    };
    if bucket.is_empty() {
        let service = Address { target: Target::Service, is_virtual_hosted: false };
        return if key.is_empty() && path.is_empty() { Ok(service) } else { Err(invalid_uri()) };
    }
    let key = if key.is_empty() { None } else { Some(key_of(key)?) };
    Ok(Address { target: Target::of(text_of(bucket)?, key), is_virtual_hosted: false })
}

/// A name that cannot be a bucket's does not exist (arrow probes `HEAD /%24extremelyunlikelytoexist%24` and wants 404), and
/// cannot be created.
pub fn check_bucket(bucket: &str, is_creation: bool) -> Result<(), S3Error> {
    if bucket_name::is_legal(bucket) {
        Ok(())
    } else if is_creation {
        Err(S3Error::new(Code::InvalidBucketName).with("BucketName", bucket))
    } else {
        Err(S3Error::no_such_bucket(bucket))
    }
}

/// Bounds and bytes of a decoded key, also of those in DeleteObjects.
pub fn check_key(key: &str) -> Result<(), S3Error> {
    if key.len() > limits::KEY_SIZE_MAX {
        let error = S3Error::new(Code::KeyTooLongError).with("Size", key.len().to_string());
        return Err(error.with("MaxSizeAllowed", limits::KEY_SIZE_MAX.to_string()));
    }
    if key.contains('\0') {
        // No file name holds one, and no XML document can list it.
        return Err(S3Error::new(Code::InvalidURI).message("A key must not contain NUL"));
    }
    Ok(())
}

/// What `x-amz-copy-source` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopySource {
    pub bucket: String,
    pub key: String,
    pub version_id: Option<String>,
}

/// Reads `[/]bucket/key[?versionId=id]`; bucket and key are percent-encoded, though some clients send them raw. A `+` is a space, as
/// in a form: Amazon reads it so, and Go programs escape with `url.QueryEscape` (rclone's `pathEscape` says why it sends `%2B`).
pub fn copy_source(value: &[u8]) -> Result<CopySource, S3Error> {
    let invalid =
        |message: &'static str| S3Error::invalid_argument("x-amz-copy-source", &String::from_utf8_lossy(value), message);
    // A raw `?` may be part of an unencoded key: only `?versionId=` ends it.
    let marker = b"?versionId=";
    let (path, version) = match value.windows(marker.len()).rposition(|window| window == marker) {
        Some(at) => (&value[..at], Some(&value[at + marker.len()..])),
        None => (value, None),
    };
    let decode = |bytes: &[u8]| -> Result<String, S3Error> {
        let bytes = percent::decode(bytes, true).ok_or_else(|| invalid("Invalid copy source encoding"))?;
        String::from_utf8(bytes).map_err(|_| invalid("Invalid copy source encoding"))
    };
    // The slash between bucket and key may itself be encoded, so decoding comes first.
    let path = decode(path)?;
    let path = path.strip_prefix('/').unwrap_or(&path);
    let message = "Copy Source must mention the source bucket and key: sourcebucket/sourcekey";
    let (bucket, key) = path.split_once('/').ok_or_else(|| invalid(message))?;
    if bucket.is_empty() || key.is_empty() {
        return Err(invalid(message));
    }
    check_bucket(bucket, false)?;
    check_key(key)?;
    let version_id = version.map(decode).transpose()?;
    if version_id.as_deref() == Some("") {
        return Err(invalid("Version id cannot be the empty string"));
    }
    Ok(CopySource { bucket: bucket.to_owned(), key: key.to_owned(), version_id })
}

/// The label in front of the longest matching suffix. Host names are compared without case and without port.
pub fn bucket_of_host(host: &str, domains: &[String]) -> Option<String> {
    if domains.is_empty() || host.starts_with('[') {
        return None;
    }
    let name = host.split(':').next()?.trim_end_matches('.').to_ascii_lowercase();
    let before = domains.iter().filter_map(|domain| {
        let domain = domain.trim_matches('.').to_ascii_lowercase();
        if name == domain { Some("") } else { name.strip_suffix(&domain)?.strip_suffix('.') }
    });
    // The longest suffix leaves the shortest name; the suffix itself leaves none and is path style.
    before.min_by_key(|before| before.len()).filter(|bucket| !bucket.is_empty()).map(str::to_owned)
}

fn key_of(raw: &[u8]) -> Result<String, S3Error> {
    let key = text_of(raw)?;
    check_key(&key)?;
    Ok(key)
}

fn text_of(raw: &[u8]) -> Result<String, S3Error> {
    let bytes = percent::decode(raw, false).ok_or_else(invalid_uri)?;
    String::from_utf8(bytes).map_err(|_| invalid_uri())
}

fn invalid_uri() -> S3Error {
    S3Error::new(Code::InvalidURI)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(target: Target) -> (Option<String>, Option<String>) {
        match target {
            Target::Service => (None, None),
            Target::Bucket(BucketTarget { bucket }) => (Some(bucket), None),
            Target::Object(ObjectTarget { bucket, key }) => (Some(bucket), Some(key)),
        }
    }

    fn path_style(path: &str) -> Result<(Option<String>, Option<String>), Code> {
        let address = parse(path.as_bytes(), Some("localhost:9000"), &[]).map_err(|error| error.code())?;
        assert!(!address.is_virtual_hosted);
        Ok(parts(address.target))
    }

    fn named(bucket: &str, key: Option<&str>) -> Result<(Option<String>, Option<String>), Code> {
        Ok((Some(bucket.to_owned()), key.map(str::to_owned)))
    }

    #[test]
    fn path_style_addresses() {
        assert_eq!(path_style("/"), Ok((None, None)));
        assert_eq!(path_style("/b"), named("b", None));
        assert_eq!(path_style("/b/"), named("b", None));
        assert_eq!(path_style("/b/a%20b+c/%C3%BC"), named("b", Some("a b+c/ü")));
        assert_eq!(path_style("/b/%252F"), named("b", Some("%2F")));
        assert_eq!(path_style("/b/x%2Fy"), named("b", Some("x/y")));
        assert_eq!(path_style("/b//k"), named("b", Some("/k")));
        assert_eq!(path_style("/b/a//../%2e%2e/"), named("b", Some("a//../../")));
        assert_eq!(path_style("/b/dir/"), named("b", Some("dir/")));
        assert_eq!(path_style("/%24no%24"), named("$no$", None));
        for path in ["", "b/k", "//", "//k", "/b/%", "/b/%2", "/b/%zz", "/b/%ff", "/b/%c0%af", "/b/a%00b", "/%ff"] {
            assert_eq!(path_style(path), Err(Code::InvalidURI), "{path}");
        }
    }

    #[test]
    fn a_key_has_1024_bytes() {
        assert!(path_style(&format!("/b/{}", "k".repeat(1024))).is_ok());
        assert!(path_style(&format!("/b/{}", "%C3%BC".repeat(512))).is_ok());
        assert_eq!(path_style(&format!("/b/{}", "k".repeat(1025))), Err(Code::KeyTooLongError));
    }

    #[test]
    fn virtual_hosted_addresses() {
        let domains = ["example.com".to_owned(), "S3.example.com".to_owned()];
        let bucket = |host: &str, path: &str| {
            let address = parse(path.as_bytes(), Some(host), &domains).unwrap();
            let (bucket, key) = parts(address.target);
            (address.is_virtual_hosted, bucket, key)
        };
        let hosted = |bucket: &str, key: Option<&str>| (true, Some(bucket.to_owned()), key.map(str::to_owned));
        assert_eq!(bucket("photos.s3.example.com", "/"), hosted("photos", None));
        assert_eq!(bucket("Photos.s3.Example.com:9000", "/a/b"), hosted("photos", Some("a/b")));
        assert_eq!(bucket("a.b.s3.example.com.", "//k"), hosted("a.b", Some("/k")));
        assert_eq!(bucket("photos.example.com", "/k"), hosted("photos", Some("k")));
        for host in ["s3.example.com", "example.com:80", "other.org", "notexample.com", "[::1]:9000", "127.0.0.1", ""] {
            assert_eq!(bucket(host, "/b/k"), (false, Some("b".to_owned()), Some("k".to_owned())), "{host}");
        }
        assert_eq!(parts(parse(b"/b", None, &domains).unwrap().target), (Some("b".to_owned()), None));
    }

    #[test]
    fn illegal_names_do_not_exist_and_are_not_created() {
        assert!(check_bucket("photos", true).is_ok());
        assert_eq!(check_bucket("$extremelyunlikelytoexist$", false).unwrap_err().code(), Code::NoSuchBucket);
        assert_eq!(check_bucket("..", false).unwrap_err().status(), 404);
        assert_eq!(check_bucket("Photos", true).unwrap_err().code(), Code::InvalidBucketName);
    }

    #[test]
    fn copy_sources_of_real_clients() {
        let source = |value: &str| copy_source(value.as_bytes()).map_err(|error| error.code());
        let of = |key: &str, version_id: Option<&str>| {
            Ok(CopySource { bucket: "src".into(), key: key.into(), version_id: version_id.map(str::to_owned) })
        };
        assert_eq!(source("src/a/b%20c"), of("a/b c", None));
        assert_eq!(source("/src/a?versionId=null"), of("a", Some("null")));
        assert_eq!(source("/src%2Fa%2Bb+c"), of("a+b c", None));
        assert_eq!(source("src/a+b%20c%2bd"), of("a b c+d", None));
        assert_eq!(source("src/what%3FversionId=1?versionId=v%2B"), of("what?versionId=1", Some("v+")));
        assert_eq!(source("src/a?b"), of("a?b", None));
        assert_eq!(source("src//a"), of("/a", None));
        assert_eq!(source("src/ü"), of("ü", None));
        for value in ["", "/", "src", "src/", "//a", "src/%", "src/%ff", "src/a?versionId="] {
            assert_eq!(source(value), Err(Code::InvalidArgument), "{value}");
        }
        assert_eq!(source("../a"), Err(Code::NoSuchBucket));
        assert_eq!(source(&format!("src/{}", "k".repeat(1025))), Err(Code::KeyTooLongError));
    }

    proptest! {
        #[test]
        fn a_key_survives_its_encoding(key in "[^\\x00]{1,60}") {
            let mut path = b"/bucket/".to_vec();
            percent::encode_into(&mut path, key.as_bytes(), true);
            prop_assert_eq!(parts(parse(&path, None, &[]).unwrap().target).1, Some(key.clone()));
            let source = format!("bucket/{}", percent::encode(key.as_bytes(), false));
            prop_assert_eq!(copy_source(source.as_bytes()).unwrap().key, key);
        }

        #[test]
        fn no_path_panics(path in proptest::collection::vec(any::<u8>(), 0..50), host in "\\PC{0,30}") {
            let domains = ["x".to_owned(), ".".to_owned(), String::new()];
            if let Ok(address) = parse(&path, Some(&host), &domains) {
                let (bucket, key) = parts(address.target);
                prop_assert!(bucket.as_deref() != Some("") && key.as_deref() != Some(""));
            }
            let _ = copy_source(&path);
        }
    }
}
