//! What was asked? Which bucket and key, which operation, what its headers and query say; and S3's errors, by code, status and words.
//!
//! Pure: no clock, no file, no socket. Imports the pure rooms. Limits: those of `limits` for keys, queries and documents.

pub mod address;
pub mod error;
pub mod operation;
pub mod query;
pub mod request_headers;
