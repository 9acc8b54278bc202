//! Where an image goes, in the words that skopeo and podman use.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// A place for an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// `oci:DIR[:REF]`: an OCI image layout, which may hold other images.
    Layout(PathBuf, Option<String>),
    /// `oci-archive:FILE[:REF]`: a tar of an OCI image layout of its own.
    OciArchive(PathBuf, Option<String>),
    /// `docker-archive:FILE[:NAME[:TAG]]`: what `docker save` writes.
    DockerArchive(PathBuf, Option<String>),
}

/// A text that names no place for an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DestinationError {
    /// It begins with none of the known words.
    #[error("`{}` is none of oci:DIR, oci-archive:FILE, docker-archive:FILE", .0.display())]
    Transport(OsString),
    /// There is no path in it.
    #[error("`{}` names no file", .0.display())]
    Path(OsString),
    /// The reference has other letters than image-spec's `annotations.md` allows.
    #[error("`{0}` is no reference: letters and digits, between them one of -._:@+/")]
    Reference(String),
}

impl Destination {
    /// Reads a destination; as with skopeo, the path ends at its first colon.
    ///
    /// # Errors
    /// When it has not one of the three forms.
    pub fn parse(text: &OsStr) -> Result<Self, DestinationError> {
        let (transport, rest) = split(text.as_bytes());
        let (path, reference) = split(rest.unwrap_or_default());
        let make = match transport {
            b"oci" => Destination::Layout,
            b"oci-archive" => Destination::OciArchive,
            b"docker-archive" => Destination::DockerArchive,
            _ => return Err(DestinationError::Transport(text.to_owned())),
        };
        if path.is_empty() {
            return Err(DestinationError::Path(text.to_owned()));
        }
        let reference = reference.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        if let Some(bad) = reference.as_ref().filter(|reference| !is_reference(reference)) {
            return Err(DestinationError::Reference(bad.clone()));
        }
        Ok(make(OsString::from_vec(path.to_vec()).into(), reference))
    }
}

fn split(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut parts = text.splitn(2, |&b| b == b':');
    (parts.next().unwrap_or_default(), parts.next())
}

fn is_reference(text: &str) -> bool {
    let mut runs = text.split(|c: char| c.is_ascii_alphanumeric()).filter(|run| !run.is_empty());
    let ends = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    let is_separator = |run: &str| run == "--" || run.len() == 1 && "-._:@+/".contains(run);
    ends(text.bytes().next()) && ends(text.bytes().last()) && runs.all(is_separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Destination, String> {
        Destination::parse(OsStr::new(text)).map_err(|e| e.to_string())
    }

    #[test]
    fn a_reference_follows_the_first_colon_of_the_path() {
        assert_eq!(parse("oci:out"), Ok(Destination::Layout("out".into(), None)));
        let named = Some("reg.example/web:1.2".to_owned());
        assert_eq!(
            parse("oci:/srv/x:reg.example/web:1.2"),
            Ok(Destination::Layout("/srv/x".into(), named))
        );
        let archive = Destination::DockerArchive("a.tar".into(), Some("web".to_owned()));
        assert_eq!(parse("docker-archive:a.tar:web"), Ok(archive));
        assert_eq!(parse("oci-archive:x"), Ok(Destination::OciArchive("x".into(), None)));
    }

    #[test]
    fn other_forms_are_refused() {
        let said = "`out` is none of oci:DIR, oci-archive:FILE, docker-archive:FILE";
        assert_eq!(parse("out"), Err(said.to_owned()));
        assert_eq!(parse("oci:"), Err("`oci:` names no file".to_owned()));
        for bad in ["oci:a:", "oci:a:x y", "oci:a:x..y", "oci:a:-x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
