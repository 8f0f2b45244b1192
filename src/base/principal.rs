//! Who acts: what `auth` finds out, `policy` decides on and `s3` shows as an owner. Plain data, so that the rooms of
//! floor 1 need not know each other.

use std::borrow::Cow;

/// One party that sends requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The access key that signed; empty for the anonymous principal.
    pub access_key: Cow<'static, str>,
    /// S3's canonical user id, shown as `Owner/ID`: 64 hexadecimal digits.
    pub canonical_id: Cow<'static, str>,
    /// The account, as `x-amz-expected-bucket-owner` names it: twelve digits.
    pub account_id: Cow<'static, str>,
    /// Shown as `Owner/DisplayName`.
    pub display_name: Cow<'static, str>,
    pub kind: PrincipalKind,
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
pub static ANONYMOUS: Principal = Principal {
    access_key: Cow::Borrowed(""),
    canonical_id: Cow::Borrowed("65a011a29cdf8ec533ec3d1ccaae921c"),
    account_id: Cow::Borrowed(""),
    display_name: Cow::Borrowed("anonymous"),
    kind: PrincipalKind::Anonymous,
};
