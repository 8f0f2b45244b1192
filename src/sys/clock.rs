//! What time is it?

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since 1970, the clock that file timestamps are cut from.
pub fn realtime_ns() -> i64 {
    let now = clock_gettime(ClockId::Realtime);
    super::stat::to_ns(now.tv_sec, now.tv_nsec)
}

/// Nanoseconds of a clock that never goes back.
pub fn monotonic_ns() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    super::stat::to_ns(now.tv_sec, now.tv_nsec)
}
