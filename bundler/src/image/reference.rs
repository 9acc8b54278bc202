//! Names of images, as skopeo and podman write them.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::read::Archive;

/// Where an image or a root file system lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// `oci:DIR[:REF]`: an OCI image layout.
    OciLayout {
        /// The directory.
        dir: PathBuf,
        /// The image in it.
        name: Option<String>,
    },
    /// `oci-archive:FILE[:REF]`: a tar of an OCI image layout.
    OciArchive {
        /// The tar.
        file: PathBuf,
        /// The image in it.
        name: Option<String>,
    },
    /// `docker-archive:FILE[:REF]`: what `docker save` writes.
    DockerArchive {
        /// The tar.
        file: PathBuf,
        /// The image in it, as `name:tag`.
        name: Option<String>,
    },
    /// A directory that is a root file system or a bundle.
    Directory(PathBuf),
    /// An image in a store or registry that other programs know how to read.
    Foreign(Foreign),
}

/// The name of an image that skopeo, podman or docker can turn into an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// `containers-storage:NAME`: of podman, buildah and CRI-O.
    ContainersStorage(String),
    /// `docker-daemon:NAME`: of the docker daemon.
    DockerDaemon(String),
    /// `docker://NAME`: in a registry.
    Registry(String),
}

/// Why something does not name an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// A file or directory is missing after the transport.
    #[error("`{}` names no file or directory", lossy(.0))]
    Empty(OsString),
    /// A name of an image is no text.
    #[error("`{}` is no name of an image", lossy(.0))]
    Name(OsString),
    /// The file cannot be looked at.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is something else.
    #[error("`{}` is no image: {why}", path.display())]
    NotImage {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        why: String,
    },
}

fn lossy(text: &OsStr) -> String {
    text.as_bytes().escape_ascii().to_string()
}

impl Reference {
    /// Reads `text`: one of the forms above, or the path of a directory or of an
    /// archive, which is looked at to tell what it is. As in skopeo, the first
    /// colon after the transport begins REF.
    ///
    /// # Errors
    /// Where the text has none of the forms, or names something that is no image.
    pub fn parse(text: &OsStr) -> Result<Self, ReferenceError> {
        let bytes = text.as_bytes();
        let name = |rest: &[u8]| match String::from_utf8(rest.to_vec()) {
            Ok(name) if !name.is_empty() => Ok(name),
            _ => Err(ReferenceError::Name(text.to_owned())),
        };
        let split = |rest: &[u8]| {
            let (path, after) = match rest.iter().position(|&b| b == b':') {
                Some(colon) => {
                    let (path, after) = rest.split_at(colon);
                    (path, after.get(1..).filter(|after| !after.is_empty()))
                }
                None => (rest, None),
            };
            if path.is_empty() {
                return Err(ReferenceError::Empty(text.to_owned()));
            }
            Ok((PathBuf::from(OsString::from_vec(path.to_vec())), after.map(name).transpose()?))
        };
        if let Some(rest) = bytes.strip_prefix(b"oci:") {
            split(rest).map(|(dir, name)| Reference::OciLayout { dir, name })
        } else if let Some(rest) = bytes.strip_prefix(b"oci-archive:") {
            split(rest).map(|(file, name)| Reference::OciArchive { file, name })
        } else if let Some(rest) = bytes.strip_prefix(b"docker-archive:") {
            split(rest).map(|(file, name)| Reference::DockerArchive { file, name })
        } else if let Some(rest) = bytes.strip_prefix(b"containers-storage:") {
            name(rest).map(|name| Reference::Foreign(Foreign::ContainersStorage(name)))
        } else if let Some(rest) = bytes.strip_prefix(b"docker-daemon:") {
            name(rest).map(|name| Reference::Foreign(Foreign::DockerDaemon(name)))
        } else if let Some(rest) = bytes.strip_prefix(b"docker://") {
            name(rest).map(|name| Reference::Foreign(Foreign::Registry(name)))
        } else {
            Reference::look(Path::new(text))
        }
    }

    /// Tells by what lies at `path` what it is.
    fn look(path: &Path) -> Result<Self, ReferenceError> {
        let read = |source| ReferenceError::Read { path: path.to_owned(), source };
        let not_image =
            |why: &str| ReferenceError::NotImage { path: path.to_owned(), why: why.to_owned() };
        let meta = std::fs::metadata(path).map_err(read)?;
        if meta.is_dir() {
            let is_file = |name| path.join(name).is_file();
            let layout = is_file("oci-layout") && is_file("index.json");
            return Ok(match layout {
                true => Reference::OciLayout { dir: path.to_owned(), name: None },
                false => Reference::Directory(path.to_owned()),
            });
        }
        if !meta.is_file() {
            return Err(not_image("it is neither a directory nor a regular file"));
        }
        let archive = Archive::open(File::open(path).map_err(read)?).map_err(|why| {
            ReferenceError::NotImage { path: path.to_owned(), why: why.to_string() }
        })?;
        let file = path.to_owned();
        // Newer dockers write both; the OCI one has digests of everything.
        if archive.has(b"oci-layout") && archive.has(b"index.json") {
            Ok(Reference::OciArchive { file, name: None })
        } else if archive.has(b"manifest.json") {
            Ok(Reference::DockerArchive { file, name: None })
        } else {
            Err(not_image("it is a tar with neither index.json nor manifest.json in it"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &Reference) {
        assert_eq!(Reference::parse(OsStr::new(text)).unwrap(), *expected);
    }

    #[test]
    fn the_transports_are_those_of_skopeo() {
        let name = |name: &str| Some(name.to_owned());
        check("oci:/a/b", &Reference::OciLayout { dir: "/a/b".into(), name: None });
        let tagged = Reference::OciLayout { dir: "b".into(), name: name("web:1.2") };
        check("oci:b:web:1.2", &tagged);
        let archive = Reference::OciArchive { file: "x.tar".into(), name: name("latest") };
        check("oci-archive:x.tar:latest", &archive);
        let docker = Reference::DockerArchive { file: "x.tar".into(), name: name("a/b:c") };
        check("docker-archive:x.tar:a/b:c", &docker);
        let daemon = Foreign::DockerDaemon("web:1".into());
        check("docker-daemon:web:1", &Reference::Foreign(daemon));
        let registry = Foreign::Registry("docker.io/library/debian:12".into());
        check("docker://docker.io/library/debian:12", &Reference::Foreign(registry));
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for text in ["oci:", "oci::tag", "docker-archive:", "containers-storage:", "docker://"] {
            assert!(Reference::parse(OsStr::new(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn a_path_is_told_by_what_lies_there() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        check(dir.path().to_str().unwrap(), &Reference::Directory(dir.path().into()));
        std::fs::write(at("oci-layout"), "{}").unwrap();
        std::fs::write(at("index.json"), "{}").unwrap();
        let layout = Reference::OciLayout { dir: dir.path().into(), name: None };
        check(dir.path().to_str().unwrap(), &layout);
        for (name, member) in [("d.tar", "manifest.json"), ("n.tar", "other")] {
            let mut tar = tar::Builder::new(File::create(at(name)).unwrap());
            let mut header = tar::Header::new_gnu();
            header.set_size(2);
            tar.append_data(&mut header, member, &b"{}"[..]).unwrap();
            tar.finish().unwrap();
        }
        let docker = Reference::DockerArchive { file: at("d.tar"), name: None };
        check(at("d.tar").to_str().unwrap(), &docker);
        let says = |name: &str| Reference::parse(at(name).as_os_str()).unwrap_err().to_string();
        assert!(
            says("n.tar").contains("neither index.json nor manifest.json"),
            "{}",
            says("n.tar")
        );
        assert!(says("index.json").contains("no tar"), "{}", says("index.json"));
    }
}
