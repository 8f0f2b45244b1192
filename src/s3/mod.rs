//! (stub)
pub mod address;
pub mod error;
pub mod operation;
pub mod request_headers;
pub mod unconfigured;
