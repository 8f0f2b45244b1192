//! What shall be measured, resolved: plain data.

use std::path::PathBuf;
use std::time::Duration;

use crate::base::secret::Secret;

/// What one request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Get,
    Put,
    Head,
    List,
    Delete,
}

impl Operation {
    pub const ALL: [Self; 5] = [Self::Get, Self::Put, Self::Head, Self::List, Self::Delete];

    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
            Self::Head => "head",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }

    /// Its place in a table of all operations.
    pub(super) fn index(self) -> usize {
        self as usize
    }
}

/// How an upload's bytes are covered by its signature: the value of `x-amz-content-sha256`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadMode {
    /// `UNSIGNED-PAYLOAD`.
    Unsigned,
    /// The SHA-256 of the whole.
    Signed,
    /// `STREAMING-AWS4-HMAC-SHA256-PAYLOAD`: `aws-chunked`, each chunk of 64 KiB signed.
    Streaming,
}

impl PayloadMode {
    pub fn name(self) -> &'static str {
        match self {
            Self::Unsigned => "unsigned",
            Self::Signed => "signed",
            Self::Streaming => "streaming",
        }
    }
}

/// Where the keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The run puts its own objects, and deletes them afterwards.
    Prepared,
    /// A file with one key a line.
    KeyFile(PathBuf),
    /// What the bucket holds below the prefix.
    Existing,
}

/// Whose certificates are believed over https.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The system's authorities.
    System,
    /// The authorities in this PEM file.
    File(PathBuf),
    /// Anyone's.
    Nobody,
}

/// Who signs.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub access_key: String,
    pub secret_key: Secret,
    pub session_token: Option<Secret>,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `None` is the mix of all.
    pub operation: Option<Operation>,
    pub endpoint: String,
    pub trust: Trust,
    pub region: String,
    pub credentials: Credentials,
    pub bucket: String,
    pub prefix: String,
    /// Folders below the prefix over which prepared keys are spread; 1 is none.
    pub folders: u64,
    /// Objects that are prepared. For uploads: keys that are written in turn, none for a new key each time.
    pub objects: Option<u64>,
    /// Bytes of an object. With keys that were there before: what each answer's length must be, where it is given.
    pub size: Option<u64>,
    pub source: Source,
    pub payload: PayloadMode,
    /// Bytes of a ranged GET, at a random multiple of itself.
    pub range: Option<u64>,
    /// Whether the ETag of each GET must be the one seen before.
    pub verify: bool,
    /// Keys of one page of a listing.
    pub max_keys: u64,
    pub connections: usize,
    pub threads: usize,
    /// CPUs that the threads are pinned to, in turn; empty for none.
    pub cores: Vec<usize>,
    /// Requests a second, sent at their times whatever the server does; `None` sends the next when the last is answered.
    pub rate: Option<u64>,
    pub warmup: Duration,
    pub duration: Duration,
    /// Without progress for so long, a request has failed.
    pub timeout: Duration,
    /// Leaves the objects, and the bucket, behind.
    pub keep: bool,
    /// Processes of the server whose cost is reported.
    pub server_pids: Vec<u32>,
}

/// Bytes of an object where none are asked for.
pub const SIZE_DEFAULT: u64 = 4096;
/// Objects that are prepared where no number is asked for.
pub const OBJECTS_DEFAULT: u64 = 1000;

impl Settings {
    /// Bytes of an object that this run puts.
    pub(super) fn put_size(&self) -> u64 {
        self.size.unwrap_or(SIZE_DEFAULT)
    }

    /// How the operation is called on the command line.
    pub(super) fn operation_name(&self) -> &'static str {
        self.operation.map_or("mixed", Operation::name)
    }
}
