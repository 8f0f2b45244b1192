//! Move it. The loops that carry bytes: a body into memory or into a file (`receive`), a file to the client (`send`, and `read` for small ones);
//! and small uploads that go to the disk together (`small`). Each runs by a plan that was decided before: no policy, no XML, no allocation per block here.
//!
//! Imports `store::objects`, `store::disk`, `net`, `io`, `mem`, `digest`, `body`. Limits: a transfer holds at most `BLOCKS_PER_TRANSFER_MAX` blocks, a
//! download `BLOCKS_AHEAD_MAX` while most are free, and one is enough for it to make progress. What is received into memory, or read into
//! it where O_DIRECT is refused, has a lease.

mod chunks;
mod hashing;
mod payload;
mod read;
mod receive;
mod send;
mod slots;
mod small;

pub use payload::{Digests, Expectation, Mismatch, Payload};
pub use read::{append_cached, read_small};
pub use receive::{Received, ReceivedFile, Target, TransferError, Whole, receive_into_file, receive_into_memory};
pub use send::{Reading, SendPlan, send_file};
pub use small::commit_small;
