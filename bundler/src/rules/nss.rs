//! nsswitch.conf(5).

/// Returns the services of a database in the order in which glibc asks them;
/// where the file does not have the database, glibc's own defaults.
pub(super) fn services<'a>(config: &'a [u8], database: &str) -> Vec<&'a [u8]> {
    let line = config.split(|&b| b == b'\n').find_map(|line| {
        let line = line.split(|&b| b == b'#').next().unwrap_or_default().trim_ascii();
        line.strip_prefix(database.as_bytes())?.trim_ascii_start().strip_prefix(b":")
    });
    match (line, database) {
        (Some(line), _) => words(line),
        (None, "hosts") => vec![b"dns", b"files"],
        (None, _) => vec![b"files"],
    }
}

/// The words outside of `[STATUS=action]`.
fn words(line: &[u8]) -> Vec<&[u8]> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        match rest.first() {
            None => return words,
            Some(b'[') => {
                let end = rest.iter().position(|&b| b == b']').map_or(rest.len(), |at| at + 1);
                rest = rest.get(end..).unwrap_or_default();
            }
            Some(_) => {
                let is_end = |b: &u8| b.is_ascii_whitespace() || *b == b'[';
                let end = rest.iter().position(is_end).unwrap_or(rest.len());
                let (word, after) = rest.split_at(end);
                // A service's name becomes part of a file's name.
                if word.iter().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(b)) {
                    words.push(word);
                }
                rest = after;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(config: &str, database: &str, expected: &[&str]) {
        let found = services(config.as_bytes(), database);
        let found: Vec<_> = found.iter().map(|s| String::from_utf8_lossy(s)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn services_are_the_words_without_their_actions() {
        let config =
            "# none\npasswd: files systemd\nhosts:\tfiles mdns4_minimal [NOTFOUND=return] dns#x\n";
        check(config, "passwd", &["files", "systemd"]);
        check(config, "hosts", &["files", "mdns4_minimal", "dns"]);
        check(config, "group", &["files"]);
        check("hosts: files[success=return]dns", "hosts", &["files", "dns"]);
    }

    #[test]
    fn a_service_cannot_name_a_file_elsewhere() {
        check("passwd: ../../x files [", "passwd", &["files"]);
    }
}
