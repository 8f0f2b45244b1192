//! Who acts: what `auth` finds out, `policy` decides on and `s3` shows as an owner. Plain data, so that the rooms of
//! floor 1 need not know each other.

use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};

/// Whom buckets, and the identities in it, belong to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// As `x-amz-expected-bucket-owner` names it: twelve digits. Empty for that of the anonymous principal.
    pub id: Box<str>,
    /// S3's canonical user id, shown as `Owner/ID`: 64 hexadecimal digits.
    pub canonical_id: Box<str>,
    /// Shown as `Owner/DisplayName`.
    pub display_name: Box<str>,
}

/// One party that sends requests.
#[derive(Debug, PartialEq, Eq)]
pub struct Principal {
    pub kind: PrincipalKind,
    /// The access key that signed; empty for the anonymous principal.
    pub access_key: Box<str>,
    /// As policies and logs name it: `arn:aws:iam::123456789012:root`; `anonymous` for a request without credentials.
    pub arn: Box<str>,
    pub account: Arc<Account>,
}

/// What a policy must know of a principal before it reads anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrincipalKind {
    /// The owner of the server, whose keys stand in its configuration.
    Root,
    /// A request without credentials.
    Anonymous,
}

/// The principal of every request without credentials. S3 shows anonymous writers under this canonical id, which is
/// shorter than the others.
pub static ANONYMOUS: LazyLock<Principal> = LazyLock::new(|| Principal {
    kind: PrincipalKind::Anonymous,
    access_key: "".into(),
    arn: "anonymous".into(),
    account: Arc::new(Account {
        id: "".into(),
        canonical_id: "65a011a29cdf8ec533ec3d1ccaae921c".into(),
        display_name: "anonymous".into(),
    }),
});
