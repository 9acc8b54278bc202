//! Absolute paths inside a root file system, as bytes.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A path inside a root file system: absolute, bytes, in one spelling only.
///
/// It is `/` or `/a/b`: no empty component, no `.`, no `..`, no NUL, no slash
/// at the end. `..` is refused and never cancelled by text, since what it
/// means depends on symbolic links; the resolver, which sees them, handles it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RootPath(Box<[u8]>);

/// Why some bytes are not a [`RootPath`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// The path does not begin with a slash.
    #[error("`{}` is not absolute: it must begin with `/`", lossy(.0))]
    Relative(Vec<u8>),
    /// The path has a `..` component.
    #[error("`{}` has a `..` component: write the path it stands for", lossy(.0))]
    DotDot(Vec<u8>),
    /// The path has a NUL byte, which no Unix path can hold.
    #[error("`{}` has a NUL byte", lossy(.0))]
    Nul(Vec<u8>),
}

fn lossy(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

impl RootPath {
    /// The root directory, `/`.
    pub fn root() -> Self {
        RootPath(Box::from(&b"/"[..]))
    }

    /// Makes a path of `bytes`, with doubled slashes, `.` components and a
    /// slash at the end taken out.
    ///
    /// # Errors
    /// Refuses a relative path, a `..` component, a NUL byte.
    pub fn new(bytes: &[u8]) -> Result<Self, PathError> {
        if bytes.first() != Some(&b'/') {
            return Err(PathError::Relative(bytes.to_vec()));
        }
        if bytes.contains(&0) {
            return Err(PathError::Nul(bytes.to_vec()));
        }
        let mut path = Vec::with_capacity(bytes.len());
        for component in bytes.split(|&b| b == b'/') {
            match component {
                b"" | b"." => {}
                b".." => return Err(PathError::DotDot(bytes.to_vec())),
                name => {
                    path.push(b'/');
                    path.extend_from_slice(name);
                }
            }
        }
        if path.is_empty() {
            path.push(b'/');
        }
        Ok(RootPath(path.into()))
    }

    /// Takes bytes that the resolver put together, so that they are in the one
    /// spelling already; none at all are the root.
    pub(crate) fn from_clean(path: Vec<u8>) -> Self {
        debug_assert!(
            path.is_empty() || RootPath::new(&path).is_ok_and(|p| *p.0 == *path),
            "{}",
            lossy(&path)
        );
        if path.is_empty() { RootPath::root() } else { RootPath(path.into()) }
    }

    /// The path's bytes, beginning with a slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path without its leading slash, as seen from the root directory;
    /// `.` for the root itself. This is what `openat` on the root takes.
    pub fn relative(&self) -> &Path {
        match &self.0[1..] {
            b"" => Path::new("."),
            rest => Path::new(OsStr::from_bytes(rest)),
        }
    }

    /// Where the path lies on this machine when its root is `root`.
    pub fn under(&self, root: &Path) -> PathBuf {
        root.join(OsStr::from_bytes(&self.0[1..]))
    }

    /// The directory that holds it; nothing for the root.
    pub fn parent(&self) -> Option<RootPath> {
        if self.is_root() {
            return None;
        }
        let slash = self.0.iter().rposition(|&b| b == b'/').unwrap_or(0);
        Some(RootPath(Box::from(&self.0[..slash.max(1)])))
    }

    /// Its last component; empty for the root.
    pub fn file_name(&self) -> &[u8] {
        self.0.rsplit(|&b| b == b'/').next().unwrap_or_default()
    }

    /// The components from the root down; none for the root itself.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|&b| b == b'/').filter(|c| !c.is_empty())
    }

    /// This path with one more component.
    ///
    /// # Errors
    /// As [`RootPath::new`]; a `name` with slashes adds several components.
    pub fn join(&self, name: &[u8]) -> Result<RootPath, PathError> {
        let mut path = self.0.to_vec();
        path.push(b'/');
        path.extend_from_slice(name);
        RootPath::new(&path)
    }

    /// Whether this is the root directory.
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// Whether this path is `dir` or lies below it.
    pub fn starts_with(&self, dir: &RootPath) -> bool {
        dir.is_root()
            || self.0.strip_prefix(&*dir.0).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }
}

/// Orders by component, so that a directory comes right before what is in it
/// (`/a/b` before `/a-b`), which plain byte order does not give.
impl Ord for RootPath {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.components().cmp(other.components())
    }
}

impl PartialOrd for RootPath {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Shows bytes that are not printable ASCII or UTF-8 as `\xNN` escapes.
impl fmt::Display for RootPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(&self.0) {
            Ok(text) if !text.chars().any(char::is_control) => f.write_str(text),
            _ => self.0.escape_ascii().fmt(f),
        }
    }
}

impl fmt::Debug for RootPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RootPath {
        RootPath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_path_has_one_spelling() {
        assert_eq!(path("//usr/./lib/"), path("/usr/lib"));
        assert_eq!(path("/."), RootPath::root());
    }

    #[test]
    fn relative_dot_dot_and_nul_are_refused() {
        assert!(matches!(RootPath::new(b"usr"), Err(PathError::Relative(_))));
        assert!(matches!(RootPath::new(b"/a/../b"), Err(PathError::DotDot(_))));
        assert!(matches!(RootPath::new(b"/a\0b"), Err(PathError::Nul(_))));
        assert!(matches!(RootPath::new(b""), Err(PathError::Relative(_))));
    }

    #[test]
    fn parents_end_at_the_root() {
        assert_eq!(path("/a/b").parent(), Some(path("/a")));
        assert_eq!(path("/a").parent(), Some(RootPath::root()));
        assert_eq!(RootPath::root().parent(), None);
    }

    #[test]
    fn a_directory_sorts_right_before_its_content() {
        let mut paths = [path("/a-b"), path("/a/b"), path("/a"), RootPath::root()];
        paths.sort();
        assert_eq!(paths, [RootPath::root(), path("/a"), path("/a/b"), path("/a-b")]);
    }

    #[test]
    fn a_prefix_is_whole_components() {
        assert!(path("/a.json").starts_with(&RootPath::root()));
        assert!(!path("/a.json").starts_with(&path("/a.js")));
        assert!(path("/a/b").starts_with(&path("/a")));
    }
}
