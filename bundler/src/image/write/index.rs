//! The index of a layout (image-spec, `image-index.md`), added to without losing
//! what it has.

use std::collections::BTreeSet;

use oci_spec::image::{ANNOTATION_REF_NAME, Descriptor};
use serde::de::Error;
use serde_json::{Value, json};

use crate::image::config::canonical;

/// An index without images.
pub(super) fn new() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [],
    })
}

/// Reads an index.
pub(super) fn parse(text: &[u8]) -> serde_json::Result<Value> {
    let index: Value = serde_json::from_slice(text)?;
    if index.get("manifests").is_some_and(Value::is_array) {
        return Ok(index);
    }
    Err(serde_json::Error::custom("it has no list of manifests"))
}

/// Takes out what the image called `reference` replaces: the one of that name, or,
/// where it has none, the one without a name; and what refers to that alone.
/// `subject` finds the digest that an artifact's manifest refers to.
pub(super) fn make_room(
    index: &mut Value,
    reference: Option<&str>,
    subject: impl Fn(&str) -> Option<String>,
) {
    let Some(manifests) = index.get_mut("manifests").and_then(Value::as_array_mut) else { return };
    let mut gone = BTreeSet::new();
    manifests.retain(|entry| {
        let stays = is_artifact(entry) || name(entry) != reference;
        if !stays {
            gone.extend(digest(entry).map(str::to_owned));
        }
        stays
    });
    for entry in manifests.iter().filter(|entry| !is_artifact(entry)) {
        if let Some(digest) = digest(entry) {
            gone.remove(digest);
        }
    }
    let refers = |entry: &Value| {
        let subject = digest(entry).and_then(&subject);
        subject.is_some_and(|subject| gone.contains(&subject))
    };
    manifests.retain(|entry| !(is_artifact(entry) && refers(entry)));
}

/// Returns the bytes of `index` with `entries` at its end.
pub(super) fn print(index: &Value, entries: &[Descriptor]) -> serde_json::Result<Vec<u8>> {
    let mut index = index.clone();
    if let Some(manifests) = index.get_mut("manifests").and_then(Value::as_array_mut) {
        for entry in entries {
            let entry = serde_json::to_value(entry)?;
            // An artifact of another name's equal image.
            manifests.retain(|old| !(is_artifact(old) && digest(old) == digest(&entry)));
            manifests.push(entry);
        }
    }
    canonical(&index)
}

/// Not `artifactType` alone: older tools write none into the index.
fn is_artifact(entry: &Value) -> bool {
    entry.get("artifactType").is_some()
}

fn name(entry: &Value) -> Option<&str> {
    entry.get("annotations")?.get(ANNOTATION_REF_NAME)?.as_str()
}

fn digest(entry: &Value) -> Option<&str> {
    entry.get("digest")?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(digest: &str, name: Option<&str>) -> Value {
        match name {
            Some(name) => json!({ "digest": digest, "annotations": { ANNOTATION_REF_NAME: name } }),
            None => json!({ "digest": digest }),
        }
    }

    fn check(reference: Option<&str>, expected: &str) {
        let sbom_of = |digest: &str| json!({ "digest": digest, "artifactType": "sbom" });
        let mut index = new();
        index["extra"] = json!(1);
        index["manifests"] = json!([
            image("a", Some("one")),
            image("b", Some("two")),
            image("b", Some("again")),
            image("c", None),
            sbom_of("sbom-a"),
            sbom_of("sbom-b"),
            sbom_of("sbom-c"),
        ]);
        make_room(&mut index, reference, |d| d.strip_prefix("sbom-").map(str::to_owned));
        let kept = index["manifests"].as_array().unwrap().iter().map(|e| e["digest"].as_str());
        assert_eq!(kept.map(Option::unwrap).collect::<Vec<_>>().join(" "), expected);
        assert_eq!(index["extra"], 1);
    }

    #[test]
    fn a_name_has_one_image_and_its_artifacts_go_with_it() {
        check(Some("one"), "b b c sbom-b sbom-c");
        check(Some("two"), "a b c sbom-a sbom-b sbom-c");
        check(None, "a b b sbom-a sbom-b");
        check(Some("new"), "a b b c sbom-a sbom-b sbom-c");
    }

    #[test]
    fn what_is_no_index_is_refused() {
        for text in ["", "[]", "{}", r#"{"manifests":7}"#] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
