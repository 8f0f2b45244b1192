//! Multipart uploads: where do the parts go, so that completing moves no bytes?
//!
//! ```text
//! .sluice/uploads/<bucket>/<upload id>/
//!     upload            what CreateMultipartUpload said: bucket, key, time, the object's record, the kind of checksum
//!     parts             the log: slots claimed, parts that are there (128 bytes an entry, appended, each with its CRC)
//!     data.<S>          slots: part N of an upload in parts of S bytes at (N-1)*S
//!     part.<N>.<A>      a part that fits no slot
//!     collapsed         which ranges are being taken out of a slot file, should the server die meanwhile
//! ```
//!
//! The size S of a slot is the size of the first part that is at least 5 MiB and block-aligned. The last part may come first: a
//! larger part starts another slot file, which is the one from then on. A part of at most S bytes goes into its slot,
//! unless somebody has claimed it: a slot is written by one attempt ever, claimed in the log before it is written. A part
//! that comes again, is larger, or of unknown or odd size while no slot is known, has a file of its own.
//!
//! Complete picks the file that holds most bytes at their final place (`layout`), brings the few others there, cuts it, seals
//! it and renames it to the object's name: that rename is what completes the upload. An upload's directory appears and
//! disappears by a rename too. Until the object has its name the Complete can fail, and another list of parts may come: parts
//! that the object does not have are copied out of its file before it is cut (`takes_away`), or the object out of theirs.
//!
//! The ids sort by time and are not guessable: 16 digits of time, 32 of chance. Within a process, `table` keeps what
//! the log says and knows who is writing; Complete closes the slots and waits for their writers before it touches the file.
//!
//! Imports `objects`, `disk`, `names`, and `listing`: the uploads of a bucket are the names in a directory, and its snapshots tell when
//! those may have changed. Limits: the parts and uploads that are remembered (`UPLOADS_CACHED_MAX`, `UPLOADS_INDEX_SIZE_MAX`).

mod abort;
mod complete;
mod create;
mod gaps;
mod id;
mod index;
mod layout;
mod list;
mod log;
mod manifest;
mod name;
mod part;
mod remove;
mod table;
#[cfg(test)]
mod tests;

pub use abort::{Forgotten, abort, forget_bucket};
pub use complete::{ChosenPart, Completion, complete};
pub use create::{NewUpload, create};
pub use id::is_id;
pub use list::{ListedPart, ListedUpload, PartsPage, UploadsPage, UploadsQuery, list_parts, list_uploads};
pub use name::UploadName;
pub use part::{CopiedPart, PartTarget, StoredPart, copy_part, finish_part, plan_part, plan_sent_part};
pub(in crate::store) use remove::{discard, is_upload, sweep_completed};
pub use table::{Fence, Uploads};
