//! Whose is a published file, and who may use it? What an overwrite keeps of the file it replaces, and what a file that was born
//! in a directory of ours would have got from the one it is moved to.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use crate::limits::{ATTRIBUTE_SIZE_MAX, ATTRIBUTE_SIZE_USUAL};
use crate::store::error::{Result, StoreError};
use crate::sys::{self, Cause, Errno, FileStat, errno};

const ACCESS_ACL_NAME: &CStr = c"system.posix_acl_access";
const DEFAULT_ACL_NAME: &CStr = c"system.posix_acl_default";
/// Where SELinux and Smack keep what says who may use a file.
const LABEL_NAMES: [&CStr; 2] = [c"security.selinux", c"security.SMACK64"];
const SETGID: u32 = 0o2000;

/// Mode of objects' files, before the umask and a default ACL.
pub(in crate::store) const FILE_MODE: u32 = 0o644;
/// Mode of directories that a PUT makes, before the umask and a default ACL.
pub(super) const DIRECTORY_MODE: u32 = 0o755;

/// An overwrite keeps owner, group, permission bits, POSIX ACL and security label of the file it replaces, and drops setuid, setgid
/// and capabilities. What cannot be kept, and would give somebody rights that he did not have, or take them from who had them,
/// refuses the overwrite. Whether anything of the file changed.
///
/// The owner comes last: who may give files away (CAP_CHOWN) may not always change what is somebody else's (CAP_FOWNER). `label` is the
/// attribute of this machine's security labels (`label_of`).
pub(in crate::store) fn from_file(
    label: Option<&CStr>,
    file: &OwnedFd,
    directory: &OwnedFd,
    name: &[u8],
    old: &FileStat,
) -> Result<bool> {
    let new = sys::stat::of(file)?;
    let acl = acl_of(|buffer| sys::xattr::read_at(directory, name, ACCESS_ACL_NAME, buffer))?;
    let mut is_changed = match &acl {
        Some(acl) => sys::xattr::write(file, ACCESS_ACL_NAME, acl).map(|()| true).map_err(not_kept)?,
        None => remove_acl(file)?,
    };
    if is_changed || new.mode & 0o7777 != old.mode & 0o777 {
        // What an ACL says of owner, mask and others is in here too.
        sys::file::set_mode(file, old.mode & 0o777)?;
        is_changed = true;
    }
    if let Some(label) = label {
        is_changed |= keep_label(file, directory, name, label)?;
    }
    if (new.uid, new.gid) != (old.uid, old.gid) {
        keep_owner(file, &new, old, acl.is_some())?;
        is_changed = true;
    }
    Ok(is_changed)
}

/// An ordinary user may not give files away: then the file is his own, as all that the server makes. It may not be another group's,
/// if that makes a difference to anybody.
fn keep_owner(file: &OwnedFd, new: &FileStat, old: &FileStat, has_acl: bool) -> Result<()> {
    match sys::file::set_owner(file, old.uid, old.gid) {
        Ok(()) => return Ok(()),
        Err(errno) if cannot(errno) => {}
        Err(errno) => return Err(errno.into()),
    }
    if new.gid == old.gid || sys::file::set_owner(file, new.uid, old.gid).is_ok() {
        return Ok(());
    }
    let (group, others) = (old.mode >> 3 & 7, old.mode & 7);
    if has_acl || group != others { Err(StoreError::AccessNotKept) } else { Ok(()) }
}

/// The user may not, or the filesystem has nothing of the kind, or not this value (an id that is not mapped here).
fn cannot(errno: Errno) -> bool {
    matches!(errno::cause(errno), Cause::Denied | Cause::Unsupported) || matches!(errno, Errno::INVAL | Errno::OVERFLOW)
}

/// ENOSPC is what ext4 answers to an ACL for which there is no room beside the record, in the one block that both have.
fn not_kept(errno: Errno) -> StoreError {
    match errno {
        Errno::NOSPC | Errno::TOOBIG | Errno::RANGE => StoreError::AccessNotKept,
        errno if cannot(errno) => StoreError::AccessNotKept,
        errno => errno.into(),
    }
}

/// What the file got from the directory in which it was made, and the old one does not have.
fn remove_acl(file: &OwnedFd) -> Result<bool> {
    match sys::xattr::size(file, ACCESS_ACL_NAME) {
        Ok(None) | Err(Errno::OPNOTSUPP) => Ok(false),
        Ok(Some(_)) => Ok(sys::xattr::remove(file, ACCESS_ACL_NAME)?),
        Err(errno) => Err(errno.into()),
    }
}

fn keep_label(file: &OwnedFd, directory: &OwnedFd, name: &[u8], label: &CStr) -> Result<bool> {
    let old = attribute(|buffer| sys::xattr::read_at(directory, name, label, buffer))?;
    let new = attribute(|buffer| sys::xattr::read(file, label, buffer))?;
    let Some(old) = old.filter(|old| Some(old) != new.as_ref()) else { return Ok(false) };
    sys::xattr::write(file, label, &old).map(|()| true).map_err(not_kept)
}

/// The attribute of this machine's security labels, if it has any: every file has one then.
pub(super) fn label_of(root: &OwnedFd) -> Option<&'static CStr> {
    LABEL_NAMES.into_iter().find(|name| matches!(sys::xattr::size(root, name), Ok(Some(_))))
}

/// An ACL; `None` as well where the filesystem has none at all.
fn acl_of(read: impl FnMut(&mut [u8]) -> sys::Result<Option<usize>>) -> Result<Option<Vec<u8>>> {
    match attribute(read) {
        Ok(acl) => Ok(acl),
        Err(Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// A whole attribute, of whatever size.
fn attribute(mut read: impl FnMut(&mut [u8]) -> sys::Result<Option<usize>>) -> sys::Result<Option<Vec<u8>>> {
    let mut usual = [0; ATTRIBUTE_SIZE_USUAL];
    match read(&mut usual) {
        Ok(size) => return Ok(size.map(|size| usual[..size].to_vec())),
        Err(Errno::RANGE) => {}
        Err(errno) => return Err(errno),
    }
    let mut any = vec![0; ATTRIBUTE_SIZE_MAX];
    let size = read(&mut any)?;
    Ok(size.map(|size| {
        any.truncate(size);
        any
    }))
}

/// The group of a setgid directory and its default ACL, as inode(7) and acl(5) give them to a file made there.
pub(in crate::store) fn from_directory(file: &OwnedFd, directory: &OwnedFd) -> Result<()> {
    be_born_in(file, directory, FILE_MODE).map(drop)
}

/// The same for a directory, which hands both on.
pub(in crate::store) fn directory_from_directory(made: &OwnedFd, directory: &OwnedFd, mode: u32) -> Result<()> {
    let birth = be_born_in(made, directory, mode)?;
    if birth.is_of_group {
        sys::file::set_mode(made, sys::stat::of(made)?.mode | SETGID)?;
    }
    if let Some(acl) = birth.default_acl {
        sys::xattr::write(made, DEFAULT_ACL_NAME, &acl).map_err(not_kept)?;
    }
    Ok(())
}

struct Birth {
    /// In a setgid directory.
    is_of_group: bool,
    default_acl: Option<Vec<u8>>,
}

fn be_born_in(made: &OwnedFd, directory: &OwnedFd, mode: u32) -> Result<Birth> {
    let (born, home) = (sys::stat::of(made)?, sys::stat::of(directory)?);
    let is_of_group = home.mode & SETGID != 0;
    if is_of_group && born.gid != home.gid {
        match sys::file::set_owner(made, born.uid, home.gid) {
            Ok(()) => {}
            Err(errno) if cannot(errno) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let default_acl = acl_of(|buffer| sys::xattr::read(directory, DEFAULT_ACL_NAME, buffer))?;
    if let Some(acl) = &default_acl {
        let mut acl = acl.clone();
        limit_acl(&mut acl, mode);
        sys::xattr::write(made, ACCESS_ACL_NAME, &acl).map_err(not_kept)?;
    }
    Ok(Birth { is_of_group, default_acl })
}

/// The mode that a file is created with limits what a default ACL gives its owner, its mask (its group where there is no
/// mask) and all others; the umask does not count then (acl(5), "Object creation and default ACLs").
fn limit_acl(acl: &mut [u8], mode: u32) {
    const USER_OBJ: u16 = 0x01;
    const GROUP_OBJ: u16 = 0x04;
    const MASK: u16 = 0x10;
    const OTHER: u16 = 0x20;
    // <linux/posix_acl_xattr.h>: a version of 4 bytes, then entries of tag, permissions and id.
    let Some((_, entries)) = acl.split_at_mut_checked(4) else { return };
    let (entries, _) = entries.as_chunks_mut::<8>();
    let tag = |entry: &[u8; 8]| u16::from_le_bytes([entry[0], entry[1]]);
    let has_mask = entries.iter().any(|entry| tag(entry) == MASK);
    for entry in entries {
        let shift = match tag(entry) {
            USER_OBJ => 6,
            MASK => 3,
            GROUP_OBJ if !has_mask => 3,
            OTHER => 0,
            _ => continue,
        };
        entry[2] &= (mode >> shift & 7) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_acl_is_limited_by_the_mode() {
        let entry = |tag: u16, permissions: u16| [tag.to_le_bytes(), permissions.to_le_bytes(), [0xff; 2], [0xff; 2]].concat();
        let acl = |permissions: [u16; 5]| {
            let tags = [0x01, 0x02, 0x04, 0x10, 0x20];
            let entries = tags.into_iter().zip(permissions).map(|(tag, permissions)| entry(tag, permissions));
            [vec![2, 0, 0, 0], entries.collect::<Vec<_>>().concat()].concat()
        };
        // What `touch` gives under `setfacl -d -m u::rwx,u:x:rwx,g::rwx,m::rwx,o::rwx` with 0644.
        let mut limited = acl([7, 7, 7, 7, 7]);
        limit_acl(&mut limited, 0o644);
        assert_eq!(limited, acl([6, 7, 7, 4, 4]));
        let mut broken = vec![1, 2, 3];
        limit_acl(&mut broken, 0o644);
        assert_eq!(broken, [1, 2, 3]);
    }
}
