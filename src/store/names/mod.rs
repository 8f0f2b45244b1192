//! What is an object called, and what do we know of it?

pub mod checksum;
pub mod key;
pub mod record;
