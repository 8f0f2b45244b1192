//! What holds? Everything that is configured, as one state that never changes: what requests look at, found by one hash.
//!
//! Pure: made of documents and of what directories say of themselves, both of which others have read (`Facts`); a change makes the entries
//! anew that it can touch, and shares the rest. Imports `model`.

mod facts;
mod standing;

use std::collections::HashMap;
use std::sync::Arc;

pub use facts::{Document, Facts};
pub use standing::{Damage, Standing};

use crate::model::{Bucket, BucketId};

/// One state of all that is configured.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    buckets: HashMap<Arc<str>, Arc<BucketEntry>>,
}

/// A bucket that something is known of. One without an entry was never configured: it is the default account's, and private.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketEntry {
    pub standing: Standing,
    /// What it is set to, unless that cannot be read or is another bucket's.
    pub settings: Option<Arc<Bucket>>,
    /// The id that its directory carries.
    pub carried: Option<BucketId>,
}

impl Catalog {
    /// What is known of the bucket of this name.
    pub fn bucket(&self, name: &str) -> Option<&BucketEntry> {
        if self.buckets.is_empty() {
            return None;
        }
        self.buckets.get(name).map(|entry| &**entry)
    }

    /// All that something is known of, in no order.
    pub fn buckets(&self) -> impl Iterator<Item = (&str, &BucketEntry)> {
        self.buckets.iter().map(|(name, entry)| (&**name, &**entry))
    }

    /// How many are damaged.
    pub fn damaged_count(&self) -> usize {
        self.buckets.values().filter(|entry| entry.damage().is_some()).count()
    }
}

impl BucketEntry {
    /// Why nobody but root may use it, and nothing is deleted from it.
    pub fn damage(&self) -> Option<Damage> {
        match self.standing {
            Standing::Damaged(damage) => Some(damage),
            _ => None,
        }
    }

    /// What it is set to, as far as that keeps something: it holds for another directory of its name, too.
    pub fn keeping(&self) -> Option<&Bucket> {
        self.settings.as_deref().filter(|_| self.standing.keeps())
    }

    /// What it is set to, as far as that grants something: for no other directory than its own.
    pub fn granting(&self) -> Option<&Bucket> {
        self.settings.as_deref().filter(|_| self.standing == Standing::Own)
    }
}
