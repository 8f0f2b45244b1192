//! What does this verb mean? One file per verb family; a verb is one story from top to bottom: what was asked, plan, act, answer.
//!
//! Imports `s3::plan` and everything below. Calls `store` and hands bytes to `flow`; opens no file itself. Limits: pages by
//! `LIST_PAGE_MAX`.

pub mod attributes;
pub mod bucket;
pub mod complete;
pub mod copy;
pub mod delete;
pub mod get;
pub mod list;
pub mod multipart;
pub mod put;
pub mod unconfigured;
pub mod versioning;
pub mod versions;
