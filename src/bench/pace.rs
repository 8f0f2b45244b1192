//! When is the next request due? In a closed loop as soon as a connection is free; in an open loop at its own time, which
//! was fixed before the run began. A server that falls behind then shows in the latencies, which are counted from the time a
//! request should have been sent: no coordinated omission.

use std::time::{Duration, Instant};

/// The requests of one thread, one after the other.
#[derive(Clone, Debug)]
pub struct Pace {
    start: Instant,
    /// No request begins from here on.
    end: Option<Instant>,
    schedule: Option<Schedule>,
}

/// Every `threads`-th request of a rate, beginning with the one of number `thread`.
#[derive(Clone, Debug)]
struct Schedule {
    rate: u64,
    threads: u64,
    thread: u64,
    /// Requests of this thread that were begun.
    begun: u64,
}

/// What a free connection should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Send now; the latency counts from this time.
    Now(Instant),
    /// Nothing until then.
    At(Instant),
    /// Nothing any more.
    Never,
}

impl Pace {
    /// As fast as answers come.
    pub fn closed(start: Instant, end: Option<Instant>) -> Self {
        Self { start, end, schedule: None }
    }

    /// `rate` requests a second over all `threads`, of which this is number `thread`.
    pub fn open(start: Instant, end: Option<Instant>, rate: u64, thread: u64, threads: u64) -> Self {
        Self { start, end, schedule: Some(Schedule { rate, threads, thread, begun: 0 }) }
    }

    /// What is due at `now`. Of an open loop that was late for its last requests, these are due behind the end too; where no
    /// connection is free by then, they are given up (`unsent`): a server that is behind would make the run endless.
    pub fn due(&self, now: Instant) -> Due {
        let intended = self.schedule.as_ref().map_or(now, |schedule| self.start + schedule.offset());
        match self.end {
            Some(end) if intended >= end => Due::Never,
            _ if intended <= now => Due::Now(intended),
            _ => Due::At(intended),
        }
    }

    /// Whether the time to begin requests is over.
    pub fn is_past(&self, now: Instant) -> bool {
        self.end.is_some_and(|end| now >= end)
    }

    /// Takes note that what was due has begun.
    pub fn begin(&mut self) {
        if let Some(schedule) = &mut self.schedule {
            schedule.begun += 1;
        }
    }

    /// Requests that were due before the end of an open loop and were never sent, because no connection was free.
    pub fn unsent(&self, now: Instant) -> u64 {
        let Some(schedule) = &self.schedule else { return 0 };
        let until = self.end.map_or(now, |end| end.min(now)).saturating_duration_since(self.start);
        schedule.due_within(until).saturating_sub(schedule.begun)
    }
}

impl Schedule {
    /// When the next one is due, from the start on.
    fn offset(&self) -> Duration {
        let number = u128::from(self.begun) * u128::from(self.threads) + u128::from(self.thread);
        let ns = number * 1_000_000_000 / u128::from(self.rate);
        Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
    }

    /// How many are due in `[0, time)`.
    fn due_within(&self, time: Duration) -> u64 {
        // Of all threads: those numbers `n` with n × 10^9 ÷ rate < time.
        let all = (time.as_nanos() * u128::from(self.rate)).div_ceil(1_000_000_000);
        let ours = all.saturating_sub(u128::from(self.thread)).div_ceil(u128::from(self.threads));
        u64::try_from(ours).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn a_closed_loop_is_always_due_until_its_end() {
        let start = Instant::now();
        let pace = Pace::closed(start, Some(start + ms(100)));
        assert_eq!(pace.due(start), Due::Now(start));
        assert_eq!(pace.due(start + ms(99)), Due::Now(start + ms(99)), "the latency counts from the sending");
        assert_eq!(pace.due(start + ms(100)), Due::Never);
        assert_eq!(pace.unsent(start + ms(100)), 0);
    }

    #[test]
    fn an_open_loop_keeps_its_times_when_the_server_stalls() {
        let start = Instant::now();
        let mut pace = Pace::open(start, Some(start + ms(100)), 100, 0, 1);
        assert_eq!(pace.due(start), Due::Now(start));
        pace.begin();
        assert_eq!(pace.due(start), Due::At(start + ms(10)));
        // No connection was free for 45 ms: four more are due, each at the time it had from the beginning.
        let mut intended = Vec::new();
        while let Due::Now(time) = pace.due(start + ms(45)) {
            intended.push(time.duration_since(start).as_millis());
            pace.begin();
        }
        assert_eq!(intended, [10, 20, 30, 40]);
        assert_eq!(pace.due(start + ms(45)), Due::At(start + ms(50)));
    }

    #[test]
    fn what_was_due_and_never_sent_is_counted() {
        let start = Instant::now();
        let mut pace = Pace::open(start, Some(start + ms(100)), 100, 0, 1);
        pace.begin();
        pace.begin();
        assert!(pace.is_past(start + ms(100)) && !pace.is_past(start + ms(99)));
        assert_eq!(pace.unsent(start + ms(200)), 8);
        assert_eq!(pace.unsent(start + ms(45)), 3, "an interrupted run counts up to its interruption");
        assert_eq!(pace.due(start + ms(200)), Due::Now(start + ms(20)), "who is free may still send it");
        (0..8).for_each(|_| pace.begin());
        assert_eq!((pace.due(start + ms(200)), pace.unsent(start + ms(200))), (Due::Never, 0));
    }

    #[test]
    fn threads_share_a_rate_without_gap_or_overlap() {
        let start = Instant::now();
        let end = start + Duration::from_secs(1);
        for (rate, threads) in [(1000, 3), (7, 4), (3, 8)] {
            let mut times = Vec::new();
            let mut unsent = 0;
            for thread in 0..threads {
                let mut pace = Pace::open(start, Some(end), rate, thread, threads);
                unsent += pace.unsent(end);
                while let Due::At(time) | Due::Now(time) = pace.due(start) {
                    times.push(time);
                    pace.begin();
                }
                assert_eq!(pace.unsent(end), 0, "{rate} {threads}");
            }
            times.sort();
            let expected: Vec<_> = (0..rate).map(|n| start + Duration::from_nanos(n * 1_000_000_000 / rate)).collect();
            assert_eq!(times, expected);
            assert_eq!(unsent, rate);
        }
    }

    #[test]
    fn a_schedule_without_an_end_never_runs_out() {
        let start = Instant::now();
        let pace = Pace::open(start, None, u64::MAX, 0, 1);
        assert_eq!(pace.due(start), Due::Now(start));
    }
}
