//! What a server that was killed still holds for a moment: its successor waits for it, and says so.

use std::time::Instant;

use crate::limits::{START_PATIENCE, START_POLL};

/// The time that one start has, for all that it has to wait for.
pub struct Patience {
    until: Instant,
}

impl Patience {
    /// From now on.
    pub fn start() -> Self {
        Self { until: Instant::now() + START_PATIENCE }
    }

    /// None.
    #[cfg(test)]
    pub fn over() -> Self {
        Self { until: Instant::now() }
    }

    /// What `attempt` gives, tried again while `is_taken` says so and there is time. `what` is waited for.
    pub fn wait_for<T, E>(
        &self,
        what: &str,
        mut attempt: impl FnMut() -> Result<T, E>,
        is_taken: impl Fn(&E) -> bool,
    ) -> Result<T, E> {
        let mut has_said = false;
        loop {
            match attempt() {
                Err(error) if is_taken(&error) && Instant::now() < self.until => {}
                answer => return answer,
            }
            if !std::mem::replace(&mut has_said, true) {
                let patience_s = START_PATIENCE.as_secs();
                tracing::warn!(
                    patience_s,
                    "{what} is taken: a server that has just ended may hold it for a moment longer; waiting"
                );
            }
            std::thread::sleep(START_POLL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tried_until_it_is_free_and_no_longer_than_there_is_time() {
        let mut attempts = 0;
        let third = Patience::start().wait_for(
            "the third",
            || {
                attempts += 1;
                if attempts == 3 { Ok(attempts) } else { Err("taken") }
            },
            |error| *error == "taken",
        );
        assert_eq!(third, Ok(3));
        let refused = Patience::start().wait_for("nothing", || Err::<(), _>("forbidden"), |error| *error == "taken");
        assert_eq!(refused, Err("forbidden"), "nobody waits for what time does not mend");
        assert_eq!(Patience::over().wait_for("nothing", || Err::<(), _>("taken"), |_| true), Err("taken"));
    }
}
