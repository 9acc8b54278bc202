//! Whole images, made right and wrong.

use std::sync::atomic::AtomicBool;

use super::testing::{Layout, Tar, digest, gzip, tree};
use super::*;

const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

fn open(layout: &Layout) -> Result<Image, ImageError> {
    Image::open(&Reference::OciLayout { dir: layout.dir.path().into(), name: None })
}

fn unpack(image: &Image) -> Result<(Unpacked, Vec<String>), ImageError> {
    let dir = tempfile::tempdir().unwrap();
    let done = image.unpack(dir.path(), &UnpackOptions::default())?;
    Ok((done, tree(dir.path())))
}

/// The whole chain of an error, as a user would read it.
fn says(error: &ImageError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

#[test]
fn layers_of_all_compressions_come_one_over_the_other() {
    let layout = Layout::new();
    let one = Tar::default().dir("d/").file("d/a", "1").file("d/b", "1").end();
    let two = Tar::default().file("d/b", "2").file("d/.wh.a", "").end();
    let three = Tar::default().file("c", "3").end();
    let manifest = layout.image(&[
        (TAR, one.clone(), one),
        (GZIP, gzip(&two), two),
        (ZSTD, zstd::encode_all(three.as_slice(), 3).unwrap(), three),
    ]);
    layout.index(&[manifest]);
    let image = open(&layout).unwrap();
    assert_eq!(image.annotations["who"], "test");
    assert!(String::from_utf8_lossy(&image.config_json).contains("Healthcheck"));
    assert_eq!(image.config.config().as_ref().unwrap().cmd().as_ref().unwrap(), &["/bin/sh"]);

    let dir = tempfile::tempdir().unwrap();
    let seen = std::cell::Cell::new(0);
    let progress = |bytes| seen.set(seen.get() + bytes);
    let options = UnpackOptions { progress: Some(&progress), ..UnpackOptions::default() };
    let done = image.unpack(dir.path(), &options).unwrap();
    assert_eq!(tree(dir.path()), ["c = 3", "d/", "d/b = 2"]);
    assert_eq!((done.entries, done.bytes), (6, 4));
    assert_eq!((seen.get(), image.layer_count()), (image.layer_bytes(), 3));
}

#[test]
fn what_is_not_as_its_digest_says_is_refused() {
    let tar = Tar::default().file("a", "1").end();
    let other = Tar::default().file("a", "2").end();
    let made = |blob: Vec<u8>, content: &[u8]| {
        let layout = Layout::new();
        let manifest = layout.image(&[(TAR, blob, content.to_vec())]);
        layout.index(&[manifest]);
        layout
    };
    let file = format!("blobs/sha256/{}", &digest(&tar)[7..]);

    let layout = made(tar.clone(), &tar);
    layout.write(&file, &other);
    let error = says(&unpack(&open(&layout).unwrap()).unwrap_err());
    assert!(error.contains(&format!("its digest is {}", digest(&other))), "{error}");

    let layout = made(tar.clone(), &other);
    let error = says(&unpack(&open(&layout).unwrap()).unwrap_err());
    assert!(error.contains(&format!("not {}", digest(&other))), "{error}");

    let layout = made(tar.clone(), &tar);
    layout.write(&file, &tar[..1024]);
    let error = says(&unpack(&open(&layout).unwrap()).unwrap_err());
    assert!(error.contains("has 1024 bytes, not 2048"), "{error}");

    let layout = made(tar.clone(), &tar);
    std::fs::remove_file(layout.dir.path().join(&file)).unwrap();
    let error = says(&unpack(&open(&layout).unwrap()).unwrap_err());
    assert!(error.contains("cannot read `blobs/sha256/"), "{error}");
}

#[test]
fn a_truncated_gzip_is_refused() {
    let tar = Tar::default().file("a", &"text".repeat(1000)).end();
    let whole = gzip(&tar);
    let layout = Layout::new();
    let manifest = layout.image(&[(GZIP, whole[..whole.len() - 9].to_vec(), tar)]);
    layout.index(&[manifest]);
    assert!(unpack(&open(&layout).unwrap()).is_err());
}

#[test]
fn layers_that_lie_elsewhere_and_artifacts_are_refused() {
    let tar = Tar::default().end();
    for kind in [
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.v1.tar+encrypted",
    ] {
        let layout = Layout::new();
        let manifest = layout.image(&[(kind, tar.clone(), tar.clone())]);
        layout.index(&[manifest]);
        let error = says(&open(&layout).unwrap_err());
        assert!(error.contains(kind), "{error}");
    }
}

#[test]
fn documents_about_an_image_are_found_beside_it() {
    let layout = Layout::new();
    let tar = Tar::default().file("a", "1").end();
    let image = layout.image(&[(TAR, tar.clone(), tar)]);
    let mut blob = layout.blob("application/spdx+json", b"{\"sbom\":1}");
    blob["annotations"] = serde_json::json!({ "org.opencontainers.image.title": "sbom.json" });
    let empty = layout.blob("application/vnd.oci.empty.v1+json", b"{}");
    let artifact = serde_json::json!({
        "schemaVersion": 2, "artifactType": "application/spdx+json", "config": empty,
        "layers": [blob], "subject": image,
    });
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let artifact = layout.blob(kind, artifact.to_string().as_bytes());
    // Though nothing in the index says which of them is the image.
    layout.index(&[artifact, image]);
    let image = open(&layout).unwrap();
    let [referrer] = image.referrers.as_slice() else { panic!("{:?}", image.referrers) };
    assert_eq!(referrer.artifact_type, "application/spdx+json");
    assert_eq!(referrer.file_name.as_deref(), Some("sbom.json"));
    assert_eq!(image.read_referrer(referrer, 100).unwrap(), b"{\"sbom\":1}");
    assert!(image.read_referrer(referrer, 5).is_err());
}

#[test]
fn lists_of_documents_count_among_what_is_read() {
    let layout = Layout::new();
    let tar = Tar::default().file("a", "1").end();
    let image = layout.image(&[(TAR, tar.clone(), tar)]);
    let empty = layout.blob("application/vnd.oci.empty.v1+json", b"{}");
    let artifact = serde_json::json!({
        "schemaVersion": 2, "config": empty, "layers": [empty], "subject": image,
    });
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let artifact = layout.blob(kind, artifact.to_string().as_bytes());
    let list = serde_json::json!({
        "schemaVersion": 2, "manifests": [artifact], "annotations": { "x": "x".repeat(2 << 20) },
    });
    let kind = "application/vnd.oci.image.index.v1+json";
    let mut list = layout.blob(kind, list.to_string().as_bytes());
    let tag = image["digest"].as_str().unwrap().replace(':', "-");
    list["annotations"] = serde_json::json!({ "org.opencontainers.image.ref.name": tag });
    let found = |lists: usize| {
        let all: Vec<_> = std::iter::once(image.clone()).chain(vec![list.clone(); lists]).collect();
        layout.index(&all);
        open(&layout).unwrap().referrers.len()
    };
    assert_eq!(found(3), 1);
    // Five of 2 MiB are more than all may have together.
    assert_eq!(found(5), 0);
}

#[test]
fn a_limit_and_a_wish_to_stop_end_the_work() {
    let layout = Layout::new();
    let tar = Tar::default().file("a", &"x".repeat(1000)).end();
    let manifest = layout.image(&[(TAR, tar.clone(), tar)]);
    layout.index(&[manifest]);
    let image = open(&layout).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let options = UnpackOptions { max_bytes: Some(999), ..UnpackOptions::default() };
    let error = image.unpack(dir.path(), &options).unwrap_err();
    assert_eq!(error.to_string(), "the image unpacks to more than 999 bytes");
    let stop = AtomicBool::new(true);
    let options = UnpackOptions { stop: Some(&stop), ..UnpackOptions::default() };
    let stopped = image.unpack(dir.path(), &options);
    assert!(matches!(stopped, Err(ImageError::Interrupted)));
}

#[test]
fn archives_are_read_in_place() {
    let layout = Layout::new();
    let one = Tar::default().file("a", "1").end();
    let manifest = layout.image(&[(GZIP, gzip(&one), one.clone())]);
    layout.index(&[manifest]);
    let file = layout.dir.path().join("image.tar");
    let mut tar = tar::Builder::new(std::fs::File::create(&file).unwrap());
    for name in ["oci-layout", "index.json", "blobs"] {
        let path = layout.dir.path().join(name);
        match path.is_dir() {
            true => tar.append_dir_all(format!("./{name}"), path).unwrap(),
            false => tar.append_path_with_name(path, format!("./{name}")).unwrap(),
        }
    }
    tar.finish().unwrap();
    let reference = Reference::parse(file.as_os_str()).unwrap();
    assert_eq!(reference, Reference::OciArchive { file: file.clone(), name: None });
    let image = Image::open(&reference).unwrap();
    assert_eq!(unpack(&image).unwrap().1, ["a = 1"]);
    let other = Image::open(&Reference::DockerArchive { file: file.clone(), name: None });
    let error = other.unwrap_err().to_string();
    assert!(
        error.ends_with("`manifest.json`, but `index.json`: give it as `oci-archive:`"),
        "{error}"
    );

    let packed = layout.dir.path().join("image.tar.gz");
    std::fs::write(&packed, gzip(&std::fs::read(&file).unwrap())).unwrap();
    let error = Reference::parse(packed.as_os_str()).unwrap_err().to_string();
    assert!(error.contains("compressed with gzip: decompress it first"), "{error}");
}

#[test]
fn docker_archives_of_all_times_are_read() {
    let one = Tar::default().file("a", "1").end();
    let two = Tar::default().file("b", "2").end();
    let diff_ids = [digest(&one), digest(&two), digest(&one)];
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = config.to_string();
    let name = digest(config.as_bytes())[7..].to_owned();
    let archive = |config_file: &str, layers: [&str; 3], config: &str| {
        let manifest = serde_json::json!([
            { "Config": "none", "RepoTags": ["other:1"], "Layers": [] },
            { "Config": config_file, "RepoTags": ["docker.io/library/web:latest"], "Layers": layers },
        ]);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let tar = Tar::default()
            .file(layers[0], &text(&one))
            .file(layers[1], &text(&two))
            // A layer that is the same as another is a link to it.
            .symlink(layers[2], "../1/layer.tar")
            .file(config_file, config)
            .file("manifest.json", &manifest.to_string())
            .end();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("saved.tar");
        std::fs::write(&file, tar).unwrap();
        let opened = Image::open(&Reference::DockerArchive { file, name: Some("web".into()) });
        opened.and_then(|image| Ok((image.name.clone(), unpack(&image)?.1)))
    };
    let layers = ["1/layer.tar", "2/layer.tar", "3/layer.tar"];
    let expected =
        (Some("docker.io/library/web:latest".to_owned()), vec!["a = 1".into(), "b = 2".into()]);
    assert_eq!(archive(&format!("{name}.json"), layers, &config).unwrap(), expected);
    let mixed = ["blobs/1/x", "2/layer.tar", "3/layer.tar"];
    let error = archive(&format!("blobs/sha256/{name}"), mixed, &config).unwrap_err();
    assert!(says(&error).contains("cannot read `3/layer.tar`"));
    let error = archive(&format!("{name}.json"), layers, &config.replace("amd64", "arm64"));
    assert!(says(&error.unwrap_err()).contains("its digest is"));
}
