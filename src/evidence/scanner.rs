//! What scanners need in a layer to name its packages: the parts of package
//! databases that speak of what is kept, in the form of distroless images.

use std::collections::{BTreeMap, BTreeSet};

use bundler::packages::{Ecosystem, cut_apk, cut_md5sums, cut_stanza, rpm};
use bundler::resolve::Resolver;
use bundler::{Package, Packages, RootPath, Rootfs};

/// What says which system it is: syft reads the first two, trivy also the others.
const RELEASE: [&str; 12] = [
    "/etc/os-release",
    "/usr/lib/os-release",
    "/etc/debian_version",
    "/etc/alpine-release",
    "/etc/almalinux-release",
    "/etc/centos-release",
    "/etc/fedora-release",
    "/etc/mariner-release",
    "/etc/oracle-release",
    "/etc/redhat-release",
    "/etc/rocky-release",
    "/etc/system-release",
];
/// Where distroless images have a file for each package.
const STATUS_D: &str = "/var/lib/dpkg/status.d";
/// dpkg's whole database; a layer that keeps it names all packages already.
const STATUS: &str = "/var/lib/dpkg/status";

/// A file that a layer needs for scanners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannerFile {
    /// Where scanners look for it, perhaps through links.
    pub path: Vec<u8>,
    /// What is in it; nothing where it is the root's own.
    pub content: Option<Vec<u8>>,
}

/// The files for a layer that has `kept`, which are no directories.
pub(super) fn files(
    rootfs: &Rootfs,
    packages: &Packages,
    kept: &BTreeSet<RootPath>,
) -> Vec<ScannerFile> {
    let resolver = Resolver::new(rootfs);
    let own = |path: &[u8]| ScannerFile { path: path.to_vec(), content: None };
    let mut files = Vec::new();
    let mut added = BTreeSet::new();
    for path in RELEASE {
        if let Ok(found) = resolver.resolve(path.as_bytes()) {
            added.insert(found.path);
            added.extend(found.links);
            files.push(own(path.as_bytes()));
        }
    }
    // The packages of these files are then kept too, be it in part.
    let listed = |path: &[u8]| {
        let found = resolver.resolve_link(path);
        found.is_ok_and(|found| kept.contains(&found.path) || added.contains(&found.path))
    };
    let owners = kept.iter().chain(&added).flat_map(|path| packages.owners(path).all());
    let of_kept: BTreeSet<u32> = owners.collect();
    let has_status = RootPath::new(STATUS.as_bytes()).is_ok_and(|path| kept.contains(&path));
    let mut apk: Option<ScannerFile> = None;
    let mut headers: BTreeMap<RootPath, Vec<Vec<u8>>> = BTreeMap::new();
    for &place in &of_kept {
        let Some(package) = packages.get(place) else { continue };
        match package.ecosystem {
            Ecosystem::Deb if has_status => {}
            Ecosystem::Deb => files.extend(deb(rootfs, packages, &of_kept, package, listed)),
            Ecosystem::Apk => {
                let path = package.declared.as_bytes();
                let database = apk
                    .get_or_insert_with(|| ScannerFile { content: Some(Vec::new()), ..own(path) });
                if let Some(content) = &mut database.content {
                    content.extend(cut_apk(&package.stanza, listed));
                    content.extend_from_slice(b"\n");
                }
            }
            Ecosystem::Rpm if kept.contains(&package.declared) => {}
            Ecosystem::Rpm => {
                let headers = headers.entry(package.declared.clone()).or_default();
                headers.push(rpm::cut(&package.stanza, listed));
            }
            Ecosystem::Golang => {}
            _ => files.push(own(package.declared.as_bytes())),
        }
    }
    files.extend(apk);
    // Whatever format it was, each scanner reads this one.
    let database = |(declared, headers): (RootPath, Vec<_>)| {
        let directory = declared.parent().unwrap_or_else(RootPath::root);
        let path = [directory.as_bytes(), b"/", rpm::SQLITE.as_bytes()].concat();
        ScannerFile { path, content: Some(rpm::database(&headers)) }
    };
    files.extend(headers.into_iter().map(database));
    files
}

fn deb(
    rootfs: &Rootfs,
    packages: &Packages,
    kept: &BTreeSet<u32>,
    package: &Package,
    listed: impl Fn(&[u8]) -> bool + Copy,
) -> [ScannerFile; 2] {
    // A database of this form has the names that it had.
    let path = if package.declared.parent() == RootPath::new(STATUS_D.as_bytes()).ok() {
        package.declared.as_bytes().to_vec()
    } else {
        let same_name =
            |other: &&Package| other.ecosystem == Ecosystem::Deb && other.name == package.name;
        let others = kept.iter().filter_map(|&place| packages.get(place)).filter(same_name);
        let arch = package.arch.as_deref().unwrap_or_default();
        // As dpkg's own lists of a package that several architectures have.
        let suffix = if others.count() > 1 { format!(":{arch}") } else { String::new() };
        format!("{STATUS_D}/{}{suffix}", package.name).into_bytes()
    };
    let sums = package.md5sums.as_ref().and_then(|path| rootfs.read(path).ok());
    let sums = cut_md5sums(&sums.unwrap_or_default(), listed);
    let beside = [&path, b".md5sums".as_slice()].concat();
    [
        ScannerFile { path, content: Some(cut_stanza(&package.stanza, listed)) },
        ScannerFile { path: beside, content: Some(sums) },
    ]
}
