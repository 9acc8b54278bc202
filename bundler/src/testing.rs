//! Small root file systems for unit tests.

use std::os::unix::fs::{PermissionsExt, symlink};

/// Makes a tree of its description: one file a line, `/link -> target`,
/// `/directory/`, `/file` or `/file = its text` (where `\n` is a newline).
pub(crate) fn tree(files: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for line in files.lines() {
        let (name, content) = line.split_once(" = ").unwrap_or((line, ""));
        let (name, target) =
            name.split_once(" -> ").map_or((name, None), |(name, target)| (name, Some(target)));
        let path = dir.path().join(&name[1..]);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        match target {
            Some(target) => symlink(target, path).unwrap(),
            None if name.ends_with('/') => std::fs::create_dir_all(path).unwrap(),
            None => {
                std::fs::write(&path, content.replace("\\n", "\n")).unwrap();
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
    }
    dir
}
