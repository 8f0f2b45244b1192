//! The cells of one data core, and what they count by.

use super::counter::{Counter, Level};
use super::histogram::{Latency, Sizes};
use crate::limits::{MD5_STREAMS_SIZES, METRIC_OPERATIONS_MAX};

/// Makes an enum whose variants have names in the metrics.
macro_rules! labels {
    ($(#[$about:meta])* $kind:ident { $($(#[$doc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $kind { $($(#[$doc])* $variant,)* }

        impl $kind {
            /// The label of each variant, in order.
            pub const NAMES: &[&str] = &[$($name,)*];
        }
    };
}

labels! {
    /// Why a request was not answered as its client wished.
    ErrorClass {
        /// 403, 401: not allowed, or not who it says.
        Access = "access",
        /// 404.
        NotFound = "not_found",
        /// 409, 412: something else is there, or not what was expected.
        Conflict = "conflict",
        /// Every other 4xx: the request makes no sense.
        Invalid = "invalid",
        /// It did not come in time.
        Timeout = "timeout",
        /// 501.
        NotImplemented = "not_implemented",
        /// 503: come again later.
        SlowDown = "slow_down",
        /// 507: the filesystem is full.
        NoSpace = "no_space",
        /// 500.
        Internal = "internal",
        /// No error was answered and the answer did not arrive whole: the client went away, or the file changed under it.
        CutOff = "cut_off",
    }
}

labels! {
    /// How an object was opened.
    Opened {
        /// Not at all: this core opened it a moment ago, and it is still the same.
        Remembered = "remembered",
        /// At once: its directory and inode were cached.
        Cached = "cached",
        /// By a helper, which may have waited for the disk.
        Helper = "helper",
    }
}

labels! {
    /// Where the bytes of a download came from.
    ReadFrom {
        /// The page cache.
        PageCache = "page_cache",
        /// The disk, past the page cache.
        Disk = "disk",
        /// A buffered read on a helper.
        Helper = "helper",
    }
}

labels! {
    /// What is put on the ring.
    RingOperation {
        /// The wait until a socket is ready: one for each idle connection.
        Poll = "poll",
        /// A read of a file.
        Read = "read",
        /// A write to a file.
        Write = "write",
    }
}

labels! {
    /// Kinds of work that block, each with helper threads of its own (`io::helper`).
    Work {
        /// Opens, and reads what is in no cache.
        Read = "read",
        /// Makes, publishes or removes one thing whose bytes are there: commits, parts, buckets, uploads.
        Commit = "commit",
        /// Puts an object together of bytes that lie in files, of which little has to be moved: completions, small copies.
        Assemble = "assemble",
        /// Moves the bytes of an object or a part from file to file.
        Copy = "copy",
        /// Reads directories.
        List = "list",
        /// Removes much: up to 1,000 objects, an upload with its parts, a bucket, the space of a large file.
        Remove = "remove",
    }
}

impl Work {
    /// Every kind, in the order of `NAMES`.
    pub const ALL: [Self; 6] = [Self::Read, Self::Commit, Self::Assemble, Self::Copy, Self::List, Self::Remove];
}

labels! {
    /// What was done because a core had as many connections as it may.
    AtLimit {
        /// An idle connection was closed for a newcomer.
        Displaced = "displaced",
        /// Everybody was at a request: a newcomer's was put off.
        TurnedAway = "turned_away",
        /// A request for health was answered beyond the limit.
        Health = "health",
    }
}

/// An operation by its number; who answers requests names them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Operation(u8);

impl Operation {
    /// The operation `index`.
    pub const fn new(index: u8) -> Self {
        assert!((index as usize) < METRIC_OPERATIONS_MAX);
        Self(index)
    }

    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// One operation on one core.
#[derive(Default)]
pub struct OperationCells {
    /// Time to the first byte of the answer.
    pub first_byte: Latency,
    /// Time to its last; also the count of requests.
    pub whole: Latency,
    /// By `ErrorClass`.
    pub errors: [Counter; ErrorClass::NAMES.len()],
}

/// One core. Aligned to the two lines of 64 bytes that processors fetch together.
#[repr(align(128))]
#[derive(Default)]
pub struct CoreCells {
    /// The id of its thread; 0 before it runs.
    pub thread: Level,
    pub bytes_received: Counter,
    pub bytes_sent: Counter,
    /// By `RingOperation`.
    pub ring_begun: [Counter; RingOperation::NAMES.len()],
    pub ring_ended: [Counter; RingOperation::NAMES.len()],
    /// By `Opened`.
    pub opens: [Counter; Opened::NAMES.len()],
    /// By `ReadFrom`.
    pub bytes_read: [Counter; ReadFrom::NAMES.len()],
    pub connections_open: Level,
    pub connections_accepted: Counter,
    pub connections_refused: Counter,
    /// By `AtLimit`.
    pub at_limit: [Counter; AtLimit::NAMES.len()],
    pub accept_pauses: Counter,
    /// Objects whose bytes were not those that were stored.
    pub corrupt: Counter,
    pub blocks: Level,
    pub blocks_in_use: Level,
    pub block_waits: Counter,
    pub md5_streams: Sizes<MD5_STREAMS_SIZES>,
    pub barrier_wait: Latency,
    pub operations: [OperationCells; METRIC_OPERATIONS_MAX],
    /// By `Work`. Written by helper threads too, so each on lines of its own.
    pub helpers: [QueueCells; Work::ALL.len()],
}

/// A queue of work for helpers. Written under the queue's lock, by whoever holds it.
#[repr(align(128))]
#[derive(Default)]
pub struct QueueCells {
    /// What waits for a helper.
    pub waiting: Level,
    /// What was ever queued.
    pub queued: Counter,
}

impl CoreCells {
    /// Cells that live as long as the process, as its data cores do.
    pub fn leak() -> &'static Self {
        Box::leak(Box::default())
    }
}
