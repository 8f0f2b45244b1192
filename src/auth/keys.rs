//! Signing keys, derived once per access key, day and region, and remembered.

use std::borrow::Cow;
use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::base::hex;
use crate::base::secret::Secret;
use crate::limits::SIGNING_KEYS_MAX;

/// Which service a request is signed for. A scope for another service of the same secret must not open this one (CVE-2026-55873).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    S3,
}

impl Service {
    /// As scopes write it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::S3 => "s3",
        }
    }
}

/// What a key is derived for, and good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyScope<'a> {
    /// `20130524`
    pub(super) date: &'a str,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
}

impl<'a> KeyScope<'a> {
    /// `20130524/us-east-1/s3/aws4_request`, in its parts.
    pub(super) fn parts(self) -> [&'a [u8]; 7] {
        let [date, region, service] = [self.date, self.region, self.service].map(str::as_bytes);
        [date, b"/", region, b"/", service, b"/", TERMINATOR.as_bytes()]
    }
}

/// What every scope ends with.
pub(super) const TERMINATOR: &str = "aws4_request";

/// A derived key, held as an HMAC that has absorbed it: signing then costs no key schedule.
#[derive(Clone)]
pub(super) struct SigningKey(Hmac<Sha256>);

impl SigningKey {
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>, "Calculate signature".
    pub(super) fn derive(secret: &Secret, scope: KeyScope<'_>) -> Self {
        let mut seed = zeroize::Zeroizing::new(Vec::with_capacity(4 + secret.expose().len()));
        seed.extend_from_slice(b"AWS4");
        seed.extend_from_slice(secret.expose().as_bytes());
        let mut key = Self(keyed(&seed));
        for part in [scope.date, scope.region, scope.service, TERMINATOR] {
            key = Self(keyed(&key.mac([part.as_bytes()])));
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
    service: Box<str>,
    key: SigningKey,
}

impl KeyCache {
    /// The key for this scope; owned, when it was not known.
    pub(super) fn key(&self, access_key: &str, secret: &Secret, scope: KeyScope<'_>) -> Cow<'_, SigningKey> {
        match self.entries.iter().find(|entry| entry.is_for(access_key, secret, scope)) {
            Some(entry) => Cow::Borrowed(&entry.key),
            None => Cow::Owned(SigningKey::derive(secret, scope)),
        }
    }

    /// Keeps a key with which somebody has signed.
    pub(super) fn remember(&mut self, access_key: &str, secret: &Secret, scope: KeyScope<'_>, key: SigningKey) {
        let (date, region, service) = (scope.date.into(), scope.region.into(), scope.service.into());
        let entry = Entry { access_key: access_key.into(), secret: secret.clone(), date, region, service, key };
        if self.entries.len() < SIGNING_KEYS_MAX {
            return self.entries.push(entry);
        }
        self.entries[self.oldest] = entry;
        self.oldest = (self.oldest + 1) % SIGNING_KEYS_MAX;
    }
}

impl Entry {
    fn is_for(&self, access_key: &str, secret: &Secret, scope: KeyScope<'_>) -> bool {
        *self.access_key == *access_key
            && *self.date == *scope.date
            && *self.region == *scope.region
            && *self.service == *scope.service
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

    const SCOPE: KeyScope<'static> = KeyScope { date: "20130524", region: "us-east-1", service: "s3" };

    /// What a request does whose signature holds; the signature of some text.
    fn sign(cache: &mut KeyCache, access_key: &str, text: &str, scope: KeyScope<'_>) -> [u8; 64] {
        let key = cache.key(access_key, &secret(text), scope);
        let signature = key.sign([&b"text"[..]]);
        if let Cow::Owned(key) = key {
            cache.remember(access_key, &secret(text), scope, key);
        }
        signature
    }

    /// AWS's published example ("Examples of how to derive a signing key"). Its key signs nothing here; as each HMAC of a key and a
    /// message is a MAC with it, the last step is that of the message `aws4_request`.
    #[test]
    fn the_published_example() {
        let scope = KeyScope { date: "20150830", region: "us-east-1", service: "iam" };
        let secret = secret("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        let mut key = SigningKey(keyed(format!("AWS4{}", secret.expose()).as_bytes()));
        for part in [scope.date, scope.region, scope.service] {
            key = SigningKey(keyed(&key.mac([part.as_bytes()])));
        }
        let bytes = key.mac([TERMINATOR.as_bytes()]);
        assert_eq!(hex::encode(&bytes), "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
        let expected = SigningKey(keyed(&bytes)).sign([&b"text"[..]]);
        assert_eq!(SigningKey::derive(&secret, scope).sign([&b"text"[..]]), expected);
    }

    #[test]
    fn equal_inputs_share_an_entry_and_any_other_input_does_not() {
        let mut cache = KeyCache::default();
        let first = sign(&mut cache, "A", "s", SCOPE);
        assert_eq!(sign(&mut cache, "A", "s", SCOPE), first);
        assert_eq!(cache.entries.len(), 1);
        for (text, scope) in [
            ("t", SCOPE),
            ("s", KeyScope { date: "20130525", ..SCOPE }),
            ("s", KeyScope { region: "eu-west-1", ..SCOPE }),
            ("s", KeyScope { service: "sts", ..SCOPE }),
        ] {
            assert_ne!(sign(&mut cache, "A", text, scope), first);
        }
        assert_eq!(cache.entries.len(), 5);
    }

    #[test]
    fn the_cache_is_bounded_and_still_right_when_full() {
        let mut cache = KeyCache::default();
        let first = sign(&mut cache, "A0", "s0", SCOPE);
        for n in 0..3 * SIGNING_KEYS_MAX {
            sign(&mut cache, &format!("A{n}"), &format!("s{n}"), SCOPE);
        }
        assert_eq!(cache.entries.len(), SIGNING_KEYS_MAX);
        assert_eq!(sign(&mut cache, "A0", "s0", SCOPE), first);
    }

    #[test]
    fn asking_for_a_key_keeps_none() {
        let mut cache = KeyCache::default();
        sign(&mut cache, "A", "s", SCOPE);
        for n in 0..3 * SIGNING_KEYS_MAX {
            let region = &format!("r-{n}");
            assert!(matches!(cache.key("A", &secret("s"), KeyScope { region, ..SCOPE }), Cow::Owned(_)));
        }
        assert!(matches!(cache.key("A", &secret("s"), SCOPE), Cow::Borrowed(_)));
    }

    #[test]
    fn nothing_secret_is_printed() {
        let mut cache = KeyCache::default();
        sign(&mut cache, "A", "hunter2", SCOPE);
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
