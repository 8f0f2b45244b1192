//! Bugs on demand, for the black-box test of what a bug costs: the header `sluice-test-panic` says where a request panics. Only
//! with the feature `seams`.

use super::context::Context;
use super::error::S3Error;
use crate::io::{blocking, spawn};

/// Panics where the request asks for it.
pub(super) async fn panic_if_asked(context: &Context<'_>) -> Result<(), S3Error> {
    match context.header("sluice-test-panic")? {
        Some("task") => panic!("asked for, in the connection's task"),
        Some("helper") => Ok(blocking(|| panic!("asked for, in a helper")).await?),
        // A task that no connection guards takes its core along.
        Some("core") => {
            spawn(async { panic!("asked for, in the core") });
            Ok(())
        }
        _ => Ok(()),
    }
}
