//! A POSIX program at the wrong moment, for tests: what a thread has set up here happens between a look at a name and what is done
//! to it, every time and not once in a thousand.

use std::cell::RefCell;

/// Where the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Point {
    /// A name was looked at, and a file is about to take it.
    Replace,
    /// A directory that is to take a file's name was made, and has no mark yet.
    Made,
    /// A file's name was looked at, and a directory is about to take it.
    Turn,
    /// A name was looked at, and is about to go.
    Remove,
    /// What had the name is in staging, and was not looked at yet.
    Taken,
    /// What was taken is not what was meant, and is about to go back.
    PutBack,
    /// A name was given or is gone, and what follows from it for the history is not done yet.
    Changed,
    /// The delete marker before is about to give way to a new one.
    Marker,
}

type Program = Box<dyn FnMut(Point)>;

thread_local! {
    static PROGRAM: RefCell<Option<Program>> = const { RefCell::new(None) };
}

/// Has `program` run on this thread at each point, while `work` is done.
pub(in crate::store) fn beside<T>(program: impl FnMut(Point) + 'static, work: impl FnOnce() -> T) -> T {
    struct Over;
    impl Drop for Over {
        fn drop(&mut self) {
            PROGRAM.set(None);
        }
    }
    PROGRAM.set(Some(Box::new(program)));
    let _over = Over;
    work()
}

/// The server dies at `point` in the middle of `work`: nothing that comes behind is done. `before` runs as in `beside`.
pub(in crate::store) fn die_at(point: Point, mut before: impl FnMut(Point) + 'static, work: impl FnOnce()) {
    let program = move |now| {
        before(now);
        if now == point {
            // No panic, which would be reported.
            std::panic::resume_unwind(Box::new("dead"));
        }
    };
    let died = beside(program, || std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)));
    assert!(died.is_err(), "{point:?} was not reached");
}

/// Lets it run.
pub(in crate::store) fn at(point: Point) {
    // Taken out meanwhile: a program that panics, or publishes something itself, must not find it in use.
    if let Some(mut program) = PROGRAM.take() {
        program(point);
        PROGRAM.set(Some(program));
    }
}
