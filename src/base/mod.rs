//! What do all rooms share? Small vocabulary without I/O: secrets, principals, published states, time, CPU sets, shell words, hexadecimal and percent
//! coding.
//!
//! Imports nothing of ours.

pub mod bucket_name;
pub mod cpus;
pub mod hex;
pub mod percent;
pub mod principal;
pub mod published;
pub mod secret;
pub mod shell;
pub mod storage_class;
pub mod time;
pub mod version_id;
