//! Which variables of the environment go into `spec.json` with their values.

use std::collections::{BTreeMap, BTreeSet};

use tracer::Record;

/// Variables that tell of the shell around the run, not of the run.
const OF_THE_SHELL: [&str; 4] = ["OLDPWD", "PWD", "SHLVL", "_"];

/// Values by name where they are no secrets or asked for, else the names alone.
pub(super) fn describe(asked: &[String]) -> (BTreeMap<String, String>, BTreeSet<String>) {
    let mut env = BTreeMap::new();
    let mut names = BTreeSet::new();
    for (name, value) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if is_safe(&name) || asked.contains(&name) {
            env.insert(name, value.to_string_lossy().into_owned());
        } else {
            names.insert(name);
        }
    }
    (env, names)
}

/// Adds to the last run the values that are nothing but paths of which it used
/// one: without `SSL_CERT_FILE` or `PYTHONPATH` it would look elsewhere.
pub(super) fn keep_paths(record: &mut Record) {
    let Some(mut run) = record.runs.pop() else { return };
    let used: Vec<&[u8]> = record.paths().collect();
    let values = run.env_names.iter().filter_map(|name| Some((name, std::env::var(name).ok()?)));
    let kept: Vec<(String, String)> = values
        .filter(|(name, value)| !OF_THE_SHELL.contains(&name.as_str()) && names_used(value, &used))
        .map(|(name, value)| (name.clone(), value))
        .collect();
    for (name, value) in kept {
        run.env_names.remove(&name);
        run.env.insert(name, value);
    }
    record.runs.push(run);
}

/// Names of variables whose values are no secrets.
fn is_safe(name: &str) -> bool {
    matches!(name, "PATH" | "LANG" | "TZ" | "HOME") || name.starts_with("LC_")
}

/// Whether `value` is a list of absolute paths, one of them or of the files
/// below one of them used; `used` is sorted.
fn names_used(value: &str, used: &[&[u8]]) -> bool {
    let paths = || value.split(':').filter(|path| !path.is_empty());
    let first_from = |path: &[u8]| used.get(used.partition_point(|used| *used < path));
    let is_used = |path: &str| {
        let path = path.trim_end_matches('/').as_bytes();
        let below = [path, b"/"].concat();
        !path.is_empty()
            && (first_from(path).is_some_and(|used| *used == path)
                || first_from(&below).is_some_and(|used| used.starts_with(&below)))
    };
    paths().all(|path| path.starts_with('/')) && paths().any(is_used)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, expected: bool) {
        let paths = ["/app/lib/x.py", "/etc/ssl/cert.pem"].map(str::as_bytes);
        assert_eq!(names_used(value, &paths), expected, "{value}");
    }

    #[test]
    fn a_value_that_names_a_used_path_is_kept() {
        check("/etc/ssl/cert.pem", true);
        check("/opt/none:/app/lib/", true);
    }

    #[test]
    fn whatever_else_may_be_a_secret() {
        check("/etc/ssl/cert", false);
        check("postgres://user:secret@/app/lib", false);
        check("/app/lib:secret", false);
        check("/", false);
        check("", false);
    }
}
