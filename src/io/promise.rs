//! A value that one task of a core gives and another waits for. No thread, no lock.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// A value to come. Shared by an `Rc`; whoever stops waiting may drop it.
pub struct Promise<T> {
    value: Cell<Option<T>>,
    waiter: Cell<Option<Waker>>,
}

impl<T> Promise<T> {
    /// Here it is.
    pub fn keep(&self, value: T) {
        self.value.set(Some(value));
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }

    /// Waits for the value; only one task may.
    pub async fn kept(&self) -> T {
        poll_fn(|context| match self.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                self.waiter.set(Some(context.waker().clone()));
                Poll::Pending
            }
        })
        .await
    }
}

impl<T> Default for Promise<T> {
    fn default() -> Self {
        Self { value: Cell::new(None), waiter: Cell::new(None) }
    }
}
