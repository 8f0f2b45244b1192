//! What does a verb need at hand? The request with who asks and what they may, its body, an object's headers, answers and refusals.
//!
//! Imports `s3::ask` and everything below. Never touches files or the ring itself. Limits: documents by `XML_SIZE_MAX`, what a request
//! holds by its lease.

pub mod answer;
pub mod body;
pub mod context;
pub mod core;
pub mod leave;
pub mod metadata;
pub mod patience;
pub mod permit;
pub mod refusal;
pub mod room;
pub mod slow;
