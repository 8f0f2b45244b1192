//! Do a bucket's document and its directory belong together? Others rename, copy, restore and remove both.

use crate::model::{Bucket, BucketId, Carried, DirectoryIdentity, FoundDirectory};

/// How a bucket's settings and its directory stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is the directory that the document is of.
    Own,
    /// There is no directory: it was not made yet, or is removed. No bucket either.
    Absent,
    /// Another directory has the name. What grants is void; what keeps stays in force, for somebody may have relied on it.
    Other,
    /// The directory had another name, whose document is meant: as `Other`.
    Renamed,
    /// A copy, with its attributes, of a directory that is there as well: no settings, no history.
    Copy,
    /// Nobody knows what it is set to.
    Damaged(Damage),
}

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The document cannot be read, or is of a later version.
    Document,
    /// The directory says that there is a document, and there is none.
    NoDocument,
    /// What the directory says is no id.
    Illegible,
    /// Several directories say that they are this bucket, and none can be told to be the one.
    Ambiguous,
}

impl Standing {
    /// Whether settings that keep are in force.
    pub fn keeps(self) -> bool {
        matches!(self, Self::Own | Self::Other | Self::Renamed)
    }
}

impl Damage {
    /// For the operator.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Document => "its document is damaged, or a later version has written it: put it back from a copy",
            Self::NoDocument => {
                "its directory carries an id (the attribute user.sluice.bucket) of which there is no document: put the document back from a \
                 copy; or, if its settings are given up, remove the attribute"
            }
            Self::Illegible => "the attribute user.sluice.bucket of its directory holds no id: somebody has changed it",
            Self::Ambiguous => {
                "several directories carry its id, and none is the one that its document is of: remove the attribute \
                 user.sluice.bucket of those that are copies"
            }
        }
    }
}

/// A bucket that a directory may be: its document, and whether a directory of that document's own name carries its id.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim<'a> {
    pub(super) bucket: &'a Bucket,
    pub(super) is_at_home: bool,
}

/// All that carry an id, beside the directory that is asked about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Others<'a> {
    pub(super) carriers: &'a [DirectoryIdentity],
}

/// Of a name that has the document `bucket`.
pub(super) fn with_document(
    bucket: &Bucket,
    directory: &FoundDirectory,
    others: Others<'_>,
    of_id: impl FnOnce(BucketId) -> Standing,
) -> Standing {
    match directory.carries {
        Carried::Illegible => Standing::Damaged(Damage::Illegible),
        // Where no attribute could be written.
        Carried::Nothing if directory.identity == bucket.directory => Standing::Own,
        Carried::Nothing => Standing::Other,
        Carried::Id(id) if id != bucket.id => of_id(id),
        // Restored from a backup it has another inode; but while the one that it was made with is there, this is a copy.
        Carried::Id(_) if directory.identity != bucket.directory && others.carriers.contains(&bucket.directory) => Standing::Copy,
        Carried::Id(_) => Standing::Own,
    }
}

/// Of a directory with the id of a bucket whose document has another name, if there is one.
pub(super) fn of_id(directory: DirectoryIdentity, claim: Option<Claim<'_>>, others: Others<'_>) -> Standing {
    let Some(Claim { bucket, is_at_home }) = claim else { return Standing::Damaged(Damage::NoDocument) };
    if directory == bucket.directory {
        return Standing::Renamed;
    }
    if is_at_home || others.carriers.contains(&bucket.directory) {
        return Standing::Copy;
    }
    if others.carriers.is_empty() { Standing::Renamed } else { Standing::Damaged(Damage::Ambiguous) }
}
