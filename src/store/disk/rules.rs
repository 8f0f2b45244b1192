//! What must a change to a bucket keep? The rules that its settings give to the store, by the bucket's name. They are looked at under
//! the key's lock, at the moment of the change: a PUT may have begun hours before.

use std::collections::HashMap;
use std::sync::Arc;

/// What a bucket is set to, as far as it says what becomes of its objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketRules {
    /// Which bucket: 32 hexadecimal digits. Its history lies under this name.
    pub bucket_id: String,
    pub keeps: Keeps,
}

/// What of an object is kept when it is replaced or deleted, in a bucket that has been told to keep versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// Every version (versioning is `Enabled`).
    Everything,
    /// Versions with an id; what is written now is `null`, of which there is one (`Suspended`).
    Versions,
}

/// By name; buckets that never kept versions are not in it.
pub type Rules = HashMap<Box<str>, Arc<BucketRules>>;
