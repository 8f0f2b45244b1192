//! A value that another thread gives and a task of a core waits for.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The value is never given: who was to give it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoReply;

/// Gives the value, on any thread. Dropped before, it tells that nobody will.
#[derive(Debug)]
pub struct Replier<T> {
    slot: Arc<Mutex<Slot<T>>>,
}

/// Waits for the value. Whoever stops waiting may drop it.
#[derive(Debug)]
pub struct Reply<T> {
    slot: Arc<Mutex<Slot<T>>>,
}

#[derive(Debug)]
struct Slot<T> {
    value: Option<Result<T, NoReply>>,
    waker: Option<Waker>,
}

/// Both ends of one.
pub fn reply<T>() -> (Replier<T>, Reply<T>) {
    let slot = Arc::new(Mutex::new(Slot { value: None, waker: None }));
    (Replier { slot: slot.clone() }, Reply { slot })
}

impl<T> Replier<T> {
    /// Here it is.
    pub fn give(self, value: T) {
        self.set(Ok(value));
    }

    fn set(&self, value: Result<T, NoReply>) {
        let mut slot = lock(&self.slot);
        if slot.value.is_some() {
            return;
        }
        slot.value = Some(value);
        let waker = slot.waker.take();
        drop(slot);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for Replier<T> {
    fn drop(&mut self) {
        // Once the value was taken nobody looks any more.
        self.set(Err(NoReply));
    }
}

impl<T> Future for Reply<T> {
    type Output = Result<T, NoReply>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = lock(&self.slot);
        match slot.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Nothing in here panics.
fn lock<T>(slot: &Mutex<Slot<T>>) -> MutexGuard<'_, Slot<T>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::{Helpers, run_core};
    use super::*;

    #[test]
    fn a_core_hears_of_the_value_or_that_there_is_none() {
        run_core(Helpers::start(1, || ()).unwrap(), || async {
            let (replier, answer) = reply();
            let giver = std::thread::spawn(move || replier.give(7));
            assert_eq!(answer.await, Ok(7));
            giver.join().unwrap();
            let (replier, answer) = reply::<u8>();
            std::thread::spawn(move || drop(replier)).join().unwrap();
            assert_eq!(answer.await, Err(NoReply));
            let (replier, answer) = reply();
            drop(answer);
            replier.give("to nobody");
        })
        .unwrap();
    }
}
