//! How is a change of what is configured asked for? An order to the one thread that makes them (`control`), and its answer, which a core
//! awaits. Whoever configures, verbs first of all, sends orders, and knows no more of that thread than this.
//!
//! Imports `store`, whose tickets and refusals the answers carry, and what is below. Limits: `ORDERS_MAX` orders wait.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use crate::documents::DocumentError;
use crate::io::{Replier, reply};
use crate::limits::ORDERS_MAX;
use crate::model::Versioning;
use crate::store::disk::barrier::Ticket;
use crate::store::error::StoreError;

/// A change that somebody wants.
#[derive(Debug)]
pub struct Order {
    /// Who: an ARN, for the log.
    pub by: Box<str>,
    pub change: Change,
    pub answer: Replier<Answer>,
}

/// What is to be otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new bucket of this name, which belongs to the account `owner`.
    CreateBucket { name: Box<str>, owner: Box<str> },
    /// The directory of this bucket was removed: so is its document.
    ForgetBucket { name: Box<str> },
    /// Whether the bucket keeps versions. One without a document belongs to the account `owner`.
    SetVersioning { name: Box<str>, owner: Box<str>, versioning: Versioning },
}

/// What becomes of an order: when the change in the served directory is durable, if there is one. The documents are.
pub type Answer = Result<Option<Ticket>, Refused>;

/// Why a change was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Too many wait.
    TooMany,
    /// The thread that makes changes is gone, and the server about to be.
    NobodyThere,
    /// The store refused.
    Store(StoreError),
    /// A document cannot be read or written.
    Document(DocumentError),
    /// The configuration directory is not the one that the server was started with, or is not there.
    AnotherConfiguration,
    /// The bucket's document is damaged, or missing where its directory says that there is one.
    Damaged,
    /// The bucket's directory is not the one that its document is of.
    OtherDirectory,
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<DocumentError> for Refused {
    fn from(error: DocumentError) -> Self {
        Self::Document(error)
    }
}

/// The way to that thread. Clones are the same way.
#[derive(Clone, Debug)]
pub struct Orders {
    sender: SyncSender<Option<Order>>,
}

/// The other end of it.
#[derive(Debug)]
pub struct Inbox {
    receiver: Receiver<Option<Order>>,
}

/// What an inbox has.
#[derive(Debug)]
pub enum Arrival {
    Order(Order),
    /// None within the time.
    Nothing,
    /// There will be none any more.
    End,
}

/// A way and its end.
pub fn orders() -> (Orders, Inbox) {
    let (sender, receiver) = sync_channel(ORDERS_MAX);
    (Orders { sender }, Inbox { receiver })
}

impl Orders {
    /// Has a change made, and waits for what becomes of it. Whoever stops waiting does not stop the change.
    pub async fn ask(&self, by: &str, change: Change) -> Answer {
        let (answer, replied) = reply();
        match self.sender.try_send(Some(Order { by: by.into(), change, answer })) {
            Ok(()) => replied.await.unwrap_or(Err(Refused::NobodyThere)),
            Err(TrySendError::Full(_)) => Err(Refused::TooMany),
            Err(TrySendError::Disconnected(_)) => Err(Refused::NobodyThere),
        }
    }

    /// Tells the inbox that it is the end, if there is room for that.
    pub fn end(&self) {
        // Otherwise somebody is at it, and looks.
        let _ = self.sender.try_send(None);
    }
}

impl Inbox {
    /// The next order, which is waited for so long.
    pub fn next(&self, within: Duration) -> Arrival {
        match self.receiver.recv_timeout(within) {
            Ok(Some(order)) => Arrival::Order(order),
            Ok(None) | Err(RecvTimeoutError::Disconnected) => Arrival::End,
            Err(RecvTimeoutError::Timeout) => Arrival::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Helpers, run_core, spawn, turn};

    fn forget() -> Change {
        Change::ForgetBucket { name: "bucket".into() }
    }

    #[test]
    fn an_order_is_answered_by_another_thread() {
        let (orders, inbox) = orders();
        let thread = std::thread::spawn(move || {
            while let Arrival::Order(order) = inbox.next(Duration::from_secs(60)) {
                assert_eq!((&*order.by, &order.change), ("arn", &forget()));
                order.answer.give(Err(Refused::Damaged));
            }
        });
        run_core(Helpers::start(1, || ()).unwrap(), || async move {
            assert_eq!(orders.ask("arn", forget()).await, Err(Refused::Damaged));
            orders.end();
            thread.join().unwrap();
            assert_eq!(orders.ask("arn", forget()).await, Err(Refused::NobodyThere));
        })
        .unwrap();
    }

    #[test]
    fn beyond_so_many_an_order_is_refused_and_an_end_leaves_none_waiting() {
        let (orders, inbox) = orders();
        run_core(Helpers::start(1, || ()).unwrap(), || async move {
            let waiting: Vec<_> = (0..ORDERS_MAX)
                .map(|_| {
                    let orders = orders.clone();
                    spawn(async move { orders.ask("arn", forget()).await })
                })
                .collect();
            turn().await;
            assert_eq!(orders.ask("arn", forget()).await, Err(Refused::TooMany));
            drop(inbox);
            for answer in waiting {
                assert_eq!(answer.await, Err(Refused::NobodyThere));
            }
        })
        .unwrap();
    }
}
