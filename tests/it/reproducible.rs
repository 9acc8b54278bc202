//! The same specs and files give the same bytes, wherever and whenever.

use std::fs;
use std::time::{Duration, SystemTime};

use crate::bundle;
use crate::sandbox::{Finished, Sandbox};

/// A root with directories in an order of its own and times of its own.
fn root(sandbox: &Sandbox, name: &str, names: &[&str], age: u64) {
    for file in names {
        let path = sandbox.write(&format!("{name}/{file}"), format!("content of {file}"));
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000);
        fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    }
    for directory in ["", "srv", "etc"] {
        let directory = fs::File::open(sandbox.path(name).join(directory)).unwrap();
        directory.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(age)).unwrap();
    }
}

#[test]
fn two_builds_in_two_places_are_equal_byte_for_byte() {
    let sandbox = Sandbox::new();
    let names = ["srv/a", "srv/b", "etc/passwd", "etc/group", "etc/b.conf"];
    root(&sandbox, "one/root", &names, 1_000);
    root(
        &sandbox,
        "two/deeper/other",
        &names.map(|n| n).into_iter().rev().collect::<Vec<_>>(),
        2_000_000_000,
    );
    sandbox.write("one/spec", "/srv/a\n/srv/b\n/etc/b.conf\n");
    sandbox.write("two/deeper/spec", "/srv/b\n/etc/b.conf\n/srv/a\n/srv/a\n");

    let mut first = sandbox.command("vzbuild");
    first.current_dir(sandbox.path("one")).env("TZ", "UTC").env("LANG", "C");
    first.args(["bundle", "spec", "--root", "root", "--arg", "x", "-e", "B=1", "-e", "A=2"]);
    Finished::of(&mut first).success();

    let mut second = sandbox.command("sh");
    second
        .current_dir(sandbox.path("two/deeper"))
        .env("TZ", "Asia/Tokyo")
        .env("LANG", "tr_TR.UTF-8");
    let command =
        "umask 077; exec \"$0\" bundle spec --root other --arg x -e A=2 -e B=1 -o elsewhere";
    second.args(["-c", command, env!("CARGO_BIN_EXE_vzbuild")]);
    Finished::of(&mut second).success();

    let text = |path| fs::read(sandbox.path(path)).unwrap();
    assert_eq!(
        String::from_utf8(text("one/bundle/config.json")).unwrap(),
        String::from_utf8(text("two/deeper/elsewhere/config.json")).unwrap()
    );
}

#[test]
fn no_file_is_younger_than_source_date_epoch() {
    let sandbox = Sandbox::new();
    sandbox.write("root/srv/new", "made now");
    sandbox.write("spec", "/srv/new\n");
    let build = |epoch: &str| {
        let mut command = sandbox.command("vzbuild");
        command.args(["bundle", "spec", "--root", "root", "--arg", "x"]);
        Finished::of(command.env("SOURCE_DATE_EPOCH", epoch))
    };
    build("1000000000").success();
    let first = bundle::config(&sandbox, "bundle");
    let meta = fs::metadata(sandbox.path("bundle/rootfs/srv/new")).unwrap();
    assert_eq!(
        meta.modified().unwrap(),
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)
    );
    // Touched, with the same content: the same digest.
    let file = fs::File::options().write(true).open(sandbox.path("root/srv/new")).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(1000)).unwrap();
    build("1000000000").success();
    assert_eq!(bundle::config(&sandbox, "bundle"), first);
    build("yesterday").status(3).says("no number of seconds");
}

#[test]
fn a_layer_begins_with_the_root_and_is_sorted() {
    let sandbox = Sandbox::new();
    sandbox.write("root/srv/a", "content");
    sandbox.write("spec", "/srv/a\n");
    let args = ["bundle", "spec", "--root", "root", "--arg", "x", "--tar", "layer.tar"];
    sandbox.run("vzbuild", args).success();
    let listed = sandbox.run("tar", ["-tf", "layer.tar"]).success().stdout();
    assert_eq!(listed, "./\ndev/\nproc/\nrun/\nsrv/\nsrv/a\nsys/\ntmp/\n");
    assert_eq!(fs::metadata(sandbox.path("layer.tar")).unwrap().len(), 512 * (8 + 1 + 2));
}
