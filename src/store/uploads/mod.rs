//! Multipart uploads: where do the parts go, so that completing moves no bytes?

pub mod complete;
pub mod create;
mod gaps;
pub mod id;
mod index;
mod layout;
pub mod list;
mod log;
mod manifest;
pub mod part;
pub mod table;
#[cfg(test)]
mod tests;

pub use complete::{ChosenPart, Completion, complete};
pub use create::*;
pub use id::is_id;
pub use list::{ListedPart, ListedUpload, PartsPage, UploadsPage, UploadsQuery, list_parts, list_uploads};
pub use part::{CopiedPart, PartTarget, StoredPart, copy_part, finish_part, plan_part, plan_sent_part};
pub use table::{Fence, Uploads};
