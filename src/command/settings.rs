//! What an image says of how it is run, and the container that docker would make of it.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use bundler::accounts;
use bundler::image::{ConfigError, Image, ImageConfig, ImageError, UnpackOptions, Unpacked};
use bundler::{Bind, Container, Lost, RootPath, Rootfs};
use indicatif::HumanBytes;
use oci_spec::runtime::{Capability, Spec};
use tracer::record::BytePath;

use crate::cli::build;
use crate::command::bundle::program::{hostname, read};
use crate::command::strace::foreign::OF_THE_MACHINE;
use crate::interrupt::INTERRUPTED;
use crate::report::Advice;
use crate::{progress, report};

/// What root keeps in a container of docker's beyond what it keeps in a bundle.
const OF_DOCKER: [Capability; 7] = [
    Capability::AuditWrite,
    Capability::Fsetid,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::SysChroot,
];

/// What an image says of itself beside how it is run, architecture and system
/// (image-spec, `config.md`).
const CARRIED_OVER: [&str; 4] = ["author", "os.features", "os.version", "variant"];

/// How an image is run, with docker's `Healthcheck`.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings(ImageConfig);

impl Settings {
    /// Reads the configuration of an image.
    ///
    /// # Errors
    /// JSON of another shape.
    pub(super) fn parse(json: &[u8]) -> Result<Self, ConfigError> {
        Ok(Settings(ImageConfig::parse(json)?))
    }

    /// Entrypoint and Cmd, or `command` in the place of Cmd.
    pub(super) fn command(&self, command: &[String]) -> Vec<String> {
        let cmd = if command.is_empty() { &self.0.config.cmd } else { command };
        self.0.config.entrypoint.iter().chain(cmd).cloned().collect()
    }

    /// Who runs it, where that is said: by `args`, else by the image.
    pub(super) fn user(&self, args: &build::Minify) -> Option<String> {
        args.user
            .clone()
            .or_else(|| Some(self.0.config.user.clone()).filter(|user| !user.is_empty()))
    }

    /// Directories that docker makes where the image lacks them.
    pub(super) fn places(&self) -> Vec<PathBuf> {
        let cwd = Some(self.0.config.working_dir.as_str()).filter(|cwd| cwd.starts_with('/'));
        cwd.into_iter().chain(self.volumes()).map(PathBuf::from).collect()
    }

    /// Places that are to be writable.
    pub(super) fn volumes(&self) -> impl Iterator<Item = &str> {
        self.0.config.volumes.iter().map(String::as_str)
    }

    /// The configuration of the minified image: the same but for what was
    /// asked for.
    pub(super) fn carried_over(&self, args: &build::Minify, command: &[String]) -> ImageConfig {
        let mut config = self.0.clone();
        // Others are docker's notes of how the large one was made.
        config.other.retain(|name, _| CARRIED_OVER.contains(&name.as_str()));
        let execution = &mut config.config;
        if !command.is_empty() {
            execution.cmd = command.to_vec();
        }
        if let Some(user) = &args.user {
            execution.user.clone_from(user);
        }
        for variable in &args.env {
            let name = |word: &str| word.split('=').next().map(str::to_owned);
            execution.env.retain(|old| name(old) != name(variable));
            execution.env.push(variable.clone());
        }
        config
    }

    /// The command that tells whether the program is well; empty where there
    /// is none.
    pub(super) fn health_check(&self) -> Vec<BytePath> {
        let test =
            self.0.config.healthcheck.as_ref().and_then(|check| check.get("Test")?.as_array());
        let test: Option<Vec<&str>> =
            test.map(|words| words.iter().filter_map(|word| word.as_str()).collect());
        let words: Vec<&str> = match test.as_deref() {
            Some(["CMD", words @ ..]) => words.to_vec(),
            Some(["CMD-SHELL", line]) => vec!["/bin/sh", "-c", line],
            _ => Vec::new(),
        };
        words.iter().map(|word| BytePath(word.as_bytes().to_vec())).collect()
    }

    /// The container of the image, as docker makes it, without a command; with another
    /// user, and `env` over the image's variables.
    ///
    /// # Errors
    /// A user that the image does not know, a variable without a name.
    pub(super) fn container(
        &self,
        user: Option<&str>,
        env: &[String],
        rootfs: &Rootfs,
    ) -> anyhow::Result<Container> {
        let mut container = Container {
            writable: true,
            sysfs: true,
            mqueue: true,
            new_privileges: true,
            cwd: self.0.config.working_dir.clone(),
            ..Container::default()
        };
        let user = user.or(Some(&self.0.config.user)).filter(|user| !user.is_empty());
        if let Some(user) = user {
            let [passwd, group] = ["/etc/passwd", "/etc/group"].map(|path| read(rootfs, path));
            (container.uid, container.gid, container.groups) =
                accounts::find(user, &passwd, &group)
                    .with_context(|| format!("the image has no user `{user}`"))
                    .hint(
                        "give numbers, such as --user 1000:1000, for one that it does not know",
                    )?;
        }
        if container.uid == 0 {
            container.capabilities = OF_DOCKER.into();
        }
        container.env.insert("PATH".to_owned(), bundler::config::PATH.to_owned());
        for variable in self.0.config.env.iter().chain(env) {
            let (name, value) = variable
                .split_once('=')
                .filter(|(name, _)| !name.is_empty())
                .with_context(|| format!("the variable `{variable}` is not NAME=VALUE"))?;
            container.env.insert(name.to_owned(), value.to_owned());
        }
        let of_user = || accounts::home(&read(rootfs, "/etc/passwd"), container.uid);
        let home = container.env.get("HOME").cloned().unwrap_or_else(of_user);
        container.env.insert("HOME".to_owned(), home);
        container.hostname = hostname(&self.command(&[]));
        let there = OF_THE_MACHINE.iter().filter(|path| std::path::Path::new(path).is_file());
        let bind = |path: &&str| {
            let path = (*path).to_owned();
            Bind { source: path.clone(), destination: path, readonly: true }
        };
        container.binds = there.map(bind).collect();
        Ok(container)
    }
}

/// The `config.json` of `container` over the root at the real path `root`, as this user
/// can run it.
pub(super) fn spec(container: &Container, root: &Path) -> Spec {
    let mut spec = container.spec();
    if let Some(place) = spec.root_mut() {
        place.set_path(root.to_owned());
    }
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    if !uid.is_root() {
        bundler::rootless::make_rootless(&mut spec, uid.as_raw(), gid.as_raw());
    }
    spec
}

/// Unpacks `image`, which was called `name`, into the empty directory `root`; `program`
/// says how much it is and what could not be kept.
///
/// # Errors
/// A layer that cannot be read or written; the wish to stop.
pub(super) fn unpack(
    image: &Image,
    root: &Path,
    (program, name): (&str, &str),
    stop: &AtomicBool,
) -> anyhow::Result<(Settings, Unpacked)> {
    let cannot = || format!("cannot unpack `{name}`");
    let settings = Settings::parse(&image.config_json).with_context(cannot)?;
    let bar = progress::bytes("unpack", image.layer_bytes());
    let count = |bytes| bar.inc(bytes);
    let options = UnpackOptions { max_bytes: None, progress: Some(&count), stop: Some(stop) };
    let unpacked = match image.unpack(root, &options) {
        Err(error @ ImageError::Interrupted) => return Err(error).status(INTERRUPTED),
        other => other.with_context(cannot)?,
    };
    bar.finish_and_clear();
    let (layers, bytes) = (image.layer_count(), HumanBytes(unpacked.bytes));
    let unkept = unpacked.unkept_count;
    let lost = match unkept {
        0 => String::new(),
        _ => format!(
            "; not root, so owners, devices or attributes of {} are not kept",
            report::count(unkept, "file")
        ),
    };
    let layers = report::count(layers, "layer");
    report::say(program, format_args!("{name}: {layers}, {bytes} unpacked{lost}"));
    Ok((settings, unpacked))
}

/// Files of an unpacked image that have another owner than it says.
#[derive(Clone, Debug, Default)]
pub(super) struct LostOwners {
    named: Vec<RootPath>,
    /// Whether there are more than were named.
    more: bool,
}

impl LostOwners {
    /// Those of `unpacked`.
    pub(super) fn of(unpacked: &Unpacked) -> Self {
        let lost = unpacked.unkept.iter().filter(|lost| lost.what == Lost::Owner);
        let named: Vec<RootPath> = lost.map(|lost| lost.path.clone()).collect();
        LostOwners { more: unpacked.unkept_owners > named.len() as u64, named }
    }

    /// Whether any of them may be in `root`, a part of the image.
    pub(super) fn are_in(&self, root: &Path) -> bool {
        let is_there = |path: &RootPath| root.join(path.relative()).symlink_metadata().is_ok();
        self.more || self.named.iter().any(is_there)
    }
}

/// What a run of an ordinary user does not show of a container that runs as `uid` and
/// `gid`: there is only one user, who is root, and who owns all files where
/// `owners_are_lost`.
pub(super) fn unproven(uid: u32, gid: u32, owners_are_lost: bool) -> Option<String> {
    let what = match ((uid, gid) != (0, 0), owners_are_lost) {
        _ if nix::unistd::geteuid().is_root() => return None,
        (false, false) => return None,
        (true, false) => format!("its user ({uid}:{gid}) is"),
        (false, true) => "the owners of its files are".to_owned(),
        (true, true) => format!("its user ({uid}:{gid}) and the owners of its files are"),
    };
    Some(format!("{what} not proven, since only root can have them here"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(config: &str) -> Settings {
        Settings::parse(format!("{{\"config\": {config}, \"os\": \"linux\"}}").as_bytes()).unwrap()
    }

    #[test]
    fn a_command_takes_the_place_of_cmd_and_not_of_entrypoint() {
        let image = settings(r#"{"Entrypoint": ["/init", "-v"], "Cmd": ["serve"]}"#);
        assert_eq!(image.command(&[]), ["/init", "-v", "serve"]);
        assert_eq!(image.command(&["x".to_owned()]), ["/init", "-v", "x"]);
        assert!(settings("null").command(&[]).is_empty());
        assert!(settings(r#"{"Entrypoint": null, "Cmd": null}"#).command(&[]).is_empty());
    }

    #[test]
    fn another_architecture_is_carried_over() {
        use clap::Parser;
        let image = Settings::parse(br#"{"architecture": "386", "os": "linux"}"#).unwrap();
        let args = build::Args::try_parse_from(["vzbuild", "minify", "x", "-o", "y"]).unwrap();
        let build::Verb::Minify(args) = args.verb else { panic!("{args:?}") };
        assert_eq!(image.carried_over(&args, &[]).architecture, "386");
    }

    #[test]
    fn a_health_check_has_three_forms() {
        let words = |check: &str| {
            let image = settings(&format!(r#"{{"Healthcheck": {{"Test": {check}}}}}"#));
            let words = image.health_check();
            words.iter().map(|w| String::from_utf8_lossy(&w.0).into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(words(r#"["CMD", "probe", "-q"]"#), ["probe", "-q"]);
        assert_eq!(words(r#"["CMD-SHELL", "a || exit 1"]"#), ["/bin/sh", "-c", "a || exit 1"]);
        assert!(words(r#"["NONE"]"#).is_empty() && words("null").is_empty());
    }
}
