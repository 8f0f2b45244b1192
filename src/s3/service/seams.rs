//! Bugs on demand, for the black-box test of what a bug costs: the header `sluice-test-panic` says where a request panics. Only
//! with the feature `seams`.

use crate::io::{Work, blocking, spawn};
use crate::s3::ask::error::S3Error;
use crate::s3::plan::context::Context;

/// Panics where the request asks for it.
pub async fn panic_if_asked<T>(context: &Context<'_, T>) -> Result<(), S3Error> {
    match context.header("sluice-test-panic")? {
        Some("task") => panic!("asked for, in the connection's task"),
        Some("helper") => Ok(blocking(Work::Read, || panic!("asked for, in a helper")).await?),
        // A task that no connection guards takes its core along.
        Some("core") => {
            spawn(async { panic!("asked for, in the core") });
            Ok(())
        }
        _ => Ok(()),
    }
}
