//! Which files a revision that failed seems to miss: what the logs of its containers say,
//! beside what their bundles have.

use std::collections::BTreeMap;
use std::path::Path;

use bundler::Rootfs;
use bundler::resolve::Resolver;
use serde_json::Value;

use crate::fleet::missing::inferred;
use crate::fleet::revision::{Placed, Revision, record};
use crate::push::bundle::Bundle;

/// Returns a sentence for each path that the log of a container says is missing, and that
/// its own bundle does not have.
pub(super) fn sentences(
    bundles: &BTreeMap<String, Bundle>,
    revision: &Revision,
    log: &[String],
) -> Vec<String> {
    let Some(record) = record(&revision.files) else { return Vec::new() };
    let several = record.containers.len() > 1;
    let of = |placed: &Placed| {
        let name = &placed.name;
        let lines = lines_of(log, several.then_some(name.as_str()));
        let Some(bundle) = bundles.values().find(|bundle| bundle.id == placed.bundle_id) else {
            return Vec::new();
        };
        let whose = if several { format!("container {name}") } else { "it".to_owned() };
        let sentence = |path: String| {
            format!("inferred from its log: {whose} misses {path}, which is not in its bundle")
        };
        let absent = absent(bundle, &mounts(revision, placed), &lines);
        absent.into_iter().map(sentence).collect()
    };
    record.containers.iter().flat_map(of).collect()
}

/// The lines of a container, which have its name before them where there are several.
fn lines_of(log: &[String], container: Option<&str>) -> Vec<String> {
    let Some(name) = container else { return log.to_vec() };
    let own = |line: &String| line.strip_prefix(&format!("{name}: ")).map(str::to_owned);
    log.iter().filter_map(own).collect()
}

/// What a log says is missing, and is in no mount and not in the bundle.
fn absent(bundle: &Bundle, mounts: &[String], log: &[String]) -> Vec<String> {
    let Ok(rootfs) = Rootfs::open(&bundle.rootfs()) else { return Vec::new() };
    let resolver = Resolver::new(&rootfs);
    // A link that leads nowhere is no file.
    let is_there = |path: &[u8]| resolver.resolve(path).is_ok();
    // What is mounted is none of the bundle's.
    let mounted = |path: &str| mounts.iter().any(|mount| Path::new(path).starts_with(mount));
    inferred(log, &|path| match path.starts_with('/') {
        true => mounted(path) || is_there(path.as_bytes()),
        // A library may lie anywhere.
        false => {
            let ends = format!("/{path}").into_bytes();
            let mut paths = bundle.manifest.entries().iter().map(|entry| entry.path.as_slice());
            paths.any(|found| {
                let inside = found.strip_prefix(b"rootfs").filter(|_| found.ends_with(&ends));
                inside.is_some_and(is_there)
            })
        }
    })
}

/// Where something is mounted in a container, other than over a copy of what its bundle has there.
fn mounts(revision: &Revision, placed: &Placed) -> Vec<String> {
    let config = revision.files.get(&format!("{}/config.json", placed.name));
    let config: Option<Value> = config.and_then(|text| serde_json::from_str(text).ok());
    let mounts = config.as_ref().and_then(|config| config.get("mounts")?.as_array());
    let copies = |mount: &Value| {
        let options = mount.get("options").and_then(Value::as_array);
        options.is_some_and(|options| options.iter().any(|option| option == "tmpcopyup"))
    };
    let path = |mount: &Value| mount.get("destination")?.as_str().map(str::to_owned);
    mounts.into_iter().flatten().filter(|mount| !copies(mount)).filter_map(path).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_the_bundle_of_the_container_itself_lacks_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("rootfs");
        let config = r#"{ "root": { "path": "rootfs" } }"#;
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        fs::write(dir.path().join("config.json"), config).unwrap();
        fs::write(root.join("usr/bin/app"), "").unwrap();
        symlink("usr/bin", root.join("bin")).unwrap();
        symlink("python3.11", root.join("usr/bin/python3")).unwrap();
        symlink("libz.so.1.2", root.join("usr/libz.so.1")).unwrap();
        let bundle = Bundle::open(dir.path()).unwrap();
        let check = |line: &str, expected: &[&str]| {
            let found = absent(&bundle, &["/data".to_owned()], &[line.to_owned()]);
            assert_eq!(found, expected, "{line}");
        };
        let open = |path: &str| format!("open {path}: no such file or directory");
        check(&open("/etc/app.conf"), &["/etc/app.conf"]);
        check(&open("/data/db"), &[]);
        check(&open("/bin/app"), &[]);
        check(&open("/usr/bin/python3"), &["/usr/bin/python3"]);
        let load = "app: error while loading shared libraries: libz.so.1: cannot open shared object file: No such file or directory";
        check(load, &["libz.so.1"]);
    }

    #[test]
    fn of_several_containers_each_has_its_own_lines() {
        let log = ["app: one", "web: two", "app: three"].map(str::to_owned);
        assert_eq!(lines_of(&log, Some("app")), ["one", "three"]);
        assert_eq!(lines_of(&log, None), log);
    }
}
