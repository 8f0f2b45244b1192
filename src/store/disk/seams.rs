//! Barriers with a known hole, for the test that cuts the power (`scripts/power-cut --mutant`): it must find each of them, or
//! it would not find the same mistake in the server. Chosen by `SLUICE_TEST_BARRIER`; only with the feature `seams`.

use std::os::fd::OwnedFd;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use crate::sys::{self, Errno};

/// What is wrong with the barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Nothing.
    Whole,
    /// It does nothing.
    None,
    /// It syncs the first file that was published in the batch, instead of the changed directory. What has no file, as a delete,
    /// gets the whole barrier.
    Member,
    /// It is whole, but files get their names while their pages are dirty.
    Dirty,
    /// It is whole, but what a bucket is set to is written when its change has been answered (`control`).
    Document,
    /// It is whole, with a pause in it, for a fault to fall into.
    Slow,
}

static MUTANT: LazyLock<Mutant> = LazyLock::new(|| match std::env::var("SLUICE_TEST_BARRIER").as_deref() {
    Ok("none") => Mutant::None,
    Ok("member") => Mutant::Member,
    Ok("dirty") => Mutant::Dirty,
    Ok("document") => Mutant::Document,
    Ok("slow") => Mutant::Slow,
    _ => Mutant::Whole,
});

/// The first file that was published since the last batch was closed.
static MEMBER: Mutex<Option<OwnedFd>> = Mutex::new(None);

/// The mutant of this process.
pub fn mutant() -> Mutant {
    *MUTANT
}

/// Instead of each duration of the sweep of spilled records: `SLUICE_TEST_SPILL_MS`.
pub fn spill_duration() -> Option<Duration> {
    std::env::var("SLUICE_TEST_SPILL_MS").ok()?.parse().ok().map(Duration::from_millis)
}

/// A file has got its name; its ticket is drawn after this.
pub fn note_published(file: &OwnedFd) {
    if mutant() == Mutant::Member {
        let mut member = MEMBER.lock().unwrap_or_else(PoisonError::into_inner);
        if member.is_none() {
            *member = file.try_clone().ok();
        }
    }
}

/// What a lone publisher would sync is the very file that it published, and wrong for nobody: the mutant waits for company.
pub fn leaves_the_lead() -> bool {
    mutant() == Mutant::Member
}

/// Between the change and the sync.
pub fn pause() {
    if mutant() == Mutant::Slow {
        std::thread::sleep(Duration::from_millis(700));
    }
}

/// The barrier of a closed batch; `whole` is the real one.
pub fn sync(whole: impl FnOnce() -> Result<(), Errno>) -> Result<(), Errno> {
    match mutant() {
        Mutant::Whole | Mutant::Dirty | Mutant::Document | Mutant::Slow => whole(),
        Mutant::None => Ok(()),
        Mutant::Member => match MEMBER.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(file) => sys::file::sync(&file),
            None => whole(),
        },
    }
}
