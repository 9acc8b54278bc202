//! From an image's configuration to a bundle's `config.json` and back (image-spec,
//! `conversion.md`).
//!
//! What `config.json` has no place for (a health check, where the entrypoint ends
//! and cmd begins, the order of variables) goes along in the annotation
//! [`IMAGE_CONFIG`]. On the way back it counts wherever the bundle still says what
//! it said, so image to bundle to image changes nothing, and what was edited in
//! `config.json` meanwhile is kept.

use std::collections::{BTreeMap, BTreeSet};

use oci_spec::runtime::{Capability, Process, Spec};

use super::config::{ConfigError, Execution, ImageConfig, canonical};
use crate::accounts;
use crate::config::{Container, PATH};

/// The annotation of `config.json` with the `config` of the image it came from.
pub const IMAGE_CONFIG: &str = "vz.image-config";

const STOP_SIGNAL: &str = "org.opencontainers.image.stopSignal";
/// The annotation of `config.json` with the ports that the program listens on.
pub const EXPOSED_PORTS: &str = "org.opencontainers.image.exposedPorts";
/// Implicit annotations that say nothing of the execution.
const IMPLICIT: [&str; 4] = [
    "org.opencontainers.image.os",
    "org.opencontainers.image.architecture",
    "org.opencontainers.image.author",
    "org.opencontainers.image.created",
];
/// Annotations that make runc, crun or a hook of theirs do something on the host,
/// and ours: no label of a stranger's image becomes one.
const OBEYED: [&str; 5] =
    ["run.oci.", "org.systemd.property.", "org.criu.", "io.katacontainers.", "vz."];

/// Capabilities that podman gives to root of a container (containers-common's
/// containers.conf, `default_capabilities`); docker gives these and three more.
const GIVEN: [Capability; 11] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::NetBindService,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

impl ImageConfig {
    /// Gives `container` the command, environment, working directory, user and
    /// annotations of the image, in whose root are the files `passwd` and `group`
    /// (empty where it has none). As runtimes do, PATH and HOME are added where
    /// the image has none.
    ///
    /// Volumes are left to the caller, who decides where their content lives.
    ///
    /// # Errors
    /// A user or group that the root does not know, a variable without a name.
    pub fn apply(
        &self,
        container: &mut Container,
        passwd: &[u8],
        group: &[u8],
    ) -> Result<(), ConfigError> {
        self.config.apply(container, passwd, group)?;
        let author = self.other.get("author").and_then(|author| author.as_str());
        let values = [&*self.os, &*self.architecture, author.unwrap_or_default()];
        let values = values.into_iter().chain([self.created.as_deref().unwrap_or_default()]);
        for (name, value) in IMPLICIT.into_iter().zip(values).filter(|(_, value)| !value.is_empty())
        {
            container.annotations.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
        Ok(())
    }
}

impl Execution {
    fn apply(
        &self,
        container: &mut Container,
        passwd: &[u8],
        group: &[u8],
    ) -> Result<(), ConfigError> {
        let user = if self.user.is_empty() { "0" } else { &self.user };
        let found = accounts::find(user, passwd, group);
        let found = found.ok_or_else(|| ConfigError::User(self.user.clone()))?;
        (container.uid, container.gid, container.groups) = found;
        container.groups.remove(&container.gid);
        container.args = self.args();
        container.env = self.environment()?;
        container.env.entry("PATH".to_owned()).or_insert_with(|| PATH.to_owned());
        let home = || accounts::home(passwd, container.uid);
        container.env.entry("HOME".to_owned()).or_insert_with(home);
        container.cwd.clone_from(&self.working_dir);
        container.annotations = self.annotations();
        Ok(())
    }

    fn annotations(&self) -> BTreeMap<String, String> {
        let is_obeyed = |name: &str| OBEYED.iter().any(|prefix| name.starts_with(prefix));
        let labels = self.labels.iter().filter(|(name, _)| !is_obeyed(name));
        let mut all: BTreeMap<String, String> =
            labels.map(|(name, value)| (name.clone(), value.clone())).collect();
        let mut add = |name: &str, value| {
            all.entry(name.to_owned()).or_insert(value);
        };
        if let Some(signal) = &self.stop_signal {
            add(STOP_SIGNAL, signal.clone());
        }
        if !self.exposed_ports.is_empty() {
            let ports: Vec<&str> = self.exposed_ports.iter().map(String::as_str).collect();
            add(EXPOSED_PORTS, ports.join(","));
        }
        let text = canonical(self).ok().and_then(|json| String::from_utf8(json).ok());
        all.insert(IMAGE_CONFIG.to_owned(), text.unwrap_or_default());
        all
    }
}

/// What a bundle says that an image has no place for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NotInImage {
    /// Supplementary groups that no user of the root's has.
    pub groups: BTreeSet<u32>,
    /// Capabilities beyond those that podman gives.
    pub capabilities: BTreeSet<String>,
}

/// Returns what an image of the bundle with this `config.json` says of its
/// container. `volumes` are the places that directories of the host were mounted
/// at; `passwd` and `group` are the bundle's files.
pub fn execution(
    spec: &Spec,
    volumes: BTreeSet<String>,
    passwd: &[u8],
    group: &[u8],
) -> (Execution, NotInImage) {
    let annotations: BTreeMap<String, String> =
        spec.annotations().iter().flatten().map(|(n, v)| (n.clone(), v.clone())).collect();
    let source = annotations.get(IMAGE_CONFIG);
    let source: Option<Execution> = source.and_then(|text| serde_json::from_str(text).ok());
    let mut was = Container::default();
    let source = source.filter(|source| source.apply(&mut was, passwd, group).is_ok());
    let mut not_in_image = NotInImage::default();
    let mut execution = source.clone().unwrap_or_default();

    if let Some(process) = spec.process() {
        not_in_image.capabilities = beyond_given(process);
        let args = process.args().clone().unwrap_or_default();
        let env = process.env().clone().unwrap_or_default();
        let cwd = process.cwd().to_string_lossy().into_owned();
        let user = process.user();
        let groups = user.additional_gids().iter().flatten().copied().collect();
        let words: BTreeSet<&str> = env.iter().map(String::as_str).collect();
        let were: Vec<String> = was.env.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let same_env = words == were.iter().map(String::as_str).collect();
        if source.is_none() || args != was.args {
            (execution.entrypoint, execution.cmd) = (Vec::new(), args);
        }
        if source.is_none() || !same_env {
            execution.env = env;
        }
        if source.is_none() || cwd != if was.cwd.is_empty() { "/" } else { &was.cwd } {
            execution.working_dir = cwd;
        }
        if source.is_none() || (user.uid(), user.gid(), &groups) != (was.uid, was.gid, &was.groups)
        {
            let (name, lost) = user_name(user.uid(), user.gid(), groups, passwd, group);
            execution.user = name;
            not_in_image.groups = lost;
        }
    }
    let explicit = |all: &BTreeMap<String, String>| {
        let is_ours = |name: &str| name.starts_with("vz.") || IMPLICIT.contains(&name);
        let mut all = all.clone();
        all.retain(|name, _| !is_ours(name));
        all
    };
    let mut said = explicit(&annotations);
    if source.is_none() || said != explicit(&was.annotations) {
        execution.stop_signal = said.remove(STOP_SIGNAL);
        let ports = said.remove(EXPOSED_PORTS).unwrap_or_default();
        let ports = ports.split(',').filter(|port| !port.is_empty());
        execution.exposed_ports = ports.map(str::to_owned).collect();
        execution.labels = said;
    }
    execution.volumes.extend(volumes);
    (execution, not_in_image)
}

/// How an image names a user, and the groups that it cannot name: only a user
/// given by name alone has supplementary ones.
fn user_name(
    uid: u32,
    gid: u32,
    groups: BTreeSet<u32>,
    passwd: &[u8],
    group: &[u8],
) -> (String, BTreeSet<u32>) {
    let name = accounts::names(passwd).into_iter().find(|name| {
        accounts::find(name, passwd, group).is_some_and(|mut found| {
            found.2.remove(&found.1);
            found == (uid, gid, groups.clone())
        })
    });
    match name {
        _ if (uid, gid) == (0, 0) && groups.is_empty() => (String::new(), groups),
        Some(name) if !groups.is_empty() => (name, BTreeSet::new()),
        _ => (format!("{uid}:{gid}"), groups),
    }
}

fn beyond_given(process: &Process) -> BTreeSet<String> {
    let sets = process.capabilities().as_ref().and_then(|sets| sets.effective().as_ref());
    let beyond = sets.into_iter().flatten().filter(|capability| !GIVEN.contains(capability));
    let name = |capability| serde_json::to_value(capability).ok()?.as_str().map(str::to_owned);
    beyond.filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0::/root:/bin/sh\nwww:x:33:33::/var/www:/bin/false\n";
    const GROUP: &[u8] = b"root:x:0:\nwww:x:33:\ncerts:x:99:www\n";

    fn image(config: &str) -> ImageConfig {
        let text = format!(r#"{{"architecture":"amd64","os":"linux","config":{config}}}"#);
        ImageConfig::parse(text.as_bytes()).unwrap()
    }

    fn container(config: &str) -> Container {
        let mut container = Container::default();
        image(config).apply(&mut container, PASSWD, GROUP).unwrap();
        container
    }

    const ALL: &str = r#"{"Cmd":["-p","80"],"Entrypoint":["/bin/web"],"Env":["B=2","A=1"],"ExposedPorts":{"53/udp":{},"80/tcp":{}},"Healthcheck":{"Test":["NONE"]},"Labels":{"a":"b","run.oci.handler":"krun"},"OnBuild":["RUN x"],"StopSignal":"SIGQUIT","User":"www","Volumes":{"/srv":{}},"WorkingDir":"/srv"}"#;

    #[test]
    fn a_bundle_does_what_the_image_says() {
        let container = container(ALL);
        assert_eq!(container.args, ["/bin/web", "-p", "80"]);
        let env: Vec<String> = container.env.iter().map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(env, ["A=1", "B=2", "HOME=/var/www", &format!("PATH={PATH}")]);
        assert_eq!((container.uid, container.gid, container.groups.len()), (33, 33, 1));
        assert_eq!(container.cwd, "/srv");
        assert_eq!(container.annotations[STOP_SIGNAL], "SIGQUIT");
        assert_eq!(container.annotations[EXPOSED_PORTS], "53/udp,80/tcp");
        assert_eq!(container.annotations["org.opencontainers.image.os"], "linux");
        assert_eq!(container.annotations["a"], "b");
        assert!(!container.annotations.contains_key("run.oci.handler"));
    }

    #[test]
    fn an_unknown_user_is_an_error_and_an_unknown_number_is_not() {
        let mut container = Container::default();
        let error = image(r#"{"User":"ann"}"#).apply(&mut container, PASSWD, GROUP).unwrap_err();
        let said = "the image is to run as `ann`, whom its root file system does not know";
        assert_eq!(error.to_string(), said);
        image(r#"{"User":"1000:5"}"#).apply(&mut container, b"", b"").unwrap();
        assert_eq!((container.uid, container.gid), (1000, 5));
    }

    #[test]
    fn image_to_bundle_to_image_changes_nothing() {
        for config in [ALL, "{}", r#"{"User":"33","Env":["HOME=/x"]}"#, r#"{"User":"7:8"}"#] {
            let spec = container(config).spec();
            let (found, not_in_image) = execution(&spec, BTreeSet::new(), PASSWD, GROUP);
            assert_eq!(found, image(config).config);
            assert_eq!(not_in_image, NotInImage::default());
        }
    }

    #[test]
    fn what_was_edited_in_the_bundle_counts() {
        let mut container = container(ALL);
        container.args = vec!["/bin/other".to_owned()];
        container.uid = 5;
        container.env.insert("C".to_owned(), "3".to_owned());
        container.annotations.insert(STOP_SIGNAL.to_owned(), "SIGINT".to_owned());
        let volumes = ["/data".to_owned()].into();
        let (found, not_in_image) = execution(&container.spec(), volumes, PASSWD, GROUP);
        assert_eq!((found.entrypoint.len(), found.cmd), (0, vec!["/bin/other".to_owned()]));
        assert_eq!((found.user.as_str(), not_in_image.groups), ("5:33", [99].into()));
        assert_eq!(found.env.len(), 5);
        assert_eq!(found.stop_signal.as_deref(), Some("SIGINT"));
        assert_eq!(found.exposed_ports.len(), 2);
        assert_eq!(found.healthcheck, Some(serde_json::json!({ "Test": ["NONE"] })));
        assert_eq!(found.volumes.into_iter().collect::<Vec<_>>(), ["/data", "/srv"]);
    }

    #[test]
    fn a_bundle_that_was_no_image_becomes_one() {
        let container = Container {
            args: vec!["redis".to_owned()],
            uid: 33,
            gid: 33,
            groups: [99].into(),
            capabilities: [Capability::NetAdmin].into(),
            ..Container::default()
        };
        let (found, not_in_image) = execution(&container.spec(), BTreeSet::new(), PASSWD, GROUP);
        assert_eq!((found.user.as_str(), found.cmd.len()), ("www", 1));
        assert_eq!(not_in_image.capabilities, ["CAP_NET_ADMIN".to_owned()].into());
        let root = execution(&Container::default().spec(), BTreeSet::new(), PASSWD, GROUP).0;
        assert_eq!(root.user, "");
    }
}
