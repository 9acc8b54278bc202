//! The codec for executables on what the compiler of this machine makes.

use std::fmt::Write;

use delta::{Effort, StreamReader, Streams, elf, split};

use crate::sandbox::{Need, Sandbox, require};

const FUNCTIONS: usize = 400;

/// A C program of functions that call one another, jump tables, a table of functions
/// and one of strings; some functions are longer where it is `new`.
fn program(new: bool) -> String {
    let mut source = String::from("#include <stdio.h>\n");
    let name = |n: usize| format!("f{}", n % FUNCTIONS);
    for n in 0..FUNCTIONS {
        writeln!(source, "int f{n}(int);").unwrap();
    }
    for n in 0..FUNCTIONS {
        let more = match new && n % 37 == 0 {
            true => format!("if (x == -{n}) puts(\"added {n}\");"),
            false => String::new(),
        };
        let (a, b, c) = (name(n * 7 + 1), name(n * 13 + 5), name(n * 29 + 11));
        writeln!(
            source,
            "__attribute__((noinline)) int f{n}(int x) {{ {more} if (x < {small}) return x + {n};
              switch (x % 7) {{
                case 0: return {a}(x - 1); case 1: puts(\"one {n}\"); return {n};
                case 2: return {b}(x - 2) * 3; case 3: return x * {n};
                case 4: return {c}(x / 2); case 5: printf(\"%d {n}\\n\", x); return 1;
                default: return x ^ {n}; }} }}",
            small = n % 9
        )
        .unwrap();
    }
    let list = |item: fn(usize) -> String| (0..FUNCTIONS).map(item).collect::<Vec<_>>().join(",");
    writeln!(source, "int (*const table[])(int) = {{{}}};", list(|n| format!("f{n}"))).unwrap();
    writeln!(source, "const char *const names[] = {{{}}};", list(|n| format!("\"name {n}\"")))
        .unwrap();
    source + "int main(int c, char **v) { puts(names[c]); return table[c](c); }\n"
}

/// With these flags of gcc, what changes between two versions of a program costs less
/// than half of what it costs without a look at references, and comes back.
#[track_caller]
fn check(test: &str, flags: &str) {
    if !require(test, &[Need::Program("gcc", "gcc")]) {
        return;
    }
    let sandbox = Sandbox::new();
    let made = |name: &str, new| {
        sandbox.write(&format!("{name}.c"), program(new));
        let source = format!("{name}.c");
        let args = flags.split(' ').chain(["-o", name, &source]);
        sandbox.run("gcc", args).success();
        std::fs::read(sandbox.path(name)).unwrap()
    };
    let (old, new) = (made("old", false), made("new", true));
    let (mut by_elf, mut by_split) = (Streams::new(), Streams::new());
    elf::encode(&old, &new, &mut by_elf, Effort::default()).expect("an executable");
    split::encode(&old, &new, &mut by_split, Effort::default());
    let block = by_elf.finish(Effort::default()).unwrap();
    let other = by_split.finish(Effort::default()).unwrap();
    assert!(block.len() * 2 < other.len(), "{flags}: {} and {}", block.len(), other.len());
    let mut input = StreamReader::open(&block, 0, u64::MAX >> 1).unwrap();
    let mut back = Vec::new();
    elf::decode(&old, new.len() as u64, &mut input, &mut back).unwrap();
    assert!(back == new, "{flags}");
}

#[test]
fn position_independent_with_packed_relocations_and_landing_pads() {
    let test = "position_independent_with_packed_relocations_and_landing_pads";
    check(test, "-O2 -fPIE -pie -Wl,-z,pack-relative-relocs -fcf-protection=full");
}

#[test]
fn the_same_stripped() {
    let flags = "-O2 -fPIE -pie -Wl,-z,pack-relative-relocs -fcf-protection=full -s";
    check("the_same_stripped", flags);
}

#[test]
fn position_independent_with_plain_relocations() {
    check("position_independent_with_plain_relocations", "-O2 -fPIE -pie -s");
}

#[test]
fn at_a_fixed_address() {
    check("at_a_fixed_address", "-O2 -fno-pie -no-pie -s");
}

#[test]
fn static_with_the_whole_libc() {
    check("static_with_the_whole_libc", "-O2 -static -s");
}

#[test]
fn a_shared_library() {
    check("a_shared_library", "-O2 -fPIC -shared -s");
}
