//! Who changes what is configured? One thread, and nobody else: it checks an order, writes the document, compiles the catalog, publishes it
//! to all cores, and answers. The same thread sees what other programs and gateways have written, and which directories the buckets are.
//!
//! Imports `orders`, `documents`, `catalog`, `store` and what is below; never `net`, `flow` or the blocks of a core. It blocks as it likes:
//! no core waits for it. Limits: `ORDERS_MAX` orders wait; looks by `DOCUMENTS_LOOK_INTERVAL`, scans by `DOCUMENTS_SCAN_INTERVAL`.

mod buckets;
#[cfg(feature = "seams")]
mod seams;
mod state;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Instant;

use crate::catalog::Catalog;
use crate::limits::{CONTROL_END_PATIENCE, DOCUMENTS_LOOK_INTERVAL};
use crate::orders::{Answer, Arrival, Change, Inbox, Order, Orders, orders};
use state::State;

pub use state::Work;

/// The running thread.
pub struct Control {
    orders: Orders,
    is_ending: Arc<AtomicBool>,
    ended: Receiver<()>,
}

/// Why it cannot start.
#[derive(Debug)]
pub enum Unable {
    /// What is configured cannot be read, or the directories that it is for.
    Read(crate::orders::Refused),
    Thread(std::io::Error),
}

/// Tells, however the thread ends, if it was not told to.
struct Life<F: FnOnce()> {
    lost: Option<F>,
}

impl<F: FnOnce()> Drop for Life<F> {
    fn drop(&mut self) {
        if let Some(lost) = self.lost.take() {
            lost();
        }
    }
}

impl Control {
    /// Reads everything and publishes it, before any core serves; then starts the thread. `lost` is called when that ends by itself.
    pub fn start(
        work: Work,
        publish: impl Fn(Arc<Catalog>) + Send + 'static,
        lost: impl FnOnce() + Send + 'static,
    ) -> Result<Self, Unable> {
        let mut state = State::new(work, Box::new(publish));
        state.begin().map_err(Unable::Read)?;
        let (orders, inbox) = orders();
        let is_ending = Arc::new(AtomicBool::new(false));
        let (end, ended) = channel();
        let seen = is_ending.clone();
        let run = move || {
            let mut life = Life { lost: Some(lost) };
            serve(&mut state, &inbox, &seen);
            life.lost = None;
            let _ = end.send(());
        };
        std::thread::Builder::new().name("control".into()).spawn(run).map_err(Unable::Thread)?;
        Ok(Self { orders, is_ending, ended })
    }

    /// The way to it.
    pub fn orders(&self) -> &Orders {
        &self.orders
    }

    /// Ends the thread when the change that it is at is made; orders that wait are not served. False: it hangs in a filesystem.
    pub fn end(self) -> bool {
        self.is_ending.store(true, Ordering::Relaxed);
        self.orders.end();
        self.ended.recv_timeout(CONTROL_END_PATIENCE) != Err(RecvTimeoutError::Timeout)
    }
}

fn serve(state: &mut State, inbox: &Inbox, is_ending: &AtomicBool) {
    let mut next_look = Instant::now() + DOCUMENTS_LOOK_INTERVAL;
    while !is_ending.load(Ordering::Relaxed) {
        match inbox.next(next_look.saturating_duration_since(Instant::now())) {
            Arrival::Order(Order { by, change, answer }) => {
                let made = make(state, &change);
                match &made {
                    Ok(_) => tracing::info!(by, ?change, "settings changed"),
                    Err(refused) => tracing::debug!(by, ?change, ?refused, "settings not changed"),
                }
                answer.give(made);
                #[cfg(feature = "seams")]
                {
                    if let Some((name, content)) = seams::begin() {
                        let _ = state.write(&name, *content);
                    }
                    seams::end();
                }
            }
            Arrival::Nothing => {}
            Arrival::End => return,
        }
        if Instant::now() >= next_look {
            state.look();
            next_look = Instant::now() + DOCUMENTS_LOOK_INTERVAL;
        }
    }
}

fn make(state: &mut State, change: &Change) -> Answer {
    match change {
        Change::CreateBucket { name, owner } => buckets::create(state, name, owner),
        Change::ForgetBucket { name } => buckets::forget(state, name),
        Change::SetVersioning { name, owner, versioning } => buckets::set_versioning(state, name, owner, *versioning),
    }
}

#[cfg(test)]
mod tests;
