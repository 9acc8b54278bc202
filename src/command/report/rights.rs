//! What the bundle may do: its capabilities and its system calls.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::html::escape;
use super::tables::{begin, table};
use crate::evidence;

/// What `config.json` lets the program do.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rights {
    /// Names of the capabilities that it has or can gain.
    capabilities: Vec<String>,
    /// What becomes of a call that no rule has; nothing where all are allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    beyond: Option<String>,
    /// Why calls are allowed, and which.
    calls: Vec<(String, Vec<String>)>,
}

impl Rights {
    /// Reads them from `config`, with the reasons that the evidence of the bundle at
    /// `dir` has.
    pub(super) fn read(dir: &Path, config: &Value) -> Self {
        let beyond = config.pointer("/linux/seccomp/defaultAction").and_then(Value::as_str);
        let profile = std::fs::read(dir.join(evidence::FOLDER).join(evidence::PROFILE)).ok();
        let profile = profile.and_then(|text| serde_json::from_slice::<Value>(&text).ok());
        let profile = profile.as_ref().filter(|_| beyond.is_some());
        let rules = profile.and_then(|profile| profile["syscalls"].as_array());
        let rule = |rule: &Value| {
            let why = rule["comment"].as_str().unwrap_or_default().to_owned();
            (why, strings(&rule["names"]))
        };
        Rights {
            capabilities: strings(&config["process"]["capabilities"]["bounding"]),
            beyond: beyond.map(|action| match action {
                "SCMP_ACT_ERRNO" => "Any other call fails.".to_owned(),
                "SCMP_ACT_LOG" => "Any other call is done and logged.".to_owned(),
                other => format!("Any other call: {other}."),
            }),
            calls: rules.into_iter().flatten().map(rule).collect(),
        }
    }

    /// Writes the section of the page.
    pub(super) fn section(&self, page: &mut String) {
        let lead = match &self.beyond {
            Some(beyond) => beyond,
            None => "Every system call is allowed: vzbuild verify --seccomp makes a profile.",
        };
        begin(page, "rights", "What it may do", lead);
        let none = || vec!["none".to_owned()];
        let capabilities = Some(&self.capabilities).filter(|list| !list.is_empty()).cloned();
        let capabilities = ("capabilities".to_owned(), capabilities.unwrap_or_else(none));
        let row = |(why, names): &(String, Vec<String>)| {
            let names: Vec<String> = names.iter().map(|name| escape(name)).collect();
            let (why, names) = (escape(why), names.join(" "));
            format!("<tr><td>{why}</td><td class=\"mono\">{names}</td></tr>\n")
        };
        let rows = [&capabilities].into_iter().chain(&self.calls).map(row);
        table(page, "", &[("Why", false), ("What", false)], rows);
        page.push_str("</section>\n");
    }
}

fn strings(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}
