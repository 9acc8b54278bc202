//! What a report says, as values.

use std::path::Path;

use anyhow::Context;
use indicatif::HumanBytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::changes::Changes;
use super::rights::Rights;
use crate::evidence::{self, File, FileList, KeptPackage, LeftOut};
use crate::report::Advice;

/// All that a report says of one bundle.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Model {
    pub(super) name: String,
    pub(super) diff_id: String,
    /// The command that the bundle runs.
    pub(super) args: Vec<String>,
    /// The user that it runs as, `UID:GID`.
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
    /// Reads the evidence and the config of the bundle at `dir`.
    pub(super) fn read(dir: &Path) -> anyhow::Result<Model> {
        let evidence = dir.join(evidence::FOLDER);
        let files: FileList = read(&evidence.join("files.json"))?;
        let left_out: LeftOut = read(&evidence.join("left-out.json"))?;
        let config: Value = read(&dir.join("config.json"))?;
        let text = |pointer: &str| config.pointer(pointer).and_then(Value::as_str);
        let told = text("/annotations/vz.diff-id");
        if told.is_some_and(|told| told != files.diff_id) {
            anyhow::bail!(
                "the evidence in `{}` is of another bundle: it says {}",
                evidence.display(),
                files.diff_id
            );
        }
        let words = config.pointer("/process/args").and_then(Value::as_array).into_iter().flatten();
        let number = |pointer| config.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
        let entries = files.files.iter().filter(|file| file.kind != "directory");
        Ok(Model {
            args: words.filter_map(Value::as_str).map(str::to_owned).collect(),
            user: format!("{}:{}", number("/process/user/uid"), number("/process/user/gid")),
            count: entries.count(),
            bytes: files.files.iter().map(|file| file.size).sum(),
            special: files.files.iter().filter_map(special).collect(),
            writable: writable(&config),
            rights: Rights::read(dir, &config),
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
            "{} files, {}, of {} packages, {partial} of them in part",
            self.count,
            HumanBytes(self.bytes),
            self.packages.len()
        )
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let shown = path.display();
    let text = std::fs::read(path)
        .with_context(|| format!("cannot read `{shown}`"))
        .hint("BUNDLE is a directory that `vzbuild bundle` of this version wrote")?;
    serde_json::from_slice(&text).with_context(|| format!("`{shown}` is damaged"))
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
