//! Which files a program that failed may have missed, inferred from what it logged. Pure.

/// How programs say that a file is not there: strerror(ENOENT), its name, Go's and
/// the loader's words.
const WORDS: [&str; 4] = [
    "No such file or directory",
    "ENOENT",
    "no such file or directory",
    "cannot open shared object file",
];

/// Returns the absolute paths in lines that say so, each once, of those that the
/// bundle does not have; `has` says which it has.
pub fn inferred(log: &[String], has: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in log.iter().filter(|line| WORDS.iter().any(|word| line.contains(word))) {
        let quotes = |c: char| c.is_whitespace() || "'\"`(),;:=[]<>".contains(c);
        for word in line.split(quotes) {
            let path = word.trim_end_matches(['.', '/']);
            let is_path = path.len() > 1 && path.starts_with('/') && !path.starts_with("//");
            if is_path && !has(path) && !found.iter().any(|known| known == path) {
                found.push(path.to_owned());
            }
        }
    }
    found
}

/// What else a log says of why a program does not run on nodes.
pub fn advice(log: &[String]) -> Option<&'static str> {
    let opens = |line: &&String| {
        ["/dev/stdout", "/dev/stderr"].iter().any(|name| line.contains(name))
            && line.contains("No such device or address")
    };
    log.iter().find(opens).map(|_| {
        "its standard streams are sockets of the journal, which open(2) refuses: let it log to \
         the open ones (nginx: `error_log stderr; access_log syslog:server=unix:/dev/log` or off)"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: &[&str]) {
        let has = |path: &str| path == "/usr/bin/app";
        assert_eq!(inferred(&[line.to_owned(), line.to_owned()], &has), expected, "{line}");
    }

    #[test]
    fn programs_say_in_many_ways_that_a_file_is_missing() {
        check(
            "nginx: [emerg] open() \"/etc/nginx/mime.types\" failed (2: No such file or directory)",
            &["/etc/nginx/mime.types"],
        );
        check(
            "FileNotFoundError: [Errno 2] No such file or directory: '/srv/app/conf.json'",
            &["/srv/app/conf.json"],
        );
        check("Error: ENOENT: no such file or directory, open '/x/y.js'", &["/x/y.js"]);
        check("open /etc/app.toml: no such file or directory", &["/etc/app.toml"]);
        check("cat: /data/: No such file or directory.", &["/data"]);
        check(
            "/usr/bin/app: /lib/libz.so.1: cannot open shared object file: No such file or directory",
            &["/lib/libz.so.1"],
        );
    }

    #[test]
    fn a_stream_that_cannot_be_opened_by_its_name_is_told_of() {
        let line = "[emerg] open() \"/dev/stdout\" failed (6: No such device or address)";
        assert!(advice(&[line.to_owned()]).unwrap().contains("sockets of the journal"));
        assert_eq!(advice(&["/dev/stdout is open".to_owned()]), None);
    }

    #[test]
    fn other_lines_and_files_that_are_there_say_nothing() {
        check("listening on http://0.0.0.0:80/index.html", &[]);
        check("/usr/bin/app: No such file or directory", &[]);
        check("open config.toml: no such file or directory", &[]);
        check("no route for /api/users", &[]);
    }
}
