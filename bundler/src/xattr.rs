//! Extended attributes of files: which are part of a layer, read and set.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::tar_header::Xattrs;

/// Whether an attribute belongs to a file wherever it lies. Labels of this
/// machine's security module, its integrity measurements and the marks of
/// overlayfs do not.
pub(crate) fn is_kept(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || name == b"security.capability"
        || name == b"system.posix_acl_access"
        || name == b"system.posix_acl_default"
}

/// Returns the attributes of an open file that are part of a layer, sorted;
/// none where the file system has no attributes.
pub fn read(file: impl AsFd) -> io::Result<Xattrs> {
    let mut names = Vec::with_capacity(256);
    loop {
        match rustix::fs::flistxattr(&file, rustix::buffer::spare_capacity(&mut names)) {
            Ok(_) => break,
            Err(Errno::NOTSUP) => return Ok(Vec::new()),
            // The attributes of one file are at most 64 KiB (xattr(7)).
            Err(Errno::RANGE) if names.capacity() < 1 << 17 => names = Vec::with_capacity(1 << 17),
            Err(e) => return Err(e.into()),
        }
    }
    let mut xattrs = Xattrs::new();
    for name in names.split(|&b| b == 0).filter(|name| is_kept(name)) {
        let mut value = Vec::with_capacity(1 << 16);
        match rustix::fs::fgetxattr(&file, name, rustix::buffer::spare_capacity(&mut value)) {
            Ok(_) => xattrs.push((name.to_vec(), value)),
            Err(Errno::NODATA) => {}
            Err(e) => return Err(e.into()),
        }
    }
    xattrs.sort();
    Ok(xattrs)
}

/// Sets `xattrs`; returns the names that this user may not set or that the
/// file system cannot hold.
pub fn write(file: impl AsFd, xattrs: &Xattrs) -> io::Result<Vec<Vec<u8>>> {
    let mut refused = Vec::new();
    for (name, value) in xattrs {
        match rustix::fs::fsetxattr(&file, name.as_slice(), value, XattrFlags::empty()) {
            Ok(()) => {}
            // INVAL: an ACL names a user that the user namespace does not have.
            // ACCESS: the file is read-only, and this user is not root.
            Err(Errno::PERM | Errno::ACCESS | Errno::NOTSUP | Errno::INVAL) => {
                refused.push(name.clone());
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(refused)
}

/// Removes all attributes that are part of a layer, but for `kept` ones.
pub(crate) fn clear(file: impl AsFd, kept: &Xattrs) -> io::Result<()> {
    for (name, _) in read(&file)? {
        if !kept.iter().any(|(kept, _)| *kept == name) {
            rustix::fs::fremovexattr(&file, name.as_slice())?;
        }
    }
    Ok(())
}
