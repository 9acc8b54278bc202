//! The `#!` line of a script, as the kernel reads it (`binfmt_script.c`).

/// Bytes of a file that the kernel looks at (`BINPRM_BUF_SIZE`).
pub const HEAD: usize = 256;

/// What a `#!` line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shebang {
    /// The interpreter's path.
    pub interpreter: Box<[u8]>,
    /// All that follows it, as one argument.
    pub argument: Option<Box<[u8]>>,
}

/// Reads the `#!` line at the beginning of `file`; nothing where there is none
/// that the kernel would take.
pub fn parse(file: &[u8]) -> Option<Shebang> {
    let head = file.get(..HEAD.min(file.len()))?;
    let text = head.strip_prefix(b"#!")?;
    let line = match text.iter().position(|&b| b == b'\n') {
        Some(end) => text.get(..end)?,
        // A line that goes on past what the kernel sees is taken only where
        // the interpreter's name ends before. A shorter file ends with a NUL.
        None if head.len() < HEAD => text,
        None => {
            let name = trim_start(text);
            name.iter().any(|&b| is_end(b)).then_some(text)?
        }
    };
    let line = trim_start(trim_end(line));
    let end = line.iter().position(|&b| is_end(b)).unwrap_or(line.len());
    let (interpreter, rest) = line.split_at_checked(end)?;
    let rest = match rest.first() {
        Some(0) | None => &[],
        Some(_) => trim_start(rest),
    };
    let argument = rest.split(|&b| b == 0).next().unwrap_or_default();
    (!interpreter.is_empty()).then(|| Shebang {
        interpreter: interpreter.into(),
        argument: (!argument.is_empty()).then(|| argument.into()),
    })
}

impl Shebang {
    /// The program that env(1) starts, where the interpreter is env.
    pub fn env_program(&self) -> Option<Box<[u8]>> {
        if self.interpreter.rsplit(|&b| b == b'/').next() != Some(b"env") {
            return None;
        }
        let argument = self.argument.as_deref()?;
        let Some(words) = split_string(argument) else {
            // Without -S the argument is one word.
            return (!argument.starts_with(b"-") && !argument.contains(&b'='))
                .then(|| argument.into());
        };
        let mut words = words.split(|b| b" \t".contains(b)).filter(|word| !word.is_empty());
        while let Some(word) = words.next() {
            match word {
                b"-u" | b"-C" | b"--unset" | b"--chdir" => drop(words.next()),
                _ if word.starts_with(b"-") || word.contains(&b'=') => {}
                _ => return Some(word.into()),
            }
        }
        None
    }
}

/// What follows `-S`, which splits the kernel's one argument into words.
fn split_string(argument: &[u8]) -> Option<&[u8]> {
    let options = [b"-S".as_slice(), b"-vS", b"-iS", b"-ivS", b"-viS", b"--split-string="];
    options
        .iter()
        .find_map(|option| argument.strip_prefix(*option))
        .or_else(|| argument.strip_prefix(b"--split-string "))
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn is_end(byte: u8) -> bool {
    is_blank(byte) || byte == 0
}

fn trim_start(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|&b| !is_blank(b)).unwrap_or(text.len());
    text.get(start..).unwrap_or_default()
}

fn trim_end(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|&b| !is_blank(b)).map_or(0, |last| last + 1);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(file: &[u8], interpreter: &str, argument: Option<&str>) {
        let found = parse(file).expect("a #! line");
        assert_eq!(found.interpreter.escape_ascii().to_string(), interpreter);
        let found = found.argument.map(|a| a.escape_ascii().to_string());
        assert_eq!(found.as_deref(), argument);
    }

    #[track_caller]
    fn check_env(line: &str, program: Option<&str>) {
        let found = parse(line.as_bytes()).unwrap().env_program();
        assert_eq!(found.map(|p| p.escape_ascii().to_string()).as_deref(), program);
    }

    #[test]
    fn blanks_around_the_interpreter_do_not_count() {
        check(b"#! \t/bin/sh \t\necho", "/bin/sh", None);
        check(b"#!/bin/sh\t-e -u \nx", "/bin/sh", Some("-e -u"));
        check(b"#!/bin/sh", "/bin/sh", None);
        check(b"#!/bin/sh\r\n", "/bin/sh\\r", None);
    }

    #[test]
    fn a_line_is_cut_after_256_bytes_but_not_a_name() {
        let long = [b"#!/bin/sh ".as_slice(), &[b'x'; 300]].concat();
        check(&long, "/bin/sh", Some(&"x".repeat(HEAD - 10)));
        assert_eq!(parse(&[b"#!/".as_slice(), &[b'x'; 300]].concat()), None);
    }

    #[test]
    fn what_is_no_line_for_the_kernel_is_none() {
        for file in [b"#!".as_slice(), b"#!\n/bin/sh", b"#! \t \n", b"# !/bin/sh", b"", b"#"] {
            assert_eq!(parse(file), None, "{}", file.escape_ascii());
        }
    }

    #[test]
    fn env_starts_the_first_word_that_is_a_program() {
        check_env("#!/usr/bin/env python3\n", Some("python3"));
        check_env("#!/usr/bin/env -S python3 -u\n", Some("python3"));
        check_env("#!/usr/bin/env -S -i A=b -u C node --x\n", Some("node"));
        check_env("#!/usr/bin/env -Sperl\n", Some("perl"));
        check_env("#!/usr/bin/env -i\n", None);
        check_env("#!/bin/sh env\n", None);
    }
}
