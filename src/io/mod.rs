//! How do things run? Tasks, timers, sockets, files and the helper pool of one data core. This is the only room that names
//! monoio: a simulated network plugs in here for tests (`sim`), and the runtime could be replaced behind it.
//!
//! Imports `mem`, `sys`, `limits`. Limits: one ring per core of `RING_ENTRIES`; transfers in flight are capped by the
//! blocks of the core's arena; helper threads by the share of each kind of work.
//!
//! Sockets are read and written by plain system calls that do not block, and wait for readiness on the ring: an idle
//! connection holds no buffer, nothing in flight ever refers to a socket buffer, and so nothing needs cancelling. Files
//! are read and written on the ring from leased blocks. What blocks and has no form on the ring goes to the helpers.

mod file;
mod helper;
mod lease;
mod promise;
mod reply;
mod runtime;
#[cfg(test)]
pub mod sim;
mod socket;

pub use crate::metrics::record::Work;
pub use file::DirectFile;
pub use helper::{HelperPanicked, Helpers};
pub use lease::BlockSlice;
pub use promise::Promise;
pub use reply::{NoReply, Replier, Reply, reply};
#[cfg(test)]
pub use runtime::run_alone;
pub use runtime::{JoinHandle, blocking, blocking_for, run_core, sleep, spawn, turn, within};
pub use socket::{Listener, Shutdown, Socket};
