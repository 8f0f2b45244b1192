//! Is it the same bytes? MD5 and SHA-256, one stream at a time or many at once, the CRC family, S3's checksums made of
//! them, and the rules of ETags. Pure: no I/O, no clock, and no allocation but where a name says so.
//!
//! Imports `limits` and `base`. `unsafe` only in `lanes`. Every state is of fixed size; nothing grows with the object.

mod block;
pub mod checksum;
mod crc;
pub mod etag;
pub mod lanes;
pub mod md5;
pub mod sha256;

pub use checksum::{Algorithm, Checksum};
pub use etag::ETag;
pub use lanes::Job;
pub use md5::Md5;
pub use sha256::Sha256;
