//! A few operations in flight, in order, in places that are allocated once for a transfer and used for every block.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;

/// At most `capacity` operations in flight, answered in the order in which they were started.
pub(super) struct Slots<F> {
    busy: VecDeque<Pin<Box<Option<F>>>>,
    spare: Vec<Pin<Box<Option<F>>>>,
}

impl<F: Future> Slots<F> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { busy: VecDeque::with_capacity(capacity), spare: (0..capacity).map(|_| Box::pin(None)).collect() }
    }

    pub(super) fn is_full(&self) -> bool {
        self.spare.is_empty()
    }

    pub(super) fn count(&self) -> usize {
        self.busy.len()
    }

    /// Starts an operation: polls it once, which puts it on the ring. The caller has checked `is_full`.
    pub(super) async fn start(&mut self, operation: F) {
        let Some(mut slot) = self.spare.pop() else { unreachable!("started an operation without a free slot") };
        slot.set(Some(operation));
        // An operation on the ring is never done at its first poll, so its result is not lost here.
        poll_fn(|context| {
            let done = slot.as_mut().as_pin_mut().is_some_and(|operation| operation.poll(context).is_ready());
            assert!(!done, "an operation was done before it was waited for");
            std::task::Poll::Ready(())
        })
        .await;
        self.busy.push_back(slot);
    }

    /// The result of the oldest operation in flight; `None` when there is none.
    pub(super) async fn next(&mut self) -> Option<F::Output> {
        let slot = self.busy.front_mut()?;
        let result = poll_fn(|context| match slot.as_mut().as_pin_mut() {
            Some(operation) => operation.poll(context),
            None => unreachable!("a busy slot without an operation"),
        })
        .await;
        if let Some(mut slot) = self.busy.pop_front() {
            slot.set(None);
            self.spare.push(slot);
        }
        Some(result)
    }
}
