//! What is asked for next? Each thread has its own share of the objects, every `threads`-th of them, so that threads share
//! nothing and none deletes what another reads.

use super::settings::Operation;

/// What a phase does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Opens all connections, and sends nothing.
    Connect,
    /// Puts each object once.
    Prepare,
    /// The operation, over and over; `None` is the mix.
    Measure(Option<Operation>),
    /// Deletes what the run has put and not deleted.
    CleanUp,
}

/// One request to make: an operation on object `number` of the thread's share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    pub operation: Operation,
    pub number: u64,
    /// Whether the same request will be sent again.
    pub repeats: bool,
}

/// The mix, in percent: that of warp.
const MIX: [(Operation, u64); 4] = [(Operation::Get, 45), (Operation::Head, 30), (Operation::Put, 15), (Operation::Delete, 10)];

/// How often the mix looks for an object that nobody reads at the moment, before it puts one instead.
const VICTIM_ATTEMPTS: usize = 8;

/// The objects of one thread.
pub struct Workload {
    /// Objects that are there, or will be once prepared.
    share: u64,
    /// Uploads write these in turn; `None` for a new one each time.
    put_share: Option<u64>,
    random: Random,
    work: Work,
    /// Objects of this phase so far, where it takes them in turn.
    turn: u64,
    /// Uploads so far, over all phases: the number of the next.
    puts: u64,
    /// One above the highest number ever put, and below which everything was deleted.
    written: u64,
    deleted: u64,
    /// Of the mix: what is there, and what of it is being read.
    live: Vec<u64>,
    reading: Vec<u64>,
}

impl Workload {
    /// Thread number `thread` of `threads`, which share `objects` among them.
    pub fn new(objects: u64, put_objects: Option<u64>, thread: u64, threads: u64) -> Self {
        let share_of = |objects: u64| objects.saturating_sub(thread).div_ceil(threads);
        Self {
            share: share_of(objects),
            put_share: put_objects.map(share_of),
            random: Random(0x9e37_79b9_7f4a_7c15 ^ (thread + 1).wrapping_mul(0xbf58_476d_1ce4_e5b9)),
            work: Work::Prepare,
            turn: 0,
            puts: 0,
            written: 0,
            deleted: 0,
            live: Vec::new(),
            reading: Vec::new(),
        }
    }

    pub fn begin(&mut self, work: Work) {
        self.work = work;
        self.turn = 0;
        if work == Work::Measure(None) && self.live.is_empty() {
            self.live = (0..self.share).collect();
            self.puts = self.puts.max(self.share);
        }
    }

    /// The next request; `None` when there is none left.
    pub fn next(&mut self) -> Option<Task> {
        match self.work {
            Work::Connect => None,
            Work::Prepare => {
                let number = self.in_turn(self.share)?;
                Some(self.put(number, false))
            }
            Work::CleanUp => {
                let number = self.deleted;
                (number < self.written).then(|| self.delete(number))
            }
            Work::Measure(Some(operation)) => self.measured(operation),
            Work::Measure(None) => Some(self.mixed()),
        }
    }

    /// What `next` gave was answered, well or not.
    pub fn done(&mut self, task: Task, is_good: bool) {
        if self.work != Work::Measure(None) {
            return;
        }
        match task.operation {
            Operation::Get | Operation::Head => {
                if let Some(at) = self.reading.iter().position(|number| *number == task.number) {
                    self.reading.swap_remove(at);
                }
            }
            Operation::Put if is_good => self.live.push(task.number),
            _ => {}
        }
    }

    /// A random number below `end`, which is above 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.random.below(end)
    }

    fn measured(&mut self, operation: Operation) -> Option<Task> {
        match operation {
            Operation::Get | Operation::Head | Operation::List => {
                let number = if self.share == 0 { return None } else { self.random.below(self.share) };
                Some(Task { operation, number, repeats: true })
            }
            Operation::Put => {
                let number = match self.put_share {
                    Some(0) => return None,
                    Some(share) => self.puts % share,
                    None => self.puts,
                };
                self.puts += 1;
                Some(self.put(number, self.put_share.is_some()))
            }
            Operation::Delete => (self.deleted < self.share).then(|| self.delete(self.deleted)),
        }
    }

    fn mixed(&mut self) -> Task {
        let mut percent = self.random.below(100);
        let chosen = MIX.iter().find(|(_, share)| match percent.checked_sub(*share) {
            Some(rest) => {
                percent = rest;
                false
            }
            None => true,
        });
        let operation = chosen.map_or(Operation::Get, |(operation, _)| *operation);
        let task = match operation {
            Operation::Put | Operation::List => None,
            Operation::Delete => self.victim().map(|number| Task { operation, number, repeats: false }),
            Operation::Get | Operation::Head => self.readable().map(|number| Task { operation, number, repeats: true }),
        };
        task.unwrap_or_else(|| {
            self.puts += 1;
            self.put(self.puts - 1, false)
        })
    }

    fn readable(&mut self) -> Option<u64> {
        let count = self.live.len() as u64;
        let at = if count == 0 { return None } else { self.random.below(count) };
        let number = *self.live.get(usize::try_from(at).ok()?)?;
        self.reading.push(number);
        Some(number)
    }

    /// An object that is not being read, and from now on will not be.
    fn victim(&mut self) -> Option<u64> {
        for _ in 0..VICTIM_ATTEMPTS {
            let count = self.live.len() as u64;
            let at = if count == 0 { return None } else { usize::try_from(self.random.below(count)).ok()? };
            if !self.reading.contains(self.live.get(at)?) {
                return Some(self.live.swap_remove(at));
            }
        }
        None
    }

    fn put(&mut self, number: u64, repeats: bool) -> Task {
        self.written = self.written.max(number + 1);
        Task { operation: Operation::Put, number, repeats }
    }

    fn delete(&mut self, number: u64) -> Task {
        self.deleted = number + 1;
        Task { operation: Operation::Delete, number, repeats: false }
    }

    fn in_turn(&mut self, end: u64) -> Option<u64> {
        let number = self.turn;
        self.turn += 1;
        (number < end).then_some(number)
    }
}

/// xorshift64*: objects have to be picked without a pattern, not without guessing.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d);
        // The high half of the product: as even as a remainder, and cheaper.
        ((u128::from(value) * u128::from(end)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeSet, HashMap};

    fn all(workload: &mut Workload, work: Work) -> Vec<Task> {
        workload.begin(work);
        std::iter::from_fn(|| workload.next()).collect()
    }

    #[test]
    fn threads_prepare_and_clear_every_object_once() {
        for threads in [1, 3, 8] {
            let mut numbers = Vec::new();
            for thread in 0..threads {
                let mut workload = Workload::new(100, None, thread, threads);
                let put = all(&mut workload, Work::Prepare);
                let deleted = all(&mut workload, Work::CleanUp);
                assert!(put.iter().all(|task| task.operation == Operation::Put));
                assert!(deleted.iter().all(|task| task.operation == Operation::Delete));
                let of = |tasks: &[Task]| tasks.iter().map(|task| task.number * threads + thread).collect::<Vec<_>>();
                assert_eq!(of(&put), of(&deleted));
                numbers.extend(of(&put));
            }
            numbers.sort_unstable();
            assert_eq!(numbers, (0..100).collect::<Vec<_>>());
        }
    }

    #[test]
    fn reads_reach_every_object() {
        let mut workload = Workload::new(50, None, 0, 1);
        workload.begin(Work::Measure(Some(Operation::Get)));
        let numbers: BTreeSet<_> = (0..2000).filter_map(|_| workload.next()).map(|task| task.number).collect();
        assert_eq!(numbers, (0..50).collect());
        assert_eq!(all(&mut workload, Work::CleanUp), [], "what was there before is not deleted");
    }

    #[test]
    fn uploads_are_new_or_take_turns_and_are_cleared() {
        let mut fresh = Workload::new(0, None, 0, 1);
        fresh.begin(Work::Measure(Some(Operation::Put)));
        let numbers: Vec<_> = (0..5).filter_map(|_| fresh.next()).map(|task| (task.number, task.repeats)).collect();
        assert_eq!(numbers, [(0, false), (1, false), (2, false), (3, false), (4, false)]);
        // The measurement behind the warm-up goes on with new keys.
        fresh.begin(Work::Measure(Some(Operation::Put)));
        assert_eq!(fresh.next().map(|task| task.number), Some(5));
        assert_eq!(all(&mut fresh, Work::CleanUp).len(), 6);
        let mut cycling = Workload::new(0, Some(2), 0, 1);
        cycling.begin(Work::Measure(Some(Operation::Put)));
        let numbers: Vec<_> = (0..5).filter_map(|_| cycling.next()).map(|task| (task.number, task.repeats)).collect();
        assert_eq!(numbers, [(0, true), (1, true), (0, true), (1, true), (0, true)]);
        assert_eq!(all(&mut cycling, Work::CleanUp).len(), 2);
    }

    #[test]
    fn deletes_end_with_the_objects_and_leave_nothing_to_clear() {
        let mut workload = Workload::new(10, None, 0, 1);
        all(&mut workload, Work::Prepare);
        assert_eq!(all(&mut workload, Work::Measure(Some(Operation::Delete))).len(), 10);
        assert_eq!(all(&mut workload, Work::CleanUp), []);
    }

    /// Twenty requests are in flight at any time; none may meet an object that is not there.
    #[test]
    fn the_mix_reads_only_what_is_there() {
        let mut workload = Workload::new(20, None, 0, 1);
        all(&mut workload, Work::Prepare);
        workload.begin(Work::Measure(None));
        let mut there: BTreeSet<u64> = (0..20).collect();
        let mut flying: Vec<Task> = Vec::new();
        let mut counts: HashMap<&str, u64> = HashMap::new();
        for _ in 0..20_000 {
            let task = workload.next().unwrap();
            *counts.entry(task.operation.name()).or_default() += 1;
            match task.operation {
                Operation::Put => assert!(!there.contains(&task.number)),
                Operation::Delete => {
                    assert!(there.remove(&task.number));
                    assert!(!flying.iter().any(|other| other.number == task.number));
                }
                _ => assert!(there.contains(&task.number)),
            }
            flying.push(task);
            if flying.len() == 20 {
                let done = flying.remove(usize::try_from(workload.below(20)).unwrap());
                if done.operation == Operation::Put {
                    there.insert(done.number);
                }
                workload.done(done, true);
            }
        }
        for (operation, percent) in MIX {
            let share = counts[operation.name()] as f64 / 200.0;
            assert!((share - percent as f64).abs() < 3.0, "{operation:?}: {share} %");
        }
    }
}
