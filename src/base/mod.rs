//! What do all rooms share? Small vocabulary without I/O: secrets, time, hexadecimal and percent coding.
//!
//! Imports nothing of ours.

pub mod bucket_name;
pub mod hex;
pub mod percent;
pub mod secret;
pub mod time;
