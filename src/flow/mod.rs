//! Move it. The loops that carry bytes: a body into memory or into a file (`receive`), a file to the client (`send`). Each
//! runs by a plan that was decided before: no policy, no XML, no allocation per block here.
//!
//! Imports `store`, `net`, `io`, `mem`, `digest`, `body`. Limits: a transfer holds at most `BLOCKS_PER_TRANSFER_MAX` blocks, a
//! download `BLOCKS_AHEAD_MAX` while most are free, and one is enough for it to make progress.

mod chunks;
mod hashing;
mod payload;
mod receive;
mod send;
mod slots;

pub use payload::{Digests, Expectation, Mismatch, Payload};
pub use receive::{Received, ReceivedFile, Target, TransferError, receive_into_file, receive_into_memory};
pub use send::{Reading, SendPlan, send_file};
