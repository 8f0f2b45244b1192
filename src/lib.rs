//! Sluice: an S3 server over a POSIX filesystem. `ARCHITECTURE.md` beside this file is the map: rooms and floors, and which
//! room may import which. `tests/tidy.rs` holds the floors.

// floor 0
pub mod base;
pub mod config;
pub mod limits;
pub mod model;
// floor 1
pub mod auth;
pub mod body;
pub mod digest;
pub mod http;
pub mod mem;
pub mod metrics; // its half `record`; `export` is on floor 5
pub mod policy;
pub mod sys;
pub mod xml;
// floor 2
pub mod catalog;
pub mod documents;
pub mod io;
pub mod net;
// floor 3
pub mod flow;
pub mod orders;
pub mod store;
// floor 4
pub mod s3;
// floor 5
pub mod bench;
pub mod control;
pub mod top;
pub mod tune;
// floor 6
pub mod cli;
pub mod server;
