//! Rules of the repository, each with a message that says what to do.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const LIBRARIES: [&str; 3] = ["tracer", "bundler", "delta"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `dir` of the repository with this ending, and its text.
fn files(dir: &str, ending: &str) -> Vec<(String, String)> {
    let found = walkdir::WalkDir::new(root().join(dir)).sort_by_file_name().into_iter();
    found
        .filter_map(Result::ok)
        .filter(|e| e.file_type().is_file())
        .filter(|e| e.path().extension().is_some_and(|x| x == ending))
        .map(|e| {
            let name = e.path().strip_prefix(root()).unwrap().display().to_string();
            (name, fs::read_to_string(e.path()).unwrap())
        })
        .collect()
}

fn sources() -> Vec<(String, String)> {
    let dirs = ["src", "tracer", "bundler", "delta", "tests", "benches"];
    dirs.iter().flat_map(|dir| files(dir, "rs")).collect()
}

/// A line without what follows `//`, so that prose may name what code may not.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

#[track_caller]
fn assert_none(offences: &[String], what_to_do: &str) {
    assert!(offences.is_empty(), "{what_to_do}:\n  {}", offences.join("\n  "));
}

fn lines_with(sources: &[(String, String)], hit: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let mut hits = Vec::new();
    for (name, text) in sources {
        for (index, line) in text.lines().enumerate() {
            if hit(name, code(line)) {
                hits.push(format!("{name}:{}: {}", index + 1, line.trim()));
            }
        }
    }
    hits
}

#[test]
fn libraries_do_not_know_one_another() {
    let mut offences = Vec::new();
    for library in LIBRARIES {
        let Ok(manifest) = fs::read_to_string(root().join(library).join("Cargo.toml")) else {
            continue;
        };
        for other in LIBRARIES.iter().filter(|other| **other != library) {
            if manifest.lines().any(|l| l.starts_with(&format!("{other}."))) {
                offences.push(format!("{library} depends on {other}"));
            }
        }
        if manifest.contains("path = ") {
            offences.push(format!("{library} has a path dependency"));
        }
    }
    assert_none(&offences, "let the libraries meet in src/command only");
}

#[test]
fn unsafe_code_is_in_one_file() {
    let word = concat!("uns", "afe");
    let hits = lines_with(&sources(), |name, line| {
        name != "tracer/src/sys.rs"
            && !name.starts_with("tracer/src/sys/")
            // Ansible has a tag of that name.
            && line.replace(&format!("!{word}"), "").split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == word)
    });
    assert_none(&hits, "move this into tracer/src/sys.rs, with a SAFETY comment");
}

#[test]
fn every_crate_but_the_tracer_forbids_it() {
    for lib in ["src/lib.rs", "bundler/src/lib.rs", "delta/src/lib.rs"] {
        if let Ok(text) = fs::read_to_string(root().join(lib)) {
            let line = concat!("#![forbid(uns", "afe_code)]");
            assert!(text.contains(line), "{lib}: begin it with {line}");
        }
    }
}

#[test]
fn libraries_neither_print_nor_read_the_environment_nor_exit() {
    let mut hits = Vec::new();
    for library in LIBRARIES {
        let sources = files(&format!("{library}/src"), "rs");
        hits.extend(lines_with(&sources, |_, line| {
            ["println!", "eprintln!", "print!(", "env::var", "process::exit", "vars_os"]
                .iter()
                .any(|word| line.contains(word))
        }));
    }
    assert_none(
        &hits,
        "return it as a value; src/report.rs prints, src/command reads the environment",
    );
}

#[test]
fn children_start_in_one_place() {
    let hits = lines_with(&files("src", "rs"), |name, line| {
        name != "src/process.rs" && line.contains("Command::new(")
    });
    assert_none(&hits, "start it through src/process.rs");
}

#[test]
fn errors_are_printed_in_one_place() {
    let hits = lines_with(&files("src", "rs"), |name, line| {
        name != "src/report.rs"
            && ["println!", "eprintln!", "print!(", "io::stderr()", "io::stdout()"]
                .iter()
                .any(|word| line.contains(word))
    });
    assert_none(&hits, "print it through src/report.rs");
}

#[test]
fn no_file_holds_more_than_one_thing() {
    let mut long = Vec::new();
    let mut lengths = Vec::new();
    for (name, text) in sources() {
        let lines = text.lines().count();
        lengths.push(lines);
        if lines > 500 {
            long.push(format!("{name}: {lines} lines"));
        }
        let stem = Path::new(&name).file_stem().unwrap().to_string_lossy().into_owned();
        if ["util", "utils", "helpers", "common", "misc"].contains(&stem.as_str()) {
            long.push(format!("{name}: a name that says nothing"));
        }
    }
    assert_none(&long, "split it into files that are one thing each, named after it");
}

#[test]
fn every_test_file_is_run() {
    let main = fs::read_to_string(root().join("tests/it/main.rs")).unwrap();
    let mut forgotten = Vec::new();
    for entry in fs::read_dir(root().join("tests/it")).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        let is_module = path.extension().is_some_and(|x| x == "rs") || path.is_dir();
        if stem != "main" && is_module && !main.contains(&format!("mod {stem};")) {
            forgotten.push(path.display().to_string());
        }
    }
    assert_none(&forgotten, "add `mod NAME;` to tests/it/main.rs");
}

#[test]
fn no_test_is_ignored_and_nothing_is_left_to_do() {
    let words = ["#[ignore", concat!("to", "do!("), "unimplemented!("];
    let hits = lines_with(&sources(), |name, line| {
        name != "tests/it/tidy.rs" && words.iter().any(|word| line.contains(word))
    });
    assert_none(&hits, "do it, or use `require` of tests/it/sandbox.rs");
}

#[test]
fn every_tracee_is_run_by_a_test() {
    let tests: String = files("tests/it", "rs").into_iter().map(|(_, text)| text).collect();
    let mut unused = Vec::new();
    for (name, _) in files("tests/tracee", "c") {
        let stem = Path::new(&name).file_stem().unwrap().to_string_lossy().into_owned();
        if !tests.contains(&format!("\"{stem}\"")) {
            unused.push(name);
        }
    }
    assert_none(&unused, "run it from a test, or delete it");
}

#[test]
fn test_data_says_how_it_was_made() {
    let readme = fs::read_to_string(root().join("testdata/README.md")).unwrap_or_default();
    let mut unexplained = Vec::new();
    for entry in fs::read_dir(root().join("testdata")).into_iter().flatten() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        if name != "README.md" && !readme.contains(&format!("`{name}`")) {
            unexplained.push(name);
        }
    }
    assert_none(&unexplained, "add a line to testdata/README.md");
}

#[test]
fn the_top_level_is_what_was_agreed() {
    let agreed = "Cargo.toml Cargo.lock src tracer bundler delta tests testdata README.md LICENSE-MIT \
        LICENSE-APACHE CHANGELOG.md ARCHITECTURE.md benches fuzz";
    let ignored = fs::read_to_string(root().join(".gitignore")).unwrap();
    let mut known: BTreeSet<&str> = agreed.split_whitespace().collect();
    known.extend(ignored.lines().filter_map(|line| line.strip_prefix('/')));
    let names = fs::read_dir(root()).unwrap().map(|e| e.unwrap().file_name());
    let others: Vec<String> = names
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') && !known.contains(name.as_str()))
        .collect();
    assert_none(&others, "move it below one of the agreed folders");
}

#[test]
fn code_names_in_architecture_exist() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut gone = Vec::new();
    for word in text.split('`').skip(1).step_by(2) {
        let is_path = ["src/", "tracer/", "bundler/", "delta/", "tests/", "benches/", "fuzz/"]
            .iter()
            .any(|dir| word.starts_with(dir));
        let plain = !word.contains(|c: char| c.is_whitespace() || "*{}<>…".contains(c));
        if is_path && plain && !root().join(PathBuf::from(word)).exists() {
            gone.push(word.to_owned());
        }
    }
    assert_none(&gone, "ARCHITECTURE.md names files that are not there");
}
