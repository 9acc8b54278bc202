//! The tables of the page.

use std::collections::HashMap;
use std::fmt::Write;

use super::changes::{Changed, Changes};
use super::html::{self, count, escape, size};
use super::model::Model;
use crate::evidence::{File, KeptPackage, LeftOut, Tally};

/// A list of changes that is longer is folded.
const MAX_OPEN: usize = 40;

/// A heading: its text, and whether its column has numbers.
type Heading = (&'static str, bool);

/// Begins a section with its heading and a sentence.
pub(super) fn begin(page: &mut String, id: &str, title: &str, lead: &str) {
    let _ = writeln!(page, "<section id=\"{id}\">\n<h2>{title}</h2>\n<p class=\"lead\">{lead}</p>");
}

pub(super) fn table(
    page: &mut String,
    id: &str,
    headings: &[Heading],
    rows: impl Iterator<Item = String>,
) {
    let id = if id.is_empty() { String::new() } else { format!(" id=\"{id}\"") };
    let _ = write!(page, "<div class=\"scroll\"><table{id}><thead><tr>");
    for (text, is_number) in headings {
        let class = if *is_number { " class=\"n\" data-number" } else { "" };
        let _ = write!(page, "<th{class} scope=\"col\"><button>{text}</button></th>");
    }
    page.push_str("</tr></thead>\n<tbody>\n");
    rows.for_each(|row| page.push_str(&row));
    page.push_str("</tbody></table></div>\n");
}

/// A number's cell, which sorts by the number itself.
fn number(value: u64, shown: &str, label: &str) -> String {
    format!("<td class=\"n\" data-value=\"{value}\" data-label=\"{label}\">{shown}</td>")
}

fn files_text(tally: Tally) -> String {
    let noun = if tally.files == 1 { "file" } else { "files" };
    format!("{}, {} {noun}", size(tally.bytes), count(tally.files))
}

pub(super) fn files(page: &mut String, model: &Model) {
    begin(
        page,
        "all-files",
        "Files, and why each is in",
        "Nothing is in without a reason: a line of the spec, or another file that needs it.",
    );
    page.push_str(
        "<div class=\"searching\"><input type=\"search\" id=\"q\" autocomplete=\"off\" \
         spellcheck=\"false\" aria-label=\"Search the files\" \
         placeholder=\"Search path, reason, process, package\"><span id=\"shown\" \
         role=\"status\"></span></div>\n",
    );
    let packages: HashMap<&str, &KeptPackage> =
        model.packages.iter().map(|package| (package.purl.as_str(), package)).collect();
    let headings = [
        ("Path", false),
        ("Size", true),
        ("Why", false),
        ("First used by", false),
        ("Package", false),
    ];
    table(page, "files", &headings, model.files.iter().map(|one| file(one, &packages)));
    page.push_str("</section>\n");
}

fn file(file: &File, packages: &HashMap<&str, &KeptPackage>) -> String {
    let mut row = format!("<tr><td class=\"path\">{}", html::path(&file.path));
    let kind = match (&*file.kind, &file.target) {
        ("symlink", Some(target)) => format!("→ {}", html::path(target)),
        ("hard-link", Some(target)) => format!("= {}", html::path(target)),
        ("file", _) => String::new(),
        (kind, _) => escape(kind),
    };
    if !kind.is_empty() {
        let _ = write!(row, "<span class=\"sub\">{kind}</span>");
    }
    if file.original == Some(true) {
        row.push_str("<span class=\"sub\">as it was before the run changed it</span>");
    }
    let shown = if file.size > 0 { size(file.size) } else { String::new() };
    let uses: Vec<String> =
        file.uses.iter().map(|kind| format!("{kind:?}").to_lowercase()).collect();
    let process = file.process.as_ref().map(html::path).unwrap_or_default();
    let owners: Vec<String> = file
        .packages
        .iter()
        .map(|purl| match packages.get(purl.as_str()) {
            Some(one) => {
                let (name, version) = (escape(&one.name), escape(&one.version));
                format!("{name} <span class=\"sub\">{version}</span>")
            }
            None => escape(purl),
        })
        .collect();
    let _ = write!(
        row,
        "</td>{}<td data-label=\"why\">{}</td>",
        number(file.size, &shown, "size"),
        escape(&file.reason.text)
    );
    let uses = if uses.is_empty() {
        String::new()
    } else {
        format!("<span class=\"sub\">{}</span>", uses.join(", "))
    };
    let _ = writeln!(
        row,
        "<td data-label=\"used by\">{process}{uses}</td><td data-label=\"from\">{}</td></tr>",
        owners.concat()
    );
    row
}

pub(super) fn packages(page: &mut String, model: &Model) {
    begin(
        page,
        "packages",
        "Packages",
        "Of a package in part, the bundle has only the files that were used or needed. Scanners \
         that go by package name may report what is not there.",
    );
    if model.packages.is_empty() {
        page.push_str(
            "<p class=\"empty\">No file of the bundle belongs to a package.</p>\n</section>\n",
        );
        return;
    }
    let headings = [
        ("Package", false),
        ("Version", false),
        ("Kept", true),
        ("Of", true),
        ("Share", true),
        ("Licence", false),
    ];
    let row = |package: &KeptPackage| {
        let (kept, found) = (package.kept, package.found);
        let kind = package.purl.strip_prefix("pkg:").and_then(|rest| rest.split('/').next());
        let share = if found.bytes > 0 { kept.bytes * 100 / found.bytes.max(1) } else { 100 };
        let share = share.min(100);
        let shown =
            if share == 0 && kept.bytes > 0 { "&lt;1".to_owned() } else { share.to_string() };
        let badge = match package.partial {
            _ if found.files == 0 => "<span class=\"badge\">linked in</span>",
            true => "<span class=\"badge warn\">in part</span>",
            false => "<span class=\"badge good\">whole</span>",
        };
        let bar = format!(
            "<svg class=\"bar\" viewBox=\"0 0 100 8\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
             <rect class=\"all\" width=\"100\" height=\"8\"/><rect class=\"part\" width=\"{share}\" height=\"8\"/></svg>"
        );
        format!(
            "<tr><td class=\"path\">{}<span class=\"sub\">{}</span></td><td>{} {badge}</td>{}{}\
             <td class=\"n\" data-value=\"{share}\" data-label=\"share\">{shown} %{bar}</td><td>{}</td></tr>\n",
            escape(&package.name),
            escape(kind.unwrap_or_default()),
            escape(&package.version),
            number(kept.bytes, &files_text(kept), "kept"),
            number(found.bytes, &files_text(found), "of"),
            escape(package.license.as_deref().unwrap_or_default())
        )
    };
    table(page, "", &headings, model.packages.iter().map(row));
    page.push_str("</section>\n");
}

pub(super) fn left_out(page: &mut String, left_out: &LeftOut) {
    let lead = match left_out.total {
        Some(total) => format!("Of the root, {} are not in the bundle.", files_text(total)),
        None => "The root was a whole machine's, so only the packages of the bundle's own files \
                 are accounted for."
            .to_owned(),
    };
    begin(page, "left-out", "What was left out", &lead);
    for unread in &left_out.unread {
        let _ = writeln!(
            page,
            "<p class=\"note\">{} could not be read: {}. Packages may be missing here.</p>",
            html::path(&unread.path),
            escape(&unread.why)
        );
    }
    if let Some(directories) = &left_out.directories {
        page.push_str("<h3>By directory</h3>\n");
        let mut sorted: Vec<_> = directories.iter().collect();
        sorted.sort_by_key(|one| std::cmp::Reverse(one.bytes));
        let row = |one: &crate::evidence::LeftDirectory| {
            let what = if one.whole { "all of it" } else { "files in it; others are kept" };
            format!(
                "<tr><td class=\"path\">{}</td><td>{what}</td>{}{}</tr>\n",
                html::path(&one.path),
                number(one.bytes, &size(one.bytes), "size"),
                number(one.files, &count(one.files), "files")
            )
        };
        let headings = [("Directory", false), ("What", false), ("Size", true), ("Files", true)];
        table(page, "", &headings, sorted.into_iter().map(row));
        if let Some(unowned) = left_out.unowned.filter(|unowned| unowned.files > 0) {
            let _ = writeln!(
                page,
                "<p class=\"lead\">{} of it belong to no package.</p>",
                files_text(unowned)
            );
        }
    }
    page.push_str("<h3>By package</h3>\n");
    if left_out.packages.is_empty() {
        page.push_str("<p class=\"empty\">Every package is whole.</p>\n");
    } else {
        let mut sorted: Vec<_> = left_out.packages.iter().collect();
        sorted.sort_by_key(|one| std::cmp::Reverse(one.left_out.bytes));
        let row = |one: &crate::evidence::LeftPackage| {
            let badge = if one.kept.files == 0 { "all of it" } else { "in part" };
            format!(
                "<tr><td class=\"path\">{}</td><td>{}</td><td>{badge}</td>{}{}</tr>\n",
                escape(&one.name),
                escape(&one.version),
                number(one.left_out.bytes, &size(one.left_out.bytes), "size"),
                number(one.left_out.files, &count(one.left_out.files), "files")
            )
        };
        let headings = [
            ("Package", false),
            ("Version", false),
            ("What", false),
            ("Size", true),
            ("Files", true),
        ];
        table(page, "", &headings, sorted.into_iter().map(row));
    }
    page.push_str("</section>\n");
}

pub(super) fn writable(page: &mut String, model: &Model) {
    begin(page, "writable", "What it can write to", "Everything else is read-only.");
    if model.writable.is_empty() {
        page.push_str("<p class=\"empty\">Nothing.</p>\n</section>\n");
        return;
    }
    let row = |place: &super::model::Writable| {
        let badge = match place.kept {
            true => "<span class=\"badge good\">outlives a stop</span>",
            false => "<span class=\"badge warn\">lost at stop</span>",
        };
        let (path, what) = (escape(&place.path), escape(&place.what));
        format!("<tr><td class=\"path\">{path}</td><td>{what}</td><td>{badge}</td></tr>\n")
    };
    let headings = [("Path", false), ("What is there", false), ("Kept?", false)];
    table(page, "", &headings, model.writable.iter().map(row));
    page.push_str("</section>\n");
}

pub(super) fn special(page: &mut String, model: &Model) {
    begin(
        page,
        "special",
        "Special modes",
        "Files that give whoever runs them other rights, that anyone can change, or that are devices.",
    );
    if model.special.is_empty() {
        page.push_str(
            "<p class=\"empty\">None: no setuid or setgid file, no file capability, no device, \
             nothing that anyone can write to.</p>\n</section>\n",
        );
        return;
    }
    let row = |one: &super::model::Special| {
        let what: Vec<String> = one.what.iter().map(|text| escape(text)).collect();
        format!(
            "<tr><td class=\"path\">{}</td><td>{}</td></tr>\n",
            html::path(&one.path),
            what.join("<br>")
        )
    };
    table(page, "", &[("Path", false), ("What", false)], model.special.iter().map(row));
    page.push_str("</section>\n");
}

pub(super) fn changes(page: &mut String, changes: &Changes, bytes: u64) {
    let difference = match bytes.checked_sub(changes.old_bytes) {
        Some(0) => "as large as before".to_owned(),
        Some(more) => format!("{} more than before", size(more)),
        None => format!("{} less than before", size(changes.old_bytes - bytes)),
    };
    let lead = format!(
        "{} added, {} removed, {} changed; {difference}. Before: <span class=\"mono\">{}</span>",
        count(changes.added.len() as u64),
        count(changes.removed.len() as u64),
        count(changes.changed.len() as u64),
        escape(&changes.old_diff_id)
    );
    begin(page, "changes", "Since the old bundle", &lead);
    let none = "<span class=\"sub\">none</span>".to_owned();
    if !changes.packages.is_empty() {
        let row = |one: &super::changes::PackageChange| {
            let version = |text: &Option<String>| text.as_deref().map_or(none.clone(), escape);
            let (name, old, new) = (escape(&one.name), version(&one.old), version(&one.new));
            format!("<tr><td class=\"path\">{name}</td><td>{old}</td><td>{new}</td></tr>\n")
        };
        let headings = [("Package", false), ("Before", false), ("Now", false)];
        table(page, "", &headings, changes.packages.iter().map(row));
    }
    let kinds = [
        (&changes.added, "<span class=\"badge good\">added</span>"),
        (&changes.removed, "<span class=\"badge bad\">removed</span>"),
        (&changes.changed, "<span class=\"badge warn\">changed</span>"),
    ];
    // What is not there has no size, and a link none to speak of.
    let bytes = |bytes: u64| if bytes > 0 { size(bytes) } else { String::new() };
    let rows = kinds.iter().flat_map(|(list, badge)| {
        list.iter().map(move |one: &Changed| {
            format!(
                "<tr><td class=\"path\">{}</td><td>{badge} {}</td>{}{}</tr>\n",
                html::path(&one.path),
                one.what.join(", "),
                number(one.old_size, &bytes(one.old_size), "before"),
                number(one.size, &bytes(one.size), "now")
            )
        })
    });
    let headings = [("Path", false), ("What", false), ("Before", true), ("Now", true)];
    if kinds.iter().all(|(list, _)| list.is_empty()) {
        page.push_str("<p class=\"empty\">Every file is as it was.</p>\n");
    } else {
        let total: usize = kinds.iter().map(|(list, _)| list.len()).sum();
        let open = if total > MAX_OPEN { "" } else { " open" };
        let _ = writeln!(page, "<details{open}><summary>Files</summary>");
        table(page, "", &headings, rows);
        page.push_str("</details>\n");
    }
    page.push_str("</section>\n");
}
