//! Which files a program that failed may have missed, inferred from what it logged. Pure.
//!
//! A path counts only where it stands beside the words that say so: lines name scripts,
//! requests and configurations, too.

/// How programs say that a file is not there: strerror(ENOENT), its name, Go's words; and
/// those of Java, of its launcher, and of node, after which the path comes.
const WORDS: [&str; 6] = [
    "No such file or directory",
    "no such file or directory",
    "ENOENT",
    "NoSuchFileException",
    "Unable to access jarfile",
    "Cannot find module",
];

/// What may stand between a path and those words after it, in small letters: `failed (2:`,
/// `[Errno 2]`, `cannot open shared object file`.
const BEHIND: [&str; 14] = [
    "failed", "2", "errno", "error", "os", "enoent", "cannot", "can't", "open", "shared", "object",
    "file", "not", "found",
];

/// What may stand between those words and a path after them: the call.
const CALLS: [&str; 21] = [
    "open", "openat", "fopen", "calling", "stat", "lstat", "access", "scandir", "opendir",
    "readlink", "realpath", "chdir", "mkdir", "rename", "unlink", "copyfile", "watch", "exec",
    "execve", "spawn", "for",
];

/// What a server says of a request: what somebody asked for is nothing that it needs.
const REQUESTS: [&str; 7] =
    [" HTTP/", "\"GET ", "\"POST ", "\"HEAD ", "\"PUT ", "\"DELETE ", "[client "];

/// Returns the absolute paths in lines that say so, and the names of libraries, each once,
/// of those that the bundle does not have; `has` says which it has.
pub fn inferred(log: &[String], has: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in log.iter().filter(|line| !REQUESTS.iter().any(|sign| line.contains(sign))) {
        for (at, word) in WORDS.iter().flat_map(|word| line.match_indices(word)) {
            let (before, after) = (line.get(..at), line.get(at + word.len()..));
            let named = before.and_then(before_words).or_else(|| after.and_then(after_words));
            if let Some(path) = named.filter(|path| !has(path) && !found.contains(path)) {
                found.push(path);
            }
        }
    }
    found
}

/// The path that stands before the words, with nothing but fillers between.
fn before_words(text: &str) -> Option<String> {
    let mut words = words(text);
    while words.last().is_some_and(|word| BEHIND.contains(&word.to_lowercase().as_str())) {
        words.pop();
    }
    let last = words.pop()?;
    named(&last).or_else(|| {
        // Only the loader says what a library is called, and not where it looked.
        let library = last.contains(".so") && !last.contains('/');
        let loaded = ["shared libraries", "shared library"].iter().any(|sign| text.contains(sign));
        (library && loaded).then_some(last)
    })
}

/// The path that stands after the words, with nothing but a call between.
fn after_words(text: &str) -> Option<String> {
    let words = words(text);
    let is_call = |word: &&String| CALLS.contains(&word.as_str());
    named(words.iter().find(|word| !is_call(word))?)
}

/// A word that is an absolute path.
fn named(word: &str) -> Option<String> {
    let path = word.trim_end_matches(['.', '/', '\\']);
    let is_path = path.len() > 1 && path.starts_with('/') && !path.starts_with("//");
    is_path.then(|| path.to_owned())
}

/// The words of a text; one that begins a quote with a path goes to the end of the quote.
fn words(text: &str) -> Vec<String> {
    let close = |quote: char| match quote {
        '‘' => '’',
        '“' => '”',
        other => other,
    };
    let divides = |c: char| c.is_whitespace() || "'\"`‘’“”(),;:=[]<>{}".contains(c);
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let behind = rest.get(first.len_utf8()..).unwrap_or_default();
        let quoted = ['\'', '"', '`', '‘', '“'].contains(&first) && behind.starts_with('/');
        if let Some((word, after)) = behind.split_once(close(first)).filter(|_| quoted) {
            words.push(word.to_owned());
            rest = after;
        } else if divides(first) {
            rest = behind;
        } else {
            let end = rest.find(|c: char| divides(c) && c != '\'').unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            words.push(word.trim_end_matches('\'').to_owned());
            rest = after;
        }
    }
    words
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
mod tests;
