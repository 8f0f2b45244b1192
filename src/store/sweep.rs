//! What did an earlier process leave? Temporaries are removed at start, when the instance lock proves that nobody else
//! uses them; unnamed files have vanished by themselves.

use std::os::fd::OwnedFd;

use crate::sys;
use crate::sys::FileKind;
use crate::sys::path::Symlinks;

/// Removes everything in `directory`, as far as it goes; what cannot be removed stays for the next start.
pub(super) fn remove_all(directory: &OwnedFd) {
    let mut names: Vec<(Vec<u8>, bool)> = Vec::new();
    let mut buffer = sys::dir::buffer(32 * 1024);
    let listed = sys::dir::read(directory, &mut buffer, |entry| {
        let is_directory = entry.kind_in(directory).is_ok_and(|kind| kind == FileKind::Directory);
        names.push((entry.name.to_vec(), is_directory));
        std::ops::ControlFlow::<()>::Continue(())
    });
    if listed.is_err() {
        return;
    }
    for (name, is_directory) in names {
        if is_directory {
            if let Ok(inner) = sys::path::open_dir(directory, &name, Symlinks::Deny) {
                remove_all(&inner);
            }
            let _ = sys::path::rmdir(directory, &name);
        } else {
            let _ = sys::path::unlink(directory, &name);
        }
    }
}
