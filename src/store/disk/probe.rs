//! What can this filesystem do? Tried at start on files of our own, through the very calls that publication makes, and never found
//! out by a failing request. What is missing has another way (`naming`, `stage`), which is said with its cost, or the directory is
//! refused with the reason.

use std::os::fd::OwnedFd;

use super::error::VolumeError;
use super::grain::Grain;
use super::naming::{self, NewNames};
use super::own::names_in;
use crate::limits::RECORD_SIZE_MAX;
use crate::store::names::record::SUMMARY_NAME;
use crate::sys::errno::is_no_room;
use crate::sys::filesystem::{self, FileSystemKind};
use crate::sys::mount::Mount;
use crate::sys::path::{OpenFlags, Symlinks};
use crate::sys::stat::DirectAlign;
use crate::sys::{self, Errno};

/// What was found out about the filesystem at start.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Name of the filesystem's type.
    pub filesystem: &'static str,
    /// Other machines may change it behind our back.
    pub is_remote: bool,
    /// A program answers for it.
    pub is_fuse: bool,
    /// The kernel tells of every name that changes.
    pub tells_changes: bool,
    /// What O_DIRECT wants; `None` where it is refused.
    pub direct: Option<DirectAlign>,
    /// Files without a name (O_TMPFILE) can be made, and given one.
    pub unnamed_files: bool,
    /// Files can have several names.
    pub links: bool,
    /// How a name is given that must be new.
    pub new_names: NewNames,
    /// Two names can be exchanged in one step, those of a file and a directory too.
    pub exchange: bool,
    /// Room can be reserved.
    pub reserves: bool,
    /// What times tell apart.
    pub grain: Grain,
    /// A directory can be synced.
    pub syncs_directories: bool,
    /// One barrier makes all earlier changes durable.
    pub shared_barrier: bool,
    /// The effective way to durability, in words, for the start message.
    pub durability: &'static str,
}

impl Facts {
    /// What can be told without writing, and of the rest the least: no change relies on it before it was tried.
    pub(super) fn untried(root: &OwnedFd) -> Result<Self, VolumeError> {
        let kind = filesystem::of(root).map_err(VolumeError::Open)?.kind;
        Ok(Self {
            filesystem: kind.name(),
            is_remote: kind.is_remote(),
            is_fuse: kind == FileSystemKind::Fuse,
            tells_changes: kind.tells_changes(),
            direct: None,
            unnamed_files: false,
            links: false,
            new_names: NewNames::Linked,
            exchange: false,
            reserves: false,
            grain: Grain::ASSUMED,
            syncs_directories: true,
            shared_barrier: has_one_journal(kind, root),
            durability: "",
        })
    }

    /// What is missing, in words: the way that is taken instead, and what that costs.
    pub fn costs(&self) -> Vec<&'static str> {
        let lines = [
            (self.unnamed_files, "no unnamed files (O_TMPFILE): an upload has a name in .sluice/staging until it is published"),
            (
                self.new_names == NewNames::Renamed,
                "no RENAME_NOREPLACE: a new name is given by link and unlink, one call more for each new object",
            ),
            (
                self.exchange,
                "no RENAME_EXCHANGE: `a/b` beside an object `a` is refused (409), and what a POSIX program puts in an object's place \
                 between a PUT's look and its rename is replaced",
            ),
            (self.links, "no hard links: `a/b` beside an object `a` is refused (409)"),
            (self.reserves, "no fallocate: a full disk is found out while the body arrives"),
            (
                !self.is_remote,
                "others may change it unseen: listings read their directories each time, and nothing is remembered",
            ),
        ];
        lines.into_iter().filter_map(|(has, cost)| (!has).then_some(cost)).collect()
    }
}

/// Why there are no facts.
pub(super) enum Untried {
    /// No room, or no writing at all, at the moment.
    NoRoom(Errno),
    /// Never.
    Refused(VolumeError),
}

impl From<VolumeError> for Untried {
    fn from(error: VolumeError) -> Self {
        Self::Refused(error)
    }
}

/// A step without which nothing works: `refused` makes the reason of what the kernel answered.
fn must<T>(answer: sys::Result<T>, refused: impl FnOnce(Errno) -> VolumeError) -> Result<T, Untried> {
    answer.map_err(|errno| if is_no_room(errno) { Untried::NoRoom(errno) } else { Untried::Refused(refused(errno)) })
}

/// A step that there is another way for: whether it can be taken.
fn can<T>(answer: sys::Result<T>) -> Result<bool, Untried> {
    match answer {
        Ok(_) => Ok(true),
        Err(errno) if is_no_room(errno) => Err(Untried::NoRoom(errno)),
        Err(_) => Ok(false),
    }
}

const FOLDER: &[u8] = b"probe";

/// Tries everything that the server relies on, in a folder of its own in `staging`.
pub(super) fn probe(root: &OwnedFd, staging: &OwnedFd) -> Result<Facts, Untried> {
    let untried = Facts::untried(root)?;
    // A file of earlier builds, and another, which may have been a directory.
    for name in [FOLDER, b"probe-2"] {
        let _ = sys::path::unlink(staging, name);
    }
    let _ = sys::path::rmdir(staging, b"probe-2");
    match sys::path::mkdir(staging, FOLDER, 0o700) {
        Err(Errno::EXIST) => {}
        made => must(made, VolumeError::OwnDirectory)?,
    }
    let folder = must(sys::path::open_dir(staging, FOLDER, Symlinks::Deny), VolumeError::OwnDirectory)?;
    // Of a process that died in here.
    clear(&folder);
    let facts = try_all(&folder, untried);
    clear(&folder);
    // The next start tries again.
    let _ = sys::path::rmdir(staging, FOLDER);
    facts
}

fn clear(folder: &OwnedFd) {
    for name in names_in(folder) {
        if sys::path::unlink(folder, &name).is_err() {
            let _ = sys::path::rmdir(folder, &name);
        }
    }
}

fn try_all(folder: &OwnedFd, untried: Facts) -> Result<Facts, Untried> {
    const BYTES: [u8; 4096] = [b'p'; 4096];
    let file = must(sys::path::create_new(folder, b"file", 0o600, false), VolumeError::OwnDirectory)?;
    must(sys::file::write_all_at(&file, &BYTES, 0), VolumeError::OwnDirectory)?;
    must(sys::path::set_mtime(&file, sys::clock::realtime_ns()), VolumeError::OwnDirectory)?;
    for holder in [&file, folder] {
        must(try_attribute(holder), VolumeError::NoAttributes)?;
    }
    must(sys::file::sync(&file), VolumeError::NoSync)?;
    must(sys::path::mkdir(folder, b"empty", 0o700), VolumeError::OwnDirectory)?;
    must(sys::path::rmdir(folder, b"empty"), VolumeError::OwnDirectory)?;
    let links = can(sys::path::link(&file, folder, b"link"))?;
    let new_names = must(naming::find_out(folder, b"file", b"new"), |_| VolumeError::NoNewNames)?;
    // To be taken by the barrier alone; and a filter of system calls may forbid it where the filesystem does not.
    let pushes = can(sys::file::start_write_back(&file).and_then(|()| sys::file::write_back(&file)))?;
    Ok(Facts {
        direct: try_direct(folder)?,
        // What a FUSE program makes of them cannot be seen in time: JuiceFS 1.4 takes the file away together with its new name when
        // the descriptor is closed, which the kernel tells it some time afterwards.
        unnamed_files: !untried.is_fuse && try_unnamed(folder)?,
        links,
        new_names,
        exchange: try_exchange(folder)?,
        reserves: can(sys::space::extend(&file, 0, 2 * BYTES.len() as u64))?,
        grain: Grain::probe(folder, untried.is_remote),
        syncs_directories: can(sys::file::sync(folder))?,
        shared_barrier: untried.shared_barrier && pushes,
        ..untried
    })
}

/// A record as large as one that every object has, read back.
fn try_attribute(holder: &OwnedFd) -> sys::Result<()> {
    const RECORD: [u8; RECORD_SIZE_MAX] = [1; RECORD_SIZE_MAX];
    sys::xattr::write(holder, SUMMARY_NAME, &RECORD)?;
    let mut read = [0; RECORD_SIZE_MAX];
    match sys::xattr::read(holder, SUMMARY_NAME, &mut read)? {
        Some(RECORD_SIZE_MAX) if read == RECORD => sys::xattr::remove(holder, SUMMARY_NAME).map(drop),
        _ => Err(Errno::OPNOTSUPP),
    }
}

/// A file without a name, which then gets one, and keeps it.
fn try_unnamed(folder: &OwnedFd) -> Result<bool, Untried> {
    let linked = sys::path::open_unnamed(folder, b"", 0o600, false, Symlinks::Deny)
        .and_then(|file| sys::path::link(&file, folder, b"unnamed"))
        .and_then(|()| sys::stat::at(folder, b"unnamed"));
    can(linked)
}

/// File for file, then directory for file, each seen to have happened.
fn try_exchange(folder: &OwnedFd) -> Result<bool, Untried> {
    let (one, other, directory) = (b"one".as_slice(), b"other".as_slice(), b"directory".as_slice());
    for name in [one, other] {
        must(sys::path::create_new(folder, name, 0o600, false), VolumeError::OwnDirectory)?;
    }
    must(sys::path::mkdir(folder, directory, 0o700), VolumeError::OwnDirectory)?;
    for (from, to) in [(one, other), (directory, other)] {
        let inode = |name| sys::stat::at(folder, name).map(|stat| stat.inode);
        let before = must(inode(from), VolumeError::OwnDirectory)?;
        if !can(sys::path::exchange(folder, from, folder, to))? || inode(to) != Ok(before) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Aligned bytes past the page cache, and back, and an end that is not aligned.
fn try_direct(folder: &OwnedFd) -> Result<Option<DirectAlign>, Untried> {
    let file = match sys::path::create_new(folder, b"direct", 0o600, true) {
        Ok(file) => file,
        Err(errno) if is_no_room(errno) => return Err(Untried::NoRoom(errno)),
        Err(_) => return Ok(None),
    };
    let align = alignment_of(&file);
    let step = align.offset.max(align.memory).max(4096) as usize;
    let mut memory = vec![b'd'; 2 * step];
    let skip = memory.as_ptr().align_offset(step);
    let bytes = &mut memory[skip..skip + step];
    let written = sys::file::write_all_at(&file, bytes, 0).and_then(|()| {
        bytes.fill(0);
        let opened = sys::path::reopen(&file, OpenFlags::RDONLY | OpenFlags::DIRECT)?;
        let read = sys::file::read_full_at(&opened, bytes, 0)?;
        // The end of an object, through the page cache: GlusterFS' bricks go on refusing what is not aligned, and say so only later.
        sys::file::set_direct(&file, false)?;
        sys::file::write_all_at(&file, b"the end", step as u64)?;
        sys::file::sync(&file)?;
        if read == step && bytes.iter().all(|byte| *byte == b'd') { Ok(()) } else { Err(Errno::IO) }
    });
    Ok(can(written)?.then_some(align))
}

/// What O_DIRECT wants on a file that was opened with it. Filesystems that do not say (JuiceFS, older kernels) take 4,096 bytes.
fn alignment_of(file: &OwnedFd) -> DirectAlign {
    sys::stat::direct_align(file).ok().flatten().unwrap_or(DirectAlign { memory: 4096, offset: 4096 })
}

/// What can be said about a directory without serving it: nothing is left in it, and a server that has it is not disturbed.
pub struct Survey {
    pub root: OwnedFd,
    pub shared_barrier: bool,
    /// `None` where the file for this test could not be made: the directory is not ours to write, or has no O_TMPFILE.
    pub direct: Option<Result<DirectAlign, Errno>>,
}

/// Looks at a directory as `Volume::open` would.
pub fn survey(directory: &[u8]) -> Result<Survey, VolumeError> {
    let root = sys::path::open_root(directory).map_err(VolumeError::Open)?;
    let kind = filesystem::of(&root).map_err(VolumeError::Open)?.kind;
    let direct = match sys::path::open_unnamed(&root, b"", 0o600, true, Symlinks::Deny) {
        Ok(file) => Some(Ok(alignment_of(&file))),
        Err(refused) => sys::path::open_unnamed(&root, b"", 0o600, false, Symlinks::Deny).is_ok().then_some(Err(refused)),
    };
    let shared_barrier = has_one_journal(kind, &root);
    Ok(Survey { root, shared_barrier, direct })
}

/// Whether one fsync of a changed directory makes durable everything that was published before it: ext4 with a journal, and
/// XFS without a realtime device (DESIGN §5). Anything that cannot be established counts as no.
fn has_one_journal(kind: FileSystemKind, root: &OwnedFd) -> bool {
    let Some(mount) = Mount::of(root) else { return false };
    match kind {
        FileSystemKind::Ext if mount.filesystem == "ext4" => {
            let device = mount.source.rsplit('/').next().unwrap_or_default();
            // ext4 answers `<none>` where it has no journal.
            let journal = std::fs::read_to_string(format!("/sys/fs/ext4/{device}/journal_task"));
            journal.is_ok_and(|task| task.trim().parse::<u32>().is_ok())
        }
        FileSystemKind::Xfs => !mount.options.contains("rtdev="),
        _ => false,
    }
}
