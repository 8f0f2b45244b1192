//! What was asked, and how is it framed? The request head as offsets into the caller's buffer, without allocation unless
//! it has dozens of fields; the framing of its body; ranges, conditionals, and the bytes of an answer's head.
//!
//! Imports `limits` and `base`. Pure: no I/O, time is an argument.
//!
//! Limits: `HEAD_SIZE_MAX` bytes a head, `TARGET_SIZE_MAX` bytes a target, `HEADER_COUNT_MAX` fields, `QUERY_COUNT_MAX`
//! parameters. Whatever two parsers could read differently is refused here, once, while the head is parsed: a `Head` that
//! exists has exactly one reading, so that nothing behind it has to check framing again.

mod ascii;
pub mod conditional;
mod framing;
mod head;
mod parse;
mod range;
mod request;
mod response;
mod target;

pub use ascii::{in_ascii, parameters_in_ascii};
pub use head::{Framing, Head, HeadError, Version};
pub use parse::{Parsed, is_field, parse};
pub use range::{Range, select};
pub use request::{Headers, Request};
pub use response::{CONTINUE, DateCache, end_head, reason, write_header, write_own, write_own_number, write_status};
pub use target::{QueryPairs, decode_query, query_pairs};

#[cfg(test)]
mod tests;
