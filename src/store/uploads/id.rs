//! The form of upload ids.

/// Digits of an upload id.
const ID_SIZE: usize = 48;

/// Whether `id` has the form of an upload's.
pub fn is_id(id: &str) -> bool {
    id.len() == ID_SIZE && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
