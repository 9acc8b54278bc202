use crate::closure::{Closure, Options};
use crate::testing;

/// A loader for the roots of these tests; it searches /l, then /usr/l.
const LD: &str = "/ld.so = ELF soname=ld.so has=/l/\\0/usr/l/\n";

fn closed(files: &str, wanted: &str) -> Closure {
    testing::close(&format!("{LD}{files}"), wanted, &Options::default())
}

fn lines(closure: &Closure) -> Vec<String> {
    closure.entries.keys().map(ToString::to_string).collect()
}

/// Closing `wanted` gives exactly `expected` (words), and nothing is missing.
#[track_caller]
fn check(files: &str, wanted: &str, expected: &str) {
    let closure = closed(files, wanted);
    assert_eq!(closure.missing, []);
    assert_eq!(lines(&closure), expected.split_whitespace().collect::<Vec<_>>());
}

/// Closing `wanted` misses exactly this.
#[track_caller]
fn check_missing(files: &str, wanted: &str, expected: &[&str]) {
    let missing = closed(files, wanted).missing;
    assert_eq!(missing.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
}

/// Closing `wanted` says exactly this.
#[track_caller]
fn check_warning(files: &str, wanted: &str, expected: &[&str]) {
    let closure = closed(files, wanted);
    assert_eq!(closure.missing, []);
    let found: Vec<_> = closure.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_link_brings_every_hop() {
    let files = "/bin -> usr/bin\n/usr/bin/sh -> dash\n/usr/bin/dash";
    check(files, "/bin/sh", "/bin /usr/bin/dash /usr/bin/sh");
}

#[test]
fn a_directory_alone_is_an_entry_without_what_is_in_it() {
    check("/d/f\n/d/e/", "/d", "/d");
}

#[test]
fn libraries_are_followed_to_the_end() {
    let files = "/bin/p = ELF interp=/ld.so needed=liba.so.1\n\
                 /l/liba.so.1 -> liba.so.1.2\n/l/liba.so.1.2 = ELF needed=libb.so\n\
                 /usr/l/libb.so = ELF";
    check(files, "/bin/p", "/bin/p /l/liba.so.1 /l/liba.so.1.2 /ld.so /usr/l/libb.so");
}

#[test]
fn each_class_gets_its_own_library_of_one_name() {
    let files = "/bin/p = ELF interp=/ld.so needed=liba.so runpath=/opt\n\
                 /bin/q = ELF i386 interp=/ld32.so needed=liba.so runpath=/opt\n\
                 /ld32.so = ELF i386 has=/l32/\\0/usr/l32/\n\
                 /opt/liba.so = ELF i386\n/l/liba.so = ELF\n/l32/liba.so = ELF i386";
    check(files, "/bin/p /bin/q", "/bin/p /bin/q /l/liba.so /ld.so /ld32.so /opt/liba.so");
}

#[test]
fn an_rpath_is_inherited_and_a_runpath_is_not() {
    let rest = "/x/liba.so = ELF needed=libb.so\n/x/libb.so = ELF\n/l/libb.so = ELF";
    let files = format!("/p = ELF interp=/ld.so needed=liba.so rpath=/x\n{rest}");
    check(&files, "/p", "/ld.so /p /x/liba.so /x/libb.so");
    let files = format!("/p = ELF interp=/ld.so needed=liba.so runpath=/x\n{rest}");
    check(&files, "/p", "/l/libb.so /ld.so /p /x/liba.so");
}

#[test]
fn a_runpath_shuts_out_the_rpaths_above_it() {
    let files = "/p = ELF interp=/ld.so needed=liba.so rpath=/x\n\
                 /x/liba.so = ELF needed=libb.so runpath=/y\n/x/libb.so = ELF\n/l/libb.so = ELF";
    check(files, "/p", "/l/libb.so /ld.so /p /x/liba.so");
}

#[test]
fn tokens_are_of_the_file_that_has_them() {
    let files = "/opt/bin/p = ELF interp=/ld.so needed=liba.so runpath=$ORIGIN/../lib\n\
                 /opt/lib/liba.so = ELF needed=$ORIGIN/sub/libb.so\n/opt/lib/sub/libb.so = ELF";
    check(files, "/opt/bin/p", "/ld.so /opt/bin/p /opt/lib/liba.so /opt/lib/sub/libb.so");
}

#[test]
fn without_default_directories_they_are_not_searched() {
    let files = "/p = ELF interp=/ld.so needed=liba.so nodeflib\n/l/liba.so = ELF";
    let expected = "liba.so (the library liba.so needed by /p): the loader looks for it nowhere";
    check_missing(files, "/p", &[expected]);
}

#[test]
fn where_there_is_no_cache_ld_so_conf_counts() {
    let files = "/p = ELF interp=/ld.so needed=liba.so\n/etc/ld.so.conf = /opt/a\\n\n\
                 /opt/a/liba.so = ELF";
    check(files, "/p", "/ld.so /opt/a/liba.so /p");
}

#[test]
fn what_a_program_loads_counts_for_its_plugins() {
    // The plugin alone would not find libx, which the program has loaded.
    let files = "/p = ELF interp=/ld.so needed=libx.so runpath=/x\n/x/libx.so = ELF soname=libx.so\n\
                 /plugin.so = ELF needed=libx.so";
    let warning = "/plugin.so needs libx.so, which its own search does not find: it works only in \
                   a program that has loaded /x/libx.so before";
    check_warning(files, "/p /plugin.so", &[warning]);
}

#[test]
fn the_copy_for_every_cpu_is_kept_and_the_others_are_told() {
    let files = "/p = ELF interp=/ld.so needed=liba.so\n/l/liba.so = ELF\n\
                 /l/glibc-hwcaps/x86-64-v3/liba.so = ELF";
    let out = "copies for x86-64-v3 CPUs are left out (/l/glibc-hwcaps/x86-64-v3/liba.so): the \
               copies for every CPU are in; name the others in the spec to have them too";
    check_warning(files, "/p", &[out]);
    // A trace on a newer CPU names the other copy alone.
    let v3 = "/l/glibc-hwcaps/x86-64-v3/liba.so";
    check(files, v3, "/l/glibc-hwcaps/x86-64-v3/liba.so /l/liba.so");
}

#[test]
fn a_library_for_some_cpus_only_is_taken_and_told() {
    let files = "/p = ELF interp=/ld.so needed=liba.so\n/l/glibc-hwcaps/x86-64-v2/liba.so = ELF";
    let told = "/l/glibc-hwcaps/x86-64-v2/liba.so runs only on CPUs of level x86-64-v2, and there \
                is no copy for others";
    check_warning(files, "/p", &[told]);
}

#[test]
fn a_program_for_newer_cpus_is_told() {
    let told = "/p runs only on CPUs of level x86-64-v3 and above";
    check_warning("/p = ELF interp=/ld.so isa=7", "/p", &[told]);
    check_warning("/p = ELF interp=/ld.so isa=1", "/p", &[]);
}

#[test]
fn musl_finds_libraries_by_its_own_file() {
    let files = "/lib/ld-musl-x86_64.so.1 = ELF\n/etc/ld-musl-x86_64.path = /m:/n\\n\n\
                 /p = ELF interp=/lib/ld-musl-x86_64.so.1 needed=libc.musl-x86_64.so.1 needed=libz.so\n\
                 /n/libz.so = ELF";
    let expected = "/etc/ld-musl-x86_64.path /lib/ld-musl-x86_64.so.1 /n/libz.so /p";
    check(files, "/p", expected);
}

#[test]
fn scripts_bring_their_interpreters() {
    let files = "/bin/a = #! /bin/b -x\\n\n/bin/b = #!/usr/bin/env -S c -y\\n\n\
                 /usr/bin/env = x\n/usr/bin/c = x";
    check(files, "/bin/a", "/bin/a /bin/b /usr/bin/c /usr/bin/env");
}

#[test]
fn a_script_that_the_run_only_read_starts_nothing() {
    let path = crate::RootPath::new(b"/m.py").unwrap();
    let options = Options { not_executed: [path].into(), ..Options::default() };
    let closure = testing::close("/m.py = #!/usr/bin/python\\n", "/m.py", &options);
    assert_eq!((lines(&closure), closure.missing.len()), (vec!["/m.py".to_owned()], 0));
}

#[test]
fn libraries_of_notes_are_taken_by_their_priority() {
    let note = |priority| {
        format!(
            r#"/p = ELF interp=/ld.so dlopen=[{{"soname":["liba.so"],"priority":"{priority}"}}]"#
        )
    };
    let library = "/l/liba.so = ELF";
    check(&format!("{}\n{library}", note("recommended")), "/p", "/l/liba.so /ld.so /p");
    let told = "/p may load liba.so for something optional, which is left out: add /l/liba.so to \
                the spec if it is wanted";
    check_warning(&format!("{}\n{library}", note("suggested")), "/p", &[told]);
    check_warning(&note("suggested"), "/p", &[]);
    let wanted = "liba.so (the library liba.so that /p says it may load): the loader looks for it \
                  nowhere";
    check_missing(&note("required"), "/p", &[wanted]);
}

#[test]
fn what_is_missing_is_all_told_with_who_wants_it() {
    let files = "/p = ELF interp=/gone.so needed=liba.so needed=libb.so runpath=/x\n\
                 /x/liba.so = text\n/s = #!/bin/gone\\n\n/a -> b\n/b -> a\n/d -> nowhere";
    let expected = [
        "/a (a line of the spec): too many links, /a is in a loop of them",
        "/bin/gone (the `#!` interpreter of /s): there is no /bin",
        "/d (a line of the spec): the link /d leads nowhere: there is no /nowhere",
        "/gone.so (the ELF interpreter of /p): there is no /gone.so",
        "/nothing (a line of the spec): there is no /nothing",
        "liba.so (the library liba.so needed by /p): /x/liba.so is not an ELF file",
    ];
    let missing = closed(files, "/p /s /a /d /nothing").missing;
    let found: Vec<String> = missing.iter().map(ToString::to_string).collect();
    assert_eq!(found[..6], expected);
    assert!(
        found[6].starts_with("libb.so (the library libb.so needed by /p): it is in none of /x, ")
    );
    assert_eq!(found.len(), 7);
}

#[test]
fn a_broken_elf_file_is_missing_with_what_is_wrong() {
    let expected =
        "/p (a line of the spec): /p is a broken ELF file: the file ends before its header";
    check_missing("/p = \x7fELF\x02\x01", "/p", &[expected]);
}

#[test]
fn a_link_that_the_run_only_looked_at_may_dangle() {
    let path = crate::RootPath::new(b"/l").unwrap();
    let options = Options { looked_at: [path].into(), ..Options::default() };
    let closure = testing::close("/l -> gone", "/l", &options);
    assert_eq!((lines(&closure), closure.missing.len()), (vec!["/l".to_owned()], 0));
}

#[test]
fn the_runtime_s_files_are_not_shipped() {
    let closure = closed("/etc/mtab -> /proc/self/mounts\n/dev/null", "/etc/mtab /dev/null /dev");
    assert_eq!(lines(&closure), ["/dev", "/etc/mtab"]);
    let runtime: Vec<_> = closure.runtime.keys().map(ToString::to_string).collect();
    assert_eq!(runtime, ["/dev/null", "/proc/self/mounts"]);
}

#[test]
fn preloaded_libraries_come_with_what_they_need() {
    let files = "/p = ELF interp=/ld.so\n/etc/ld.so.preload = /x/pre.so # always\\n\n\
                 /x/pre.so = ELF needed=liba.so\n/l/liba.so = ELF";
    check(files, "/p", "/etc/ld.so.preload /l/liba.so /ld.so /p /x/pre.so");
}
