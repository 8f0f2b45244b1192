//! What a whole configuration is called.

use serde::{Deserialize, Serialize};

/// One configuration, however many servers have it. The data that is served with it names it, so that no other is taken for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// 32 hexadecimal digits, random.
    pub id: Box<str>,
}

impl Cluster {
    /// The one with this id.
    pub fn new(id: [u8; 16]) -> Self {
        Self { id: crate::base::hex::encode(&id).into() }
    }

    /// Whether the id is one that we give.
    pub fn is_legal(&self) -> bool {
        self.id.len() == 32 && self.id.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    }
}
