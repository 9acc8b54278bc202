//! vz-spec(5): the text form of a spec, and `spec.json` field by field.

use clap_mangen::roff::{Roff, bold, italic, roman};

/// Every key of `spec.json` with what it holds; a test compares the list with
/// what is really written.
const FIELDS: &[(&str, &str)] = &[
    ("version", "Version of the format: 1. Another version is refused."),
    ("runs", "The traced commands, oldest first; --append adds one."),
    ("runs.args", "The command and its arguments."),
    ("runs.cwd", "Working directory."),
    (
        "runs.env",
        "Variables and their values: PATH, LANG, LC_*, TZ, HOME, those named with --env, and those whose value is nothing but absolute paths of which the run used one (SSL_CERT_FILE, PYTHONPATH). Other values may be secrets and are never written.",
    ),
    ("runs.envNames", "Names of all other variables."),
    ("runs.uid", "Effective user id."),
    ("runs.gid", "Effective group id."),
    ("runs.groups", "Supplementary group ids."),
    ("runs.end", "How it ended: {\"exited\": STATUS} or {\"signaled\": SIGNAL}."),
    ("files", "Every path of the spec, sorted."),
    ("files.path", "The path."),
    (
        "files.uses",
        "Kinds of use: execute, interpret (opened by the kernel as an ELF or #! interpreter), read, write, inspect (stat, access, readlink), list, enter (chdir, chroot), link (a symbolic link on the way), parent (something was made or removed in it), socket.",
    ),
    ("files.pid", "Process id of the first process that used it."),
    ("files.process", "Executable of that process."),
    (
        "files.original",
        "True where the run changed the file and its content from before lies in SPEC.originals, under the same path.",
    ),
    ("files.errors", "With --outcomes: names of the errors that calls on it failed with."),
    ("created", "What the runs made; never in the spec."),
    ("changed", "Files of the spec whose content, name or metadata the runs changed."),
    ("deleted", "Files of the spec that the runs deleted or moved away."),
    ("listed", "Directories whose entries were listed."),
    ("ports", "Ports that were bound."),
    ("ports.protocol", "tcp or udp."),
    ("ports.address", "The numeric address."),
    ("ports.port", "The port number."),
    ("sockets", "Unix sockets that were bound or connected to."),
    ("excluded", "Paths that --exclude, or no --include, left out."),
    ("unseen", "What could not be seen, kept or mapped, so that the spec may be incomplete."),
    ("unseen.kind", "A stable name for scripts, such as io-uring."),
    ("unseen.message", "One sentence, with the way out where there is one."),
    ("pseudo", "Mount points of the pseudo file systems that were used."),
    ("devices", "Device nodes below /dev that were used."),
    ("host", "The machine of the first run."),
    ("host.kernel", "Kernel release (uname -r)."),
    ("host.arch", "Machine (uname -m)."),
    ("host.cpuLevel", "x86-64 level of its CPU, such as x86-64-v3."),
    ("host.locale", "Locale of the run."),
    ("host.timeZone", "Time zone of the run."),
];

const TEXT: &[&str] = &[
    "A spec names the files that a program needs. smith-strace(1) writes it; vzbuild(1) reads it, as well as one written by hand.",
    "It has one absolute path a line, as raw bytes, sorted bytewise, each once, without comments. A symbolic link that was crossed, its target and each directory that was used have lines of their own, so that rsync --files-from, comm(1) and grep(1) work on it. Only a path that holds a newline is quoted: in double quotes, with \\n, \\\" and \\\\ for newline, quote and backslash.",
    "What lies on /proc, /sys, /dev and other file systems without files of their own is never in it, and neither is what the run itself made.",
    "In a spec written by hand, order, doubled lines and empty lines do not matter. A line that is no absolute path, or that has a .. component or a NUL byte, is refused with its number.",
];

/// Returns the page in roff.
pub(super) fn render() -> String {
    let mut page = Roff::new();
    page.control("TH", ["VZ-SPEC", "5", "", concat!("vz ", env!("CARGO_PKG_VERSION"))]);
    page.control("SH", ["NAME"]);
    page.text([roman("vz-spec - the files that a program needs, and how it used them")]);
    page.control("SH", ["DESCRIPTION"]);
    for paragraph in TEXT {
        page.control("PP", []);
        page.text([roman(*paragraph)]);
    }
    page.control("SH", ["SPEC.JSON"]);
    page.text([
        roman("Beside the spec "),
        italic("NAME"),
        roman(" lies "),
        italic("NAME.json"),
        roman(", with what the list of paths cannot hold. vzbuild works without it. Lists are sorted. A path or argument is a string where its bytes are UTF-8, else the array of its bytes as numbers."),
    ]);
    for (name, meaning) in FIELDS {
        page.control("TP", []);
        page.text([bold(*name)]);
        page.text([roman(*meaning)]);
    }
    page.control("SH", ["FILES"]);
    for (name, meaning) in [
        ("spec", "The paths."),
        ("spec.json", "The record of the run."),
        ("spec.originals/", "Files that the run changed, as they were before it."),
    ] {
        page.control("TP", []);
        page.text([italic(name)]);
        page.text([roman(meaning)]);
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([bold("smith-strace"), roman("(1), "), bold("vzbuild"), roman("(1)")]);
    page.render()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeSet;
    use tracer::record::{FileUse, Port, Record, Run, Unseen};

    fn keys(prefix: &str, value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    let name = format!("{prefix}{key}");
                    found.insert(name.clone());
                    if name != "runs.end" {
                        keys(&format!("{name}."), value, found);
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| keys(prefix, item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_field_of_spec_json_is_documented_and_no_other() {
        let file =
            FileUse { original: true, errors: ["ENOENT".into()].into(), ..FileUse::default() };
        let port = Port { protocol: "tcp".into(), address: "::".into(), port: 80 };
        let unseen = Unseen { kind: "k".into(), message: "m".into() };
        let record = Record {
            runs: vec![Run::default()],
            files: vec![file],
            ports: [port].into(),
            unseen: [unseen].into(),
            ..Record::default()
        };
        let mut written = BTreeSet::new();
        keys("", &serde_json::to_value(record).unwrap(), &mut written);
        let documented = FIELDS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(written, documented, "describe the field in FIELDS of spec_page.rs");
    }
}
