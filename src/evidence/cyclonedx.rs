//! `sbom.cdx.json`: CycloneDX 1.6 (cyclonedx.org/docs/1.6/json).
//!
//! A package is a library with the kept files as its components; properties
//! `vz:…` say how much of it is there.

use std::collections::HashMap;

use bundler::{DiffId, Packages};
use serde::Serialize;

use super::census::Kept;
use super::files::Row;
use super::spdx::short;
use super::{Account, created, hex};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    bom_format: &'static str,
    components: Vec<Component>,
    metadata: Metadata<'a>,
    serial_number: String,
    spec_version: &'static str,
    version: u32,
}

#[derive(Serialize)]
struct Metadata<'a> {
    component: Named<'a>,
    timestamp: String,
    tools: Tools,
}

#[derive(Serialize)]
struct Tools {
    components: [Named<'static>; 1],
}

#[derive(Serialize)]
struct Named<'a> {
    #[serde(rename = "bom-ref", skip_serializing_if = "Option::is_none")]
    bom_ref: Option<&'static str>,
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    version: String,
}

#[derive(Default, Serialize)]
struct Component {
    #[serde(rename = "bom-ref")]
    bom_ref: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    components: Vec<Component>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<Hash>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<License>,
    name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Property>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purl: Option<String>,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
}

#[derive(Serialize)]
struct Hash {
    alg: &'static str,
    content: String,
}

#[derive(Serialize)]
struct License {
    license: LicenseName,
}

#[derive(Serialize)]
struct LicenseName {
    name: String,
}

#[derive(Serialize)]
struct Property {
    name: &'static str,
    value: String,
}

pub(super) fn document(account: Account<'_>) -> Document<'_> {
    let Account { subject, packages, census, rows } = account;
    // A file is a component of one package: the system's, where two have it.
    let mut of_package: HashMap<u32, Vec<Component>> = HashMap::new();
    let mut unowned = Vec::new();
    for row in rows {
        let Some(file) = file(row) else { continue };
        match row.owners.first() {
            Some(&owner) => of_package.entry(owner).or_default().push(file),
            None => unowned.push(file),
        }
    }
    let mut components: Vec<Component> = operating_system(packages).into_iter().collect();
    for (place, kept) in census.kept(packages) {
        let files = of_package.remove(&place).unwrap_or_default();
        components.push(library(packages.purl(kept.package), kept, files));
    }
    components.append(&mut unowned);
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let tool = Named { bom_ref: None, name: "vz", kind: "application", version };
    Document {
        schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
        bom_format: "CycloneDX",
        components,
        metadata: Metadata {
            component: Named {
                bom_ref: Some("bundle"),
                name: subject.name,
                kind: "container",
                version: subject.diff_id.to_string(),
            },
            timestamp: created::time(subject),
            tools: Tools { components: [tool] },
        },
        serial_number: serial_number(subject.diff_id),
        spec_version: "1.6",
        version: 1,
    }
}

fn operating_system(packages: &Packages) -> Option<Component> {
    let distro = packages.distro.as_ref()?;
    Some(Component {
        bom_ref: "operating-system".to_owned(),
        name: distro.id.clone(),
        kind: "operating-system",
        version: Some(distro.version.clone()).filter(|version| !version.is_empty()),
        ..Component::default()
    })
}

fn library(purl: String, kept: Kept<'_>, files: Vec<Component>) -> Component {
    let Kept { package, share, license } = kept;
    let property = |name, value: String| Property { name, value };
    let of_name = |name: &str| License { license: LicenseName { name: name.to_owned() } };
    let mut properties = vec![property("vz:declared", package.declared.to_string())];
    if let Some(program) = &package.inside {
        properties.push(property("vz:linked-into", program.to_string()));
    } else {
        let (kept, found) = (share.kept, share.found);
        properties.extend([
            property("vz:files", format!("{} of {}", kept.files, found.files)),
            property("vz:bytes", format!("{} of {}", kept.bytes, found.bytes)),
            property("vz:partial", share.is_partial().to_string()),
        ]);
    }
    // Two packages can have one URL.
    let unique = short(package.declared.as_bytes());
    Component {
        bom_ref: format!("{purl}#{unique}"),
        components: files,
        licenses: license.into_iter().map(of_name).collect(),
        name: package.name.clone(),
        properties,
        purl: Some(purl),
        kind: "library",
        version: Some(package.version.clone()),
        ..Component::default()
    }
}

fn file(row: &Row<'_>) -> Option<Component> {
    let digest = row.digest?;
    Some(Component {
        bom_ref: format!("file:{}", short(row.entry.path.as_bytes())),
        hashes: vec![
            Hash { alg: "SHA-1", content: hex(&digest.sha1) },
            Hash { alg: "SHA-256", content: hex(&digest.sha256) },
        ],
        name: row.entry.path.to_string(),
        kind: "file",
        ..Component::default()
    })
}

/// A UUID of version 8 (RFC 9562): the digest with the bits that say so.
fn serial_number(diff_id: DiffId) -> String {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(diff_id.as_bytes()) {
        *to = *from;
    }
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = hex(&bytes);
    let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default();
    format!(
        "urn:uuid:{}-{}-{}-{}-{}",
        part(0..8),
        part(8..12),
        part(12..16),
        part(16..20),
        part(20..32)
    )
}
