//! The root identity's keys: named by the operator, or generated once and kept where only this user reads. There is no default.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::Deserialize;

use super::fatal::{Fatal, RootKeysProblem};
use crate::base::secret::Secret;
use crate::config::{Config, KeyPart, RootCredentials, RootSource};
use crate::documents;
use crate::limits;

/// The file of the generated pair, in the configuration directory.
const FILE_NAME: &str = "root.toml";
/// As long as AWS's: <https://docs.aws.amazon.com/IAM/latest/APIReference/API_AccessKey.html>.
const ACCESS_KEY_SIZE: usize = 20;
const SECRET_SIZE: usize = 40;
/// Begins a generated access key, so that scanners for leaked keys can know ours.
const ACCESS_KEY_PREFIX: &str = "SLK";

/// The pair, and where it came from.
#[derive(Clone, Debug)]
pub struct RootKeys {
    pub credentials: RootCredentials,
    pub origin: RootOrigin,
}

/// Where a user finds the secret that is never printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootOrigin {
    Environment,
    /// A file that holds nothing else.
    SecretFile(PathBuf),
    /// The file that we generated, now or at an earlier start.
    Stored {
        path: PathBuf,
        is_new: bool,
    },
}

/// Finds the keys, or makes them.
pub fn establish(config: &Config) -> Result<RootKeys, Fatal> {
    match &config.root {
        RootSource::Given { access_key, secret } => given(access_key, secret, &config.config_dir),
        RootSource::Stored => {
            let path = config.config_dir.join(FILE_NAME);
            stored(&config.config_dir, &path).map_err(|problem| Fatal::RootKeys { path, problem })
        }
    }
}

fn given(access_key: &KeyPart, secret: &KeyPart, config_dir: &Path) -> Result<RootKeys, Fatal> {
    let part = |part: &KeyPart, check: fn(&str) -> Result<(), RootKeysProblem>| {
        let path = match part {
            KeyPart::Environment(_) => PathBuf::from("the environment"),
            KeyPart::File(path) => path.clone(),
        };
        let text = match part {
            KeyPart::Environment(text) => Ok(text.clone()),
            KeyPart::File(path) => read_key_file(path),
        };
        let checked = text.and_then(|text| check(text.expose()).map(|()| text));
        checked.map_err(|problem| Fatal::RootKeys { path, problem })
    };
    let credentials = RootCredentials {
        access_key: part(access_key, check_access_key)?.expose().to_owned(),
        secret: part(secret, check_secret)?,
    };
    let origin = match secret {
        KeyPart::Environment(_) => RootOrigin::Environment,
        KeyPart::File(path) => RootOrigin::SecretFile(path.clone()),
    };
    warn_about_unused(config_dir);
    Ok(RootKeys { credentials, origin })
}

/// A pair that an earlier start generated no longer opens anything, which surprises whoever has it in a script.
fn warn_about_unused(config_dir: &Path) {
    let path = config_dir.join(FILE_NAME);
    if path.exists() {
        tracing::info!(path = %path.display(), "root keys are given: the stored pair is not used");
    }
}

/// The stored pair; generated when there is none. Two starts that race for one configuration directory end with one pair.
fn stored(directory: &Path, path: &Path) -> Result<RootKeys, RootKeysProblem> {
    if let Some(credentials) = read_stored(path)? {
        return Ok(RootKeys { credentials, origin: RootOrigin::Stored { path: path.to_path_buf(), is_new: false } });
    }
    let generated = generate()?;
    documents::make_folders(directory).map_err(RootKeysProblem::Io)?;
    let is_new = publish(path, &generated)?;
    let credentials = if is_new { generated } else { read_stored(path)?.ok_or(RootKeysProblem::Malformed)? };
    Ok(RootKeys { credentials, origin: RootOrigin::Stored { path: path.to_path_buf(), is_new } })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredPair {
    access_key: String,
    secret_key: String,
}

/// `None` when there is no file. The mode is asked of the open file, so that nothing can be swapped between.
fn read_stored(path: &Path) -> Result<Option<RootCredentials>, RootKeysProblem> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_problem(error)),
    };
    let metadata = file.metadata().map_err(io_problem)?;
    if !metadata.is_file() {
        return Err(RootKeysProblem::Malformed);
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(RootKeysProblem::Readable { mode });
    }
    let text = read_limited(file)?;
    let pair: StoredPair = toml::from_str(text.expose()).map_err(|_| RootKeysProblem::Malformed)?;
    check_access_key(&pair.access_key)?;
    check_secret(&pair.secret_key)?;
    Ok(Some(RootCredentials { access_key: pair.access_key, secret: Secret::new(pair.secret_key) }))
}

/// Writes the pair down; false when another start had given one before.
fn publish(path: &Path, pair: &RootCredentials) -> Result<bool, RootKeysProblem> {
    let text = Secret::new(format!(
        "# The root keys of this Sluice server, generated at its first start. Keep this file private (mode 0600).\n\
         access_key = \"{}\"\nsecret_key = \"{}\"\n",
        pair.access_key,
        pair.secret.expose()
    ));
    documents::publish_new(path, text.expose().as_bytes()).map_err(RootKeysProblem::Io)
}

fn generate() -> Result<RootCredentials, RootKeysProblem> {
    let drawn = random_text(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", ACCESS_KEY_SIZE - ACCESS_KEY_PREFIX.len())?;
    // Letters and digits only: no shell, URL or configuration file asks for quotes.
    let secret = random_text(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", SECRET_SIZE)?;
    Ok(RootCredentials { access_key: format!("{ACCESS_KEY_PREFIX}{}", drawn.expose()), secret })
}

/// `length` letters, each equally likely: bytes of six bits that are no index are drawn again.
fn random_text(alphabet: &[u8], length: usize) -> Result<Secret, RootKeysProblem> {
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let mut bytes = zeroize::Zeroizing::new([0_u8; 64]);
        getrandom::fill(&mut *bytes).map_err(|_| RootKeysProblem::NoRandomness)?;
        let letters = bytes.iter().filter_map(|byte| alphabet.get(usize::from(byte & 63)));
        text.extend(letters.take(length - text.len()).map(|letter| char::from(*letter)));
    }
    Ok(Secret::new(text))
}

/// A key alone in a file, as secrets of Docker and Kubernetes are. Those are often readable by all inside their container, so
/// the mode is the operator's business here.
fn read_key_file(path: &Path) -> Result<Secret, RootKeysProblem> {
    let text = read_limited(File::open(path).map_err(io_problem)?)?;
    Ok(Secret::new(text.expose().trim_end_matches(['\r', '\n']).to_owned()))
}

fn read_limited(file: File) -> Result<Secret, RootKeysProblem> {
    let mut text = String::with_capacity(limits::KEY_FILE_SIZE_MAX as usize);
    let read = file.take(limits::KEY_FILE_SIZE_MAX).read_to_string(&mut text);
    let text = Secret::new(text);
    match read {
        Ok(_) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Err(RootKeysProblem::Malformed),
        Err(error) => Err(io_problem(error)),
    }
}

/// The credential scope separates by `/`, the Authorization header by `,` and `=`, POST forms and URLs have their own: so a
/// small alphabet.
fn check_access_key(key: &str) -> Result<(), RootKeysProblem> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let good = (3..=128).contains(&key.len()) && key.bytes().all(legal);
    if good { Ok(()) } else { Err(RootKeysProblem::AccessKeyInvalid) }
}

fn check_secret(secret: &str) -> Result<(), RootKeysProblem> {
    let good = (8..=128).contains(&secret.len()) && secret.bytes().all(|byte| byte.is_ascii_graphic());
    if good { Ok(()) } else { Err(RootKeysProblem::SecretInvalid) }
}

fn io_problem(error: std::io::Error) -> RootKeysProblem {
    RootKeysProblem::Io(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn pair_in(directory: &Path) -> Result<RootKeys, RootKeysProblem> {
        stored(directory, &directory.join(FILE_NAME))
    }

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("chmod");
    }

    #[test]
    fn generated_once_private_and_kept() {
        let root = tempfile::tempdir().expect("temporary directory");
        let directory = root.path().join("a/config");
        let first = pair_in(&directory).expect("generated");
        let path = directory.join(FILE_NAME);
        assert_eq!(first.origin, RootOrigin::Stored { path: path.clone(), is_new: true });
        assert_eq!(first.credentials.access_key.len(), 20);
        assert!(first.credentials.access_key.starts_with("SLK"));
        assert_eq!(first.credentials.secret.expose().len(), 40);
        assert_eq!(std::fs::metadata(&path).expect("stat").mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(&directory).expect("stat").mode() & 0o777, 0o700);
        assert_eq!(std::fs::read_dir(&directory).expect("read").count(), 1, "no temporary is left");

        let second = pair_in(&directory).expect("read");
        assert_eq!(second.origin, RootOrigin::Stored { path, is_new: false });
        assert_eq!(second.credentials.secret.expose(), first.credentials.secret.expose());

        let other = pair_in(&root.path().join("b")).expect("generated");
        assert_ne!(other.credentials.secret.expose(), first.credentials.secret.expose());
        assert_ne!(other.credentials.access_key, first.credentials.access_key);
    }

    #[test]
    fn a_pair_that_others_could_read_is_refused() {
        let root = tempfile::tempdir().expect("temporary directory");
        pair_in(root.path()).expect("generated");
        let path = root.path().join(FILE_NAME);
        for mode in [0o644, 0o640, 0o604, 0o620] {
            set_mode(&path, mode);
            assert_eq!(pair_in(root.path()).err(), Some(RootKeysProblem::Readable { mode }));
        }
        set_mode(&path, 0o400);
        assert!(pair_in(root.path()).is_ok());
    }

    #[test]
    fn a_file_that_is_no_pair_is_refused_and_never_replaced() {
        let root = tempfile::tempdir().expect("temporary directory");
        let path = root.path().join(FILE_NAME);
        for text in ["", "access_key = \"SLKA\"", "access_key = \"a\"\nsecret_key = \"b\"\nextra = 1", "\u{0}", "not toml"] {
            std::fs::write(&path, text).expect("write");
            set_mode(&path, 0o600);
            assert_eq!(pair_in(root.path()).err(), Some(RootKeysProblem::Malformed), "{text:?}");
            assert_eq!(std::fs::read_to_string(&path).expect("read"), text);
        }
        std::fs::write(&path, "access_key = \"admin/\"\nsecret_key = \"12345678\"").expect("write");
        assert_eq!(pair_in(root.path()).err(), Some(RootKeysProblem::AccessKeyInvalid));
        std::fs::remove_file(&path).expect("remove");
        symlink("/dev/zero", &path).expect("symlink");
        assert_eq!(pair_in(root.path()).err(), Some(RootKeysProblem::Io(Errno::LOOP)));
    }

    #[test]
    fn the_first_of_two_starts_wins() {
        let root = tempfile::tempdir().expect("temporary directory");
        let path = root.path().join(FILE_NAME);
        let (winner, loser) = (generate().expect("random"), generate().expect("random"));
        assert_eq!(publish(&path, &winner), Ok(true));
        assert_eq!(publish(&path, &loser), Ok(false));
        let kept = read_stored(&path).expect("readable").expect("there");
        assert_eq!(kept.secret.expose(), winner.secret.expose());
        assert_eq!(std::fs::read_dir(root.path()).expect("read").count(), 1, "the loser's temporary is gone");
    }

    #[test]
    fn given_keys_are_checked_and_trimmed() {
        let root = tempfile::tempdir().expect("temporary directory");
        let file = root.path().join("secret");
        std::fs::write(&file, "correct horse\n").expect("write");
        let environment = |text: &str| KeyPart::Environment(Secret::new(text.into()));
        let with = |access_key: &str, secret: &KeyPart| given(&environment(access_key), secret, root.path());
        assert!(matches!(
            with("root", &KeyPart::File(file.clone())),
            Err(Fatal::RootKeys { problem: RootKeysProblem::SecretInvalid, .. })
        ));
        std::fs::write(&file, "correct-horse\r\n").expect("write");
        let keys = with("root", &KeyPart::File(file.clone())).expect("valid");
        assert_eq!(keys.credentials.secret.expose(), "correct-horse");
        assert_eq!(keys.origin, RootOrigin::SecretFile(file));
        for (access_key, secret) in [("ab", "12345678"), ("a/b", "12345678"), ("root", "short"), ("root", "")] {
            assert!(with(access_key, &environment(secret)).is_err(), "{access_key} {secret}");
        }
        assert!(with("root", &KeyPart::File(root.path().join("absent"))).is_err());
    }
}
