//! Whose is a published file, and who may use it? What an overwrite keeps of the file it replaces, and what a file that was born
//! in a directory of ours would have got from the one it is moved to.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use super::Result;
use super::stage::FILE_MODE;
use crate::sys::{self, Errno};

const ACCESS_ACL_NAME: &CStr = c"system.posix_acl_access";
const DEFAULT_ACL_NAME: &CStr = c"system.posix_acl_default";
/// Bytes of a POSIX ACL of some 120 entries; a longer one is not carried over.
const ACL_SIZE_MAX: usize = 1024;
const SETGID: u32 = 0o2000;

/// An overwrite keeps owner, group, permission bits and POSIX ACL of the file it replaces, and drops setuid, setgid and
/// capabilities. An ordinary user may not give files away: then the file is its own. Whether anything of the file changed.
pub(super) fn from_file(file: &OwnedFd, directory: &OwnedFd, name: &[u8], old: &sys::FileStat) -> Result<bool> {
    let new = sys::stat::of(file)?;
    let mut is_changed = (new.uid, new.gid, new.mode & 0o7777) != (old.uid, old.gid, old.mode & 0o777);
    if (new.uid, new.gid) != (old.uid, old.gid) {
        match sys::file::set_owner(file, old.uid, old.gid) {
            Ok(()) | Err(Errno::PERM) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    if new.mode & 0o7777 != old.mode & 0o777 {
        sys::file::set_mode(file, old.mode & 0o777)?;
    }
    let mut acl = [0; ACL_SIZE_MAX];
    if let Ok(Some(size)) = sys::xattr::read_at(directory, name, ACCESS_ACL_NAME, &mut acl) {
        is_changed = true;
        match sys::xattr::write(file, ACCESS_ACL_NAME, &acl[..size]) {
            Ok(()) | Err(Errno::PERM | Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(is_changed)
}

/// The group of a setgid directory and its default ACL, as inode(7) and acl(5) give them to a file made there.
pub(super) fn from_directory(file: &OwnedFd, directory: &OwnedFd) -> Result<()> {
    let (born, home) = (sys::stat::of(file)?, sys::stat::of(directory)?);
    if home.mode & SETGID != 0 && born.gid != home.gid {
        match sys::file::set_owner(file, born.uid, home.gid) {
            Ok(()) | Err(Errno::PERM) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let mut acl = [0; ACL_SIZE_MAX];
    let Ok(Some(size)) = sys::xattr::read(directory, DEFAULT_ACL_NAME, &mut acl) else { return Ok(()) };
    limit_acl(&mut acl[..size], FILE_MODE);
    match sys::xattr::write(file, ACCESS_ACL_NAME, &acl[..size]) {
        Ok(()) | Err(Errno::PERM | Errno::OPNOTSUPP | Errno::INVAL) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
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
