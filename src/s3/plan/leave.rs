//! Clients that leave while a helper works for them: what nobody waits for any more is stopped, where it may be.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::answer::Exchanged;
use super::answer::Reply;
use crate::net::After;

/// What the log says of a request whose client left before it was answered, as nginx does.
const CLIENT_LEFT: u16 = 499;

/// Tells the helper that works for a request when nobody waits for it any more.
#[derive(Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// What the helper looks at.
    pub fn flag(&self) -> Arc<AtomicBool> {
        self.0.clone()
    }

    /// Nobody waits any more.
    pub fn tell(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.tell();
    }
}

/// The end of a request whose client has left.
pub fn left() -> Reply {
    Reply::Sent(Exchanged { after: After::Abort, status: CLIENT_LEFT, error: None })
}
