//! What providers of machines take as first-boot data.
//!
//! A provider is a file of data; its fields are the questions that Fedora CoreOS asks of
//! a new platform. What nobody could answer is null.

use serde::{Deserialize, Serialize};

/// A provider.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Provider {
    /// Official name, and the short one of clients.
    pub name: Name,
    /// How the system gets its user data.
    pub userdata: UserData,
    /// How it gets keys.
    pub sshkeys: Option<String>,
    /// How it gets its network's configuration.
    pub network: Option<String>,
    /// How it gets its host name.
    pub hostname: Option<String>,
    /// What console it has to have.
    pub console: Option<String>,
    /// How it says that it has booted.
    pub boot_success: Option<String>,
    /// What runs in it for the provider.
    pub agent: Option<String>,
    /// How images are uploaded.
    pub image_upload: Option<String>,
    /// What else one should know.
    pub quirks: Vec<String>,
    /// Where that is documented.
    pub documented: Vec<String>,
    /// Whether it was tried, or only read.
    pub verified: bool,
}

/// A provider's names.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Name {
    /// The official one.
    pub official: String,
    /// The short one.
    pub short: String,
}

/// How a system gets its user data.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct UserData {
    /// By which protocol.
    pub retrieval: String,
    /// Most bytes.
    pub limit: Option<usize>,
    /// Whether these are counted after base64.
    pub encoded: bool,
}

impl UserData {
    /// How many bytes `len` bytes are, as the limit counts.
    pub fn counted(&self, len: usize) -> usize {
        if self.encoded { len.div_ceil(3) * 4 } else { len }
    }
}

/// The files, by short name.
pub const FILES: [(&str, &str); 8] = [
    ("akamai", include_str!("providers/akamai.json")),
    ("aws", include_str!("providers/aws.json")),
    ("azure", include_str!("providers/azure.json")),
    ("digitalocean", include_str!("providers/digitalocean.json")),
    ("exoscale", include_str!("providers/exoscale.json")),
    ("gcp", include_str!("providers/gcp.json")),
    ("hetzner", include_str!("providers/hetzner.json")),
    ("openstack", include_str!("providers/openstack.json")),
];

/// The provider of this short name.
pub fn find(short: &str) -> Option<Provider> {
    let (_, text) = FILES.iter().find(|(name, _)| *name == short)?;
    // A test reads them all.
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_a_provider_and_says_where_it_is_from() {
        for (name, text) in FILES {
            let provider: Provider = serde_json::from_str(text).unwrap();
            assert_eq!(provider.name.short, name);
            assert!(!provider.documented.is_empty(), "{name}");
        }
        assert!(find("akamai").is_some());
    }

    #[test]
    fn base64_is_counted_where_it_counts() {
        let data = |encoded| UserData { retrieval: String::new(), limit: None, encoded };
        assert_eq!((data(false).counted(4), data(true).counted(4)), (4, 8));
    }
}
