//! What the kernel itself opens to execute something.

use std::path::Path;

use crate::sandbox::{Need, Sandbox, require};
use crate::tracee::{Build, Traced, check};

#[test]
fn interpreters_of_scripts_are_in_the_spec() {
    check("exec");
}

/// Traces a tracee that executes nothing and asks for its ELF interpreter.
fn check_elf_interpreter(build: Build, interpreter: &str) {
    if require("an ELF interpreter", build.needs()) {
        let outcome = Traced::prepare("open", build).run(&[]);
        let mut path = Path::new(interpreter).to_path_buf();
        // The file, and each link on the way: /lib64 -> usr/lib64 and so on.
        let real = path.canonicalize().unwrap();
        assert!(outcome.has(&real), "{}", real.display());
        while path != Path::new("/") {
            if path.is_symlink() {
                let parent = path.parent().unwrap().canonicalize().unwrap();
                let link = parent.join(path.file_name().unwrap());
                assert!(outcome.has(&link), "{}", link.display());
            }
            path.pop();
        }
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_elf_interpreter_and_its_links_are_in_the_spec() {
    check_elf_interpreter(Build::Native, "/lib64/ld-linux-x86-64.so.2");
    check_elf_interpreter(Build::I386, "/lib/ld-linux.so.2");
}

#[test]
fn an_interpreter_of_binfmt_misc_is_in_the_spec() {
    let needs = [Need::Root, Need::File("/proc/sys/fs/binfmt_misc", "linux with binfmt_misc")];
    if !require("binfmt_misc", &needs) {
        return;
    }
    let sandbox = Sandbox::new();
    let program = sandbox.write("program", "VZTEST one\n");
    let name = format!("vz-test-{}", std::process::id());
    // In a mount namespace of its own, since a machine may not have it mounted;
    // the rule is the machine's, so it is taken back.
    let script = format!(
        "set -e
         chmod +x {program}
         mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
         trap 'echo -1 > /proc/sys/fs/binfmt_misc/{name}' EXIT
         echo ':{name}:M::VZTEST::/usr/bin/tac:' > /proc/sys/fs/binfmt_misc/register
         \"$0\" -- {program}",
        program = program.display()
    );
    let strace = env!("CARGO_BIN_EXE_smith-strace");
    let traced = sandbox.run("unshare", ["-m", "sh", "-c", &script, strace]).success();
    assert_eq!(traced.stdout(), "VZTEST one\n");
    let spec = sandbox.lines("spec");
    assert!(spec.contains(&"/usr/bin/tac".to_owned()), "{spec:?}");
    assert!(spec.contains(&program.display().to_string()), "{spec:?}");
}
