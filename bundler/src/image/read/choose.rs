//! Which image of several: by name, and for this machine.

use oci_spec::image::{Arch, Descriptor, ImageIndex, Os, Platform};

use crate::image::error::ImageError;

/// The name of an image in a layout (OCI annotations.md).
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The same, whole, where the other one is only the tag: of containerd and docker.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// Marks what buildkit says about an image.
const ATTESTATION: &str = "vnd.docker.reference.type";

/// What a descriptor of an index stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Manifest,
    Index,
    /// Something else, such as an artifact that refers to an image.
    Other,
}

/// Tells by its media type and marks what `descriptor` stands for.
pub(super) fn role(descriptor: &Descriptor) -> Role {
    let annotations = descriptor.annotations().as_ref();
    let marked = annotations.is_some_and(|all| all.contains_key(ATTESTATION));
    let referrers = name_of(descriptor).is_some_and(|name| is_referrers_tag(&name));
    if descriptor.artifact_type().is_some() || marked || referrers {
        return Role::Other;
    }
    match descriptor.media_type().as_ref() {
        "application/vnd.oci.image.manifest.v1+json"
        | "application/vnd.docker.distribution.manifest.v2+json" => Role::Manifest,
        "application/vnd.oci.image.index.v1+json"
        | "application/vnd.docker.distribution.manifest.list.v2+json" => Role::Index,
        _ => Role::Other,
    }
}

/// `sha256-` and digits: the tag under which registries without the referrers
/// API keep an image's referrers (OCI distribution-spec, "Referrers Tag Schema").
pub(super) fn is_referrers_tag(name: &str) -> bool {
    name.strip_prefix("sha256-").is_some_and(|digits| digits.len() == 64)
}

/// The name that an index has for `descriptor`.
pub(super) fn name_of(descriptor: &Descriptor) -> Option<String> {
    let annotations = descriptor.annotations().as_ref()?;
    annotations.get(REF_NAME).or_else(|| annotations.get(CONTAINERD_NAME)).cloned()
}

/// The images of `index` that `wanted` names, by name or digest; all images where
/// nothing is wanted, if they have one name between them.
pub(super) fn by_name<'a>(
    index: &'a ImageIndex,
    wanted: Option<&str>,
) -> Result<Vec<&'a Descriptor>, ImageError> {
    let images = || index.manifests().iter().filter(|found| role(found) != Role::Other);
    let mut known: Vec<String> = images().filter_map(name_of).collect();
    known.sort();
    known.dedup();
    let Some(wanted) = wanted else {
        return match known.len() {
            0 | 1 => Ok(images().collect()),
            _ => Err(ImageError::Ambiguous { known }),
        };
    };
    let is_it = |found: &&Descriptor| {
        let whole = found.annotations().as_ref().and_then(|all| all.get(CONTAINERD_NAME));
        found.digest().as_ref() == wanted
            || name_of(found).is_some_and(|name| name == wanted)
            || whole.is_some_and(|name| familiar(name) == familiar(wanted))
    };
    let found: Vec<_> = images().filter(is_it).collect();
    match found.is_empty() {
        true => Err(ImageError::Name { name: wanted.to_owned(), known }),
        false => Ok(found),
    }
}

/// A name as people write it: without docker's own registry, with a tag.
pub(super) fn familiar(name: &str) -> String {
    let short = name.strip_prefix("docker.io/").unwrap_or(name);
    let short = short.strip_prefix("library/").unwrap_or(short);
    let last = short.rsplit('/').next().unwrap_or(short);
    match last.contains([':', '@']) {
        true => short.to_owned(),
        false => format!("{short}:latest"),
    }
}

/// The one of `candidates` that is for this machine: the only one there is, or the
/// one whose platform fits and asks for the least.
pub(super) fn by_platform<'a>(candidates: &[&'a Descriptor]) -> Result<&'a Descriptor, ImageError> {
    if let [only] = candidates {
        return Ok(only);
    }
    let (arch, os) = (Arch::default(), Os::default());
    let fits = |platform: &Platform| *platform.architecture() == arch && *platform.os() == os;
    let fitting = candidates.iter().filter(|found| found.platform().as_ref().is_some_and(fits));
    let least = fitting.min_by_key(|found| {
        found.platform().as_ref().and_then(|platform| platform.variant().clone())
    });
    least.copied().ok_or_else(|| {
        let platforms = candidates.iter().filter_map(|found| found.platform().as_ref());
        let known = platforms.map(|p| format!("{}/{}", p.os(), p.architecture())).collect();
        match candidates.iter().any(|found| found.platform().is_some()) {
            true => ImageError::Platform { wanted: format!("{os}/{arch}"), known },
            false => {
                let known = candidates.iter().map(|found| found.digest().to_string()).collect();
                ImageError::Ambiguous { known }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(entries: &[(&str, &str)]) -> ImageIndex {
        let manifests: Vec<_> = entries
            .iter()
            .enumerate()
            .map(|(number, (name, arch))| {
                let mut entry = serde_json::json!({
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "digest": format!("sha256:{number:064}"), "size": 2,
                });
                if !name.is_empty() {
                    entry["annotations"] = serde_json::json!({ REF_NAME: name });
                }
                if !arch.is_empty() {
                    let (arch, variant) = arch.split_once('/').unwrap_or((arch, ""));
                    entry["platform"] = serde_json::json!({ "os": "linux", "architecture": arch });
                    if !variant.is_empty() {
                        entry["platform"]["variant"] = variant.into();
                    }
                }
                entry
            })
            .collect();
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": manifests });
        serde_json::from_value(index).unwrap()
    }

    fn here(variant: &str) -> String {
        format!("{}{variant}", Arch::default())
    }

    /// Chooses and says which entry it was, or why none.
    #[track_caller]
    fn check(entries: &[(&str, &str)], wanted: Option<&str>, expected: Result<usize, &str>) {
        let index = index(entries);
        let chosen = by_name(&index, wanted).and_then(|found| by_platform(&found));
        let number = |found: &Descriptor| found.digest().digest().parse::<usize>().unwrap();
        match (chosen.map(number), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(error), Err(says)) => assert!(error.to_string().contains(says), "{error}"),
            (found, expected) => panic!("{found:?}, not {expected:?}"),
        }
    }

    #[test]
    fn one_image_needs_no_name() {
        check(&[("web:1", "")], None, Ok(0));
        check(&[("", "s390x")], None, Ok(0));
        check(&[("a", ""), ("b", "")], None, Err("one must be named: `a`, `b`"));
        check(&[("a", ""), ("b", "")], Some("b"), Ok(1));
        check(&[("a", ""), ("b", "")], Some("c"), Err("no image `c` in it, but `a`, `b`"));
        let digest = format!("sha256:{:064}", 1);
        check(&[("a", ""), ("b", "")], Some(&digest), Ok(1));
        check(&[("", ""), ("", "")], None, Err("one must be named: `sha256:000"));
    }

    #[test]
    fn of_several_platforms_this_machine_s_is_chosen() {
        check(&[("", "s390x"), ("", &here(""))], None, Ok(1));
        check(&[("", &here("/v3")), ("", &here("/v2")), ("", &here(""))], None, Ok(2));
        check(&[("", "s390x"), ("", "riscv64")], None, Err("but `linux/s390x`, `linux/riscv64`"));
    }

    #[test]
    fn names_of_docker_are_told_in_any_of_their_forms() {
        assert_eq!(familiar("docker.io/library/debian"), "debian:latest");
        assert_eq!(familiar("localhost:5000/web"), "localhost:5000/web:latest");
        assert_eq!(familiar("docker.io/me/web:2"), "me/web:2");
    }
}
