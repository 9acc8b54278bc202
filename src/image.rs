//! Names of images as users write them, and the programs that fetch those which
//! are kept in a store or registry of another program.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, anyhow};
use bundler::image::{Foreign, Image, ImageName, Reference, ReferenceError};
use tempfile::TempDir;

use crate::process;
use crate::report::Advice;

/// An image that was opened. Where another program had to fetch it, the archive
/// that it was written to lies in a temporary directory until this is dropped.
#[derive(Debug)]
pub struct Opened {
    /// The image.
    pub image: Image,
    _archive: Option<TempDir>,
}

/// What a name stands for.
#[derive(Debug)]
pub enum Source {
    /// A directory that is a root file system or a bundle.
    Directory(PathBuf),
    /// An image.
    Image(Box<Opened>),
}

/// Opens what `name` stands for: a directory, a layout, an archive, or an image
/// that skopeo, podman or docker fetches into a temporary archive first.
///
/// # Errors
/// Where the name has no known form, where there is no such image, or where no
/// program is installed that could fetch it; when `stop` was set meanwhile.
pub fn open(name: &OsStr, stop: &AtomicBool) -> anyhow::Result<Source> {
    let shown = name.to_string_lossy().into_owned();
    let cannot = || format!("cannot open the image `{shown}`");
    let reference = Reference::parse(name).map_err(|error| match error {
        ReferenceError::Read { source, .. } if is_like_a_name(&shown, &source) => anyhow!(
            "there is no file or directory `{shown}`; an image is containers-storage:{shown} in \
             podman's store, docker-daemon:{shown} in docker's, docker://{shown} in a registry"
        ),
        other => other.into(),
    });
    let opened = match reference? {
        Reference::Directory(dir) => return Ok(Source::Directory(dir)),
        Reference::Foreign(foreign) => fetch(&foreign, stop).with_context(cannot)?,
        local => Opened { image: Image::open(&local).with_context(cannot)?, _archive: None },
    };
    Ok(Source::Image(Box::new(opened)))
}

/// Whether the name of nothing here could be one of a store or a registry.
fn is_like_a_name(name: &str, error: &std::io::Error) -> bool {
    let is_path = name.starts_with(['/', '.']) || name.ends_with(".tar") || name.ends_with('/');
    error.kind() == std::io::ErrorKind::NotFound && !is_path && name.parse::<ImageName>().is_ok()
}

/// Has another program write the image to an archive, and opens that.
fn fetch(foreign: &Foreign, stop: &AtomicBool) -> anyhow::Result<Opened> {
    let dir = tempfile::Builder::new().prefix("vz-image-").tempdir()?;
    let file = dir.path().join("image.tar");
    let installed = |program: &str| process::find(program).is_some();
    let words = words(foreign, &file, installed).ok_or_else(|| {
        let names = programs(foreign).join(", ");
        anyhow!("it takes one of these programs to read it, and none is installed: {names}")
    });
    let words = words.hint("install one, or save the image as an archive and name that")?;
    let (program, args) = words.split_first().context("no program")?;
    let mut command = process::command(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null());
    let ran = process::run_unless(&mut command, stop);
    ran.with_context(|| format!("`{}` cannot fetch it", program.display()))?;
    let reference = Reference::parse(file.as_os_str())?;
    Ok(Opened { image: Image::open(&reference)?, _archive: Some(dir) })
}

/// Which programs can read such an image, the best one first.
fn programs(foreign: &Foreign) -> &'static [&'static str] {
    match foreign {
        Foreign::ContainersStorage(_) => &["skopeo", "podman", "buildah"],
        Foreign::DockerDaemon(_) => &["docker", "skopeo"],
        // Podman would keep it in its own storage.
        Foreign::Registry(_) => &["skopeo"],
    }
}

/// The command line that writes the image to `file`, by the first program that is
/// `installed`. Layers stay as they are, but for docker's daemon, which has none.
fn words(
    foreign: &Foreign,
    file: &Path,
    installed: impl Fn(&str) -> bool,
) -> Option<Vec<OsString>> {
    let program = programs(foreign).iter().find(|program| installed(program))?;
    let to = |transport: &str| {
        let mut to = OsString::from(transport);
        to.push(file);
        to
    };
    let (name, from, archive) = match foreign {
        Foreign::ContainersStorage(name) => (name, "containers-storage:", "oci-archive:"),
        Foreign::DockerDaemon(name) => (name, "docker-daemon:", "docker-archive:"),
        Foreign::Registry(name) => (name, "docker://", "oci-archive:"),
    };
    let mut words = vec![OsString::from(program)];
    let fixed: &[&str] = match *program {
        "skopeo" => &["copy", "--quiet"],
        "podman" => &["save", "--quiet", "--format=oci-archive", "--output"],
        "buildah" => &["push", "--quiet"],
        _ => &["save", "--output"],
    };
    words.extend(fixed.iter().map(OsString::from));
    match *program {
        "skopeo" => words.extend([format!("{from}{name}").into(), to(archive)]),
        "buildah" => words.extend(["--".into(), name.into(), to(archive)]),
        // A name that begins with a dash must not become an option.
        _ => words.extend([to(""), "--".into(), name.into()]),
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(foreign: &Foreign, installed: &[&str], expected: &str) {
        let words = words(foreign, Path::new("/t/i.tar"), |program| installed.contains(&program));
        let words = words.unwrap_or_default();
        assert_eq!(words.join(OsStr::new(" ")), expected);
    }

    #[test]
    fn the_best_program_that_is_installed_fetches() {
        let all = ["skopeo", "podman", "buildah", "docker"];
        let stored = Foreign::ContainersStorage("web:1".into());
        check(&stored, &all, "skopeo copy --quiet containers-storage:web:1 oci-archive:/t/i.tar");
        check(
            &stored,
            &all[1..],
            "podman save --quiet --format=oci-archive --output /t/i.tar -- web:1",
        );
        check(&stored, &all[2..], "buildah push --quiet -- web:1 oci-archive:/t/i.tar");
        let daemon = Foreign::DockerDaemon("-web".into());
        check(&daemon, &all, "docker save --output /t/i.tar -- -web");
        check(&daemon, &all[..1], "skopeo copy --quiet docker-daemon:-web docker-archive:/t/i.tar");
        let registry = Foreign::Registry("debian:12".into());
        check(&registry, &all, "skopeo copy --quiet docker://debian:12 oci-archive:/t/i.tar");
        check(&registry, &all[1..], "");
    }
}
