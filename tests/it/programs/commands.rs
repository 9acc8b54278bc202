//! Programs that run to their end.

use super::check::{Program, fresh_dir};
use crate::sandbox::{Finished, Need, Sandbox, require};

fn nothing(_: &Sandbox) {}

#[test]
fn perl_prints_a_date() {
    Program {
        name: "perl HTTP::Date",
        needs: &[Need::File("/usr/share/perl5/HTTP/Date.pm", "libhttp-date-perl")],
        prepare: &nothing,
        args: &["/usr/bin/perl", "-MHTTP::Date", "-e", "print time2str(0).\"\\n\""],
    }
    .check();
}

#[test]
fn python_works_with_its_libraries() {
    let script = r#"
import ctypes, decimal, json, sqlite3, ssl, zoneinfo, datetime, encodings.idna
db = sqlite3.connect(":memory:")
db.execute("create table t (a)"); db.execute("insert into t values (42)")
berlin = zoneinfo.ZoneInfo("Europe/Berlin")
print(json.dumps({"db": db.execute("select a from t").fetchone(),
  "strlen": ctypes.CDLL("libc.so.6").strlen(b"hello"), "half": str(decimal.Decimal(1) / 2),
  "berlin": str(datetime.datetime(2024, 7, 1, tzinfo=berlin).utcoffset()),
  "trusted": ssl.create_default_context().cert_store_stats()["x509_ca"] > 0,
  "host": "localhost".encode("idna").decode()}))
"#;
    Program {
        name: "python3 stdlib",
        needs: &[
            Need::Program("/usr/bin/python3", "python3"),
            Need::File("/usr/share/zoneinfo/Europe/Berlin", "tzdata"),
            Need::File("/etc/ssl/certs/ca-certificates.crt", "ca-certificates"),
        ],
        prepare: &nothing,
        args: &["/usr/bin/python3", "-c", script],
    }
    .check();
}

#[test]
fn git_clones_a_local_repository() {
    let make = |sandbox: &Sandbox| {
        fresh_dir(sandbox, "work");
        let script = "cd work && git init -q -b main origin && cd origin && echo one > file && \
            git add file && git -c user.name=a -c user.email=a@b commit -q -m first";
        Finished::of(sandbox.command("sh").args(["-c", script]).env("HOME", "/nonexistent"))
            .success();
    };
    Program {
        name: "git clone",
        needs: &[Need::Program("git", "git")],
        prepare: &make,
        args: &[
            "sh",
            "-c",
            "cd work && git clone -q origin copy && git -C copy log --format=%s && cat copy/file",
        ],
    }
    .check();
}

#[test]
fn bash_pipes_and_here_documents() {
    let script = "
sort <<END | uniq -c | while read -r count word; do echo \"$word=$count\"; done
pear
apple
pear
END
wc -c <<<'here string'; false | cat; echo \"${PIPESTATUS[*]}\"; exit 7";
    Program {
        name: "bash pipes",
        needs: &[Need::Program("bash", "bash")],
        prepare: &nothing,
        args: &["bash", "-c", script],
    }
    .check();
}

#[test]
fn sqlite_writes_and_the_original_goes_in() {
    let make = |sandbox: &Sandbox| {
        let dir = fresh_dir(sandbox, "data");
        let sql = "create table t (a); insert into t values (1);";
        Finished::of(sandbox.command("sqlite3").arg(dir.join("x.db")).arg(sql)).success();
    };
    // It adds a row and counts: 2 outside, and 2 in the bundle only if the
    // bundle has the file from before the traced run.
    Program {
        name: "sqlite3",
        needs: &[Need::Program("sqlite3", "sqlite3")],
        prepare: &make,
        args: &["sqlite3", "{dir}/data/x.db", "insert into t values (2); select count(*) from t;"],
    }
    .check();
}

#[test]
fn iconv_finds_its_converter() {
    Program {
        name: "iconv SJIS",
        needs: &[Need::File("/usr/lib/x86_64-linux-gnu/gconv/SJIS.so", "libc6")],
        prepare: &nothing,
        args: &["sh", "-c", "printf '\\343\\201\\202' | iconv -f UTF-8 -t SJIS | od -An -tx1"],
    }
    .check();
}

#[test]
fn getent_resolves_through_nss() {
    Program {
        name: "getent hosts",
        needs: &[Need::Program("getent", "libc-bin")],
        prepare: &nothing,
        args: &["getent", "hosts", "localhost"],
    }
    .check();
}

#[test]
fn a_static_rust_program_is_alone() {
    let compile = |sandbox: &Sandbox| {
        sandbox.write("main.rs", "fn main() { println!(\"static {}\", 6 * 7) }");
        let args = ["-C", "target-feature=+crt-static", "-o", "static", "main.rs"];
        sandbox.run("rustc", args).success();
    };
    Program {
        name: "static Rust program",
        needs: &[Need::Program("rustc", "rustc")],
        prepare: &compile,
        args: &["{dir}/static"],
    }
    .check();
}

#[test]
fn a_32_bit_program_has_its_own_libc() {
    let compile = |sandbox: &Sandbox| {
        sandbox.write("hello.c", "#include <stdio.h>\nint main(void) { return puts(\"32\") < 0; }");
        sandbox.run("cc", ["-m32", "-o", "hello32", "hello.c"]).success();
    };
    Program {
        name: "32-bit hello",
        needs: &[Need::File("/usr/lib32/libc.so.6", "gcc-multilib")],
        prepare: &compile,
        args: &["{dir}/hello32"],
    }
    .check();
}

#[test]
fn busybox_keeps_its_hard_links() {
    let needs =
        [Need::Root, Need::Program("runc", "runc"), Need::Program("busybox", "busybox-static")];
    if !require("busybox", &needs) {
        return;
    }
    let sandbox = Sandbox::new();
    let root = fresh_dir(&sandbox, "root");
    fresh_dir(&sandbox, "root/bin");
    for dir in ["proc", "dev", "tmp"] {
        fresh_dir(&sandbox, &format!("root/{dir}"));
    }
    std::fs::copy(vz::process::find("busybox").unwrap(), root.join("bin/busybox")).unwrap();
    let applets = sandbox.run("busybox", ["--list"]).success().stdout();
    let applets: Vec<&str> = applets.lines().filter(|name| *name != "busybox").collect();
    assert!(applets.len() > 200, "{} applets", applets.len());
    for name in &applets {
        std::fs::hard_link(root.join("bin/busybox"), root.join("bin").join(name)).unwrap();
    }
    let script = "ls /bin | wc -l; echo hello | tr a-z A-Z | sed s/L/l/";
    let traced = sandbox
        .run("smith-strace", ["--root", "root", "-o", "spec", "--", "/bin/sh", "-c", script])
        .success();
    let spec = sandbox.lines("spec");
    let all: Vec<String> = applets.iter().map(|name| format!("/bin/{name}")).collect();
    sandbox.write("all", format!("{}\n{}\n", spec.join("\n"), all.join("\n")));
    std::fs::copy(sandbox.path("spec.json"), sandbox.path("all.json")).unwrap();
    sandbox.run("vzbuild", ["bundle", "all", "--root", "root"]).success();
    let inside = sandbox.run("vzbuild", ["run", "bundle"]).success();
    assert_eq!(inside.stdout(), traced.stdout());
    let one = std::fs::metadata(root.join("bin/busybox")).unwrap().len();
    let du = sandbox.run("du", ["-s", "--block-size=1", "bundle/rootfs"]).success().stdout();
    let bytes: u64 = du.split_whitespace().next().unwrap().parse().unwrap();
    assert!(bytes < one + 200_000, "{bytes} bytes for {} names of {one} bytes", applets.len());
}
