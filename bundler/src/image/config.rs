//! The configuration of an image, as OCI and docker have it.
//!
//! `oci_spec`'s type drops what it does not know, docker's Healthcheck among it,
//! and prints its sets in the order of a hash. Here every field is kept, known or
//! not, and equal configurations print equal bytes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It is not of the form that image-spec's `config.md` asks for.
    #[error("no image configuration")]
    Form(#[source] serde_json::Error),
    /// The root has no such user or group (image-spec, `conversion.md`: an error).
    #[error("the image is to run as `{0}`, whom its root file system does not know")]
    User(String),
    /// An entry of Env is not `NAME=VALUE`.
    #[error("the image's variable `{0}` is not NAME=VALUE")]
    Variable(String),
}

/// An image configuration: the whole of the JSON that an image ID is the digest of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When it was made (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Go's name of the architecture, such as `amd64`.
    #[serde(default)]
    pub architecture: String,
    /// Go's name of the operating system.
    #[serde(default)]
    pub os: String,
    /// How a container of it is run.
    #[serde(default, deserialize_with = "or_default")]
    pub config: Execution,
    /// Its layers.
    #[serde(default)]
    pub rootfs: Layers,
    /// How each layer came about, the first at the bottom.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// All other fields.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The layers of an image, the first at the bottom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layers {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Digest of each layer's uncompressed tar, as `sha256:` and hexadecimal digits.
    pub diff_ids: Vec<String>,
}

impl Default for Layers {
    fn default() -> Self {
        Layers { kind: "layers".to_owned(), diff_ids: Vec::new() }
    }
}

/// How a layer, or a change of the configuration alone, came about.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// When (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By which command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Whether there is no layer for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
    /// All other fields.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What a container of an image is like unless its user says otherwise: the
/// field `config` of an image configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Execution {
    /// Whom it runs as: `USER[:GROUP]`, names or numbers; root where it is empty.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Ports that it listens on: `PORT[/tcp|/udp|/sctp]`.
    #[serde(default, with = "keys", skip_serializing_if = "BTreeSet::is_empty")]
    pub exposed_ports: BTreeSet<String>,
    /// `NAME=VALUE`, in the image's order.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The first words of the command.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// The words after them, which the user of an image replaces.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Directories whose content outlives a container.
    #[serde(default, with = "keys", skip_serializing_if = "BTreeSet::is_empty")]
    pub volumes: BTreeSet<String>,
    /// Working directory; `/` where it is empty.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Annotations of the image.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Signal that asks it to end, such as `SIGQUIT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Docker's check of a container's health, as it stands there: an object of
    /// `Test` and of times in nanoseconds (docker image specification v1.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Value>,
    /// All other fields.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl ImageConfig {
    /// Reads a configuration blob.
    ///
    /// # Errors
    /// When it is no JSON object or a field is of another type than it must be.
    pub fn parse(json: &[u8]) -> Result<Self, ConfigError> {
        serde_json::from_slice(json).map_err(ConfigError::Form)
    }

    /// Returns the blob: JSON with sorted keys and no white space.
    ///
    /// # Errors
    /// None that a configuration of ours or a parsed one could cause.
    pub fn print(&self) -> serde_json::Result<Vec<u8>> {
        canonical(self)
    }
}

impl Execution {
    /// The command and its arguments: the entrypoint, then cmd.
    pub fn args(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.cmd).cloned().collect()
    }

    /// The variables by their names; of two with one name the last counts, as
    /// in execve(2)'s callers.
    ///
    /// # Errors
    /// A word that is not `NAME=VALUE`.
    pub fn environment(&self) -> Result<BTreeMap<String, String>, ConfigError> {
        let split = |word: &String| match word.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => Err(ConfigError::Variable(word.clone())),
        };
        self.env.iter().map(split).collect()
    }
}

/// Returns `value` as JSON with sorted keys and no white space, so that equal
/// values have equal digests.
///
/// # Errors
/// When it has no JSON form.
pub fn canonical(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut value = serde_json::to_value(value)?;
    value.sort_all_objects();
    serde_json::to_vec(&value)
}

/// Go prints what is empty as `null`.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A set as Go prints it: an object whose values are empty objects.
mod keys {
    use super::{BTreeMap, BTreeSet, Deserialize, Deserializer, Map, Serializer, Value};

    pub(super) fn serialize<S: Serializer>(
        set: &BTreeSet<String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(set.iter().map(|key| (key, Value::Object(Map::new()))))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeSet<String>, D::Error> {
        let map = Option::<BTreeMap<String, Value>>::deserialize(deserializer)?;
        Ok(map.unwrap_or_default().into_keys().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_comes_back_known_or_not() {
        let text = r#"{"architecture":"amd64","author":"Ann","config":{"ArgsEscaped":true,"Cmd":["--port","80"],"Entrypoint":["/bin/web"],"Env":["B=2","A=1=1"],"ExposedPorts":{"443/udp":{},"80/tcp":{}},"Healthcheck":{"Interval":30000000000,"Test":["CMD","/bin/web","-t"]},"Labels":{"a":"b"},"OnBuild":["RUN x"],"StopSignal":"SIGQUIT","User":"www:www","Volumes":{"/srv":{}},"WorkingDir":"/srv"},"created":"2026-01-02T03:04:05Z","docker_version":"20.10","history":[{"author":"Ann","comment":"c","created":"2026-01-02T03:04:05Z","created_by":"COPY"},{"created_by":"ENV","empty_layer":true}],"os":"linux","os.features":["x"],"rootfs":{"diff_ids":["sha256:00"],"type":"layers"},"variant":"v2"}"#;
        let config = ImageConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(config.print().unwrap()).unwrap(), text);
        assert_eq!(config.config.args(), ["/bin/web", "--port", "80"]);
        assert_eq!(config.config.environment().unwrap()["A"], "1=1");
    }

    #[test]
    fn what_go_prints_as_null_is_empty() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"Cmd":null,"Env":null,"Volumes":null,"Labels":null,"User":null,"Healthcheck":null,"StopSignal":null},"history":null,"rootfs":{"type":"layers","diff_ids":[]}}"#;
        let config = ImageConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(config.config, Execution::default());
        let nothing = r#"{"architecture":"amd64","config":null,"os":"linux"}"#;
        assert_eq!(ImageConfig::parse(nothing.as_bytes()).unwrap().config, Execution::default());
    }

    #[test]
    fn what_is_of_another_type_is_refused() {
        for text in ["", "[]", r#"{"config":{"Env":"A=1"}}"#, r#"{"rootfs":{"diff_ids":7}}"#] {
            let error = ImageConfig::parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), "no image configuration", "{text}");
        }
        let config = Execution { env: vec!["A".to_owned()], ..Execution::default() };
        let error = config.environment().unwrap_err();
        assert_eq!(error.to_string(), "the image's variable `A` is not NAME=VALUE");
    }
}
