//! Lines of real programs.

use super::*;

#[track_caller]
fn check(line: &str, expected: &[&str]) {
    let has = |path: &str| path == "/usr/bin/app";
    assert_eq!(inferred(&[line.to_owned(), line.to_owned()], &has), expected, "{line}");
}

#[test]
fn programs_say_in_many_ways_that_a_file_is_missing() {
    check(
        "nginx: [emerg] open() \"/etc/nginx/mime.types\" failed (2: No such file or directory) in /etc/nginx/nginx.conf:13",
        &["/etc/nginx/mime.types"],
    );
    check(
        "nginx: [emerg] cannot load certificate \"/etc/ssl/a.pem\": BIO_new_file() failed (SSL: error:80000002:system library::No such file or directory:calling fopen(/etc/ssl/a.pem, r) error:10000080:BIO routines::no such file)",
        &["/etc/ssl/a.pem"],
    );
    check(
        "FileNotFoundError: [Errno 2] No such file or directory: '/srv/my app/conf.json'",
        &["/srv/my app/conf.json"],
    );
    check(
        "python3: can't open file '/app/main.py': [Errno 2] No such file or directory",
        &["/app/main.py"],
    );
    check("Error: ENOENT: no such file or directory, open '/x/y.js'", &["/x/y.js"]);
    check("Error: spawn /usr/bin/convert ENOENT", &["/usr/bin/convert"]);
    check("Error: Cannot find module '/app/server.js'", &["/app/server.js"]);
    check("Can't open perl script \"/srv/job.pl\": No such file or directory", &["/srv/job.pl"]);
    check(
        "cannot read /etc/job.conf: No such file or directory at /srv/job.pl line 3.",
        &["/etc/job.conf"],
    );
    check("open /etc/app.toml: no such file or directory", &["/etc/app.toml"]);
    check(
        "panic: fork/exec /bin/tool: no such file or directory (config /etc/app.toml)",
        &["/bin/tool"],
    );
    check(
        "Exception in thread \"main\" java.io.FileNotFoundException: /etc/app.conf (No such file or directory)",
        &["/etc/app.conf"],
    );
    check("java.nio.file.NoSuchFileException: /etc/app.conf", &["/etc/app.conf"]);
    check("Error: Unable to access jarfile /app/app.jar", &["/app/app.jar"]);
    check("cat: /data/: No such file or directory.", &["/data"]);
    check("ls: cannot access '/data': No such file or directory", &["/data"]);
    check("ls: cannot access ‘/data’: No such file or directory", &["/data"]);
    check("cat: can't open '/etc/absent.conf': No such file or directory", &["/etc/absent.conf"]);
    check("Error: cannot read /etc/a: No such file or directory (os error 2)", &["/etc/a"]);
}

#[test]
fn the_loader_names_libraries() {
    check(
        "/usr/bin/app: error while loading shared libraries: libz.so.1: cannot open shared object file: No such file or directory",
        &["libz.so.1"],
    );
    check(
        "/usr/bin/app: error while loading shared libraries: /lib/libz.so.1: cannot open shared object file: No such file or directory",
        &["/lib/libz.so.1"],
    );
    check(
        "Error loading shared library libz.so.1: No such file or directory (needed by /usr/bin/app)",
        &["libz.so.1"],
    );
}

#[test]
fn what_was_asked_for_is_nothing_that_a_server_needs() {
    check(
        "2026/11/21 10:00:00 [error] 7#7: *1 open() \"/www/no\" failed (2: No such file or directory), client: 10.0.0.1, server: _, request: \"GET /no HTTP/1.1\", host: \"a\"",
        &[],
    );
    check("10.0.0.1 - - [21/Nov/2026:10:00:00 +0000] \"GET /no HTTP/1.1\" 404 153", &[]);
    check(
        "[core:error] [pid 7] (2)No such file or directory: [client 10.0.0.1:5] AH00036: access to /no failed (filesystem path '/www/no')",
        &[],
    );
}

#[test]
fn a_path_that_is_only_mentioned_is_not_the_missing_one() {
    check("read /etc/app.conf; plugins: No such file or directory", &[]);
    check("No such file or directory at /srv/job.pl line 3.", &[]);
    check("  File \"/app/main.py\", line 3, in <module>", &[]);
    check("open /a: no such file or directory (searched in /etc/x and /opt/y)", &["/a"]);
    check("listening on http://0.0.0.0:80/index.html", &[]);
    check("/usr/bin/app: No such file or directory", &[]);
    check("open config.toml: no such file or directory", &[]);
    check("Error: Cannot find module 'express'", &[]);
    check("no route for /api/users", &[]);
}

#[test]
fn a_stream_that_cannot_be_opened_by_its_name_is_told_of() {
    let line = "[emerg] open() \"/dev/stdout\" failed (6: No such device or address)";
    assert!(advice(&[line.to_owned()]).unwrap().contains("sockets of the journal"));
    assert_eq!(advice(&["/dev/stdout is open".to_owned()]), None);
}
