//! What becomes of an object?

pub mod batch;
pub mod commit;
pub mod copy;
pub mod delete;
pub mod open;
pub mod recent;
