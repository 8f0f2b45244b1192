//! Where should it run? What sysfs and procfs say about CPUs, NUMA nodes, network cards, drives and GPUs; the cores that follow
//! from it, and what else the operator could set, each with its reason.
//!
//! May import `store`, which knows about the served directory, and the floors below. Read, decide, write are three steps:
//! `Machine` is what was read, `Placement` and `Setting` are computed from it without I/O, `apply` writes. Everything is read and
//! written below a root directory, so that tests make machines out of folders. Limits: a file of the kernel is read up to
//! `SYSTEM_FILE_SIZE_MAX`; nothing here is done while requests are served.
//!
//! The rules, in the order in which they decide (`place`, `network`, `advise` have one function each):
//!
//! 1. Only CPUs that this process may use, and no more of them than its cgroup's quota pays for.
//! 2. The NUMA nodes of the network cards; where these say nothing, of the drives; then of the GPUs; then all. A card wins over a
//!    drive: cores touch each byte that they copy into a socket, whereas a drive's DMA crosses the link by itself.
//! 3. One thread of each physical core; its SMT sibling is left to the kernel and to the helpers of others.
//! 4. On a node of more than four cores, one core in sixteen stays free for interrupts and the control thread: the lowest ones, to
//!    which the kernel gives whatever nobody has placed.
//! 5. Several cards share the cores of their node; a card has no cores on another node.
//! 6. A card with a queue for each of its cores interrupts those cores: a packet's softirq then runs where its connection lives. With
//!    fewer queues the free cores take the interrupts, and RPS hands the packets on.
//! 7. Where packets then arrive on all data cores alike, a connection is accepted by the core on which its own arrive (`arrival`).

mod advise;
mod apply;
mod arrival;
mod devices;
mod disk;
mod interrupts;
mod json;
mod machine;
mod network;
mod place;
mod read;
mod report;
mod setting;
mod tree;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

pub use advise::advise;
pub use apply::{Outcome, apply, may_write};
pub use arrival::{Arrival, arrival};
pub use disk::Served;
pub use machine::Machine;
pub use place::{Clients, NoInterface, Placement, Wish, place, place_on};
pub use report::Report;
pub use setting::{How, Setting};
pub use tree::Tree;
