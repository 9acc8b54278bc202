//! Secrets: where the master finds them, and where a node has them. Pure.
//!
//! ```yaml
//! # secrets.yaml: the secret, its keys, and for each a file or a command
//! site-tls:
//!   tls.key: {file: keys/site.key}
//!   password: {command: [pass, show, site]}
//! ```
//!
//! A revision names its secrets and nothing of what is in them but a number, which its node
//! gives to each other state of them: so a changed secret makes another revision, and one
//! that is taken back has the secrets that it had. Nothing can be worked out from it, as it
//! could from a digest of a short secret.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::fields::{At, Check, Fields, Violation, is_label};
use super::pod::{Pod, Volume};
use super::unit::PODS;

/// The file that says where secrets are.
pub const FILE: &str = "secrets.yaml";
/// Where a node has them, in memory.
pub const FOLDER: &str = "/run/vz/secrets";
/// Where a node has them encrypted, for the next boot.
pub const KEPT: &str = "/etc/vz/secrets";
/// The file of a revision that looks for its secrets before a start.
pub const SCRIPT: &str = "secrets.sh";

/// Where the master finds one key of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In a file, relative to the fleet's directory.
    File(String),
    /// In what a command prints, but for a line end after it.
    Command(Vec<String>),
}

/// Where secrets are, by name and key.
pub type Sources = BTreeMap<String, BTreeMap<String, Source>>;

/// What nobody is to see: it has no form but on its way to a node.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(pub Vec<u8>);

/// Secrets, by name and key.
pub type Secrets = BTreeMap<String, BTreeMap<String, Sealed>>;

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed")
    }
}

impl Serialize for Sealed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let digits: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        serializer.serialize_str(&digits)
    }
}

impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let digits = String::deserialize(deserializer)?;
        let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
        let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
        // What is wrong with it would be a part of it.
        bytes
            .filter(|_| rest.is_empty())
            .map(Sealed)
            .ok_or_else(|| serde::de::Error::custom("a secret is damaged"))
    }
}

/// Reads where secrets are.
pub fn read(text: &str) -> (Sources, Vec<Violation>) {
    let mut check = Check::default();
    let documents = check.documents(text);
    let mut sources = Sources::new();
    let top = documents.first().map(At::top);
    let map = top.and_then(|top| check.map(&top));
    for (name, at) in map.iter().flat_map(Fields::all) {
        if !is_label(&name.text) {
            check.note(
                name.line,
                &at.path,
                "is no name of a secret: small letters, digits and `-`",
            );
            continue;
        }
        let keys = check.map(&at);
        let mut secret = BTreeMap::new();
        for (key, at) in keys.iter().flat_map(Fields::all) {
            if !is_key(&key.text) {
                check.note(
                    key.line,
                    &at.path,
                    "is no key of a secret: letters, digits, `-`, `_`, `.`",
                );
                continue;
            }
            let Some(fields) = check.fields(&at, &["file", "command"], |_| "") else { continue };
            let file = fields.get("file").and_then(|at| check.text(&at)).map(Source::File);
            let command = fields.get("command").map(|at| check.texts(&at));
            let command = command.filter(|words| !words.is_empty()).map(Source::Command);
            match (file, command) {
                (Some(source), None) | (None, Some(source)) => {
                    secret.insert(key.text.clone(), source);
                }
                _ => check.wrong(&at, "must have one of file and command"),
            }
        }
        sources.insert(name.text.clone(), secret);
    }
    check.violations.sort();
    (sources, check.violations)
}

/// The lines of the keys of secrets, by name and key, of a text that could be read.
pub fn lines(text: &str) -> BTreeMap<(String, String), usize> {
    let mut check = Check::default();
    let documents = check.documents(text);
    let top = documents.first().map(At::top).and_then(|top| check.map(&top));
    let mut lines = BTreeMap::new();
    for (name, at) in top.iter().flat_map(Fields::all) {
        for (key, _) in check.map(&at).iter().flat_map(Fields::all) {
            lines.insert((name.text.clone(), key.text.clone()), key.line);
        }
    }
    lines
}

/// What Kubernetes takes for a key, and what is a plain name of a file.
pub fn is_key(key: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
    (1..=253).contains(&key.len()) && key.bytes().all(plain) && !key.starts_with('.')
}

/// The number of the first secrets that a pod has on a node.
pub const FIRST: &str = "1";

/// The number after all of `known`.
pub fn next<'a>(known: impl Iterator<Item = &'a str>) -> String {
    let last = known.filter_map(|number| number.parse::<u64>().ok()).max();
    last.map_or_else(|| FIRST.to_owned(), |last| last.saturating_add(1).to_string())
}

/// Whether a text can be such a number.
pub fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit())
}

/// Where a node has secrets of `pod`, below [`FOLDER`] and [`KEPT`].
pub fn dir(pod: &str, number: &str) -> String {
    format!("{pod}/{number}")
}

/// The secrets that a pod has.
pub fn names(pod: &Pod) -> BTreeSet<&String> {
    let volumes = pod.volumes.values();
    volumes
        .filter_map(|volume| match volume {
            Volume::Secret { name, .. } => Some(name),
            _ => None,
        })
        .collect()
}

/// The line of a unit that looks for the secrets of its pod; nothing where it has none.
pub fn start_line(pod: &Pod, tag: &str) -> String {
    match names(pod).is_empty() {
        true => String::new(),
        false => format!("ExecStartPre=+/bin/sh {PODS}/{}/tags/{tag}/{SCRIPT}\n", pod.name),
    }
}

/// Returns the script that looks for the secrets of `pod`: a reboot takes them from
/// memory, and brings them back where they were encrypted.
pub fn render_script(pod: &str, number: &str, names: &BTreeSet<&String>) -> String {
    let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
    let dir = dir(pod, number);
    format!(
        "\
# Looks for the secrets of {pod}, and decrypts those that are kept. At boot, all
# containers do so at once.
umask 077
for name in {}; do
  to={FOLDER}/{dir}/$name
  for file in {KEPT}/{dir}/$name/*; do
    key=${{file##*/}}
    if [ ! -e \"$file\" ] || [ -e \"$to/$key\" ]; then continue; fi
    mkdir -p \"$to\" && chmod 755 \"$to\" &&
      systemd-creds decrypt --name=\"{pod}.$name.$key\" \"$file\" \"$to/.$key.$$\" &&
      chmod 444 \"$to/.$key.$$\" && mv \"$to/.$key.$$\" \"$to/$key\" || exit 1
  done
  if [ ! -d \"$to\" ]; then
    echo \"the secret $name is not on this node: vzmaster deploy brings it\" >&2
    exit 1
  fi
done
",
        names.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_in_a_file_or_comes_from_a_command() {
        let (sources, violations) =
            read("tls:\n  tls.key: {file: a.key}\n  pin: {command: [pass, show, x]}\n");
        assert_eq!(violations, []);
        let words = ["pass", "show", "x"].map(str::to_owned).to_vec();
        assert_eq!(sources["tls"]["pin"], Source::Command(words));
        assert_eq!(sources["tls"]["tls.key"], Source::File("a.key".into()));
        assert_eq!(lines("tls:\n  a: {}\n  b: {}\n")[&("tls".to_owned(), "b".to_owned())], 3);
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let (_, violations) = read(text);
        assert_eq!(violations.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_is_no_source_is_named() {
        check("a:\n  b: {}\n", &["2: a.b: must have one of file and command"]);
        check(
            "a:\n  ../b: {file: x}\n",
            &["2: a[\"../b\"]: is no key of a secret: letters, digits, `-`, `_`, `.`"],
        );
        check("A: {}\n", &["1: A: is no name of a secret: small letters, digits and `-`"]);
        check(
            "a:\n  b: {value: x}\n",
            &["2: a.b: must have one of file and command", "2: a.b.value: not supported"],
        );
    }

    #[test]
    fn a_secret_is_seen_on_its_way_only() {
        let secret = Sealed(b"p\xffw".to_vec());
        assert_eq!(format!("{secret:?}"), "Sealed");
        let text = serde_json::to_string(&secret).unwrap();
        assert_eq!(text, "\"70ff77\"");
        assert_eq!(serde_json::from_str::<Sealed>(&text).unwrap(), secret);
        let error = serde_json::from_str::<Sealed>("\"7zz\"").unwrap_err().to_string();
        assert!(error.starts_with("a secret is damaged"), "{error}");
    }

    #[test]
    fn a_state_of_secrets_has_a_number() {
        assert_eq!(next([].into_iter()), "1");
        assert_eq!(next(["9", "x", "10"].into_iter()), "11");
        assert!(is_number("10") && !is_number("") && !is_number("../1"));
    }

    #[test]
    fn containers_that_start_at_once_decrypt_beside_one_another() {
        let dir = tempfile::tempdir().unwrap();
        let [memory, kept, bin] = ["run", "kept", "bin"].map(|name| dir.path().join(name));
        let file = kept.join(super::dir("web", FIRST)).join("tls/key");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "word").unwrap();
        std::fs::create_dir_all(&bin).unwrap();
        // It takes both of them a while.
        let creds = bin.join("systemd-creds");
        std::fs::write(&creds, "#!/bin/sh\nsleep 0.3; cat \"$3\" >\"$4\"; sleep 0.3\n").unwrap();
        std::fs::set_permissions(&creds, std::fs::Permissions::from_mode(0o755)).unwrap();
        let script = render_script("web", FIRST, &BTreeSet::from([&"tls".to_owned()]));
        let script = script.replace(FOLDER, &memory.display().to_string());
        let script = script.replace(KEPT, &kept.display().to_string());
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let start = || {
            let mut sh = crate::process::command("sh");
            sh.arg("-c").arg(&script).env("PATH", &path).spawn().unwrap()
        };
        for mut container in [start(), start()] {
            assert!(container.wait().unwrap().success());
        }
        let found = memory.join(super::dir("web", FIRST)).join("tls/key");
        assert_eq!(std::fs::read_to_string(found).unwrap(), "word");
    }

    #[test]
    fn keys_are_names_of_files() {
        for bad in ["", ".", "..", ".x", "a/b", "a b"] {
            assert!(!is_key(bad), "{bad}");
        }
        assert!(is_key("tls.key") && is_key("A_1-b"));
    }
}
