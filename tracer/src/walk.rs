//! Paths as text on the way through them.

/// Where a walk stands.
#[derive(Debug)]
pub(crate) struct Walk {
    /// Where it is, without links.
    pub(crate) at: Vec<u8>,
    /// What is still to be walked, as text.
    pub(crate) rest: Vec<u8>,
    pub(crate) links: Vec<Vec<u8>>,
    /// It went through a link that is another one for each process.
    pub(crate) personal: bool,
}

impl Walk {
    /// The next component, whether it is the last, and whether it must be a
    /// directory since a slash follows.
    pub(crate) fn next(&mut self) -> Option<(Vec<u8>, bool, bool)> {
        let start = self.rest.iter().position(|&b| b != b'/')?;
        let tail = self.rest.get(start..)?;
        let end = tail.iter().position(|&b| b == b'/').unwrap_or(tail.len());
        let name = tail[..end].to_vec();
        let after = &tail[end..];
        let last = after.iter().all(|&b| b == b'/');
        let must_be_dir = last && !after.is_empty();
        self.rest.drain(..start + end);
        Some((name, last, must_be_dir))
    }

    /// Goes through the link that it stands at, with `root` as the beginning of
    /// absolute targets; `keep` notes the link.
    pub(crate) fn cross(&mut self, target: &[u8], root: &[u8], keep: bool) {
        if keep {
            self.links.push(self.at.clone());
        }
        if target.first() == Some(&b'/') {
            self.at = root.to_vec();
        } else {
            parent(&mut self.at);
        }
        self.prepend(target);
    }

    /// Puts a link's target before what is still to be walked.
    fn prepend(&mut self, target: &[u8]) {
        let rest = std::mem::replace(&mut self.rest, target.to_vec());
        if !rest.is_empty() {
            self.rest.push(b'/');
            self.rest.extend_from_slice(&rest);
        }
    }
}

/// A path as `openat` on the root directory takes it.
pub(crate) fn relative(path: &[u8]) -> &[u8] {
    match path.strip_prefix(b"/") {
        Some(b"") | None => b".",
        Some(rest) => rest,
    }
}

/// Takes the last component away.
pub(crate) fn parent(path: &mut Vec<u8>) {
    let slash = path.iter().rposition(|&b| b == b'/').unwrap_or(0);
    path.truncate(slash.max(1));
}

/// The directory that holds `path`.
pub(crate) fn parent_of(path: &[u8]) -> &[u8] {
    let slash = path.iter().rposition(|&b| b == b'/').unwrap_or(0);
    path.get(..slash.max(1)).unwrap_or(b"/")
}

/// Adds a component.
pub(crate) fn push(path: &mut Vec<u8>, name: &[u8]) {
    if path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_come_one_by_one() {
        let mut walk = Walk {
            at: b"/".to_vec(),
            rest: b"//a/b//".to_vec(),
            links: Vec::new(),
            personal: false,
        };
        assert_eq!(walk.next(), Some((b"a".to_vec(), false, false)));
        walk.prepend(b"x/y");
        assert_eq!(walk.next(), Some((b"x".to_vec(), false, false)));
        assert_eq!(walk.next(), Some((b"y".to_vec(), false, false)));
        assert_eq!(walk.next(), Some((b"b".to_vec(), true, true)));
        assert_eq!(walk.next(), None);
    }

    #[test]
    fn the_root_is_its_own_parent() {
        assert_eq!(parent_of(b"/a/b"), b"/a");
        assert_eq!(parent_of(b"/a"), b"/");
        assert_eq!(parent_of(b"/"), b"/");
        assert_eq!(relative(b"/"), b".");
    }
}
