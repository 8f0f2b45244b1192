//! Signing keys, derived once per access key, day and region, and remembered.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::base::hex;
use crate::base::secret::Secret;
use crate::limits::SIGNING_KEYS_MAX;

/// The service that every scope must name. A scope for another service of the same secret must not open this one
/// (CVE-2026-55873).
pub(super) const SERVICE: &str = "s3";
/// What every scope ends with.
pub(super) const TERMINATOR: &str = "aws4_request";

/// A derived key, held as an HMAC that has absorbed it: signing then costs no key schedule.
#[derive(Clone)]
pub(super) struct SigningKey(Hmac<Sha256>);

impl SigningKey {
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>, "Calculate signature".
    pub(super) fn derive(secret: &Secret, date: &[u8], region: &[u8]) -> Self {
        let mut seed = zeroize::Zeroizing::new(Vec::with_capacity(4 + secret.expose().len()));
        seed.extend_from_slice(b"AWS4");
        seed.extend_from_slice(secret.expose().as_bytes());
        let mut key = Self(keyed(&seed));
        for part in [date, region, SERVICE.as_bytes(), TERMINATOR.as_bytes()] {
            key = Self(keyed(&key.mac([part])));
        }
        key
    }

    fn mac<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// The signature of the string that `parts` make, as the text that travels.
    pub(super) fn sign<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 64] {
        hex::encode_32(&self.mac(parts))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

/// Whether `given` is `expected`, in a time that does not tell how much of it was right. The texts are compared, not the
/// bytes they spell: S3 writes signatures in lower case and takes no other.
pub(super) fn same_signature(expected: &[u8; 64], given: &[u8]) -> bool {
    same_text(expected, given)
}

/// The same for a signature of any length; that of the length is no secret.
pub(super) fn same_text(expected: &[u8], given: &[u8]) -> bool {
    expected.ct_eq(given).into()
}

/// The code of Signature Version 2, whose key is the secret itself.
pub(super) fn mac_sha1(secret: &Secret, text: &[u8]) -> [u8; 20] {
    let mut mac: Hmac<Sha1> = keyed(secret.expose().as_bytes());
    mac.update(text);
    mac.finalize().into_bytes().into()
}

/// The last few derived keys: deriving costs four HMACs, verifying with a remembered one a single one.
#[derive(Debug, Default)]
pub(super) struct KeyCache {
    entries: Vec<Entry>,
    /// The entry that is replaced next, once all are in use.
    oldest: usize,
}

#[derive(Debug)]
struct Entry {
    access_key: Box<str>,
    /// Compared too: an access key that gets a new secret must not go on being served with the old one.
    secret: Secret,
    date: Box<str>,
    region: Box<str>,
    key: SigningKey,
}

impl KeyCache {
    /// The key for this day and region. Called only for access keys that exist, so that strangers cannot empty the cache.
    pub(super) fn key(&mut self, access_key: &str, secret: &Secret, date: &str, region: &str) -> &SigningKey {
        let found = self.entries.iter().position(|entry| entry.is_for(access_key, secret, date, region));
        let index = found.unwrap_or_else(|| {
            let key = SigningKey::derive(secret, date.as_bytes(), region.as_bytes());
            let (access_key, date, region) = (access_key.into(), date.into(), region.into());
            self.insert(Entry { access_key, secret: secret.clone(), date, region, key })
        });
        &self.entries[index].key
    }

    fn insert(&mut self, entry: Entry) -> usize {
        if self.entries.len() < SIGNING_KEYS_MAX {
            self.entries.push(entry);
            return self.entries.len() - 1;
        }
        let index = self.oldest;
        self.entries[index] = entry;
        self.oldest = (index + 1) % SIGNING_KEYS_MAX;
        index
    }
}

impl Entry {
    fn is_for(&self, access_key: &str, secret: &Secret, date: &str, region: &str) -> bool {
        *self.access_key == *access_key
            && *self.date == *date
            && *self.region == *region
            && bool::from(self.secret.expose().as_bytes().ct_eq(secret.expose().as_bytes()))
    }
}

fn keyed<H: KeyInit>(key: &[u8]) -> H {
    // RFC 2104 section 3: HMAC takes a key of any length, so that this constructor never fails.
    H::new_from_slice(key).expect("HMAC takes a key of any length")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    /// AWS's published example of key derivation ("Examples of how to derive a signing key", service iam) uses another
    /// service; the S3 signature of the documentation's PUT example pins ours end to end in `vectors`.
    #[test]
    fn equal_inputs_share_an_entry_and_any_other_input_does_not() {
        let mut cache = KeyCache::default();
        let first = cache.key("A", &secret("s"), "20130524", "us-east-1").sign([&b"text"[..]]);
        assert_eq!(cache.key("A", &secret("s"), "20130524", "us-east-1").sign([&b"text"[..]]), first);
        assert_eq!(cache.entries.len(), 1);
        for (access_key, text, date, region) in
            [("A", "t", "20130524", "us-east-1"), ("A", "s", "20130525", "us-east-1"), ("A", "s", "20130524", "eu-west-1")]
        {
            assert_ne!(cache.key(access_key, &secret(text), date, region).sign([&b"text"[..]]), first);
        }
        assert_eq!(cache.entries.len(), 4);
    }

    #[test]
    fn the_cache_is_bounded_and_still_right_when_full() {
        let mut cache = KeyCache::default();
        let first = cache.key("A0", &secret("s0"), "20130524", "us-east-1").sign([&b"x"[..]]);
        for n in 0..3 * SIGNING_KEYS_MAX {
            cache.key(&format!("A{n}"), &secret(&format!("s{n}")), "20130524", "us-east-1");
        }
        assert_eq!(cache.entries.len(), SIGNING_KEYS_MAX);
        assert_eq!(cache.key("A0", &secret("s0"), "20130524", "us-east-1").sign([&b"x"[..]]), first);
    }

    #[test]
    fn nothing_secret_is_printed() {
        let mut cache = KeyCache::default();
        cache.key("A", &secret("hunter2"), "20130524", "us-east-1");
        assert!(!format!("{cache:?}").contains("hunter2"));
    }

    #[test]
    fn signatures_compare_as_text() {
        let signature = *b"f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
        assert!(same_signature(&signature, &signature));
        assert!(!same_signature(&signature, &signature.to_ascii_uppercase()));
        assert!(!same_signature(&signature, &signature[..63]));
        assert!(!same_signature(&signature, b""));
    }
}
