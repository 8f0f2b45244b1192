//! S3: what was asked (`ask`), what a verb needs at hand (`plan`), the verbs (`verbs`), and the way in and out (`service`). A hall
//! between these rooms.

pub mod ask;
mod plan;
pub mod service;
mod verbs;
