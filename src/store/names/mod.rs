//! What is an object called, where does that put it, and what do we know of it? Keys and paths (`key`), which keys can lie below a
//! directory (`subtree`), the record beside the data (`record`, `checksum`).
//!
//! Pure: bytes in, values out, without a clock, a file or a socket. Imports `limits`, `base`, `digest`, and of `sys` the facts of a
//! file (`FileStat`, `FileKind`), which others have looked at. Any POSIX user can write what is read here: decoding answers an error or
//! what `encode` writes, and never panics.

pub mod checksum;
pub mod key;
pub mod record;
pub mod subtree;
