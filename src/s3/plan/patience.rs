//! What two requests may need at a time, and one of them makes: the other waits here, on its core, where no helper waits with it.

use std::net::IpAddr;
use std::sync::Arc;

use crate::io::{HelperPanicked, Work, blocking_for, sleep};
use crate::limits::{BEING_READ_POLL_MAX, BEING_READ_POLL_MIN};
use crate::store::error::StoreError;

/// What `work` gives on a helper, once nobody else is reading the directory or the log that it needs.
pub async fn patiently<T: Send + 'static>(
    client: Option<IpAddr>,
    kind: Work,
    work: impl Fn() -> Result<T, StoreError> + Send + Sync + 'static,
) -> Result<Result<T, StoreError>, HelperPanicked> {
    let (work, mut pause) = (Arc::new(work), BEING_READ_POLL_MIN);
    loop {
        let there = work.clone();
        let answer = blocking_for(client, kind, move || there()).await?;
        if !matches!(answer, Err(StoreError::BeingRead)) {
            return Ok(answer);
        }
        sleep(pause).await;
        pause = (pause * 2).min(BEING_READ_POLL_MAX);
    }
}
