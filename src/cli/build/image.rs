//! The command line of `vzbuild image`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args as ArgGroup;

use super::{Program, Source};

/// `vzbuild image`
#[derive(ArgGroup, Debug, PartialEq)]
#[command(
    mut_arg("specs", |arg| arg.value_name("SPEC|BUNDLE").help(
        "Spec of `smith-strace` or written by hand, several unite, `-` reads standard input; or one bundle directory, as it lies there"
    )),
    after_help = "Examples:
  vzbuild image spec -o oci:images:web:1.2
  podman run oci:images:web:1.2
  vzbuild image bundle -o docker-archive:web.tar --ref web:1.2 --port 8080
  docker load -i web.tar
  vzbuild image spec -o oci-archive:web.tar --ref reg.example/web --compression zstd
  vzbuild image spec -o oci:images:web --base-layer python.spec

The same specs and files give the same digests, on any machine. Times are
SOURCE_DATE_EPOCH, else those of the newest file. In an oci: directory that exists,
the image of the same name is replaced and others stay. Directories that the traced
run wrote in are there with their owners and modes; what is written in them ends with
the container unless --volume names them.

--base-layer makes two layers: first the whole of that spec or bundle, byte for byte
the same in every image on it, so that registries and nodes store it once; then what
this image has beyond it. The layers of an image as base stay as they are. The image then
also has what only the base has, which is said, and is in no evidence.

The evidence (what is in it and why, SBOMs, the traced run) goes along: in oci:
directories as artifacts that refer to the image, in archives as files (`tar -xf WHERE
evidence`). Registries, podman and docker keep the image alone. syft takes layouts of
one manifest only: give it an archive.
Health checks: podman and docker read them from docker's archives only."
)]
pub struct Image {
    #[command(flatten)]
    #[expect(missing_docs, reason = "its fields have the help")]
    pub source: Source,
    /// Where the image goes: oci:DIR[:REF], oci-archive:FILE[:REF] or docker-archive:FILE[:NAME]
    #[arg(short, long, value_name = "WHERE")]
    pub output: OsString,
    /// Name of the image
    #[arg(long = "ref", value_name = "NAME[:TAG]")]
    pub name: Option<String>,
    /// How layers are compressed
    #[arg(long, value_name = "HOW", default_value = "gzip")]
    pub compression: Compression,
    /// Spec or bundle whose files make a layer of their own, shared by all images on it; or an image (oci:DIR[:REF], oci-archive:FILE, …) whose layers are taken over
    #[arg(long, value_name = "SPEC|BUNDLE|IMAGE")]
    pub base_layer: Option<PathBuf>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "its fields have the help")]
    pub program: Program,
    /// Label of the image
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub label: Vec<String>,
    /// Port that the command listens on, beside those of the traced run
    #[arg(short, long, value_name = "PORT[/udp]")]
    pub port: Vec<String>,
    /// Directory whose content outlives a container
    #[arg(long, value_name = "PATH")]
    pub volume: Vec<OsString>,
    /// Signal that asks the command to end, such as SIGQUIT
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Command that tells whether the container is well: for /bin/sh, or a JSON list of words; `none` for no check
    #[arg(long, value_name = "CMD")]
    pub healthcheck: Option<String>,
    /// Leave out what scanners such as trivy, grype and syft need to name the packages of the files; a bundle stays as it is
    #[arg(long)]
    pub no_scanner_files: bool,
    /// Do not wait until the image is on the disk
    #[arg(long)]
    pub no_sync: bool,
    /// Print a summary as JSON
    #[arg(long)]
    pub json: bool,
}

impl Image {
    /// What the command line `vzbuild image SPEC|BUNDLE -o OUTPUT` says.
    pub fn of(source: Source, output: &std::ffi::OsStr) -> Self {
        Image {
            source,
            output: output.to_owned(),
            name: None,
            compression: Compression::Gzip,
            base_layer: None,
            program: Program::default(),
            label: Vec::new(),
            port: Vec::new(),
            volume: Vec::new(),
            stop_signal: None,
            healthcheck: None,
            no_scanner_files: false,
            no_sync: false,
            json: false,
        }
    }
}

/// How the layers of an image are compressed.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Smaller and faster; read by tools since about 2021
    Zstd,
    /// Read by everything
    Gzip,
    /// Not at all
    None,
}
