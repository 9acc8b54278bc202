//! Files that look like secrets: whoever gets a bundle gets them. By name, and by how a
//! private key begins; they are told, and never refused.

use std::io::Read;

use bundler::layer::Node;
use bundler::{Layer, RootPath, Rootfs};

use crate::report;

/// Larger files are no keys.
const KEY_MAX: u64 = 64 << 10;
/// How keys and certificates begin (RFC 7468), and what a private one has in that line.
const BEGIN: &[u8] = b"-----BEGIN ";
const PRIVATE: &[u8] = b"PRIVATE KEY";
/// Files of `.env` that others are to copy have no secrets.
const EXAMPLES: [&[u8]; 4] = [b".example", b".sample", b".template", b".dist"];
/// What lies in `.ssh` and is for everybody.
const PUBLIC: [&[u8]; 3] = [b"known_hosts", b"config", b"authorized_keys"];

/// A file that looks like a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Private {
    pub(super) path: RootPath,
    /// What it looks like, as `a private key`.
    pub(super) what: &'static str,
}

/// Those of a layer. What cannot be read is told elsewhere.
pub(super) fn find(rootfs: &Rootfs, layer: &Layer) -> Vec<Private> {
    let files = layer.entries.iter().filter_map(|entry| match entry.node {
        Node::File(size) => Some((&entry.path, size)),
        _ => None,
    });
    let private = |(path, size): (&RootPath, u64)| {
        let key = || (size <= KEY_MAX && is_key(rootfs, path)).then_some("a private key");
        Some(Private { path: path.clone(), what: by_name(path).or_else(key)? })
    };
    files.filter_map(private).collect()
}

fn by_name(path: &RootPath) -> Option<&'static str> {
    let name = path.file_name();
    let inside = |dir: &[u8]| path.components().rev().skip(1).any(|part| part == dir);
    let ends = |endings: &[&[u8]]| endings.iter().any(|ending| name.ends_with(ending));
    if name == b".env" || name.starts_with(b".env.") && !ends(&EXAMPLES) {
        return Some("a file of secret variables");
    }
    if name == b".netrc" || name == b"credentials" && inside(b".aws") {
        return Some("a file of passwords");
    }
    let public = name.ends_with(b".pub") || PUBLIC.iter().any(|public| name.starts_with(public));
    (inside(b".ssh") && !public).then_some("a private key")
}

/// Whether a file has a private key; a file of certificates may have one behind them.
fn is_key(rootfs: &Rootfs, path: &RootPath) -> bool {
    let mut start = [0; BEGIN.len()];
    let Ok(mut file) = rootfs.open_file(path) else { return false };
    if file.read_exact(&mut start).is_err() || start != BEGIN {
        return false;
    }
    let mut text = start.to_vec();
    // No more of it than a key has, should it have grown.
    let read = file.take(KEY_MAX).read_to_end(&mut text).is_ok();
    let lines = || text.split(|byte| *byte == b'\n').filter(|line| line.starts_with(BEGIN));
    read && lines().any(|line| line.windows(PRIVATE.len()).any(|part| part == PRIVATE))
}

/// Warns of them, and says the way out of specs, or of a minified image.
pub(super) fn warn(private: &[Private], of_image: bool) {
    let Some(Private { path, .. }) = private.first() else { return };
    let lines =
        private.iter().map(|file| format!("\n  {}: it looks like {}", file.path, file.what));
    let way = match of_image {
        true => format!("another file in its place (`--volume FILE:{path}:ro`)"),
        false => format!("`smith-strace --exclude {path}`"),
    };
    report::warn(
        "vzbuild",
        format_args!(
            "the run read what looks secret, and whoever gets the bundle has it:{}\n  hint: {way} \
             keeps it out; give it when it runs, by --volume or as a secret of a pod \
             (vz-fleet(5))",
            lines.collect::<String>()
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_names_and_by_how_they_begin() {
        let dir = tempfile::tempdir().unwrap();
        let rsa = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\n";
        let certificate = "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----\n";
        let both = format!("{certificate}{rsa}");
        let check = |path: &str, content: &str, expected: Option<&'static str>| {
            let file = dir.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, content).unwrap();
            let rootfs = Rootfs::open(dir.path()).unwrap();
            let path = RootPath::new(format!("/{path}").as_bytes()).unwrap();
            let mut planner = bundler::Planner::new(&rootfs, None);
            planner.add(&path).unwrap();
            let found = find(&rootfs, &planner.finish().unwrap());
            let expected: Vec<Private> =
                expected.map(|what| Private { path, what }).into_iter().collect();
            assert_eq!(found, expected);
        };
        let key = Some("a private key");
        check("etc/tls/site.key", rsa, key);
        check("etc/tls/site.pem", &both, key);
        check("srv/odd", "-----BEGIN OPENSSH PRIVATE KEY-----\n", key);
        check("srv/pgp", "-----BEGIN PGP PRIVATE KEY BLOCK-----\n", key);
        check("home/a/.ssh/id_ed25519", "", key);
        check("home/a/.netrc", "", Some("a file of passwords"));
        check("home/a/.aws/credentials", "", Some("a file of passwords"));
        check("app/.env", "A=1", Some("a file of secret variables"));
        check("app/.env.production", "A=1", Some("a file of secret variables"));
        check("etc/tls/site.crt", certificate, None);
        check("etc/tls/doc", &format!("as in:\n{rsa}"), None);
        check("app/.env.example", "A=1", None);
        check("home/a/.ssh/id_ed25519.pub", "", None);
        check("home/a/.ssh/known_hosts", "", None);
        check("etc/credentials", "", None);
    }
}
