//! A shell script without what only its readers need.

/// The comments around what only those need who come by ssh.
const BY_SSH: [&str; 2] = ["# Over ssh only:", "# Always:"];

/// Takes comments and indentation out of a script, but for its first line and what is
/// between `<<END` and `END`, which are files; and what is for ssh only.
pub fn compact(script: &str) -> String {
    let mut text = String::new();
    let [mut file, mut by_ssh] = [false; 2];
    for (number, line) in script.lines().enumerate() {
        let bare = line.trim_start();
        by_ssh = (by_ssh || bare == BY_SSH[0]) && bare != BY_SSH[1];
        if by_ssh {
            continue;
        }
        if file {
            file = line != "END";
        } else if bare.is_empty() || bare.starts_with('#') && number > 0 {
            continue;
        } else {
            file = bare.contains("<<END");
        }
        text.push_str(if file && !bare.contains("<<END") { line } else { bare });
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_in_a_script_stay_as_they_are() {
        let script =
            "#!/bin/sh\n# why\nf() {\n  # x\n  put a <<END\n# kept\n  b\n\nEND\n\n  c\n}\n";
        let expected = "#!/bin/sh\nf() {\nput a <<END\n# kept\n  b\n\nEND\nc\n}\n";
        assert_eq!(compact(script), expected);
    }

    #[test]
    fn what_is_for_ssh_is_left_out() {
        assert_eq!(compact("a\n# Over ssh only:\nb\n# Always:\nc\n"), "a\nc\n");
        let setup = include_str!("setup.sh");
        assert!(BY_SSH.iter().all(|mark| setup.lines().any(|line| line == *mark)));
        assert!(!compact(setup).contains("newnode-undo"));
    }
}
