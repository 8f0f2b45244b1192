//! Signals belong to one thread. They are blocked before any other is started, so that no data core ever sees a call
//! interrupted, and waited for with sigwait(3), so that no code runs inside a handler.
//!
//! Some are only blocked, so that what they tell of is told by the call that met it, and nothing ends or stops for it: SIGXFSZ, when
//! a file would become larger than RLIMIT_FSIZE (the write is EFBIG, and one request is refused); SIGTTOU, when a background job
//! writes to a terminal that has `stty tostop` (the line is written, termios(3)).
//!
//! SIGPIPE needs nothing: Rust's runtime ignores it before `main`, and a closed socket is EPIPE.

use std::sync::mpsc::Sender;

use nix::sys::signal::{SigSet, Signal};
use rustix::io::Errno;

use super::Event;
use super::fatal::Fatal;

/// The signals that this process waits for, blocked in this thread and all that it starts.
pub struct Signals(SigSet);

impl Signals {
    /// Blocks them. Call it before the first thread is started: a thread inherits the mask of the one that starts it.
    pub fn block() -> Result<Self, Fatal> {
        let set: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGXCPU].into_iter().collect();
        let told_otherwise: SigSet = [Signal::SIGXFSZ, Signal::SIGTTOU].into_iter().collect();
        set.thread_block()
            .and_then(|()| told_otherwise.thread_block())
            .map_err(|errno| system("blocking signals", errno as i32))?;
        Ok(Self(set))
    }

    /// Starts the thread that turns signals into events. The second request to stop ends the process from here, whatever the
    /// other threads do: somebody waits at a terminal, or a unit's stop timeout runs.
    pub fn forward(self, events: Sender<Event>) -> Result<(), Fatal> {
        let thread = std::thread::Builder::new().name("signals".to_owned());
        let spawned = thread.spawn(move || self.wait_forever(&events));
        spawned.map(drop).map_err(|error| system("starting the thread for signals", error.raw_os_error().unwrap_or(0)))
    }

    fn wait_forever(&self, events: &Sender<Event>) {
        let mut stopping = false;
        loop {
            let event = match self.0.wait() {
                Ok(Signal::SIGHUP) => Event::Reload,
                // Once a second from the soft limit of CPU time on, until the hard one kills: the first is a request to stop.
                Ok(Signal::SIGXCPU) if stopping => continue,
                Ok(signal) if stopping => std::process::exit(exit_code(signal)),
                Ok(signal) => {
                    if signal == Signal::SIGXCPU {
                        tracing::warn!("the CPU time that this process may use is used up (ulimit -t): stopping");
                    }
                    stopping = true;
                    Event::Stop
                }
                // EINTR is the only failure of sigwait on a valid set, and means to wait again.
                Err(_) => continue,
            };
            // The receiver is gone when the process is on its way out; a second signal still ends it sooner.
            let _ = events.send(event);
        }
    }
}

/// What shells report for a process that this signal ended: 143 for SIGTERM, 130 for SIGINT.
fn exit_code(signal: Signal) -> i32 {
    128 + signal as i32
}

fn system(doing: &'static str, errno: i32) -> Fatal {
    Fatal::System { doing, errno: Errno::from_raw_os_error(errno) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_shells() {
        assert_eq!((exit_code(Signal::SIGTERM), exit_code(Signal::SIGINT)), (143, 130));
    }
}
