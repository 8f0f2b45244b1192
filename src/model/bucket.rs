//! Everything that a bucket is set to.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::hex;

/// Which bucket it is, whatever its name: random, given once. Its directory carries it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketId([u8; BucketId::SIZE]);

impl BucketId {
    /// Bytes of an id.
    pub const SIZE: usize = 16;

    /// Of bytes that somebody drew.
    pub fn new(bytes: [u8; Self::SIZE]) -> Self {
        Self(bytes)
    }

    /// As `to_string` writes it, and nothing else.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let is_ours = text.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        hex::decode(text).filter(|_| is_ours).map(Self)
    }
}

impl fmt::Display for BucketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for BucketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for BucketId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BucketId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(text.as_bytes()).ok_or_else(|| D::Error::custom("no bucket id"))
    }
}

/// Whether a bucket keeps what is overwritten and deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Versioning {
    /// Never was asked to.
    #[default]
    Unversioned,
    /// Each change makes a version.
    Enabled,
    /// Versions are kept, and what is written replaces the one called `null`.
    Suspended,
}

impl Versioning {
    /// As `<Status>` says it; nothing where it was never set.
    pub fn status(self) -> Option<&'static str> {
        match self {
            Self::Unversioned => None,
            Self::Enabled => Some("Enabled"),
            Self::Suspended => Some("Suspended"),
        }
    }

    /// What `<Status>` says.
    pub fn of_status(status: &str) -> Option<Self> {
        [Self::Enabled, Self::Suspended].into_iter().find(|versioning| versioning.status() == Some(status))
    }
}

/// Which directory it is, where no attribute can say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryIdentity {
    pub inode: u64,
    /// When the inode was made, as its number is used again; absent where the filesystem does not keep that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub born_ns: Option<i64>,
}

/// What a directory says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundDirectory {
    pub identity: DirectoryIdentity,
    pub carries: Carried,
}

/// What stands in the attribute of a directory in which the id of its bucket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// There is none.
    Nothing,
    Id(BucketId),
    /// No id.
    Illegible,
}

/// The document of a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    pub id: BucketId,
    pub directory: DirectoryIdentity,
    /// The id of the account that it belongs to.
    pub owner: Box<str>,
    /// Seconds since 1970.
    pub created_s: i64,
    #[serde(default)]
    pub versioning: Versioning,
}

impl Bucket {
    /// Whether it says what a document of ours can say.
    pub fn is_legal(&self) -> bool {
        self.owner.len() == 12 && self.owner.bytes().all(|digit| digit.is_ascii_digit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket() -> Bucket {
        Bucket {
            id: BucketId::new([0xa5; 16]),
            directory: DirectoryIdentity { inode: 7, born_ns: Some(-1) },
            owner: "000000000001".into(),
            created_s: 1,
            versioning: Versioning::Suspended,
        }
    }

    #[test]
    fn a_document_says_everything_and_nothing_else() {
        let text = serde_json::to_string(&bucket()).unwrap();
        let expected = r#"{"id":"a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5","directory":{"inode":7,"born_ns":-1},"owner":"000000000001","created_s":1,"versioning":"Suspended"}"#;
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<Bucket>(&text).unwrap(), bucket());
        let without = text.replace(r#","versioning":"Suspended""#, "").replace(r#","born_ns":-1"#, "");
        let read = serde_json::from_str::<Bucket>(&without).unwrap();
        assert_eq!((read.versioning, read.directory.born_ns), (Versioning::Unversioned, None));
        for (old, new) in [("Suspended", "suspended"), ("a5a5", "A5A5"), ("a5a5", ""), ("\"owner\"", "\"policy\""), ("7", "-7")] {
            assert!(serde_json::from_str::<Bucket>(&text.replacen(old, new, 1)).is_err(), "{new}");
        }
        assert!(bucket().is_legal() && !Bucket { owner: "1".into(), ..bucket() }.is_legal());
    }

    #[test]
    fn an_id_is_read_as_it_is_written() {
        let id = BucketId::new(std::array::from_fn(|index| index as u8 * 17));
        assert_eq!(BucketId::parse(id.to_string().as_bytes()), Some(id));
        for text in ["", "00", &"0".repeat(31), &"0".repeat(33), &"F".repeat(32), &"g".repeat(32)] {
            assert_eq!(BucketId::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn versioning_has_two_words() {
        assert_eq!(Versioning::of_status("Enabled"), Some(Versioning::Enabled));
        assert_eq!(Versioning::of_status("Suspended"), Some(Versioning::Suspended));
        assert!(["", "enabled", "Unversioned", "Disabled"].iter().all(|word| Versioning::of_status(word).is_none()));
        assert_eq!(Versioning::default().status(), None);
    }
}
