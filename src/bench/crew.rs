//! The threads of a run, which go through its phases together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use super::BenchError;
use super::phase::{Counters, Outcome, Phase};
use super::worker::{Blueprint, Worker};

/// The threads, waiting for a phase or in one.
pub struct Crew {
    threads: Vec<Sender<(Phase, Instant)>>,
    outcomes: Receiver<Outcome>,
    counters: Vec<Arc<Counters>>,
}

/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

impl Crew {
    /// Starts a thread for each of the blueprints.
    pub fn start(blueprints: Vec<Blueprint>, stop: &Arc<AtomicBool>) -> Result<Self, BenchError> {
        let (sender, outcomes) = mpsc::channel();
        let mut crew = Self { threads: Vec::new(), outcomes, counters: Vec::new() };
        for (number, blueprint) in blueprints.into_iter().enumerate() {
            let (phases, told) = mpsc::channel::<(Phase, Instant)>();
            let counters = Arc::new(Counters::default());
            crew.threads.push(phases);
            crew.counters.push(Arc::clone(&counters));
            let (sender, stop) = (sender.clone(), Arc::clone(stop));
            let work = move || {
                let mut worker = Worker::new(blueprint, counters, stop);
                // The crew is dropped when the run is over: then this thread ends too.
                while let Ok((phase, start)) = told.recv() {
                    let outcome = match &mut worker {
                        Ok(worker) => worker.run(&phase, start),
                        Err(error) => Outcome { lost: Some(error.to_string()), ..Outcome::default() },
                    };
                    if sender.send(outcome).is_err() {
                        return;
                    }
                }
            };
            let thread = std::thread::Builder::new().name(format!("bench-{number}"));
            thread.spawn(work).map_err(|error| BenchError::system("starting a thread", error))?;
        }
        Ok(crew)
    }

    /// Runs one phase on all threads, and tells `progress` about it once a second.
    pub fn run(&self, phase: &Phase, progress: &dyn Fn(&str)) -> Result<Outcome, BenchError> {
        let start = Instant::now();
        for thread in &self.threads {
            thread.send((phase.clone(), start)).map_err(|_| Self::thread_lost())?;
        }
        let (mut whole, mut remaining, mut before) = (Outcome::default(), self.threads.len(), self.totals());
        let (mut told, mut next) = (start, start + PROGRESS_INTERVAL);
        while remaining > 0 {
            match self.outcomes.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(outcome) => {
                    remaining -= 1;
                    whole.tally.add(outcome.tally);
                    whole.lost = whole.lost.or(outcome.lost);
                }
                Err(RecvTimeoutError::Timeout) => {
                    let (now, totals) = (Instant::now(), self.totals());
                    progress(&progress_line(phase.name, now - start, now - told, &before, &totals));
                    (before, told, next) = (totals, now, now + PROGRESS_INTERVAL);
                }
                Err(RecvTimeoutError::Disconnected) => return Err(Self::thread_lost()),
            }
        }
        Ok(whole)
    }

    fn thread_lost() -> BenchError {
        BenchError::system("running the load", "a thread ended by itself")
    }

    fn totals(&self) -> [u64; 3] {
        let sum = |pick: fn(&Counters) -> &AtomicU64| self.counters.iter().map(|of| pick(of).load(Ordering::Relaxed)).sum();
        [sum(|of| &of.requests), sum(|of| &of.bytes), sum(|of| &of.errors)]
    }
}

fn progress_line(name: &str, since_start: Duration, elapsed: Duration, before: &[u64; 3], now: &[u64; 3]) -> String {
    let per_second = |index: usize| (now[index] - before[index]) as f64 / elapsed.as_secs_f64();
    let mib = per_second(1) / (1024.0 * 1024.0);
    let errors = now[2] - before[2];
    format!("{name} {:>4.0} s  {:>9.0} req/s  {mib:>9.1} MiB/s  {errors} errors", since_start.as_secs_f64(), per_second(0))
}
