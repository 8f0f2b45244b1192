//! Small uploads that are complete in the same turn of a core are committed in one visit of a helper, and wait for one
//! barrier as one: a hop to another thread and back costs as much as a third of a commit.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use crate::io::{HelperPanicked, Promise, Work, blocking, spawn};
use crate::limits::{COMMIT_BATCH_MAX, COMMIT_VISITS_MAX};
use crate::metrics::record;
use crate::store::disk::Disk;
use crate::store::disk::turns::KeyTurn;
use crate::store::error::StoreError;
use crate::store::objects::batch::{self, Small};
use crate::store::objects::write::Published;

thread_local! {
    static QUEUE: Rc<Queue> = Rc::default();
}

/// The outcome of one upload's commit.
type Outcome = Result<Result<Published, StoreError>, HelperPanicked>;

/// Commits `object`. What succeeded has passed the barrier, as a rule; the caller asks for itself. When the caller is dropped, the
/// work is still done.
pub async fn commit_small(disk: &Arc<Disk>, object: Small) -> Outcome {
    let answer = Rc::new(Promise::default());
    let turn = disk.bucket(&object.write.bucket).turn_in_company(&object.write.key).await;
    QUEUE.with(|queue| {
        queue.waiting.borrow_mut().push_back(Waiting { disk: disk.clone(), object, turn, answer: answer.clone() });
        queue.schedule();
    });
    answer.kept().await
}

/// The uploads of one core that wait for a helper.
#[derive(Default)]
struct Queue {
    waiting: RefCell<VecDeque<Waiting>>,
    /// A task that empties the queue stands behind everything that is runnable now.
    is_scheduled: Cell<bool>,
    /// Visits under way.
    visits: Cell<usize>,
}

struct Waiting {
    disk: Arc<Disk>,
    object: Small,
    turn: KeyTurn,
    answer: Rc<Promise<Outcome>>,
}

impl Queue {
    fn schedule(self: &Rc<Self>) {
        if self.visits.get() < COMMIT_VISITS_MAX && !self.is_scheduled.replace(true) {
            spawn(self.clone().empty());
        }
    }

    /// Hands what waits to helpers, until as many of them are busy as may be. What then still waits comes together with what
    /// comes meanwhile.
    async fn empty(self: Rc<Self>) {
        self.is_scheduled.set(false);
        while self.visits.get() < COMMIT_VISITS_MAX {
            let mut waiting = self.waiting.borrow_mut();
            let Some(disk) = waiting.front().map(|first| first.disk.clone()) else { return };
            let count = if disk.commits_together() { waiting.len().min(COMMIT_BATCH_MAX) } else { 1 };
            let batch: Vec<_> = waiting.drain(..count).collect();
            self.visits.update(|visits| visits + 1);
            spawn(self.clone().visit(disk, batch));
        }
    }

    async fn visit(self: Rc<Self>, disk: Arc<Disk>, batch: Vec<Waiting>) {
        let (mut objects, mut answers, mut turns) = (Vec::new(), Vec::new(), Vec::new());
        for Waiting { object, answer, turn, .. } in batch {
            objects.push(object);
            answers.push(answer);
            turns.push(turn);
        }
        let there = disk.clone();
        let visit = blocking(Work::Commit, move || {
            let outcomes = batch::commit_each(&there, objects);
            // One alone is spared the hops to the barrier's thread and back. Where there are several, others come behind them, who
            // would wait for this visit's end.
            let is_alone = matches!(outcomes[..], [Ok(_)]);
            let waited = if is_alone { there.barrier().lead() } else { None };
            (outcomes, waited)
        })
        .await;
        drop(turns);
        self.visits.update(|visits| visits - 1);
        if !self.waiting.borrow().is_empty() {
            self.schedule();
        }
        let Ok((outcomes, waited)) = visit else {
            answers.iter().for_each(|answer| answer.keep(Err(HelperPanicked)));
            return;
        };
        let (published, refused): (Vec<_>, Vec<_>) = answers.into_iter().zip(outcomes).partition(|(_, outcome)| outcome.is_ok());
        for (answer, outcome) in refused {
            answer.keep(Ok(outcome));
        }
        waited.into_iter().for_each(record::barrier_waited);
        if let Some(last) = published.iter().filter_map(|(_, outcome)| outcome.as_ref().ok()).map(|one| one.ticket).max() {
            // A failure is told to each by its own wait.
            let _ = disk.barrier().all_durable(last, published.len()).await;
        }
        for (answer, outcome) in published {
            answer.keep(Ok(outcome));
        }
    }
}
