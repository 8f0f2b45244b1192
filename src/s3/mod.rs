//! What does this verb mean? One file per verb family; a verb is one story from top to bottom: what was asked, plan, act,
//! answer. `service` is the way in, `operation` the table of routes, `error` the table of errors.
//!
//! Imports everything below: `flow`, `store`, `net`, and the pure rooms. Never touches files or the ring itself: it plans, calls
//! `store`, and hands bytes to `flow`. Limits: documents by `XML_SIZE_MAX`, pages by `LIST_PAGE_MAX`.

pub mod address;
mod answer;
mod attributes;
mod body;
mod bucket;
#[cfg(test)]
mod budget_tests;
mod complete;
mod context;
mod copy;
#[cfg(test)]
mod death_tests;
mod delete;
pub mod error;
mod get;
mod health;
mod list;
mod metadata;
mod multipart;
pub mod operation;
mod put;
mod refusal;
pub mod request_headers;
#[cfg(feature = "seams")]
mod seams;
mod service;
mod slow;
mod small;
pub mod unconfigured;

pub use operation::Counted;
pub use service::{Core, Live, Settings, serve_exchange};
