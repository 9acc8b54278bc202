use super::*;
use crate::image::{Execution, Image, Reference, config::canonical};
use crate::layer::{Entry, Node};
use crate::path::RootPath;
use std::fs;
use std::io::Read;

fn layer() -> Layer {
    let entry = |text: &str, node, mtime| Entry {
        path: RootPath::new(text.as_bytes()).unwrap(),
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime,
        node,
        found: false,
    };
    let entries = vec![
        entry("/", Node::Directory, 0),
        entry("/a", Node::Made(b"text".repeat(1000)), 1_600_000_000),
        entry("/b", Node::HardLink(RootPath::new(b"/a").unwrap()), 1_600_000_000),
    ];
    Layer { entries, ..Layer::default() }
}

/// Writes the layer above to `destination`.
fn put(destination: &Destination, change: impl FnOnce(&mut NewImage<'_>)) -> Written {
    try_put(destination, Watch::default(), change).unwrap()
}

fn try_put(
    destination: &Destination,
    watch: Watch<'_>,
    change: impl FnOnce(&mut NewImage<'_>),
) -> Result<Written, WriteError> {
    let (layer, rootfs) = (layer(), Rootfs::open(Path::new("/")).unwrap());
    let config = Execution { cmd: vec!["/a".to_owned()], ..Execution::default() };
    let mut image = NewImage {
        layers: vec![NewLayer { layer: &layer, rootfs: &rootfs, created_by: "test" }],
        config: ImageConfig { architecture: "amd64".to_owned(), config, ..ImageConfig::default() },
        ..NewImage::default()
    };
    change(&mut image);
    write(destination, &image, watch)
}

fn json(path: impl AsRef<Path>) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The names of the images in a layout's index, and the titles of artifacts.
fn names(dir: &Path) -> Vec<String> {
    let index = json(dir.join("index.json"));
    let name = |entry: &serde_json::Value| match &entry["artifactType"] {
        serde_json::Value::String(kind) => format!("({kind})"),
        _ => entry["annotations"]["org.opencontainers.image.ref.name"]
            .as_str()
            .unwrap_or("-")
            .to_owned(),
    };
    index["manifests"].as_array().unwrap().iter().map(name).collect()
}

/// Guards the form of images: where it changes, every image does. Say so in the
/// changelog. The compressed ones also change with the compressors' versions.
#[test]
fn the_digest_of_an_image_does_not_change() {
    let dir = tempfile::tempdir().unwrap();
    let digest = |compression| {
        let destination = Destination::Layout(dir.path().join("out"), None);
        let written = put(&destination, |image| image.compression = compression);
        written.manifest.unwrap().to_string()
    };
    let digests = [Compression::None, Compression::Gzip, Compression::Zstd].map(digest);
    let expected = [
        "sha256:da5b71e5b6bad4abc2e489e43bc9df312c0c21947ac128197dc65d8e0ab54624",
        "sha256:02466f4a28614781a123f63954fd452f4168e896d1ee6977f5b9a2af632fa4d4",
        "sha256:50e051abf1644552d5a20190961e77cec5c21497ff721e6ba16e9d98103ecbf2",
    ];
    assert_eq!(digests, expected);
}

#[test]
fn a_layout_is_as_image_spec_says() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let destination = Destination::Layout(out.clone(), None);
    let written = put(&destination, |image| {
        image.name = Some("reg.example/web:1".parse().unwrap());
    });
    assert_eq!(json(out.join("oci-layout"))["imageLayoutVersion"], "1.0.0");
    let index = json(out.join("index.json"));
    let entry = &index["manifests"][0];
    assert_eq!(entry["digest"], written.manifest.unwrap().to_string());
    assert_eq!(entry["platform"], serde_json::json!({ "architecture": "amd64", "os": "linux" }));
    let name = "reg.example/web:1";
    assert_eq!(entry["annotations"]["org.opencontainers.image.ref.name"], name);
    assert_eq!(entry["annotations"]["io.containerd.image.name"], name);
    // Every descriptor, from the index down, has its blob's size and digest.
    let mut open = vec![entry.clone()];
    let mut seen = 0;
    while let Some(descriptor) = open.pop() {
        let digest = descriptor["digest"].as_str().unwrap();
        let blob = fs::read(out.join("blobs/sha256").join(&digest[7..])).unwrap();
        assert_eq!(BlobDigest::of(&blob).to_string(), digest);
        assert_eq!(descriptor["size"], blob.len());
        seen += 1;
        if let Ok(value) = serde_json::from_slice::<serde_json::Value>(&blob) {
            assert_eq!(canonical(&value).unwrap(), blob);
            open.extend(value["layers"].as_array().into_iter().flatten().cloned());
            open.extend(value.get("config").filter(|c| c["digest"].is_string()).cloned());
        }
    }
    assert_eq!(seen, 3);
    let config = json(out.join("blobs/sha256").join(written.id.hex()));
    assert_eq!(config["created"], "1970-01-01T00:00:00Z");
    assert_eq!(config["rootfs"]["diff_ids"][0], written.layers[0].diff_id.to_string());
    assert_eq!(config["history"].as_array().unwrap().len(), 1);
}

#[test]
fn an_image_takes_the_place_of_its_name_and_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let at = |name: Option<&str>| Destination::Layout(out.clone(), name.map(str::to_owned));
    let sbom = || Artifact {
        artifact_type: "application/spdx+json".to_owned(),
        title: "sbom.spdx.json".to_owned(),
        content: b"{}".to_vec(),
    };
    put(&at(Some("one")), |image| image.artifacts.push(sbom()));
    put(&at(Some("two")), |image| image.compression = Compression::None);
    put(&at(None), |image| image.compression = Compression::None);
    assert_eq!(names(&out), ["one", "(application/spdx+json)", "two", "-"]);
    put(&at(Some("one")), |image| image.compression = Compression::Zstd);
    assert_eq!(names(&out), ["two", "-", "one"]);
    put(&at(None), |_| {});
    assert_eq!(names(&out), ["two", "one", "-"]);
}

#[test]
fn an_artifact_refers_to_its_image() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let written = put(&Destination::Layout(out.clone(), Some("x".to_owned())), |image| {
        image.artifacts.push(Artifact {
            artifact_type: "application/spdx+json".to_owned(),
            title: "sbom.spdx.json".to_owned(),
            content: b"{\"spdxVersion\":\"SPDX-2.3\"}".to_vec(),
        });
    });
    let manifest = json(out.join("blobs/sha256").join(written.artifacts[0].1.unwrap().hex()));
    assert_eq!(manifest["artifactType"], "application/spdx+json");
    assert_eq!(manifest["subject"]["digest"], written.manifest.unwrap().to_string());
    assert_eq!(manifest["subject"]["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    let empty = serde_json::json!({
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        "size": 2,
        "data": "e30=",
    });
    assert_eq!(manifest["config"], empty);
    let content = &manifest["layers"][0];
    assert_eq!(content["annotations"]["org.opencontainers.image.title"], "sbom.spdx.json");
    let digest = content["digest"].as_str().unwrap();
    assert!(out.join("blobs/sha256").join(&digest[7..]).is_file());
    let entry = &json(out.join("index.json"))["manifests"][1];
    assert_eq!(entry["artifactType"], "application/spdx+json");
}

#[test]
fn documents_are_made_of_the_layers_and_found_again() {
    fn documents(layers: &[WrittenLayer], digests: &Digests) -> io::Result<Vec<Artifact>> {
        let files: Vec<String> = digests.keys().map(ToString::to_string).collect();
        Ok(vec![Artifact {
            artifact_type: "text/plain".to_owned(),
            title: "files".to_owned(),
            content: format!("{} {}", layers[0].diff_id, files.join(" ")).into_bytes(),
        }])
    }
    fn failing(_: &[WrittenLayer], _: &Digests) -> io::Result<Vec<Artifact>> {
        Err(io::Error::other("no"))
    }
    let dir = tempfile::tempdir().unwrap();
    let name = Some("x".to_owned());
    for destination in [
        Destination::Layout(dir.path().join("out"), name.clone()),
        Destination::OciArchive(dir.path().join("oci.tar"), name.clone()),
        Destination::DockerArchive(dir.path().join("docker.tar"), name.clone()),
    ] {
        let written = put(&destination, |image| image.documents = Some(&documents));
        assert_eq!(written.artifacts[0].0, "files");
        let reference = match &destination {
            Destination::Layout(dir, _) => dir,
            Destination::OciArchive(file, _) | Destination::DockerArchive(file, _) => file,
        };
        let image = Image::open(&Reference::parse(reference.as_os_str()).unwrap()).unwrap();
        let found = image.document("files", 100).unwrap().unwrap();
        let expected = format!("{} /a", written.layers[0].diff_id);
        assert_eq!(String::from_utf8(found).unwrap(), expected, "{destination:?}");
        assert!(image.document("files", 20).is_err());
        assert_eq!(image.document("none", 20).unwrap(), None);
    }
    let destination = Destination::OciArchive(dir.path().join("oci.tar"), name);
    let before = fs::read(dir.path().join("oci.tar")).unwrap();
    let failed = try_put(&destination, Watch::default(), |image| image.documents = Some(&failing));
    assert!(matches!(failed, Err(WriteError::Documents(_))));
    assert_eq!(fs::read(dir.path().join("oci.tar")).unwrap(), before);
}

/// Every name and content of a tar, which the `tar` crate reads.
fn members(file: &Path) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(fs::File::open(file).unwrap());
    let read = |entry: io::Result<tar::Entry<'_, fs::File>>| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (entry.path().unwrap().display().to_string(), content)
    };
    archive.entries().unwrap().map(read).collect()
}

#[test]
fn archives_hold_what_a_layout_has_and_are_the_same_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let (out, file) = (dir.path().join("out"), dir.path().join("out.tar"));
    put(&Destination::Layout(out.clone(), Some("x".to_owned())), |_| {});
    put(&Destination::OciArchive(file.clone(), Some("x".to_owned())), |_| {});
    let first = fs::read(&file).unwrap();
    for (name, content) in members(&file) {
        let path = out.join(&name);
        assert!(path.is_dir() || fs::read(&path).unwrap() == content, "{name}");
    }
    assert_eq!(members(&file).len(), 2 + 3 + 2);
    put(&Destination::OciArchive(file.clone(), Some("x".to_owned())), |_| {});
    assert!(fs::read(&file).unwrap() == first);
}

#[test]
fn a_docker_archive_names_its_layers() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("out.tar");
    let written = put(&Destination::DockerArchive(file.clone(), Some("web".to_owned())), |_| {});
    let members = members(&file);
    let (name, text) = members.last().unwrap();
    assert_eq!(name, "manifest.json");
    let manifest: serde_json::Value = serde_json::from_slice(text).unwrap();
    assert_eq!(manifest[0]["RepoTags"][0], "web:latest");
    assert_eq!(manifest[0]["Config"], format!("{}.json", written.id.hex()));
    assert_eq!(manifest[0]["Layers"][0], members[0].0);
}

#[test]
fn what_is_given_up_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let stop = AtomicBool::new(true);
    let watch = Watch { progress: None, stop: Some(&stop) };
    let out = dir.path().join("out");
    for destination in [
        Destination::Layout(out.clone(), None),
        Destination::OciArchive(out.clone(), None),
        Destination::DockerArchive(out.clone(), None),
    ] {
        let ended = try_put(&destination, watch, |_| {});
        assert!(matches!(ended, Err(WriteError::Assemble(AssembleError::Interrupted))));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{destination:?}");
    }
    put(&Destination::Layout(out.clone(), None), |_| {});
    let count = || walk(&out);
    let before = count();
    let other = Destination::Layout(out.clone(), Some("x".to_owned()));
    try_put(&other, watch, |image| image.compression = Compression::Zstd).unwrap_err();
    assert_eq!(count(), before);
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_owned()];
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        match entry.path().is_dir() {
            true => found.extend(walk(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found.sort();
    found
}

#[test]
fn what_a_killed_writer_left_is_taken_up() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    fs::create_dir_all(out.join("blobs/sha256")).unwrap();
    fs::write(out.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs::write(out.join(".vz-part"), "half").unwrap();
    put(&Destination::Layout(out.clone(), None), |_| {});
    assert!(!out.join(".vz-part").exists());
    assert_eq!(names(&out), ["-"]);
}

#[test]
fn a_directory_of_another_kind_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("letter"), "").unwrap();
    let ended =
        try_put(&Destination::Layout(dir.path().to_owned(), None), Watch::default(), |_| {});
    assert!(matches!(ended, Err(WriteError::Occupied(_))));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    let out = dir.path().join("out");
    put(&Destination::Layout(out.clone(), None), |_| {});
    fs::write(out.join("index.json"), "{}").unwrap();
    let ended = try_put(&Destination::Layout(out.clone(), None), Watch::default(), |_| {});
    assert_eq!(
        ended.unwrap_err().to_string(),
        format!("`{}` is no image index", out.join("index.json").display())
    );
}

#[test]
fn two_writers_of_one_layout_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    std::thread::scope(|scope| {
        for number in 0..6 {
            let destination = Destination::Layout(out.clone(), Some(format!("n{number}")));
            scope.spawn(move || put(&destination, |_| {}));
        }
    });
    let mut names = names(&out);
    names.sort();
    assert_eq!(names, ["n0", "n1", "n2", "n3", "n4", "n5"]);
}
