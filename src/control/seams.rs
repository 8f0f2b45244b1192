//! A document that is written when its change has been answered, for the test that cuts the power (`scripts/power-cut --mutant document`).

use std::sync::{Mutex, PoisonError};

use crate::model::Bucket;
use crate::store::disk::seams::{Mutant, mutant};

/// What is to be written.
enum Late {
    Nothing,
    After(Box<str>, Box<Bucket>),
    Now,
}

static LATE: Mutex<Late> = Mutex::new(Late::Nothing);

fn exchange(with: Late) -> Late {
    std::mem::replace(&mut *LATE.lock().unwrap_or_else(PoisonError::into_inner), with)
}

/// Whether this document is not written now.
pub(super) fn is_put_off(name: &str, content: &Bucket) -> bool {
    if mutant() != Mutant::Document || matches!(exchange(Late::Nothing), Late::Now) {
        return false;
    }
    exchange(Late::After(name.into(), Box::new(content.clone())));
    true
}

/// What is to be written now that the change is answered, until `end`.
pub(super) fn begin() -> Option<(Box<str>, Box<Bucket>)> {
    match exchange(Late::Now) {
        Late::After(name, content) => Some((name, content)),
        Late::Nothing | Late::Now => None,
    }
}

/// It is written.
pub(super) fn end() {
    exchange(Late::Nothing);
}
