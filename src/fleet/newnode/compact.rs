//! A shell script without what only its readers need.

/// Takes comments and indentation out of a script, but for its first line and what is
/// between `<<END` and `END`, which are files.
pub fn compact(script: &str) -> String {
    let mut text = String::new();
    let mut file = false;
    for (number, line) in script.lines().enumerate() {
        let bare = line.trim_start();
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
}
