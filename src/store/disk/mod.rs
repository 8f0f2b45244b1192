//! What is a served directory?

pub mod barrier;
pub(in crate::store) mod displace;
pub mod grain;
pub(in crate::store) mod home;
pub(in crate::store) mod inherit;
pub(in crate::store) mod locks;
#[cfg(test)]
pub(in crate::store) mod meddle;
pub(in crate::store) mod naming;
pub(in crate::store) mod own;
pub mod presence;
pub(in crate::store) mod probe;
pub(in crate::store) mod reading;
#[cfg(feature = "seams")]
pub mod seams;
pub mod spill;
pub mod stage;
pub(in crate::store) mod staging;
pub(in crate::store) mod tree;
pub mod turns;
pub(in crate::store) mod unsynced;
pub(in crate::store) mod watch;
