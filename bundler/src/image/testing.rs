//! Layers and layouts for tests.

use std::io::Write;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

use super::{ImageError, UnpackOptions, Unpacked, Unpacker};

/// A layer's tar in the making.
#[derive(Clone, Default)]
pub(crate) struct Tar(pub(crate) Vec<u8>);

impl Tar {
    /// Adds a member; names are taken as they are.
    pub(crate) fn member(mut self, kind: EntryType, name: &str, link: &str, data: &[u8]) -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(data.len() as u64);
        if let Some(ustar) = header.as_ustar_mut() {
            ustar.name[..name.len()].copy_from_slice(name.as_bytes());
            ustar.linkname[..link.len()].copy_from_slice(link.as_bytes());
        }
        self.push(header, data);
        self
    }

    /// Adds a header as it is, with the sum that it needs, and its data.
    pub(crate) fn push(&mut self, mut header: Header, data: &[u8]) {
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    pub(crate) fn file(self, name: &str, content: &str) -> Self {
        self.member(EntryType::Regular, name, "", content.as_bytes())
    }

    pub(crate) fn dir(self, name: &str) -> Self {
        self.member(EntryType::Directory, name, "", b"")
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.member(EntryType::Symlink, name, target, b"")
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        self.member(EntryType::Link, name, target, b"")
    }

    /// Changes the header that was added last, whose data is empty.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Header)) -> Self {
        let start = self.0.len() - 512;
        let mut header = Header::from_byte_slice(&self.0[start..]).clone();
        change(&mut header);
        self.0.truncate(start);
        self.push(header, b"");
        self
    }

    /// Adds a pax header for the next member.
    pub(crate) fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        let mut text = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = (rest..).find(|all| rest + all.to_string().len() == *all).unwrap();
            text.extend_from_slice(format!("{length} {key}=").as_bytes());
            text.extend_from_slice(value);
            text.push(b'\n');
        }
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_size(text.len() as u64);
        self.push(header, &text);
        self
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

/// Unpacks layers into `dir`.
pub(crate) fn unpack(dir: &Path, layers: Vec<Tar>) -> Result<Unpacked, ImageError> {
    let options = UnpackOptions::default();
    let mut unpacker = Unpacker::new(dir, &options)?;
    for layer in layers {
        unpacker.layer(layer.end().as_slice(), "sha256:x")?;
    }
    unpacker.finish()
}

/// What lies below `dir`, a line each: path, kind, content or target.
pub(crate) fn tree(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(at) = dirs.pop() {
        for entry in std::fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(dir).unwrap().display().to_string();
            let kind = std::fs::symlink_metadata(&path).unwrap().file_type();
            if kind.is_dir() {
                dirs.push(path);
                lines.push(format!("{name}/"));
            } else if kind.is_symlink() {
                let target = std::fs::read_link(&path).unwrap();
                lines.push(format!("{name} -> {}", target.display()));
            } else if kind.is_file() {
                let content = std::fs::read(&path).unwrap();
                lines.push(format!("{name} = {}", content.escape_ascii()));
            } else {
                lines.push(format!("{name} special"));
            }
        }
    }
    lines.sort();
    lines
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    let digits: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{digits}")
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An OCI layout in a directory, to be made right or wrong.
pub(crate) struct Layout {
    pub(crate) dir: tempfile::TempDir,
}

impl Layout {
    pub(crate) fn new() -> Self {
        let layout = Layout { dir: tempfile::tempdir().unwrap() };
        layout.write("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        layout
    }

    pub(crate) fn write(&self, name: &str, content: &[u8]) {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Writes a blob and returns its descriptor.
    pub(crate) fn blob(&self, media_type: &str, content: &[u8]) -> serde_json::Value {
        let digest = digest(content);
        self.write(&format!("blobs/sha256/{}", &digest[7..]), content);
        serde_json::json!({ "mediaType": media_type, "digest": digest, "size": content.len() })
    }

    /// Writes an image of these layers: media type, blob and the tar that is in it.
    pub(crate) fn image(&self, layers: &[(&str, Vec<u8>, Vec<u8>)]) -> serde_json::Value {
        let diff_ids: Vec<_> = layers.iter().map(|(_, _, tar)| digest(tar)).collect();
        let config = serde_json::json!({
            "architecture": oci_spec::image::Arch::default().to_string(), "os": "linux",
            "config": { "Cmd": ["/bin/sh"], "Healthcheck": { "Test": ["NONE"] } },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = config.to_string();
        let config = self.blob("application/vnd.oci.image.config.v1+json", config.as_bytes());
        let layers: Vec<_> = layers.iter().map(|(kind, blob, _)| self.blob(kind, blob)).collect();
        let manifest = serde_json::json!({
            "schemaVersion": 2, "config": config, "layers": layers,
            "annotations": { "who": "test" },
        });
        let kind = "application/vnd.oci.image.manifest.v1+json";
        self.blob(kind, manifest.to_string().as_bytes())
    }

    pub(crate) fn index(&self, manifests: &[serde_json::Value]) {
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": manifests });
        self.write("index.json", index.to_string().as_bytes());
    }
}
