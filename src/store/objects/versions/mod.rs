//! What was an object before? In buckets that keep versions: what an overwrite or a DELETE takes from its name goes into the key's
//! history, under a name that says which version it is, and is read, listed, restored and removed there.

mod change;
mod delete;
mod history;
mod intent;
mod live;
mod mark;
mod open;
mod removal;

pub use open::Found;

pub(in crate::store) use change::Change;
pub(in crate::store) use history::{History, Kept, Slot, VERSIONS, find, implied_marker, of_bucket as histories_of};
pub(in crate::store) use intent::{Intent, settle};
pub(in crate::store) use live::live_at;
pub(in crate::store) use mark::{apart, version_of};
pub(in crate::store) use removal::{Removal, Step};

pub use crate::store::error::Marker;
