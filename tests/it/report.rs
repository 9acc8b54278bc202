//! `vzbuild report`: the page, read as text and looked at by a browser.

use std::fs;

use serde_json::Value;

use crate::evidence::{bundle, root};
use crate::sandbox::{Finished, Need, Sandbox, require};

const BROWSER: Need = Need::Program("chromium-headless-shell", "chromium-headless-shell");

fn json(sandbox: &Sandbox, args: &[&str]) -> Value {
    let told = sandbox.run("vzbuild", [&["report", "--json"], args].concat()).success().stdout();
    serde_json::from_str(&told).unwrap()
}

/// The page of a bundle.
fn page(sandbox: &Sandbox, args: &[&str]) -> String {
    sandbox.run("vzbuild", [&["report", "-o", "report.html"], args].concat()).success();
    fs::read_to_string(sandbox.path("report.html")).unwrap()
}

/// What is between `start` and the next `end`.
#[track_caller]
fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(start).unwrap_or_else(|| panic!("no {start}"));
    rest.split_once(end).unwrap_or_else(|| panic!("no {end} after {start}")).0
}

/// A page as a browser has it after its script ran, and what it said meanwhile.
fn browse(sandbox: &Sandbox, address: &str) -> (String, String) {
    let mut browser = sandbox.command("chromium-headless-shell");
    browser.args(["--no-sandbox", "--disable-gpu", "--disable-background-networking"]);
    browser.args(["--disable-component-update", "--disable-sync", "--no-first-run"]);
    browser.args([
        "--user-data-dir=profile",
        "--log-net-log=net.json",
        "--net-log-capture-mode=Default",
    ]);
    browser.args(["--enable-logging=stderr", "--dump-dom"]);
    let address = format!("file://{}/{address}", sandbox.path("").display());
    let seen = Finished::of(browser.arg(address)).success();
    (seen.stdout(), seen.stderr())
}

/// Messages of the page's console, and addresses that were asked for elsewhere.
fn complaints(sandbox: &Sandbox, said: &str) -> (Vec<String>, Vec<String>) {
    let console = said.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect();
    let log = fs::read_to_string(sandbox.path("net.json")).unwrap();
    let urls = log.split("\"url\":\"").skip(1).filter_map(|rest| rest.split('"').next());
    let outside = urls.filter(|url| url.starts_with("http")).map(str::to_owned).collect();
    (console, outside)
}

#[test]
fn the_page_names_every_file_and_no_name_is_markup() {
    let sandbox = Sandbox::new();
    root(&sandbox);
    bundle(&sandbox, "b", &["--scanner-files"]);
    let told = json(&sandbox, &["b"]);
    let page = page(&sandbox, &["b"]);
    assert!(page.contains("/srv/&lt;script&gt;alert(1)&lt;\\script&gt;"));
    assert!(!page.contains("<script>alert"));
    for file in told["files"].as_array().unwrap() {
        let path = file["path"].as_str().unwrap();
        let shown = path.replace('<', "&lt;").replace('>', "&gt;");
        assert!(page.contains(&format!("<td class=\"path\">{shown}")), "no {path}");
    }
    for section in ["maps", "all-files", "packages", "left-out", "writable", "special"] {
        assert!(page.contains(&format!("<section id=\"{section}\">")), "no {section}");
    }
    // Nothing is fetched, whatever it is.
    for word in ["src=", "url(", "@import", "<link", "<iframe"] {
        assert!(!page.contains(word), "{word}");
    }
    assert_eq!(
        between(&page, "<h2>Packages</h2>", "</section>").matches("in part</span>").count(),
        2
    );
}

#[test]
fn special_modes_and_writable_places_are_told() {
    let sandbox = Sandbox::new();
    root(&sandbox);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o4755);
    fs::set_permissions(sandbox.path("root/usr/bin/run"), mode).unwrap();
    bundle(&sandbox, "b", &["--tmpfs", "/var/cache:1m", "--volume", "/srv/data:/data"]);
    let told = json(&sandbox, &["b"]);
    assert_eq!(told["special"][0]["path"], "/usr/bin/run");
    assert!(told["special"][0]["what"][0].as_str().unwrap().starts_with("setuid, runs as user"));
    let places: Vec<_> =
        told["writable"].as_array().unwrap().iter().map(|p| (&p["path"], &p["kept"])).collect();
    assert!(places.contains(&(&"/var/cache".into(), &false.into())), "{places:?}");
    assert!(places.contains(&(&"/data".into(), &true.into())), "{places:?}");
}

#[test]
fn what_has_changed_since_an_old_bundle_is_named() {
    let sandbox = Sandbox::new();
    root(&sandbox);
    bundle(&sandbox, "old", &[]);
    sandbox.write("root/srv/site-packages/flask/app.py", "import that, and more");
    let status = fs::read_to_string(sandbox.path("root/var/lib/dpkg/status")).unwrap();
    sandbox.write("root/var/lib/dpkg/status", status.replace("1:2.0-1", "1:2.0-2"));
    let spec = fs::read_to_string(sandbox.path("spec")).unwrap();
    sandbox.write("spec", spec.replace("/srv/gems/gems/rack-2.2/lib/rack.rb", "/srv/other/file"));
    bundle(&sandbox, "new", &[]);
    let told = json(&sandbox, &["new", "--against", "old"]);
    let changes = &told["changes"];
    let paths = |key: &str| -> Vec<&str> {
        changes[key].as_array().unwrap().iter().map(|one| one["path"].as_str().unwrap()).collect()
    };
    assert_eq!(paths("added"), ["/srv/other/file"]);
    assert_eq!(paths("removed"), ["/srv/gems/gems/rack-2.2/lib/rack.rb"]);
    assert_eq!(paths("changed"), ["/srv/site-packages/flask/app.py"]);
    let packages = serde_json::json!([
        { "name": "other", "old": null, "new": "1" },
        { "name": "rack", "old": "2.2", "new": null },
        { "name": "run", "old": "1:2.0-1", "new": "1:2.0-2" },
    ]);
    assert_eq!(changes["packages"], packages);
    let page = page(&sandbox, &["new", "--against", "old"]);
    assert!(between(&page, "<section id=\"changes\">", "</section>").contains("1:2.0-2"));
}

#[test]
fn what_has_no_evidence_is_said_so() {
    let sandbox = Sandbox::new();
    root(&sandbox);
    bundle(&sandbox, "b", &[]);
    bundle(&sandbox, "other", &["--scanner-files"]);
    sandbox.run("vzbuild", ["report", "root"]).status(3).says("cannot read `root/config.json`");
    fs::copy(sandbox.path("other/config.json"), sandbox.path("b/config.json")).unwrap();
    sandbox.run("vzbuild", ["report", "b"]).status(3).says("is of other files");
    assert!(!sandbox.path("report.html").exists());
}

#[test]
fn a_browser_searches_the_page_and_has_nothing_to_say() {
    if !require("a_browser_searches_the_page_and_has_nothing_to_say", &[BROWSER]) {
        return;
    }
    let sandbox = Sandbox::new();
    root(&sandbox);
    bundle(&sandbox, "b", &["--scanner-files"]);
    let told = json(&sandbox, &["b"]);
    page(&sandbox, &["b"]);

    let (all, said) = browse(&sandbox, "report.html");
    assert_eq!(complaints(&sandbox, &said), (vec![], vec![]));
    let rows = |dom: &str| {
        let table = between(dom, "<table id=\"files\">", "</table>");
        let body = between(table, "<tbody>", "</tbody>").to_owned();
        (body.matches("<tr").count(), body.matches("<tr hidden").count())
    };
    let files = told["files"].as_array().unwrap();
    assert_eq!(rows(&all), (files.len(), 0));

    // Each file with content is a cell of its own, each package too.
    let cells = |dom: &str, id: &str| {
        let map = between(dom, &format!("<div id=\"{id}\""), "</svg>").to_owned();
        map.matches("class=\"cell").count()
    };
    let with_content = files.iter().filter(|file| file["size"] != 0).count();
    assert_eq!(cells(&all, "by-directory"), with_content);
    // Those of run, base-files, flask, left-pad, rack, and what is nobody's.
    assert_eq!(cells(&all, "by-package"), 6);
    assert!(between(&all, "<div id=\"by-package\"", ">").contains("hidden"), "one map at a time");

    let (found, said) = browse(&sandbox, "report.html#q=RACK%20gemspec");
    assert_eq!(complaints(&sandbox, &said), (vec![], vec![]));
    assert_eq!(rows(&found), (files.len(), files.len() - 1));
    assert!(found.contains(&format!("1 of {}", files.len())));

    // Had there been anything to complain of, it would have been seen.
    let bad = "<img src=\"http://localhost:9/x\"><script>console.error('oh')</script>";
    sandbox.write("bad.html", bad);
    let (_, said) = browse(&sandbox, "bad.html");
    let (console, outside) = complaints(&sandbox, &said);
    assert!(console.iter().any(|line| line.contains("oh")), "{said}");
    assert!(outside.iter().any(|url| url == "http://localhost:9/x"), "{outside:?}");
}
