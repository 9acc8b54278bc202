//! An entry of a layer as the header blocks of a tar in the pax format.
//!
//! What fits into a ustar header stands there alone; names over 100 bytes,
//! large numbers, negative times and extended attributes go into a pax header
//! before it (POSIX.1-2017, pax, "pax Header Block"). Names are raw bytes, as
//! every reader of such archives takes them; `hdrcharset=BINARY` says so where
//! they are not UTF-8.

use crate::layer::{Entry, Node};
use crate::path::RootPath;

/// Tar pads headers and contents to blocks of so many bytes.
pub const BLOCK: usize = 512;
/// Longest name or link target in a ustar header, in bytes.
const NAME: usize = 100;
/// Largest user or group id of a ustar header: seven octal digits.
const MAX_ID: u64 = 0o777_7777;
/// Largest size and time of a ustar header: eleven octal digits.
const MAX_LONG: u64 = 0o777_7777_7777;
/// Two blocks of zeros end an archive.
pub const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// Extended attributes: name and value, sorted by name.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// Appends the header blocks of `entry` to `out`.
pub fn write(entry: &Entry, xattrs: &Xattrs, out: &mut Vec<u8>) {
    let name = member_name(&entry.path, &entry.node);
    let link = match &entry.node {
        Node::Symlink(target) => target.clone(),
        Node::HardLink(target) => target.as_bytes().get(1..).unwrap_or_default().to_vec(),
        _ => Vec::new(),
    };
    let size = entry.node.size();
    let mtime = u64::try_from(entry.mtime).ok().filter(|&mtime| mtime <= MAX_LONG);

    let mut records = Records::default();
    if name.len() > NAME {
        records.add_name(b"path", &name);
    }
    if link.len() > NAME {
        records.add_name(b"linkpath", &link);
    }
    if u64::from(entry.uid) > MAX_ID {
        records.add(b"uid", entry.uid.to_string().as_bytes());
    }
    if u64::from(entry.gid) > MAX_ID {
        records.add(b"gid", entry.gid.to_string().as_bytes());
    }
    if size > MAX_LONG {
        records.add(b"size", size.to_string().as_bytes());
    }
    if mtime.is_none() {
        records.add(b"mtime", entry.mtime.to_string().as_bytes());
    }
    for (name, value) in xattrs {
        records.add(&[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    records.write(out);

    let mut header = tar::Header::new_ustar();
    header.set_entry_type(entry_type(&entry.node));
    header.set_mode(entry.mode);
    header.set_uid(if u64::from(entry.uid) > MAX_ID { 0 } else { entry.uid.into() });
    header.set_gid(if u64::from(entry.gid) > MAX_ID { 0 } else { entry.gid.into() });
    header.set_size(if size > MAX_LONG { 0 } else { size });
    header.set_mtime(mtime.unwrap_or(0));
    if let Some(ustar) = header.as_ustar_mut() {
        copy_into(&name, &mut ustar.name);
        copy_into(&link, &mut ustar.linkname);
        let (major, minor) = match entry.node {
            Node::CharDevice(major, minor) | Node::BlockDevice(major, minor) => (major, minor),
            _ => (0, 0),
        };
        ustar.set_device_major(major);
        ustar.set_device_minor(minor);
    }
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
}

/// How many zeros follow `size` bytes of content.
pub fn padding(size: u64) -> usize {
    let over = (size % BLOCK as u64) as usize;
    (BLOCK - over) % BLOCK
}

/// Members are relative, and directories end with a slash; the root is `./`.
fn member_name(path: &RootPath, node: &Node) -> Vec<u8> {
    if path.is_root() {
        return b"./".to_vec();
    }
    let mut name = path.as_bytes().get(1..).unwrap_or_default().to_vec();
    if *node == Node::Directory {
        name.push(b'/');
    }
    name
}

fn entry_type(node: &Node) -> tar::EntryType {
    match node {
        Node::Directory => tar::EntryType::Directory,
        Node::File(_) | Node::Made(_) => tar::EntryType::Regular,
        Node::Symlink(_) => tar::EntryType::Symlink,
        Node::HardLink(_) => tar::EntryType::Link,
        Node::Fifo => tar::EntryType::Fifo,
        Node::CharDevice(..) => tar::EntryType::Char,
        Node::BlockDevice(..) => tar::EntryType::Block,
    }
}

fn copy_into(name: &[u8], field: &mut [u8; NAME]) {
    for (to, from) in field.iter_mut().zip(name) {
        *to = *from;
    }
}

/// The records of a pax header.
#[derive(Default)]
struct Records {
    binary: bool,
    text: Vec<u8>,
}

impl Records {
    fn add_name(&mut self, key: &[u8], name: &[u8]) {
        self.binary |= std::str::from_utf8(name).is_err();
        self.add(key, name);
    }

    /// Appends `LENGTH KEY=VALUE\n`, where LENGTH counts its own digits too.
    fn add(&mut self, key: &[u8], value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        let mut length = rest;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        self.text.extend_from_slice(length.to_string().as_bytes());
        self.text.push(b' ');
        self.text.extend_from_slice(key);
        self.text.push(b'=');
        self.text.extend_from_slice(value);
        self.text.push(b'\n');
    }

    fn write(mut self, out: &mut Vec<u8>) {
        if self.text.is_empty() {
            return;
        }
        if self.binary {
            // It must come before the names that it speaks of.
            let names = std::mem::take(&mut self.text);
            self.add(b"hdrcharset", b"BINARY");
            self.text.extend_from_slice(&names);
        }
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::XHeader);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(self.text.len() as u64);
        if let Some(ustar) = header.as_ustar_mut() {
            copy_into(b"././@PaxHeader", &mut ustar.name);
            ustar.set_device_major(0);
            ustar.set_device_minor(0);
        }
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(&self.text);
        out.resize(out.len() + padding(self.text.len() as u64), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn entry(path: &[u8], node: Node) -> Entry {
        let path = RootPath::new(path).unwrap();
        Entry { path, mode: 0o755, uid: 0, gid: 0, mtime: 0, node, found: true }
    }

    /// Writes one member and shows what the `tar` crate reads back of it.
    fn check(entry: &Entry, xattrs: &Xattrs, expected: &str) {
        let mut bytes = Vec::new();
        write(entry, xattrs, &mut bytes);
        if let Node::Made(content) = &entry.node {
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len() + padding(content.len() as u64), 0);
        }
        assert_eq!(bytes.len() % BLOCK, 0);
        bytes.extend_from_slice(&END);
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut member = archive.entries().unwrap().next().unwrap().unwrap();
        let mut shown = format!(
            "{:?} {} {:o} {}:{} {}",
            member.header().entry_type(),
            member.path_bytes().escape_ascii(),
            member.header().mode().unwrap(),
            member.header().uid().unwrap(),
            member.header().gid().unwrap(),
            member.header().mtime().unwrap(),
        );
        if let Some(link) = member.link_name_bytes() {
            shown += &format!(" -> {}", link.escape_ascii());
        }
        for record in member.pax_extensions().unwrap().into_iter().flatten() {
            let record = record.unwrap();
            if record.key() != Ok("path") {
                shown +=
                    &format!(" {}={}", record.key().unwrap(), record.value_bytes().escape_ascii());
            }
        }
        let mut content = String::new();
        member.read_to_string(&mut content).unwrap();
        assert_eq!(shown + if content.is_empty() { "" } else { " " } + &content, expected);
    }

    #[test]
    fn plain_members_need_no_pax_header() {
        check(&entry(b"/", Node::Directory), &vec![], "Directory ./ 755 0:0 0");
        check(&entry(b"/usr/lib", Node::Directory), &vec![], "Directory usr/lib/ 755 0:0 0");
        check(
            &entry(b"/bin", Node::Symlink(b"usr/bin".to_vec())),
            &vec![],
            "Symlink bin 755 0:0 0 -> usr/bin",
        );
        check(&entry(b"/a", Node::Made(b"text".to_vec())), &vec![], "Regular a 755 0:0 0 text");
        let first = RootPath::new(b"/a").unwrap();
        check(&entry(b"/b", Node::HardLink(first)), &vec![], "Link b 755 0:0 0 -> a");
        check(&entry(b"/p", Node::Fifo), &vec![], "Fifo p 755 0:0 0");
    }

    #[test]
    fn what_ustar_cannot_hold_goes_into_a_pax_header() {
        let long = format!("/{}", "n".repeat(101));
        check(
            &entry(long.as_bytes(), Node::Fifo),
            &vec![],
            &format!("Fifo {} 755 0:0 0", &long[1..]),
        );
        let odd = [b"/".as_slice(), &b"\xff".repeat(101)].concat();
        let shown = "\\xff".repeat(101);
        check(
            &entry(&odd, Node::Fifo),
            &vec![],
            &format!("Fifo {shown} 755 0:0 0 hdrcharset=BINARY"),
        );
        let mut old = entry(b"/f", Node::Made(vec![]));
        (old.mtime, old.uid) = (-5, 3_000_000);
        check(&old, &vec![], "Regular f 755 3000000:0 0 uid=3000000 mtime=-5");
    }

    #[test]
    fn attributes_are_written_as_star_does() {
        let xattrs = vec![(b"security.capability".to_vec(), vec![1, 0, 0, 2])];
        let shown = "Regular ping 755 0:0 0 SCHILY.xattr.security.capability=\\x01\\x00\\x00\\x02";
        check(&entry(b"/ping", Node::Made(vec![])), &xattrs, shown);
    }

    #[test]
    fn a_record_counts_its_own_length() {
        for length in 80..120 {
            let mut records = Records::default();
            records.add(b"key", &vec![b'v'; length]);
            let text = String::from_utf8(records.text).unwrap();
            assert_eq!(text.split_once(' ').unwrap().0, text.len().to_string());
        }
    }
}
