//! Names of images, as registries and docker have them.

use std::fmt;
use std::str::FromStr;

/// `[REGISTRY/]NAME[:TAG]`; the tag is `latest` where none is given
/// (distribution's `reference` grammar).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageName {
    path: String,
    tag: String,
}

/// A text that names no image.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no name of an image")]
pub struct NameError(String);

impl ImageName {
    /// Whether it begins with a registry, so that it means the same to all tools:
    /// to docker `web` is `docker.io/library/web`, to podman `localhost/web`.
    pub fn has_registry(&self) -> bool {
        let first = self.path.split_once('/').map(|(first, _)| first);
        first.is_some_and(|first| first == "localhost" || first.contains(['.', ':']))
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path, self.tag)
    }
}

impl FromStr for ImageName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let error = || NameError(text.to_owned());
        // A colon before the last slash belongs to the registry's port.
        let (path, tag) = match text.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, tag),
            _ => (text, "latest"),
        };
        let name = ImageName { path: path.to_owned(), tag: tag.to_owned() };
        let parts: Vec<&str> = path.split('/').collect();
        let registry = usize::from(name.has_registry());
        let is_valid = parts.iter().take(registry).all(|part| is_host(part))
            && parts.iter().skip(registry).all(|part| is_component(part))
            && path.len() <= 255
            && is_tag(tag);
        if is_valid { Ok(name) } else { Err(error()) }
    }
}

fn is_host(text: &str) -> bool {
    let (host, port) = text.split_once(':').unwrap_or((text, "0"));
    let is_part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    host.split('.').all(is_part) && !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

/// Lower-case letters and digits, between them `.`, `_`, `__` or any number of `-`.
fn is_component(text: &str) -> bool {
    let is_word = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let separators = text.as_bytes().split(is_word).filter(|run| !run.is_empty());
    let is_separator =
        |run: &[u8]| matches!(run, b"." | b"_" | b"__") || run.iter().all(|&b| b == b'-');
    let ends = |b: Option<&u8>| b.is_some_and(is_word);
    ends(text.as_bytes().first())
        && ends(text.as_bytes().last())
        && separators.into_iter().all(is_separator)
}

fn is_tag(text: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.bytes().next().is_some_and(is_word)
        && text.len() <= 128
        && text.bytes().all(|b| is_word(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(&str, bool)>) {
        let found = text.parse::<ImageName>().ok();
        let found = found.map(|name| (name.to_string(), name.has_registry()));
        assert_eq!(found, expected.map(|(name, has)| (name.to_owned(), has)), "{text}");
    }

    #[test]
    fn a_name_may_have_a_registry_and_a_tag() {
        check("web", Some(("web:latest", false)));
        check("team/web:1.2-rc_1", Some(("team/web:1.2-rc_1", false)));
        check("localhost/web", Some(("localhost/web:latest", true)));
        check("reg.example:5000/a/b-c__d.e:V1", Some(("reg.example:5000/a/b-c__d.e:V1", true)));
        check("reg.example:5000/web", Some(("reg.example:5000/web:latest", true)));
    }

    #[test]
    fn what_registries_refuse_is_refused() {
        for text in ["", "Web", "web:", "web:-x", "a//b", "/web", "web/", "a___b", "-a", "we b"] {
            check(text, None);
        }
        check("web@sha256:00", None);
        check(&format!("web:{}", "t".repeat(129)), None);
    }
}
