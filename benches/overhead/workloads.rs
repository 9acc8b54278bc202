//! The programs that are traced, and the files that they work on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

type Step = fn(&Path) -> Result<(), String>;

pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) args: Vec<String>,
    /// Makes the files, once.
    pub(crate) prepare: Step,
    /// Brings them back into the first state before each run.
    pub(crate) reset: Step,
    folder: &'static str,
}

impl Workload {
    /// Where it runs, below the benchmark's directory.
    pub(crate) fn cwd(&self, dir: &Path) -> PathBuf {
        dir.join(self.folder)
    }
}

fn nothing(_: &Path) -> Result<(), String> {
    Ok(())
}

/// All workloads, short ones first.
pub(crate) fn all(dir: &Path) -> Vec<Workload> {
    let tree = dir.join("tree").display().to_string();
    let new = |name, folder, prepare, reset, args: &[&str]| Workload {
        name,
        folder,
        prepare,
        reset,
        args: args.iter().map(|&a| a.to_owned()).collect(),
    };
    let imports = "import argparse, ast, asyncio, base64, bz2, calendar, cgi, cmd, codecs, collections, \
        configparser, csv, ctypes, dataclasses, datetime, decimal, difflib, email.message, enum, fractions, \
        ftplib, getpass, glob, gzip, html, http.server, inspect, json, logging.config, lzma, mailbox, \
        multiprocessing, optparse, pickle, platform, pydoc, random, sqlite3, ssl, statistics, \
        tarfile, tempfile, unittest, urllib.request, xml.dom.minidom, zipfile";
    let node = "for (const m of require('module').builtinModules) try { require(m) } catch {}; \
        let n = 0; for (let i = 0; i < 3e7; i++) n += i % 7; require('fs').readdirSync('/usr/bin')";
    vec![
        new(
            "perl",
            "",
            nothing,
            nothing,
            &["perl", "-MHTTP::Date", "-e", "print time2str(time())"],
        ),
        new("python, 45 imports", "", nothing, nothing, &["/usr/bin/python3", "-c", imports]),
        new("node", "", nothing, nothing, &["node", "-e", node]),
        new("java", "java", java, nothing, &["java", "Hello.java"]),
        new(
            "cargo build",
            "crate",
            small_crate,
            clean_crate,
            &["cargo", "build", "--offline", "-q"],
        ),
        new("gcc, 60 files", "gcc", c_files, clean_c, &["make", "-s"]),
        new("find + stat, 60k files", "", big_tree, nothing, &["find", &tree, "-size", "+1M"]),
        new("git status, 15k files", "repo", repository, nothing, &["git", "status", "--short"]),
        new("tar, 60k files", "", big_tree, nothing, &["tar", "-cf", "/dev/zero", &tree]),
    ]
}

fn java(dir: &Path) -> Result<(), String> {
    let text = "public class Hello { public static void main(String[] a) { System.out.println(
        java.time.ZonedDateTime.now() + String.join(\",\", System.getenv().keySet())); } }";
    write(&dir.join("java/Hello.java"), text)
}

fn small_crate(dir: &Path) -> Result<(), String> {
    let dir = dir.join("crate");
    write(
        &dir.join("Cargo.toml"),
        "[package]\nname = \"small\"\nedition = \"2021\"\n[workspace]\n",
    )?;
    let mut main = String::new();
    for i in 0..12 {
        write(
            &dir.join(format!("src/m{i}.rs")),
            &format!(
                "pub fn f(n: u64) -> String {{ format!(\"{{:?}}\", (0..n).map(|x| x * {i}).collect::<Vec<_>>()) }}"
            ),
        )?;
        main.push_str(&format!("mod m{i};\n"));
    }
    main.push_str("fn main() { println!(\"{}\", m3::f(4)); }\n");
    write(&dir.join("src/main.rs"), &main)
}

fn clean_crate(dir: &Path) -> Result<(), String> {
    remove(&dir.join("crate/target"))
}

fn c_files(dir: &Path) -> Result<(), String> {
    let dir = dir.join("gcc");
    let mut makefile = "prog: ".to_owned();
    let objects: Vec<String> = (0..60).map(|i| format!("f{i}.o")).collect();
    makefile
        .push_str(&format!("{}\n\tgcc -o $@ $^\n%.o: %.c\n\tgcc -O1 -c $<\n", objects.join(" ")));
    write(&dir.join("Makefile"), &makefile)?;
    for i in 0..60 {
        let main = if i == 0 { "int main(void) { return 0; }" } else { "" };
        let text = format!(
            "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <sys/socket.h>\n\
             int f{i}(int n) {{ return printf(\"%d\", n * {i}); }}\n{main}\n"
        );
        write(&dir.join(format!("f{i}.c")), &text)?;
    }
    Ok(())
}

fn clean_c(dir: &Path) -> Result<(), String> {
    for i in 0..60 {
        remove(&dir.join(format!("gcc/f{i}.o")))?;
    }
    remove(&dir.join("gcc/prog"))
}

fn big_tree(dir: &Path) -> Result<(), String> {
    let tree = dir.join("tree");
    if tree.join("whole").exists() {
        return Ok(());
    }
    for d in 0..600 {
        let folder = tree.join(format!("d{}/e{d}", d / 20));
        for f in 0..100 {
            write(&folder.join(format!("file-{f}")), "x")?;
        }
    }
    write(&tree.join("whole"), "")
}

fn repository(dir: &Path) -> Result<(), String> {
    let repo = dir.join("repo");
    if repo.join(".git/whole").exists() {
        return Ok(());
    }
    for f in 0..15_000 {
        write(&repo.join(format!("d{}/e{}/f{f}", f / 1000, f / 50)), &f.to_string())?;
    }
    for args in [&["init", "-q"][..], &["add", "."]] {
        #[expect(clippy::disallowed_methods, reason = "a benchmark makes its input")]
        let mut git = Command::new("git");
        let status = git.args(args).current_dir(&repo).stdout(Stdio::null()).status();
        if !status.map_err(|e| format!("git: {e}"))?.success() {
            return Err(format!("git {args:?} failed"));
        }
    }
    write(&repo.join(".git/whole"), "")
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent)
        .and_then(|()| fs::write(path, text))
        .map_err(|e| format!("{}: {e}", path.display()))
}

fn remove(path: &Path) -> Result<(), String> {
    let gone = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match gone {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("{}: {e}", path.display()))
        }
        _ => Ok(()),
    }
}
