//! The page: one file that loads nothing.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::html::{self, count, escape, size};
use super::model::Model;
use super::policy::policy;
use super::tables;
use super::treemap::{Node, draw};
use crate::evidence::File;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
/// What a file without a package is counted to.
const NOBODY: &str = "no package";
/// Width and height of the maps, on wide screens and on narrow ones.
const SHAPES: [(&str, u32, u32); 2] = [("wide", 1200, 560), ("narrow", 420, 620)];

/// Returns the page.
pub(super) fn write(model: &Model) -> String {
    let name = escape(&model.name);
    let policy = escape(&policy(STYLE, SCRIPT));
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{name}: what is in it and why</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
    );
    header(&mut page, model);
    page.push_str("<main>\n");
    if let Some(changes) = &model.changes {
        tables::changes(&mut page, changes, model.bytes);
    }
    maps(&mut page, model);
    tables::files(&mut page, model);
    tables::packages(&mut page, model);
    tables::left_out(&mut page, &model.left_out);
    tables::writable(&mut page, model);
    model.rights.section(&mut page);
    tables::special(&mut page, model);
    let _ = write!(
        page,
        "</main>\n<footer>Made by vz {} from the evidence beside the bundle. This page loads \
         nothing.</footer>\n<script>{SCRIPT}</script>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION")
    );
    page
}

fn header(page: &mut String, model: &Model) {
    let words: Vec<String> = model.args.iter().map(|word| escape(word)).collect();
    let _ = write!(
        page,
        "<header class=\"top\">\n<h1>{}</h1>\n<p class=\"digest mono\">{}</p>\n\
         <p class=\"command mono\">{} <span class=\"digest\">as user {}</span></p>\n<nav class=\"tiles\">\n",
        escape(&model.name),
        escape(&model.diff_id),
        words.join(" "),
        escape(&model.user)
    );
    let mut tile = |to: &str, number: String, what: &str, warn: bool| {
        let class = if warn { "tile warn" } else { "tile" };
        let _ = writeln!(
            page,
            "<a class=\"{class}\" href=\"#{to}\"><b>{number}</b><span>{what}</span></a>"
        );
    };
    let partial = model.packages.iter().filter(|package| package.partial).count();
    tile("all-files", count(model.count as u64), "files", false);
    tile("maps", size(model.bytes), "in all", false);
    let packages = format!("packages, {} of them in part", count(partial as u64));
    tile("packages", count(model.packages.len() as u64), &packages, false);
    let left: u64 = match &model.left_out.total {
        Some(total) => total.bytes,
        None => {
            let packages = model.left_out.packages.iter();
            packages.fold(0, |sum, package| sum.saturating_add(package.left_out.bytes))
        }
    };
    let what = match model.left_out.total {
        Some(_) => "left out of the root",
        None => "left out of these packages",
    };
    tile("left-out", size(left), what, false);
    tile("writable", count(model.writable.len() as u64), "writable places", false);
    let special = model.special.len() as u64;
    tile("special", count(special), "special modes", special > 0);
    if let Some(changes) = &model.changes {
        let number = changes.added.len() + changes.removed.len() + changes.changed.len();
        tile("changes", count(number as u64), "changes since the old one", number > 0);
    }
    page.push_str("</nav>\n</header>\n");
}

fn maps(page: &mut String, model: &Model) {
    page.push_str(
        "<section id=\"maps\">\n<h2>Where the bytes are</h2>\n<div class=\"bar-row\">\
         <p class=\"lead\">Each area is a size. Point at one for its name; a click lists its files.</p>\
         <div class=\"toggle\" role=\"group\" aria-label=\"What the map shows\">\
         <button data-map=\"by-directory\" aria-pressed=\"true\">By directory</button>\
         <button data-map=\"by-package\" aria-pressed=\"false\">By package</button></div></div>\n",
    );
    for (id, root) in
        [("by-directory", by_directory(&model.files)), ("by-package", by_package(model))]
    {
        let _ = writeln!(page, "<div id=\"{id}\">");
        for (class, width, height) in SHAPES {
            page.push_str(&draw(&root, class, width, height));
        }
        page.push_str("</div>\n");
    }
    page.push_str("</section>\n");
}

/// The files in their directories; one that holds nothing but another is drawn
/// with it as one.
fn by_directory(files: &[File]) -> Node {
    #[derive(Default)]
    struct Dir<'a> {
        dirs: BTreeMap<&'a [u8], Dir<'a>>,
        files: Vec<&'a File>,
    }
    fn node(dir: &Dir<'_>, path: &[u8]) -> Node {
        let text = |bytes: &[u8]| html::text(&tracer::record::BytePath(bytes.to_vec()));
        let mut children: Vec<Node> = Vec::new();
        for (name, below) in &dir.dirs {
            let below_path = [path, b"/", name].concat();
            let mut child = node(below, &below_path);
            // A chain of single directories is one frame.
            child.label = match child.children.as_slice() {
                [only] if !only.children.is_empty() => {
                    let label = format!("{}/{}", text(name), only.label);
                    child = child.children.swap_remove(0);
                    label
                }
                _ => text(name),
            };
            children.push(child);
        }
        for file in &dir.files {
            let path = text(&file.path.0);
            children.push(Node {
                label: path.rsplit('/').next().unwrap_or_default().to_owned(),
                title: path.clone(),
                find: path,
                bytes: file.size,
                children: Vec::new(),
            });
        }
        children.retain(|child| child.bytes > 0);
        let shown = if path.is_empty() { "/".to_owned() } else { text(path) };
        Node {
            label: shown.clone(),
            title: shown.clone(),
            find: if path.is_empty() { String::new() } else { format!("{shown}/") },
            bytes: children.iter().map(|child| child.bytes).sum(),
            children,
        }
    }
    let mut root = Dir::default();
    for file in files.iter().filter(|file| file.size > 0) {
        let mut dir = &mut root;
        let mut names =
            file.path.0.split(|&b| b == b'/').filter(|name| !name.is_empty()).peekable();
        while let Some(name) = names.next() {
            if names.peek().is_some() {
                dir = dir.dirs.entry(name).or_default();
            }
        }
        dir.files.push(file);
    }
    node(&root, b"")
}

/// The packages, each with what it alone is counted to: the first owner's.
fn by_package(model: &Model) -> Node {
    let mut bytes: BTreeMap<&str, u64> = BTreeMap::new();
    for file in &model.files {
        let owner = file.packages.first().map_or("", String::as_str);
        *bytes.entry(owner).or_default() += file.size;
    }
    let names: BTreeMap<&str, String> = model
        .packages
        .iter()
        .map(|one| (one.purl.as_str(), format!("{} {}", one.name, one.version)))
        .collect();
    let children: Vec<Node> = bytes
        .into_iter()
        .filter(|(_, bytes)| *bytes > 0)
        .map(|(purl, bytes)| {
            let title = names.get(purl).cloned().unwrap_or_else(|| NOBODY.to_owned());
            Node {
                label: title
                    .split(' ')
                    .next()
                    .filter(|_| !purl.is_empty())
                    .unwrap_or(NOBODY)
                    .to_owned(),
                find: title.clone(),
                title,
                bytes,
                children: Vec::new(),
            }
        })
        .collect();
    Node {
        title: "bytes by package".to_owned(),
        bytes: children.iter().map(|child| child.bytes).sum(),
        children,
        ..Node::default()
    }
}
