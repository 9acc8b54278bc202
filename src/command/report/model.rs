//! What a report says, as values.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use bundler::DiffId;
use bundler::image::{ConfigError, Image, ImageConfig};
use indicatif::HumanBytes;
use serde::Serialize;
use serde_json::Value;

use super::changes::Changes;
use super::rights::Rights;
use crate::evidence::{self, Documents, FILES, File, FileList, KeptPackage, LEFT_OUT, LeftOut};
use crate::image::{self, Source};
use crate::report::{self, Advice};

/// All that a report says of one bundle or image.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Model {
    pub(super) name: String,
    pub(super) diff_id: String,
    /// The command that it runs.
    pub(super) args: Vec<String>,
    /// The user that it runs as, `UID:GID`, or as an image has it.
    pub(super) user: String,
    /// Files, links and other entries, without directories.
    pub(super) count: usize,
    pub(super) bytes: u64,
    pub(super) files: Vec<File>,
    pub(super) packages: Vec<KeptPackage>,
    pub(super) left_out: LeftOut,
    pub(super) writable: Vec<Writable>,
    pub(super) rights: Rights,
    pub(super) special: Vec<Special>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) changes: Option<Changes>,
}

/// A place that the program can write to.
#[derive(Debug, Serialize)]
pub(super) struct Writable {
    pub(super) path: String,
    /// What is there, such as `memory`.
    pub(super) what: String,
    /// Whether what is written outlives the container.
    pub(super) kept: bool,
}

/// A file that is more than its content.
#[derive(Debug, Serialize)]
pub(super) struct Special {
    pub(super) path: tracer::record::BytePath,
    pub(super) what: Vec<String>,
}

impl Model {
    /// Reads the evidence and the configuration of the bundle or image `name`.
    pub(super) fn read(name: &OsStr, stop: &AtomicBool) -> anyhow::Result<Model> {
        let shown = name.to_string_lossy().into_owned();
        let (container, documents) = match image::open(name, stop)? {
            Source::Directory(dir) => {
                (Container::of_bundle(&dir)?, Documents::Folder(dir.join(evidence::FOLDER)))
            }
            Source::Image(opened) => {
                let container = Container::of_image(&opened.image);
                let container = container.with_context(|| format!("cannot read `{shown}`"))?;
                (container, Documents::Image(opened, shown.clone()))
            }
        };
        let read = || anyhow::Ok((documents.json(FILES)?, documents.json(LEFT_OUT)?));
        let (files, left_out): (FileList, LeftOut) = read().hint(documents.way_out())?;
        if !container.is_of(&files.diff_id) {
            let other = format!("is of other files: it says {}", files.diff_id);
            match container.layers.as_slice() {
                [_] => anyhow::bail!("the evidence of `{shown}` {other}"),
                // That of a bundle whose image lies on a base is such.
                _ => report::warn("vzbuild", format_args!("the evidence of `{shown}` {other}")),
            }
        }
        refuse_impossible(&files)
            .with_context(|| format!("the evidence of `{shown}` is refused"))?;
        let entries = files.files.iter().filter(|file| file.kind != "directory");
        Ok(Model {
            args: container.args,
            user: container.user,
            count: entries.count(),
            bytes: files.files.iter().map(|file| file.size).sum(),
            special: files.files.iter().filter_map(special).collect(),
            writable: container.writable,
            rights: Rights::read(container.config.as_ref(), &documents),
            name: files.name,
            diff_id: files.diff_id,
            files: files.files,
            packages: files.packages,
            left_out,
            changes: None,
        })
    }

    /// One line about it.
    pub(super) fn summary(&self) -> String {
        let partial = self.packages.iter().filter(|package| package.partial).count();
        format!(
            "{}, {}, of {}, {partial} of them in part",
            report::count(self.count, "file"),
            HumanBytes(self.bytes),
            report::count(self.packages.len(), "package")
        )
    }
}

/// The longest path (PATH_MAX of <linux/limits.h>, without the NUL), and more names than
/// a path of a root has.
const MAX_PATH: usize = 4095;
const MAX_NAMES: usize = 512;

/// Refuses what no root has, and what would take our stack or overflow a sum.
fn refuse_impossible(list: &FileList) -> anyhow::Result<()> {
    let mut bytes = 0_u64;
    for file in &list.files {
        let path = &file.path.0;
        if path.len() > MAX_PATH || path.split(|&b| b == b'/').count() > MAX_NAMES {
            anyhow::bail!("a path of {} bytes is in it", path.len());
        }
        bytes = bytes.checked_add(file.size).context("its files have more bytes than 2^64")?;
    }
    Ok(())
}

/// What is run, as whom, and where it can write.
struct Container {
    args: Vec<String>,
    user: String,
    writable: Vec<Writable>,
    /// Digests of the layers, as far as they are told.
    layers: Vec<String>,
    /// A bundle's `config.json`.
    config: Option<Value>,
}

impl Container {
    fn of_bundle(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join("config.json");
        let cannot = || format!("cannot read `{}`", path.display());
        let config = std::fs::read(&path)
            .with_context(cannot)
            .hint("give a directory that `vzbuild bundle` wrote, or an image")?;
        let config: Value = serde_json::from_slice(&config).with_context(cannot)?;
        let words = config.pointer("/process/args").and_then(Value::as_array).into_iter().flatten();
        let number = |pointer| config.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
        let diff_id = config.pointer("/annotations/vz.diff-id").and_then(Value::as_str);
        Ok(Container {
            args: words.filter_map(Value::as_str).map(str::to_owned).collect(),
            user: format!("{}:{}", number("/process/user/uid"), number("/process/user/gid")),
            writable: writable(&config),
            layers: diff_id.map(str::to_owned).into_iter().collect(),
            config: Some(config),
        })
    }

    fn of_image(image: &Image) -> Result<Self, ConfigError> {
        let config = ImageConfig::parse(&image.config_json)?;
        let root = ("/".to_owned(), "the whole root, until the container goes");
        let volumes = config.config.volumes.iter().map(|path| (path.clone(), "a volume"));
        let place = |(path, what): (String, &str)| {
            let kept = path != "/";
            Writable { path, what: what.to_owned(), kept }
        };
        let user = match config.config.user.as_str() {
            "" => "0:0",
            user => user,
        };
        Ok(Container {
            args: config.config.args(),
            user: user.to_owned(),
            writable: [root].into_iter().chain(volumes).map(place).collect(),
            layers: config.rootfs.diff_ids,
            config: None,
        })
    }

    /// Whether `diff_id` may be that of its files: all layers', or one's.
    fn is_of(&self, diff_id: &str) -> bool {
        let all = self.layers.iter().map(|layer| DiffId::parse(layer));
        let all = all.collect::<Option<Vec<_>>>().and_then(DiffId::chain);
        self.layers.is_empty()
            || self.layers.iter().any(|layer| layer == diff_id)
            || all.is_some_and(|all| all.to_string() == diff_id)
    }
}

/// The mounts that can be written to, and the root where it can.
fn writable(config: &Value) -> Vec<Writable> {
    let mut places = Vec::new();
    if config.pointer("/root/readonly") != Some(&Value::Bool(true)) {
        places.push(Writable {
            path: "/".to_owned(),
            what: "the whole root".to_owned(),
            kept: true,
        });
    }
    for mount in config["mounts"].as_array().into_iter().flatten() {
        let text = |key: &str| mount[key].as_str().unwrap_or_default();
        let options: Vec<&str> =
            mount["options"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let path = text("destination").to_owned();
        // What every container has, and nothing of it is a file of the bundle.
        if ["/proc", "/sys", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"].contains(&&*path)
            || options.contains(&"ro")
        {
            continue;
        }
        let size = options.iter().find_map(|option| option.strip_prefix("size="));
        let what = match text("type") {
            "tmpfs" => {
                format!("memory{}", size.map(|s| format!(", at most {s}")).unwrap_or_default())
            }
            _ => format!("{} of the host", text("source")),
        };
        places.push(Writable { path, what, kept: text("type") != "tmpfs" });
    }
    places
}

fn special(file: &File) -> Option<Special> {
    let mode = u32::from_str_radix(&file.mode, 8).unwrap_or(0);
    let is_directory = file.kind == "directory";
    let is_link = file.kind == "symlink";
    let mut what = Vec::new();
    let mut say = |is: bool, text: &str| what.extend(is.then(|| text.to_owned()));
    say(mode & 0o4000 != 0, &format!("setuid, runs as user {}", file.uid));
    say(mode & 0o2000 != 0 && !is_directory, &format!("setgid, runs as group {}", file.gid));
    say(mode & 0o002 != 0 && mode & 0o1000 == 0 && !is_link, "anyone can write to it");
    say(["fifo", "char-device", "block-device"].contains(&&*file.kind), &file.kind);
    if let Some(capabilities) = &file.capabilities {
        what.push(format!("capabilities {capabilities}"));
    }
    (!what.is_empty()).then(|| Special { path: file.path.clone(), what })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, sizes: [u64; 2], is_possible: bool) {
        let file = |size: u64| {
            serde_json::json!({
                "path": path, "size": size, "kind": "file", "mode": "0644", "uid": 0, "gid": 0,
                "packages": [], "reason": { "kind": "listed", "text": "" },
            })
        };
        let list = serde_json::json!({
            "diffId": "", "name": "", "version": 1, "packages": [], "files": sizes.map(file),
        });
        let list = serde_json::from_value(list).unwrap();
        assert_eq!(refuse_impossible(&list).is_ok(), is_possible, "{sizes:?}");
    }

    #[test]
    fn what_no_root_has_is_refused() {
        check("/usr/bin/sh", [1, 2], true);
        check(&"/d".repeat(511), [1, 2], true);
        check(&"/d".repeat(512), [1, 2], false);
        check(&format!("/{}", "d".repeat(4095)), [1, 2], false);
        check("/usr/bin/sh", [u64::MAX, 1], false);
    }
}
