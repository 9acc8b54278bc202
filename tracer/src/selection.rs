//! Which paths go into the spec.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::error::Error;

/// The globs of `--include` and `--exclude`.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    include: Option<GlobSet>,
    exclude: GlobSet,
    without: BTreeSet<Vec<u8>>,
}

impl Selection {
    /// Takes paths that match one of `include` (all, if there is none) and none
    /// of `exclude`. `*` does not cross a slash, `**` does.
    ///
    /// # Errors
    /// A glob that cannot be read.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, Error> {
        let include = if include.is_empty() { None } else { Some(set(include)?) };
        Ok(Selection { include, exclude: set(exclude)?, without: BTreeSet::new() })
    }

    /// The same, but for these paths.
    #[must_use]
    pub fn without(self, paths: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Selection { without: paths.into_iter().collect(), ..self }
    }

    /// Whether the path goes into the spec.
    pub fn takes(&self, path: &[u8]) -> bool {
        if self.without.contains(path) {
            return false;
        }
        // A matcher looks at the path even where it has no globs.
        if self.include.is_none() && self.exclude.is_empty() {
            return true;
        }
        let path = OsStr::from_bytes(path);
        self.include.as_ref().is_none_or(|include| include.is_match(path))
            && !self.exclude.is_match(path)
    }
}

fn set(globs: &[String]) -> Result<GlobSet, Error> {
    let wrong = |glob: &str| {
        let glob = glob.to_owned();
        move |source| Error::Glob { glob, source }
    };
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        let built = GlobBuilder::new(glob).literal_separator(true).build();
        set.add(built.map_err(wrong(glob))?);
    }
    set.build().map_err(wrong(&globs.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(include: &[&str], exclude: &[&str], path: &str, expected: bool) {
        let owned = |globs: &[&str]| globs.iter().map(|g| (*g).to_owned()).collect::<Vec<_>>();
        let selection = Selection::new(&owned(include), &owned(exclude)).unwrap();
        assert_eq!(selection.takes(path.as_bytes()), expected, "{path}");
    }

    #[test]
    fn all_is_taken_without_globs() {
        check(&[], &[], "/etc/passwd", true);
    }

    #[test]
    fn exclude_wins() {
        check(&["/etc/**"], &["**/shadow"], "/etc/shadow", false);
        check(&["/etc/**"], &["**/shadow"], "/etc/ssl/openssl.cnf", true);
        check(&["/etc/*"], &[], "/etc/ssl/openssl.cnf", false);
    }

    #[test]
    fn a_path_that_is_left_out_is_no_glob() {
        let selection = Selection::default().without([b"/a*".to_vec()]);
        assert!(!selection.takes(b"/a*") && selection.takes(b"/ab"));
    }

    #[test]
    fn a_broken_glob_is_named() {
        let error = Selection::new(&["[".to_owned()], &[]).unwrap_err();
        assert_eq!(error.to_string(), "`[` is no glob");
    }
}
