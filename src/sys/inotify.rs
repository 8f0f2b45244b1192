//! Which names change in a directory, from now on? inotify(7): an event is queued before the call that changed the name
//! returns, so whoever empties the queue knows of every change that was answered before.

use super::errno::{Errno, Result};
use super::path::proc_path;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use std::mem::MaybeUninit;

/// What is told of a watched directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// This name was made, removed, or renamed from or to.
    Changed { watch: i32, name: &'a [u8] },
    /// The directory is gone, or was unmounted: nothing more is told of it.
    Gone { watch: i32 },
    /// Events were dropped, of whichever directory.
    Overflow,
}

/// A queue of events.
pub fn init() -> Result<OwnedFd> {
    inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)
}

/// Tells of the directory's names from now on. The same directory again answers the same number. ENOSPC: the user's bound on
/// watches.
pub fn watch(queue: impl AsFd, directory: impl AsFd) -> Result<i32> {
    let names = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE;
    let flags = names | WatchFlags::DELETE_SELF | WatchFlags::ONLYDIR;
    inotify::add_watch(queue, proc_path(directory.as_fd()), flags)
}

/// Tells no more of it. EINVAL: it was gone already.
pub fn unwatch(queue: impl AsFd, watch: i32) -> Result<()> {
    inotify::remove_watch(queue, watch)
}

/// All events that are queued.
pub fn drain(queue: impl AsFd, buffer: &mut [MaybeUninit<u8>], mut visit: impl FnMut(Event<'_>)) -> Result<()> {
    let mut reader = Reader::new(queue, buffer);
    loop {
        let event = match reader.next() {
            Err(Errno::AGAIN) => return Ok(()),
            Err(Errno::INTR) => continue,
            event => event?,
        };
        let (watch, is) = (event.wd(), event.events());
        if is.contains(ReadFlags::QUEUE_OVERFLOW) {
            visit(Event::Overflow);
        } else if is.intersects(ReadFlags::IGNORED | ReadFlags::UNMOUNT | ReadFlags::DELETE_SELF) {
            visit(Event::Gone { watch });
        } else if let Some(name) = event.file_name() {
            visit(Event::Changed { watch, name: name.to_bytes() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::path::{self, Symlinks};

    /// The calls by which the store gives and takes names, each told before it returns.
    #[test]
    fn every_way_to_change_a_name_is_told_at_once() {
        let top = tempfile::tempdir().unwrap();
        let root = path::open_root(top.path().as_os_str().as_encoded_bytes()).unwrap();
        path::mkdir(&root, b"in", 0o755).unwrap();
        let directory = path::open_dir(&root, b"in", Symlinks::Deny).unwrap();
        let queue = init().unwrap();
        let number = watch(&queue, &directory).unwrap();
        let mut buffer = crate::sys::dir::buffer(4096);
        let mut told = || {
            let mut names = Vec::new();
            drain(&queue, &mut buffer, |event| match event {
                Event::Changed { watch, name } if watch == number => names.push(String::from_utf8(name.to_vec()).unwrap()),
                event => names.push(format!("{event:?}")),
            })
            .unwrap();
            names
        };
        let unnamed = path::open_unnamed(&root, b"", 0o600, false, Symlinks::Deny).unwrap();
        path::link(&unnamed, &directory, b"linked").unwrap();
        assert_eq!(told(), ["linked"]);
        path::create_new(&root, b"outside", 0o600, false).unwrap();
        path::rename(&root, b"outside", &directory, b"linked").unwrap();
        assert_eq!(told(), ["linked"]);
        path::mkdir(&root, b"exchanged", 0o755).unwrap();
        path::exchange(&root, b"exchanged", &directory, b"linked").unwrap();
        assert!(told().contains(&"linked".to_owned()));
        path::rename(&directory, b"linked", &directory, b"other").unwrap();
        assert_eq!(told(), ["linked", "other"]);
        path::rmdir(&directory, b"other").unwrap();
        assert_eq!(told(), ["other"]);
        drop(directory);
        path::rmdir(&root, b"in").unwrap();
        assert!(told().contains(&format!("{:?}", Event::Gone { watch: number })));
    }
}
