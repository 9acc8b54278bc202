//! Package URLs (github.com/package-url/purl-spec), written as syft does.

use super::{Distro, Ecosystem, Package};

pub(super) fn purl(package: &Package, distro: Option<&Distro>) -> String {
    let kind = package.ecosystem.name();
    let is_rpm = package.ecosystem == Ecosystem::Rpm;
    let id = distro.map(|d| d.id.as_str()).filter(|_| package.ecosystem.is_system());
    let mut purl = format!("pkg:{kind}/");
    if let Some(id) = id {
        let vendor = match id {
            "rhel" if is_rpm => "redhat",
            id if is_rpm && id.starts_with("opensuse") => "opensuse",
            id => id,
        };
        purl += &format!("{}/", encode(vendor, ""));
    }
    // The scope of npm and the host and path of Go are the namespace.
    let lower;
    let name = match package.ecosystem {
        Ecosystem::PyPi => {
            lower = package.name.to_lowercase().replace('_', "-");
            &lower
        }
        _ => &package.name,
    };
    let parts: Vec<String> = name.split('/').map(|part| encode(part, "")).collect();
    purl += &parts.join("/");
    // An epoch is no part of the version of an rpm.
    let (epoch, version) = match package.version.split_once(':') {
        Some((epoch, version)) if is_rpm => (Some(epoch.to_owned()), version),
        _ => (None, package.version.as_str()),
    };
    // What Go says of a program that was built from no released version.
    if version != "(devel)" {
        purl += &format!("@{}", encode(version, ":"));
    }
    if package.ecosystem.is_system() {
        let distro = distro.map(|distro| match distro.version.as_str() {
            "" => distro.id.clone(),
            version => format!("{}-{version}", distro.id),
        });
        let qualifiers = [
            ("arch", &package.arch),
            ("distro", &distro),
            ("epoch", &epoch),
            ("upstream", &package.upstream),
        ];
        let mut sign = '?';
        for (key, value) in qualifiers {
            if let Some(value) = value {
                purl += &format!("{sign}{key}={}", encode(value, ":"));
                sign = '&';
            }
        }
    }
    purl
}

/// Percent-encodes all but unreserved characters (RFC 3986, section 2.3) and `also`.
fn encode(text: &str, also: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        let c = char::from(byte);
        if byte.is_ascii_alphanumeric() || "-._~".contains(c) || also.contains(c) {
            encoded.push(c);
        } else {
            encoded += &format!("%{byte:02X}");
        }
    }
    encoded
}
