//! What an image says of how it is run.

use anyhow::Context;
use bundler::accounts;
use bundler::image::{ConfigError, Execution, ImageConfig};
use bundler::{Bind, Container, Rootfs};
use oci_spec::runtime::Capability;
use tracer::record::BytePath;

use crate::cli::build;
use crate::command::bundle::program::{hostname, read};
use crate::command::strace::foreign::OF_THE_MACHINE;
use crate::report::Advice;

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

/// How an image is run, with docker's `Healthcheck`.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings(Execution);

impl Settings {
    /// Reads the configuration of an image.
    ///
    /// # Errors
    /// JSON of another shape.
    pub(super) fn parse(json: &[u8]) -> Result<Self, ConfigError> {
        Ok(Settings(ImageConfig::parse(json)?.config))
    }

    /// Entrypoint and Cmd, or `command` in the place of Cmd.
    pub(super) fn command(&self, command: &[String]) -> Vec<String> {
        let cmd = if command.is_empty() { &self.0.cmd } else { command };
        self.0.entrypoint.iter().chain(cmd).cloned().collect()
    }

    /// Places that are to be writable.
    pub(super) fn volumes(&self) -> impl Iterator<Item = &str> {
        self.0.volumes.iter().map(String::as_str)
    }

    /// The configuration of the minified image: the same but for what was
    /// asked for.
    pub(super) fn carried_over(&self, args: &build::Minify, command: &[String]) -> Execution {
        let mut execution = self.0.clone();
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
        execution
    }

    /// The command that tells whether the program is well; empty where there
    /// is none.
    pub(super) fn health_check(&self) -> Vec<BytePath> {
        let test = self.0.healthcheck.as_ref().and_then(|check| check.get("Test")?.as_array());
        let test: Option<Vec<&str>> =
            test.map(|words| words.iter().filter_map(|word| word.as_str()).collect());
        let words: Vec<&str> = match test.as_deref() {
            Some(["CMD", words @ ..]) => words.to_vec(),
            Some(["CMD-SHELL", line]) => vec!["/bin/sh", "-c", line],
            _ => Vec::new(),
        };
        words.iter().map(|word| BytePath(word.as_bytes().to_vec())).collect()
    }

    /// The container of the whole image, as docker makes it, without a command.
    ///
    /// # Errors
    /// A user that the image does not know, a variable without a name.
    pub(super) fn container(
        &self,
        args: &build::Minify,
        rootfs: &Rootfs,
    ) -> anyhow::Result<Container> {
        let mut container = Container {
            writable: true,
            sysfs: true,
            mqueue: true,
            new_privileges: true,
            cwd: self.0.working_dir.clone(),
            ..Container::default()
        };
        let user = args.user.as_ref().or(Some(&self.0.user)).filter(|user| !user.is_empty());
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
        for variable in self.0.env.iter().chain(&args.env) {
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
