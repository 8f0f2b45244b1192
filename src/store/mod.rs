//! Where does an object live? Keys and paths, the record beside the data, staging and commit, opening, listing, multipart
//! uploads, and what a dead process left. A hall between these rooms.

pub mod buckets;
pub mod disk;
pub mod error;
pub mod listing;
pub mod names;
pub mod objects;
pub mod uploads;
pub mod volume;
