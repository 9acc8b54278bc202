//! What was written, in a few lines or as JSON.

use std::path::{Path, PathBuf};

use bundler::layer::Node;
use bundler::{Assembled, Container, Layer, Lost, RootPath};
use indicatif::HumanBytes;
use serde_json::json;

use super::private::Private;
use crate::cli::build::Bundle;
use crate::report;

/// A bundle, or a layer's tar, that is done.
pub(super) struct Summary<'a> {
    pub(super) args: &'a Bundle,
    /// Where the bundle is; nothing for a tar.
    pub(super) place: Option<PathBuf>,
    pub(super) layer: &'a Layer,
    pub(super) assembled: &'a Assembled,
    /// Files that look like secrets.
    pub(super) private: &'a [Private],
    /// Directories whose content ends with the program.
    pub(super) lost: &'a [RootPath],
    pub(super) container: &'a Container,
}

impl Summary<'_> {
    /// Prints it: lines to standard error, JSON to standard output.
    pub(super) fn report(&self) -> anyhow::Result<()> {
        if self.args.json {
            return report::json(&self.json());
        }
        self.say_unkept();
        if self.place.is_some() && !self.lost.is_empty() {
            let list = self.lost.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            report::say(
                "vzbuild",
                format_args!(
                    "what it writes to {list} is lost when it stops; --volume HOST:PATH keeps it"
                ),
            );
        }
        let (files, size) = (report::count(self.files(), "file"), HumanBytes(self.layer.bytes()));
        let id = self.assembled.diff_id;
        match &self.place {
            Some(_) => {
                let dir = shell_word(&self.args.output);
                let how = format!("run it with `vzbuild run {dir}`");
                report::say("vzbuild", format_args!("{dir}: {files}, {size}, {id}; {how}"));
            }
            None => report::say("vzbuild", format_args!("layer: {files}, {size}, {id}")),
        }
        Ok(())
    }

    /// Everything but directories.
    pub(super) fn files(&self) -> usize {
        self.layer.entries.iter().filter(|entry| entry.node != Node::Directory).count()
    }

    fn say_unkept(&self) {
        let unkept = &self.assembled.unkept;
        if unkept.is_empty() {
            return;
        }
        let count = |is: fn(&Lost) -> bool| unkept.iter().filter(|lost| is(&lost.what)).count();
        let mut kinds = Vec::new();
        for (what, count) in [
            ("the owners of", count(|lost| *lost == Lost::Owner)),
            ("the setuid bits of", count(|lost| *lost == Lost::SetIds)),
            ("attributes of", count(|lost| matches!(lost, Lost::Xattr(_)))),
            ("the device nodes", count(|lost| *lost == Lost::Device)),
        ] {
            if count > 0 {
                kinds.push(format!("{what} {}", report::count(count, "file")));
            }
        }
        report::say(
            "vzbuild",
            format_args!(
                "not root, so the tree does not have {} (the layer and its digest do; --json lists them)",
                kinds.join(", ")
            ),
        );
    }

    fn json(&self) -> serde_json::Value {
        let path = |path: &RootPath| path.to_string();
        let unkept = self.assembled.unkept.iter().map(|unkept| {
            let what = match &unkept.what {
                Lost::Owner => "owner".to_owned(),
                Lost::SetIds => "setuid".to_owned(),
                Lost::Device => "device".to_owned(),
                Lost::Xattr(name) => format!("xattr {}", name.escape_ascii()),
            };
            json!({ "path": path(&unkept.path), "what": what })
        });
        let left_out = self
            .layer
            .left_out
            .iter()
            .map(|left| json!({ "path": path(&left.path), "why": left.why }));
        let secrets = self.private.iter();
        let secrets = secrets.map(|file| json!({ "path": path(&file.path), "what": file.what }));
        json!({
            "bundle": self.place.as_deref().map(Path::to_string_lossy),
            "tar": self.args.tar.as_deref().map(Path::to_string_lossy),
            "diffId": self.assembled.diff_id.to_string(),
            "files": self.files(),
            "bytes": self.layer.bytes(),
            "tarBytes": self.assembled.tar_bytes,
            "args": self.container.args,
            "lostAtStop": self.lost.iter().map(path).collect::<Vec<_>>(),
            "secrets": secrets.collect::<Vec<_>>(),
            "leftOut": left_out.collect::<Vec<_>>(),
            "unreadable": self.layer.unreadable.iter().map(path).collect::<Vec<_>>(),
            "unkept": unkept.collect::<Vec<_>>(),
        })
    }
}

/// The path as one word of a shell, so that the line can be copied.
pub(in crate::command) fn shell_word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}
