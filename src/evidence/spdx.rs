//! `sbom.spdx.json`: SPDX 2.3 (spdx.github.io/spdx-spec/v2.3), JSON.
//!
//! Every package of which a file is kept is a package with those files
//! (`filesAnalyzed`), marked as partly present where the root has more of it.

use std::collections::HashMap;

use bundler::Package as Installed;
use serde::Serialize;
use sha1::{Digest, Sha1};

use super::census::Kept;
use super::files::Row;
use super::{Account, Subject, created, hex};

const DOCUMENT: &str = "SPDXRef-DOCUMENT";
const BUNDLE: &str = "SPDXRef-Bundle";
const NO_ASSERTION: &str = "NOASSERTION";
const TOOL: &str = concat!("Tool: vz-", env!("CARGO_PKG_VERSION"));

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document<'a> {
    #[serde(rename = "SPDXID")]
    id: &'static str,
    creation_info: CreationInfo,
    data_license: &'static str,
    document_namespace: String,
    files: Vec<File>,
    name: &'a str,
    packages: Vec<Package>,
    relationships: Vec<Relationship>,
    spdx_version: &'static str,
}

#[derive(Serialize)]
struct CreationInfo {
    created: String,
    creators: [&'static str; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(rename = "SPDXID")]
    id: String,
    checksums: [Checksum; 2],
    copyright_text: &'static str,
    file_name: String,
    license_concluded: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checksum {
    algorithm: &'static str,
    checksum_value: String,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Package {
    #[serde(rename = "SPDXID")]
    id: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    annotations: Vec<Annotation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    copyright_text: &'static str,
    download_location: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_refs: Vec<ExternalRef>,
    files_analyzed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    license_comments: Option<String>,
    license_concluded: &'static str,
    license_declared: &'static str,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    package_verification_code: Option<VerificationCode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    primary_package_purpose: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_info: Option<String>,
    version_info: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Annotation {
    annotation_date: String,
    annotation_type: &'static str,
    annotator: &'static str,
    comment: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExternalRef {
    reference_category: &'static str,
    reference_locator: String,
    reference_type: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VerificationCode {
    package_verification_code_value: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Relationship {
    related_spdx_element: String,
    relationship_type: &'static str,
    spdx_element_id: String,
}

pub(super) fn document(account: Account<'_>) -> Document<'_> {
    let Account { subject, packages, census, rows } = account;
    let created = created::time(subject);
    let id = hex(subject.diff_id.as_bytes());
    let mut of_package: HashMap<u32, Vec<&Row<'_>>> = HashMap::new();
    let mut files = Vec::new();
    let mut relationships = vec![relationship(DOCUMENT, "DESCRIBES", BUNDLE)];
    let mut unowned = Vec::new();
    let mut linked = Vec::new();
    for row in rows.iter().filter(|row| row.digest.is_some()) {
        let file = file_id(row);
        if row.owners.is_empty() {
            unowned.push(relationship(BUNDLE, "CONTAINS", &file));
        }
        for &owner in &row.owners {
            of_package.entry(owner).or_default().push(row);
        }
        for &module in packages.inside(&row.entry.path) {
            if let Some(package) = packages.get(module) {
                let package = package_id(&packages.purl(package), package);
                linked.push(relationship(&file, "STATIC_LINK", &package));
            }
        }
        files.extend(describe(row, file));
    }
    let mut list = vec![bundle(subject, rows, &id)];
    for (place, kept) in census.kept(packages) {
        let package = kept.package;
        let purl = packages.purl(package);
        let files = of_package.remove(&place).unwrap_or_default();
        let this = package_id(&purl, package);
        relationships.push(relationship(BUNDLE, "CONTAINS", &this));
        relationships
            .extend(files.iter().map(|row| relationship(&this, "CONTAINS", &file_id(row))));
        list.push(installed(this, purl, kept, &files, &created));
    }
    relationships.append(&mut unowned);
    relationships.append(&mut linked);
    Document {
        id: DOCUMENT,
        creation_info: CreationInfo { created, creators: [TOOL] },
        data_license: "CC0-1.0",
        document_namespace: format!("https://spdx.org/spdxdocs/vz-{id}"),
        files,
        name: subject.name,
        packages: list,
        relationships,
        spdx_version: "SPDX-2.3",
    }
}

/// The bundle itself, which has all files.
fn bundle(subject: &Subject<'_>, rows: &[Row<'_>], id: &str) -> Package {
    let rows: Vec<&Row<'_>> = rows.iter().filter(|row| row.digest.is_some()).collect();
    Package {
        id: BUNDLE.to_owned(),
        copyright_text: NO_ASSERTION,
        download_location: NO_ASSERTION,
        files_analyzed: true,
        license_concluded: NO_ASSERTION,
        license_declared: NO_ASSERTION,
        name: subject.name.to_owned(),
        package_verification_code: verification_code(&rows),
        primary_package_purpose: Some("CONTAINER"),
        version_info: format!("sha256:{id}"),
        ..Package::default()
    }
}

fn installed(
    id: String,
    purl: String,
    Kept { package, share, license }: Kept<'_>,
    files: &[&Row<'_>],
    created: &str,
) -> Package {
    let partial = share.is_partial().then(|| {
        let (kept, found) = (share.kept, share.found);
        format!(
            "partly present: {} of {} files, {} of {} bytes",
            kept.files, found.files, kept.bytes, found.bytes
        )
    });
    let annotation = |comment: &String| Annotation {
        annotation_date: created.to_owned(),
        annotation_type: "OTHER",
        annotator: TOOL,
        comment: comment.clone(),
    };
    Package {
        id,
        annotations: partial.iter().map(annotation).collect(),
        comment: partial,
        copyright_text: NO_ASSERTION,
        download_location: NO_ASSERTION,
        external_refs: vec![ExternalRef {
            reference_category: "PACKAGE-MANAGER",
            reference_locator: purl,
            reference_type: "purl",
        }],
        files_analyzed: !files.is_empty(),
        license_comments: license.map(|text| format!("declared as: {text}")),
        license_concluded: NO_ASSERTION,
        license_declared: NO_ASSERTION,
        name: package.name.clone(),
        package_verification_code: verification_code(files),
        source_info: package.upstream.as_ref().map(|from| format!("built package from: {from}")),
        version_info: package.version.clone(),
        ..Package::default()
    }
}

fn describe(row: &Row<'_>, id: String) -> Option<File> {
    let digest = row.digest?;
    let sum = |algorithm, bytes: &[u8]| Checksum { algorithm, checksum_value: hex(bytes) };
    Some(File {
        id,
        checksums: [sum("SHA1", &digest.sha1), sum("SHA256", &digest.sha256)],
        copyright_text: NO_ASSERTION,
        file_name: format!(".{}", row.entry.path),
        license_concluded: NO_ASSERTION,
    })
}

fn relationship(from: &str, kind: &'static str, to: &str) -> Relationship {
    Relationship {
        related_spdx_element: to.to_owned(),
        relationship_type: kind,
        spdx_element_id: from.to_owned(),
    }
}

/// SHA-1 of the files' sorted SHA-1 sums (section 7.9 of the specification).
fn verification_code(rows: &[&Row<'_>]) -> Option<VerificationCode> {
    let mut sums: Vec<String> =
        rows.iter().filter_map(|row| row.digest).map(|digest| hex(&digest.sha1)).collect();
    sums.sort();
    let value = hex(&Sha1::digest(sums.concat()));
    (!sums.is_empty()).then_some(VerificationCode { package_verification_code_value: value })
}

fn file_id(row: &Row<'_>) -> String {
    format!("SPDXRef-File-{}", short(row.entry.path.as_bytes()))
}

/// Two packages can have one URL: they are told apart by where they are declared.
fn package_id(purl: &str, package: &Installed) -> String {
    let name: String =
        package.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let unique = [purl.as_bytes(), b"\0", package.declared.as_bytes()].concat();
    format!("SPDXRef-Package-{}-{name}-{}", package.ecosystem.name(), short(&unique))
}

/// Enough of a digest to tell names apart.
pub(super) fn short(bytes: &[u8]) -> String {
    hex(sha2::Sha256::digest(bytes).get(..10).unwrap_or_default())
}
