//! What the bundle may do: its capabilities and its system calls.

use serde::Serialize;
use serde_json::Value;

use super::html::escape;
use super::tables::{begin, table};
use crate::evidence::{self, Documents};

/// What the program is allowed to do.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rights {
    /// Names of the capabilities that it has or can gain; an image does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    capabilities: Option<Vec<String>>,
    /// What becomes of a call that no rule has; nothing where a bundle allows all.
    #[serde(skip_serializing_if = "Option::is_none")]
    beyond: Option<String>,
    /// Why calls are allowed, and which.
    calls: Vec<(String, Vec<String>)>,
}

impl Rights {
    /// Reads them from a bundle's `config`, and what the documents say of them; of an
    /// image from those alone.
    pub(super) fn read(config: Option<&Value>, documents: &Documents) -> Self {
        let profile = documents.json::<Value>(evidence::PROFILE).ok();
        // Of an image nothing is in force: its profile is a file for whoever runs it.
        let rules = match config {
            Some(config) => config.pointer("/linux/seccomp"),
            None => profile.as_ref(),
        };
        let action = rules.and_then(|rules| rules["defaultAction"].as_str());
        let profile = profile.as_ref().filter(|_| action.is_some());
        let rules = profile.and_then(|profile| profile["syscalls"].as_array());
        let rule = |rule: &Value| {
            let why = rule["comment"].as_str().unwrap_or_default().to_owned();
            (why, strings(&rule["names"]))
        };
        Rights {
            capabilities: config
                .map(|config| strings(&config["process"]["capabilities"]["bounding"])),
            beyond: match (config, action.map(beyond)) {
                (Some(_), beyond) => beyond,
                (None, None) => {
                    Some("The engine decides which system calls it may make.".to_owned())
                }
                (None, Some(beyond)) => Some(format!(
                    "The engine decides which system calls it may make. Where it is given the \
                     profile that goes with the image (--security-opt seccomp=FILE): {beyond}"
                )),
            },
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
        let capabilities = self.capabilities.as_ref().map(|list| {
            let none = || vec!["none".to_owned()];
            let list = Some(list).filter(|list| !list.is_empty()).cloned();
            ("capabilities".to_owned(), list.unwrap_or_else(none))
        });
        let row = |(why, names): &(String, Vec<String>)| {
            let names: Vec<String> = names.iter().map(|name| escape(name)).collect();
            let (why, names) = (escape(why), names.join(" "));
            format!("<tr><td>{why}</td><td class=\"mono\">{names}</td></tr>\n")
        };
        let rows = capabilities.iter().chain(&self.calls).map(row);
        table(page, "", &[("Why", false), ("What", false)], rows);
        page.push_str("</section>\n");
    }
}

fn beyond(action: &str) -> String {
    match action {
        "SCMP_ACT_ERRNO" => "Any other system call fails.".to_owned(),
        "SCMP_ACT_LOG" => "Any other system call is done and logged.".to_owned(),
        other => format!("Any other system call: {}.", escape(other)),
    }
}

fn strings(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of calls, for the evidence of a profile with this default action.
    #[track_caller]
    fn check(config: Option<&Value>, action: Option<&str>, expected: Option<&str>) {
        let dir = tempfile::tempdir().unwrap();
        if let Some(action) = action {
            let profile = serde_json::json!({ "defaultAction": action }).to_string();
            std::fs::write(dir.path().join(evidence::PROFILE), profile).unwrap();
        }
        let rights = Rights::read(config, &Documents::Folder(dir.path().into()));
        assert_eq!(rights.beyond.as_deref(), expected);
    }

    #[test]
    fn a_profile_binds_a_bundle_and_is_an_offer_of_an_image() {
        let enforced =
            serde_json::json!({ "linux": { "seccomp": { "defaultAction": "SCMP_ACT_ERRNO" } } });
        check(Some(&enforced), Some("SCMP_ACT_ERRNO"), Some("Any other system call fails."));
        check(Some(&Value::Null), Some("SCMP_ACT_ERRNO"), None);
        let open = "The engine decides which system calls it may make.";
        check(None, None, Some(open));
        let offer = format!(
            "{open} Where it is given the profile that goes with the image (--security-opt \
             seccomp=FILE): Any other system call fails."
        );
        check(None, Some("SCMP_ACT_ERRNO"), Some(&offer));
    }
}
