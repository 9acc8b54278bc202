use super::*;
use crate::testing::tree;

/// Reads the packages of a tree (see [`tree`]) for some paths and prints them,
/// then each path with its owners.
fn check(files: &str, paths: &str, expected: &str) {
    let dir = tree(files);
    let rootfs = Rootfs::open(dir.path()).unwrap();
    let paths: Vec<RootPath> =
        paths.split_whitespace().map(|path| RootPath::new(path.as_bytes()).unwrap()).collect();
    let packages = Packages::read(&rootfs, &paths);
    let mut found = String::new();
    for package in &packages.list {
        found += &format!("{}\n", packages.purl(package));
    }
    for path in &paths {
        let names: Vec<&str> = packages
            .owners(path)
            .all()
            .map(|owner| packages.get(owner).unwrap().name.as_str())
            .collect();
        let names = if names.is_empty() { "nobody".to_owned() } else { names.join(" ") };
        found += &format!("{path}: {names}\n");
    }
    let expected: String = expected.lines().map(|line| format!("{}\n", line.trim())).collect();
    assert_eq!(found, expected);
}

const DEBIAN: &str = "
    /etc/os-release -> ../usr/lib/os-release
    /usr/lib/os-release = ID=debian\\nVERSION_ID=\"12\"\\n
    /lib -> usr/lib
    /bin -> usr/bin
    /usr/bin/run
    /usr/bin/run.distrib
    /usr/lib/x86/libc.so.6
    /var/lib/dpkg/status = Package: libc6\\nStatus: install ok installed\\nArchitecture: amd64\\nMulti-Arch: same\\nSource: glibc (2.36)\\nVersion: 2.36-9+deb12u14\\nDescription: text\\n with more\\n .\\n\\nPackage: run\\nStatus: install ok installed\\nArchitecture: all\\nVersion: 1:2~rc1\\n\\nPackage: gone\\nStatus: deinstall ok config-files\\nVersion: 1\\n
    /var/lib/dpkg/info/libc6:amd64.list = /.\\n/lib\\n/lib/x86\\n/lib/x86/libc.so.6\\n
    /var/lib/dpkg/info/run.list = /.\\n/bin\\n/bin/run\\n
    /var/lib/dpkg/info/gone.list = /etc/gone\\n
";

#[test]
fn dpkg_lists_name_files_where_they_were_before_usr_was_merged() {
    check(
        DEBIAN,
        "/usr/lib/x86/libc.so.6 /usr/bin/run /usr/bin /etc/gone",
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u14?arch=amd64&distro=debian-12&upstream=glibc%402.36
         pkg:deb/debian/run@1:2~rc1?arch=all&distro=debian-12
         /usr/lib/x86/libc.so.6: libc6
         /usr/bin/run: run
         /usr/bin: nobody
         /etc/gone: nobody",
    );
}

#[test]
fn a_diverted_file_lies_elsewhere() {
    let diverted =
        format!("{DEBIAN}\n/var/lib/dpkg/diversions = /bin/run\\n/bin/run.distrib\\nother\\n");
    check(
        &diverted,
        "/usr/bin/run /usr/bin/run.distrib",
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u14?arch=amd64&distro=debian-12&upstream=glibc%402.36
         pkg:deb/debian/run@1:2~rc1?arch=all&distro=debian-12
         /usr/bin/run: nobody
         /usr/bin/run.distrib: run",
    );
}

#[test]
fn distroless_images_have_a_file_a_package() {
    check(
        "/var/lib/dpkg/status.d/base = Package: base-files\\nVersion: 12\\n
         /var/lib/dpkg/status.d/base.md5sums = d41d8cd98f00b204e9800998ecf8427e  etc/debian_version\\nno sum\\n
         /etc/debian_version = 12",
        "/etc/debian_version",
        "pkg:deb/base-files@12
         /etc/debian_version: base-files",
    );
}

#[test]
fn apk_names_files_below_directories() {
    check(
        "/etc/os-release = ID=alpine\\nVERSION_ID=3.19.1\\n
         /bin/busybox
         /lib/apk/db/installed = C:Q1\\nP:busybox\\nV:1.36.1-r15\\nA:x86_64\\nL:GPL-2.0-only\\no:busybox\\nF:bin\\nR:busybox\\na:0:0:755\\nZ:Q1a\\nR:bbsuid\\n",
        "/bin/busybox /bin/sh",
        "pkg:apk/alpine/busybox@1.36.1-r15?arch=x86_64&distro=alpine-3.19.1
         /bin/busybox: busybox
         /bin/sh: nobody",
    );
}

#[test]
fn a_python_distribution_owns_what_its_record_lists() {
    check(
        "/usr/lib/python3/site-packages/flask/app.py
         /usr/lib/python3/site-packages/Flask-3.0.dist-info/METADATA = Metadata-Version: 2.1\\nName: Flask\\nVersion: 3.0\\n\\nName: not this
         /usr/lib/python3/site-packages/Flask-3.0.dist-info/RECORD = flask/app.py,sha256=x,5\\n\"flask/a, b.py\",,\\n../../../bin/flask,,\\n
         /usr/lib/python3/site-packages/old_one/x.py
         /usr/lib/python3/site-packages/old_one.egg-info = Name: old-one\\nVersion: 0.1\\n
         /usr/bin/flask",
        "/usr/lib/python3/site-packages/flask/app.py /usr/bin/flask \
         /usr/lib/python3/site-packages/old_one/x.py",
        "pkg:pypi/flask@3.0
         pkg:pypi/old-one@0.1
         /usr/lib/python3/site-packages/flask/app.py: Flask
         /usr/bin/flask: Flask
         /usr/lib/python3/site-packages/old_one/x.py: old-one",
    );
}

#[test]
fn a_node_package_owns_its_directory_but_for_packages_in_it() {
    check(
        "/srv/node_modules/@a/b/package.json = {\"name\":\"@a/b\",\"version\":\"1.0.0\",\"license\":\"MIT\"}
         /srv/node_modules/@a/b/x.js
         /srv/node_modules/@a/b/dist/package.json = {\"type\":\"module\"}
         /srv/node_modules/@a/b/node_modules/c/package.json = {\"name\":\"c\",\"version\":\"2.0.0\"}
         /srv/node_modules/@a/b/node_modules/c/y.js",
        "/srv/node_modules/@a/b/x.js /srv/node_modules/@a/b/dist/package.json \
         /srv/node_modules/@a/b/node_modules/c/y.js /srv/x.js",
        "pkg:npm/%40a/b@1.0.0
         pkg:npm/c@2.0.0
         /srv/node_modules/@a/b/x.js: @a/b
         /srv/node_modules/@a/b/dist/package.json: @a/b
         /srv/node_modules/@a/b/node_modules/c/y.js: c
         /srv/x.js: nobody",
    );
}

#[test]
fn a_gem_owns_the_directory_beside_its_specification() {
    check(
        "/var/lib/gems/3.1.0/specifications/rack-2.2.gemspec =   s.name = \"rack\".freeze\\n  s.version = \"2.2\"\\n
         /var/lib/gems/3.1.0/gems/rack-2.2/lib/rack.rb",
        "/var/lib/gems/3.1.0/gems/rack-2.2/lib/rack.rb",
        "pkg:gem/rack@2.2
         /var/lib/gems/3.1.0/gems/rack-2.2/lib/rack.rb: rack",
    );
}

#[test]
fn go_modules_are_listed_with_their_replacements() {
    let text = "path\tx\nmod\texample.org/x\tv1.0.0\th1:a=\ndep\tgolang.org/x/net\tv0.1.0\th1:b=\n=>\texample.org/net\tv0.2.0\th1:c=\nbuild\t-compiler=gc\n";
    let mut info = b"\xff Go buildinf:\x08\x02".to_vec();
    info.resize(32, 0);
    info.push(8);
    info.extend(b"go1.22.1");
    let framed = [&[0; 16][..], text.as_bytes(), &[0; 16]].concat();
    info.extend([framed.len() as u8 | 0x80, (framed.len() >> 7) as u8]);
    info.extend(framed);
    let found = golang::modules(&info);
    let expected =
        [("stdlib", "1.22.1"), ("example.org/x", "v1.0.0"), ("example.org/net", "v0.2.0")];
    assert_eq!(found, expected.map(|(name, version)| (name.to_owned(), version.to_owned())));
}

#[test]
fn copyright_files_for_machines_name_licences() {
    let text = b"Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n\
        Files: *\nLicense: GPL-2+ or MIT\n text\n\nFiles: x\nLicense: Expat\n\nLicense: BSD\n text\n";
    assert_eq!(dpkg::licenses(text).as_deref(), Some("Expat AND (GPL-2+ or MIT)"));
    assert_eq!(dpkg::licenses(b"This is free software.\n"), None);
}

#[test]
fn what_scanners_are_given_names_only_what_is_kept() {
    let kept = |path: &[u8]| path.ends_with(b"/kept");
    let stanza = b"Package: p\nConffiles:\n /etc/kept 0\n /etc/gone 1\nDescription: text\n more\n";
    let expected = "Package: p\nConffiles:\n /etc/kept 0\nDescription: text\n more\n";
    assert_eq!(String::from_utf8(cut_stanza(stanza, kept)).unwrap(), expected);
    let none = cut_stanza(b"Package: p\nConffiles:\n /etc/gone 1\n", kept);
    assert_eq!(none, b"Package: p\n");
    let sum = "d41d8cd98f00b204e9800998ecf8427e";
    let sums = format!("{sum}  usr/gone\n{sum}  usr/kept\n");
    assert_eq!(cut_md5sums(sums.as_bytes(), kept), format!("{sum}  usr/kept\n").into_bytes());
    let apk = b"P:p\nV:1\nF:etc\nM:0:0:755\nR:gone\nZ:Q1\nF:usr\nR:kept\nZ:Q2\nR:gone\nZ:Q3\n";
    assert_eq!(cut_apk(apk, kept), b"P:p\nV:1\nF:usr\nR:kept\nZ:Q2\n");
}

#[test]
fn no_database_leads_out_of_the_root() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(
        outside.path().join("status"),
        "Package: x\nStatus: a b installed\nVersion: 1\n",
    )
    .unwrap();
    let files = format!(
        "/var/lib/dpkg -> {}\n/srv/node_modules/x/package.json -> /../../../../../etc/passwd",
        outside.path().display()
    );
    check(&files, "/srv/node_modules/x/y.js", "/srv/node_modules/x/y.js: nobody");
}

proptest::proptest! {
    // A directory is made for each.
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_are_read(
        text in proptest::collection::vec(
            proptest::sample::select(&b"PVFR:\n ./=\"[]{},sname\xff\0\tZz01-9\x80\x02(Package Version Status"[..]),
            0..300,
        )
    ) {
        let dir = tree("/var/lib/dpkg/info/\n/lib/apk/db/\n/s/site-packages/a.dist-info/\n/g/specifications/");
        let names = [
            "var/lib/dpkg/status", "var/lib/dpkg/diversions", "var/lib/dpkg/info/P.list",
            "lib/apk/db/installed", "s/site-packages/a.dist-info/METADATA",
            "s/site-packages/a.dist-info/RECORD", "g/specifications/a.gemspec", "s/package.json",
        ];
        for name in names {
            std::fs::write(dir.path().join(name), &text).unwrap();
        }
        let rootfs = Rootfs::open(dir.path()).unwrap();
        let paths = ["/s/site-packages/a.py", "/g/specifications/a.gemspec", "/s/package.json"];
        let paths = paths.map(|path| RootPath::new(path.as_bytes()).unwrap());
        let packages = Packages::read(&rootfs, &paths);
        for (path, owners) in packages.listed() {
            proptest::prop_assert!(owners.first().is_some_and(|o| packages.get(o).is_some()), "{}", path);
        }
        golang::modules(&[&b"\xff Go buildinf:\x08\x02"[..], &text].concat());
        cut_apk(&text, |path| path.len() % 2 == 0);
        cut_stanza(&text, |path| path.len() % 2 == 0);
    }
}
