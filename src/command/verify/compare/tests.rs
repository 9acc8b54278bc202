//! The comparison as a table: what a run did, what the other did, what is said.

use super::*;
use tracer::record::{Absent, Use};

/// Reads `/path` (found), `/path!ERROR` (failed; `/path=!ERROR`: there and
/// failed), `+/path` (made), `~/path` (changed), `:80` (a port), `$1` (exit
/// status), `@` (it still ran and was ended), `curl` (an exercise ends it), `?` (errors
/// were not recorded).
fn record(text: &str) -> Record {
    let mut record = Record { runs: vec![tracer::record::Run::default()], ..Record::default() };
    record.runs[0].outcomes = true;
    let path = |path: &str| BytePath(path.as_bytes().to_vec());
    for word in text.split_whitespace() {
        if let Some(made) = word.strip_prefix('+') {
            record.created.insert(path(made));
        } else if let Some(port) = word.strip_prefix(':') {
            let port = port.parse().unwrap();
            let (protocol, address) = ("tcp".to_owned(), "0.0.0.0".to_owned());
            record.ports.insert(Port { protocol, address, port });
        } else if let Some(status) = word.strip_prefix('$') {
            record.runs[0].end = End::Exited(status.parse().unwrap());
        } else if word == "@" {
            record.runs[0].ended = true;
        } else if word == "curl" {
            let until = Until { command: word.to_owned(), ..Until::default() };
            record.runs[0].until = Some(until);
        } else if word == "?" {
            record.runs[0].outcomes = false;
        } else if let Some((name, error)) = word.split_once('!')
            && !name.ends_with('=')
        {
            let errors = [error.to_owned()].into();
            record.absent.push(Absent { path: path(name), errors, process: path("/bin/p") });
        } else {
            let (name, error) = word.split_once("=!").unwrap_or((word, ""));
            let changed = name.strip_prefix('~');
            let name = path(changed.unwrap_or(name));
            record.changed.extend(changed.map(|_| name.clone()));
            let errors = (!error.is_empty()).then(|| error.to_owned()).into_iter().collect();
            let uses = [Use::Read].into();
            record.files.push(FileUse { path: name, uses, errors, ..FileUse::default() });
        }
    }
    record
}

/// Lists of paths that the bundle and the original root have; all, where there is none.
struct Lists<'a>(Option<&'a str>, &'a str);

impl Places for Lists<'_> {
    fn held(&self, path: &[u8]) -> Held {
        let path = std::str::from_utf8(path).unwrap();
        match self.0 {
            _ if path == "/etc/shadow" => Held::LeftOut("hashes"),
            Some(list) if !list.split_whitespace().any(|there| there == path) => Held::Absent,
            _ => Held::There,
        }
    }

    fn original(&self, path: &[u8]) -> Option<bool> {
        Some(self.1.split_whitespace().any(|there| there.as_bytes() == path))
    }
}

fn said(first: &str, second: &str, bundle: Option<&str>, original: &str) -> String {
    let found = compare(&record(first), &record(second), &Lists(bundle, original));
    let mut said: Vec<String> = found
        .findings
        .iter()
        .map(|f| format!("{:?} {}", f.reason, f.path.0.escape_ascii()).to_lowercase())
        .collect();
    said.extend(found.courses.iter().map(|f| format!("course {}", f.path.0.escape_ascii())));
    let words = |ending: &Ending| match ending.still_ran {
        Some(true) => format!("{:?} when ended", ending.end),
        _ => format!("{:?}", ending.end),
    };
    let ends = found.ends.iter();
    said.extend(ends.map(|(_, one, two)| format!("{} then {}", words(one), words(two))));
    said.extend(found.ports.iter().map(|port| format!("port {}", port.port)));
    said.extend(found.warnings.iter().map(|warning| {
        format!("warning {}", warning.split_whitespace().next().unwrap_or_default())
    }));
    said.join("; ")
}

#[track_caller]
fn check(first: &str, second: &str, bundle: &str, expected: &str) {
    assert_eq!(said(first, second, Some(bundle), ""), expected);
}

#[test]
fn equal_runs_are_equal() {
    check("/a /b!ENOENT +/tmp/x", "/a /b!ENOENT +/tmp/x", "/a", "");
}

#[test]
fn what_the_bundle_lacks_is_missing_whether_asked_for_or_not() {
    check("/a /b", "/a /b!ENOENT", "/a", "missing /b");
    // Whoever lists a directory first does not ask for what is not in it.
    check("/a /b", "/a", "/a", "missing /b");
}

#[test]
fn what_comes_of_it_is_not_named() {
    let first = "/lib /lib/x /lib/y /end";
    let second = "/lib /lib/x!ENOENT /fallback/x!ENOENT /crash.log=!EACCES $1";
    check(first, second, "/lib /lib/y /end", "missing /lib/x; Exited(0) then Exited(1)");
}

#[test]
fn a_missing_directory_is_named_once() {
    check("/d /d/a /d/b /da", "/d!ENOENT /da", "/da", "missing /d");
}

#[test]
fn a_path_that_was_not_used_before_the_fault_is_no_finding() {
    check("/a /b", "/a", "/a /b", "");
}

#[test]
fn a_file_that_a_mount_covers_is_hidden() {
    check("/data/f", "/data/f!ENOENT", "/data/f", "hidden /data/f");
}

#[test]
fn absent_in_both_is_equal_however_it_is_said() {
    check("/d/x!ENOENT", "/d/x!ENOTDIR", "", "");
}

#[test]
fn names_that_only_one_run_made_up_do_not_matter() {
    check("+/tmp/x.Ab12", "+/tmp/x.Zz98", "/tmp", "");
    check("/tmp/x.Ab12!ENOENT +/tmp/x.Ab12", "/tmp/x.Zz98!ENOENT +/tmp/x.Zz98", "/tmp", "");
    check("/proc/12/stat!ENOENT", "/proc/13/stat!ENOENT", "", "");
    check("/run/1.pid!ENOENT", "/run/2.pid!ENOENT", "", "");
}

#[test]
fn the_directory_that_was_written_in_is_named_as_read_only() {
    check("+/var/x/1.tmp", "/var/x/2.tmp!EROFS", "/var/x", "readonly /var/x");
    check("~/etc/state", "/etc/state=!EROFS", "/etc/state", "readonly /etc");
    // Refused in both, if in other words.
    check("/c/x!EACCES", "/c/x!EROFS", "", "");
    // Removing what is not there: the kernel says first that it could not.
    check("/run/old.pid!ENOENT", "/run/old.pid!EROFS", "", "");
}

#[test]
fn denied_is_a_finding_where_it_was_not_before() {
    check("/key", "/key=!EACCES", "/key", "denied /key");
    check("/key=!EACCES", "/key=!EPERM", "/key", "");
    check("? /key", "/key=!EACCES", "/key", "warning 1");
    check("? +/run/s", "/run/s!EACCES", "/key", "denied /run/s");
}

#[test]
fn what_was_left_out_on_purpose_is_warned_of() {
    check("/etc/shadow", "/etc/shadow!ENOENT", "", "warning /etc/shadow");
    check("/etc/shadow", "", "", "");
}

#[test]
fn another_course_is_followed_where_the_original_tells() {
    let (first, second) = ("/a", "/a /plugin!ENOENT /none!ENOENT");
    assert_eq!(said(first, second, Some("/a"), "/plugin"), "course /plugin");
    // A crash takes another course too; its cause comes first.
    assert_eq!(said("/a /b", "/b!ENOENT /plugin!ENOENT", Some("/a"), "/plugin"), "missing /b");
}

#[test]
fn a_port_that_is_not_listened_on_is_said() {
    check(":80 :40001", ":40002", "", "port 80");
}

#[test]
fn a_program_that_gives_up_is_none_that_runs_until_it_is_ended() {
    check("@ $0", "@ $0", "", "");
    check("@ $0", "$0", "", "Exited(0) when ended then Exited(0)");
    check("$0", "@ $0", "", "Exited(0) then Exited(0) when ended");
    // The exercise may be what ends it (`redis-cli shutdown`), with vz a moment behind.
    check("curl @ $0", "curl $0", "", "");
}
