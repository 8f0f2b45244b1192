//! What points to a spilled record? One walk through everything beneath the served directory, our own part included, gently.
//!
//! Whatever cannot be looked at makes the walk worthless, and it says so. What vanishes on the way was removed, or moved: a walk
//! misses a file that was moved from a place that it had yet to come to, to one that it had been to. A round therefore has several
//! walks, at other times of the day, each in the opposite order of the one before: what one misses for a move, the next finds.

use std::collections::HashSet;
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;

use crate::limits::{SPILL_WALK_DEPTH_MAX, SPILL_WALK_OPEN_MAX, SPILL_WALK_PENDING_SIZE_MAX};
use crate::store::disk::pins::{Name, Pins};
use crate::store::disk::reading::Reading;
use crate::store::disk::root::Disk;
use crate::store::names::record::{EXTENDED_ALTERNATE_NAME, EXTENDED_NAME};
use crate::sys::path::Symlinks;
use crate::sys::{self, Errno, FileKind};

/// In which order names are come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// By name; what is in a directory itself before what is below.
    Forward,
    /// The other way round.
    Backward,
}

/// Why a walk saw not everything, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Incomplete {
    pub(super) errno: Errno,
    pub(super) path: Vec<u8>,
}

/// A walk under way.
pub(super) struct Walk<'a> {
    pins: &'a Pins,
    reading: Reading<'a>,
    order: Order,
    /// Called before each name that is looked at; an error ends the walk.
    pace: &'a mut dyn FnMut(&[u8]) -> sys::Result<()>,
    /// The directories that the walk is in, the deepest last.
    stack: Vec<Frame>,
    /// What is being looked at in the deepest.
    at: Vec<u8>,
    /// Bytes of all names that are noted for later.
    pending_size: usize,
    buffer: Box<[MaybeUninit<u8>]>,
}

struct Frame {
    /// Held open, so that what is in it is found also after it was moved; but of a deep tree only the deepest ones.
    directory: Option<OwnedFd>,
    /// Device and inode.
    identity: (u64, u64),
    name: Vec<u8>,
    /// Directories in it that were not come to yet, the next one last.
    pending: Vec<Vec<u8>>,
    /// All directories that were found in it, while its files are still to be looked at.
    known: Option<HashSet<Vec<u8>>>,
}

/// What a name was found to be.
enum Found {
    /// Looked at, or nothing that can point anywhere.
    Done,
    Directory(OwnedFd),
}

impl<'a> Walk<'a> {
    pub(super) fn new(disk: &'a Disk, order: Order, pace: &'a mut dyn FnMut(&[u8]) -> sys::Result<()>) -> Self {
        let (pins, reading, buffer) = (&disk.pins, disk.reading(), sys::dir::buffer(32 * 1024));
        Self { pins, reading, order, pace, stack: Vec::new(), at: Vec::new(), pending_size: 0, buffer }
    }

    /// Notes every pointer beneath `root`.
    pub(super) fn run(mut self, root: OwnedFd) -> Result<(), Incomplete> {
        let walked = self.enter(Vec::new(), root).and_then(|()| {
            while !self.stack.is_empty() {
                self.step()?;
            }
            Ok(())
        });
        walked.map_err(|errno| {
            let mut path = self.path();
            path.extend_from_slice(&self.at);
            Incomplete { errno, path }
        })
    }

    /// The directory that the walk is in, beneath the root, with a slash at its end.
    fn path(&self) -> Vec<u8> {
        self.stack.iter().skip(1).flat_map(|frame| [&frame.name, &b"/"[..]].concat()).collect()
    }

    /// Opens the deepest directory again, which must be where it was: else it was moved, or removed, and what was still to be
    /// looked at in it is not known.
    fn reopen(&mut self) -> sys::Result<()> {
        let path = self.path();
        let [root, .., frame] = self.stack.as_mut_slice() else { return Ok(()) };
        let (None, Some(root)) = (&frame.directory, &root.directory) else { return Ok(()) };
        let directory = sys::path::open_dir(root, path.strip_suffix(b"/").unwrap_or(&path), Symlinks::Deny)?;
        if identity(&directory)? != frame.identity {
            return Err(Errno::STALE);
        }
        frame.directory = Some(directory);
        Ok(())
    }

    /// Goes into the next directory, or out of this one.
    fn step(&mut self) -> sys::Result<()> {
        if self.stack.last().is_some_and(|frame| frame.directory.is_none()) {
            self.reopen()?;
        }
        let Some(frame) = self.stack.last_mut() else { return Ok(()) };
        let Some(name) = frame.pending.pop() else { return self.leave() };
        self.pending_size -= name.len();
        self.at.clone_from(&name);
        (self.pace)(&name)?;
        let Some(directory) = &frame.directory else { return Err(Errno::BADF) };
        match visit(self.pins, directory, &name)? {
            Found::Done => Ok(()),
            Found::Directory(directory) => self.enter(name, directory),
        }
    }

    fn enter(&mut self, name: Vec<u8>, directory: OwnedFd) -> sys::Result<()> {
        let identity = identity(&directory)?;
        self.stack.push(Frame { directory: Some(directory), identity, name, pending: Vec::new(), known: None });
        self.at.clear();
        // All but the root, where each path begins.
        if let Some(above @ 1..) = self.stack.len().checked_sub(1 + SPILL_WALK_OPEN_MAX) {
            self.stack[above].directory = None;
        }
        if self.stack.len() > SPILL_WALK_DEPTH_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        match self.order {
            Order::Forward => self.read(true, &HashSet::new()),
            Order::Backward => {
                self.read(false, &HashSet::new())?;
                if let Some(frame) = self.stack.last_mut() {
                    frame.known = Some(frame.pending.iter().cloned().collect());
                }
                Ok(())
            }
        }
    }

    /// Backward, what is in a directory itself comes now, and with it what has become a directory since.
    fn leave(&mut self) -> sys::Result<()> {
        let known = self.stack.last_mut().and_then(|frame| frame.known.take());
        if let Some(known) = known {
            self.pending_size -= known.iter().map(Vec::len).sum::<usize>();
            return self.read(true, &known);
        }
        self.stack.pop();
        Ok(())
    }

    /// Reads the directory that the walk is in: looks at it and its files, if they are wanted, and notes the directories in it that
    /// are not `known`.
    fn read(&mut self, with_files: bool, known: &HashSet<Vec<u8>>) -> sys::Result<()> {
        let (order, pins, reading) = (self.order, self.pins, self.reading);
        // Twice: backward they are kept as `known` too.
        let times = if with_files { 1 } else { 2 };
        let Some(frame) = self.stack.last_mut() else { return Ok(()) };
        let Some(directory) = &frame.directory else { return Err(Errno::BADF) };
        if with_files {
            look(pins, directory)?;
        }
        let (pending, size, pace, at) = (&mut frame.pending, &mut self.pending_size, &mut self.pace, &mut self.at);
        let mut note = |name: &[u8]| {
            *size += name.len() * times;
            pending.push(name.to_vec());
            if *size > SPILL_WALK_PENDING_SIZE_MAX { Err(Errno::NOMEM) } else { Ok(()) }
        };
        let mut take = |entry: sys::dir::DirEntry<'_>| {
            let kind = match entry.kind_in(directory) {
                Err(errno) if sys::errno::cause(errno) == sys::Cause::Missing => return Ok(()),
                kind => kind?,
            };
            match kind {
                FileKind::Directory if !known.contains(entry.name) => note(entry.name),
                FileKind::Regular if with_files => {
                    at.clear();
                    at.extend_from_slice(entry.name);
                    pace(entry.name)?;
                    // A PUT of `a/b` may have made a directory of `a` since it was listed.
                    match visit(pins, directory, entry.name)? {
                        Found::Directory(_) => note(entry.name),
                        Found::Done => Ok(()),
                    }
                }
                _ => Ok(()),
            }
        };
        let read = reading.visit(directory, &mut self.buffer, |entry| match take(entry) {
            Ok(()) => ControlFlow::Continue(()),
            Err(errno) => ControlFlow::Break(errno),
        });
        match read {
            Ok(ControlFlow::Continue(())) => {}
            // Of the directory itself: it was empty, and has been removed.
            Err(Errno::NOENT) => {}
            Ok(ControlFlow::Break(errno)) | Err(errno) => return Err(errno),
        }
        frame.pending.sort_unstable_by(|one, other| if order == Order::Forward { other.cmp(one) } else { one.cmp(other) });
        // A directory that changes while it is read is read again.
        frame.pending.dedup_by(|one, other| {
            let is_same = one == other;
            self.pending_size -= if is_same { one.len() * times } else { 0 };
            is_same
        });
        Ok(())
    }
}

fn identity(directory: &OwnedFd) -> sys::Result<(u64, u64)> {
    let stat = sys::stat::of(directory)?;
    Ok((stat.device, stat.inode))
}

/// Looks at a name. Opened, so that what is looked at is what was found, whatever happens to the name.
fn visit(pins: &Pins, directory: &OwnedFd, name: &[u8]) -> sys::Result<Found> {
    let file = match sys::path::open_read(directory, name, Symlinks::Deny) {
        Ok(file) => file,
        // Removed, or now a symbolic link. All else is a reason to know nothing: a mount, too, since it hides what is beneath it.
        Err(Errno::NOENT | Errno::LOOP) => return Ok(Found::Done),
        Err(errno) => return Err(errno),
    };
    match sys::stat::of(&file)?.kind {
        FileKind::Directory => Ok(Found::Directory(file)),
        FileKind::Regular => look(pins, &file).map(|()| Found::Done),
        FileKind::Symlink | FileKind::Other => Ok(Found::Done),
    }
}

/// Notes what a file or directory points to: by the attributes alone, whatever the summary says of them. A record that is void, or
/// that only a newer server understands, keeps its file.
fn look(pins: &Pins, file: &OwnedFd) -> sys::Result<()> {
    const NAMES_SIZE: usize = 1024;
    let mut names = [0; NAMES_SIZE];
    let is_ours = |name: &[u8]| name == EXTENDED_NAME.to_bytes() || name == EXTENDED_ALTERNATE_NAME.to_bytes();
    let may_point = match sys::xattr::names(file, &mut names) {
        Ok(size) => names[..size].split(|byte| *byte == 0).any(is_ours),
        Err(Errno::RANGE) => true,
        Err(Errno::OPNOTSUPP) => false,
        Err(errno) => return Err(errno),
    };
    if !may_point {
        return Ok(());
    }
    for attribute in [EXTENDED_NAME, EXTENDED_ALTERNATE_NAME] {
        let mut name: Name = [0; 32];
        match sys::xattr::read(file, attribute, &mut name) {
            Ok(Some(size)) if size == name.len() => pins.saw(&name),
            // ERANGE: the record itself.
            Ok(_) | Err(Errno::RANGE) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
