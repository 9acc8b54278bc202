//! What is pushed: a bundle as it lies there, or an image, of which one is made.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use bundler::Rootfs;
use bundler::image::{Foreign, Reference};
use bundler::staging::Staging;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::command::settings;
use crate::command::verify::temporary_directory;
use crate::image::{self, Source};
use crate::interrupt;
use crate::push::bundle::Bundle;
use crate::report::Advice;

/// What of this machine's a node has as well, and a container cannot do without.
const OF_EVERY_MACHINE: [&str; 2] = ["/etc/hosts", "/etc/resolv.conf"];

/// A bundle, and where it lies if it was made for the push.
pub(super) struct Pushed {
    pub(super) bundle: Bundle,
    /// The name that it gets on nodes unless another is asked for.
    pub(super) name: Option<String>,
    _unpacked: Option<Staging>,
}

/// Opens the bundle `source`, or unpacks the image of that name into a temporary
/// directory, which goes when this is dropped and when a signal ends the program.
///
/// # Errors
/// What is neither, or cannot be read; no room for the image.
pub(super) fn open(source: &Path) -> anyhow::Result<Pushed> {
    let is_image = source.as_os_str().as_encoded_bytes().contains(&b':') || source.is_file();
    if !is_image || source.is_dir() {
        let bundle = Bundle::open(source)?;
        return Ok(Pushed { name: bundle.name(), bundle, _unpacked: None });
    }
    let opened = image::open(source.as_os_str(), &*interrupt::flag()?).hint(
        "give a bundle directory, with config.json and rootfs/, or an image: oci:DIR[:REF], \
         oci-archive:FILE, docker-archive:FILE, containers-storage:NAME",
    )?;
    match opened {
        Source::Directory(dir) => open(&dir),
        Source::Image(opened) => {
            let work = temporary_directory("vz-push")?;
            remove_on_signals(work.dir().to_owned())?;
            let bundle = unpack(&opened.image, &source.to_string_lossy(), work.dir())?;
            let name = name(&Reference::parse(source.as_os_str())?);
            Ok(Pushed { bundle, name, _unpacked: Some(work) })
        }
    }
}

/// Makes the bundle in `dir` that does as docker would with the image.
fn unpack(image: &bundler::image::Image, name: &str, dir: &Path) -> anyhow::Result<Bundle> {
    let root = dir.join("rootfs");
    fs::DirBuilder::new().mode(0o755).create(&root).context("cannot make a directory")?;
    let never = AtomicBool::new(false);
    let (settings, _) = settings::unpack(image, &root, ("vzpush", name), &never)?;
    let rootfs = Rootfs::open(&root).context("cannot open the unpacked image")?;
    let mut container = settings.container(None, &[], &rootfs)?;
    container.args = settings.command(&[]);
    container.binds.retain(|bind| OF_EVERY_MACHINE.contains(&bind.destination.as_str()));
    let config = bundler::config::print(&container.spec()).context("cannot write config.json")?;
    fs::write(dir.join("config.json"), config).context("cannot write config.json")?;
    Bundle::open(dir)
}

/// Removes `dir` before a signal ends the program, which it may do at any moment: nodes
/// are never left with half a push.
fn remove_on_signals(dir: PathBuf) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot wait for signals")?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            let _ = fs::remove_dir_all(&dir);
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
    });
    Ok(())
}

/// The last part of an image's name without its tag, or what its file is called.
fn name(reference: &Reference) -> Option<String> {
    let of_name = |name: &str| {
        let last = name.rsplit('/').next()?.split([':', '@']).next()?;
        (!last.is_empty()).then(|| last.to_owned())
    };
    let of_path = |path: &Path| {
        let path = path.canonicalize().ok()?;
        Some(path.file_name()?.to_str()?.split('.').next()?.to_owned())
    };
    match reference {
        Reference::OciLayout { dir: path, name }
        | Reference::OciArchive { file: path, name }
        | Reference::DockerArchive { file: path, name } => {
            // As `latest`, a name may be but a tag.
            let has_both = |name: &&String| name.contains([':', '/']);
            name.as_ref().filter(has_both).and_then(|name| of_name(name)).or_else(|| of_path(path))
        }
        Reference::Foreign(
            Foreign::ContainersStorage(name)
            | Foreign::DockerDaemon(name)
            | Foreign::Registry(name),
        ) => of_name(name),
        Reference::Directory(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_called_as_its_name_without_registry_and_tag() {
        let check = |text: &str, expected: &str| {
            let reference = Reference::parse(text.as_ref()).unwrap();
            assert_eq!(name(&reference).as_deref(), Some(expected), "{text}");
        };
        check("containers-storage:localhost/team/web:1.2", "web");
        check("docker://registry:5000/web@sha256:00", "web");
        check("docker-archive:/no/such.tar:app:2", "app");
        check("oci:/usr/bin:latest", "bin");
        check("oci:/usr/bin:site:latest", "site");
    }
}
