//! What the command line says of the container, over what the bundle says.

use anyhow::{Context, bail};
use bundler::image::runtime::NotInImage;
use bundler::image::{Destination, Execution};
use bundler::layer::Node;
use bundler::{Layer, RootPath, Rootfs, accounts};
use serde_json::{Value, json};

use crate::cli::build::{Compression, Image, Program};
use crate::command::bundle::program::{read, text, variable};
use crate::report::{self, Advice, Status};

/// Puts into `execution` which command the flags say, where and as whom it runs.
///
/// # Errors
/// A word that is not of its form, a user whom the root does not know.
pub(super) fn apply_program(
    args: &Program,
    rootfs: &Rootfs,
    execution: &mut Execution,
) -> anyhow::Result<()> {
    if !args.args.is_empty() {
        let words = args.args.iter().map(|word| text(word.as_encoded_bytes(), "argument"));
        execution.cmd = words.collect::<anyhow::Result<_>>()?;
        execution.entrypoint.clear();
    }
    for word in &args.env {
        let (name, value) = variable(word)?;
        execution.env.retain(|old| old.split_once('=').is_none_or(|(old, _)| old != name));
        execution.env.push(format!("{name}={value}"));
    }
    if let Some(cwd) = &args.cwd {
        let cwd = text(cwd.as_encoded_bytes(), "directory")?;
        anyhow::ensure!(cwd.starts_with('/'), "--cwd `{cwd}` does not begin with `/`");
        execution.working_dir = cwd;
    }
    if let Some(user) = &args.user {
        let [passwd, group] = ["/etc/passwd", "/etc/group"].map(|path| read(rootfs, path));
        accounts::find(user, &passwd, &group)
            .with_context(|| format!("the root has no user `{user}`"))
            .hint("give numbers, such as --user 1000:1000, for one that it does not know")?;
        execution.user.clone_from(user);
    }
    Ok(())
}

/// Puts into `execution` what the other flags say of the container.
///
/// # Errors
/// A word that is not of its form; exit status 2.
pub(super) fn apply(args: &Image, execution: &mut Execution) -> anyhow::Result<()> {
    apply_words(args, execution).status(Status::Usage as u8)
}

fn apply_words(args: &Image, execution: &mut Execution) -> anyhow::Result<()> {
    for word in &args.label {
        let parts = word.split_once('=').filter(|(name, _)| !name.is_empty());
        let (name, value) = parts.with_context(|| format!("--label `{word}` is not NAME=VALUE"))?;
        execution.labels.insert(name.to_owned(), value.to_owned());
    }
    for word in &args.port {
        execution.exposed_ports.insert(port(word)?);
    }
    for word in &args.volume {
        let path = RootPath::new(word.as_encoded_bytes());
        let path = path.with_context(|| format!("--volume `{}`", word.display()))?;
        execution.volumes.insert(text(path.as_bytes(), "volume")?);
    }
    if let Some(name) = &args.stop_signal {
        execution.stop_signal = Some(signal(name)?);
    }
    match args.healthcheck.as_deref() {
        None => {}
        Some("none") => execution.healthcheck = Some(json!({ "Test": ["NONE"] })),
        Some(command) => execution.healthcheck = Some(json!({ "Test": test(command)? })),
    }
    Ok(())
}

fn port(word: &str) -> anyhow::Result<String> {
    let (number, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let is_port = number.parse::<u16>().is_ok_and(|number| number > 0);
    if is_port && ["tcp", "udp", "sctp"].contains(&protocol) {
        return Ok(format!("{number}/{protocol}"));
    }
    bail!("--port `{word}` is not PORT or PORT/tcp, PORT/udp, PORT/sctp")
}

/// A signal by name, as `docker stop` takes it: a number, or a name with or without
/// SIG, of real-time ones too.
fn signal(word: &str) -> anyhow::Result<String> {
    let upper = word.to_ascii_uppercase();
    // 64: the last real-time signal (signal(7)).
    if upper.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number)) {
        return Ok(upper);
    }
    let name = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    let offset = name.strip_prefix("SIGRTMIN+").or_else(|| name.strip_prefix("SIGRTMAX-"));
    // SIGRTMIN is 34 to programs of glibc.
    let is_real_time = offset.is_some_and(|offset| offset.parse::<u8>().is_ok_and(|n| n <= 30));
    let is_known = name.parse::<nix::sys::signal::Signal>().is_ok();
    if is_known || is_real_time || name == "SIGRTMIN" || name == "SIGRTMAX" {
        return Ok(name);
    }
    bail!("there is no signal `{word}`")
}

/// As the HEALTHCHECK of a Dockerfile: a JSON list of words, else text for a shell.
fn test(command: &str) -> anyhow::Result<Vec<String>> {
    if !command.starts_with('[') {
        return Ok(vec!["CMD-SHELL".to_owned(), command.to_owned()]);
    }
    let words: Vec<String> = serde_json::from_str(command)
        .with_context(|| format!("--healthcheck `{command}` is no JSON list of words"))?;
    anyhow::ensure!(!words.is_empty(), "--healthcheck `{command}` has no words");
    Ok(["CMD".to_owned()].into_iter().chain(words).collect())
}

/// Says what the image does not keep, and what in it cannot work.
pub(super) fn warn(
    args: &Image,
    destination: &Destination,
    layer: &Layer,
    execution: &Execution,
    not_in_image: &NotInImage,
) {
    if !not_in_image.groups.is_empty() && args.program.user.is_none() {
        let groups: Vec<String> = not_in_image.groups.iter().map(ToString::to_string).collect();
        let groups = groups.join(", ");
        report::warn(
            "vzbuild",
            format_args!(
                "an image has supplementary groups by a user's name alone, so it lacks {groups}: \
                 run it with --group-add, or give --user NAME"
            ),
        );
    }
    if !not_in_image.capabilities.is_empty() {
        let names: Vec<&str> = not_in_image.capabilities.iter().map(String::as_str).collect();
        let names = names.join(", ");
        report::warn(
            "vzbuild",
            format_args!("an image has no capabilities of its own: run it with --cap-add {names}"),
        );
    }
    let is_docker = matches!(destination, Destination::DockerArchive(..));
    if is_docker && args.compression == Compression::Zstd {
        report::warn("vzbuild", "docker before 23.0 cannot load zstd: --compression gzip");
    }
    let Some(words) = execution.healthcheck.as_ref().and_then(|check| check.get("Test")) else {
        return;
    };
    let program = match words.get(0).and_then(Value::as_str) {
        Some("CMD-SHELL") => Some("/bin/sh"),
        Some("CMD") => words.get(1).and_then(Value::as_str).filter(|word| word.starts_with('/')),
        _ => None,
    };
    let has = |program: &str| {
        let name = program.rsplit('/').next().unwrap_or_default().as_bytes();
        let mut entries = layer.entries.iter().filter(|entry| entry.node != Node::Directory);
        entries.any(|entry| entry.path.file_name() == name)
    };
    if let Some(program) = program.filter(|program| !has(program)) {
        report::warn(
            "vzbuild",
            format_args!("the health check needs {program}, which the image does not have"),
        );
    }
    if !is_docker {
        report::warn(
            "vzbuild",
            "podman and docker heed health checks of docker-archive: images only",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_has_a_protocol() {
        assert_eq!(port("80").unwrap(), "80/tcp");
        assert_eq!(port("53/udp").unwrap(), "53/udp");
        for bad in ["", "0", "65536", "80/quic", "80-90"] {
            assert!(port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_signal_is_known_to_the_kernel() {
        for (word, expected) in
            [("quit", "SIGQUIT"), ("SIGTERM", "SIGTERM"), ("rtmin+3", "SIGRTMIN+3"), ("9", "9")]
        {
            assert_eq!(signal(word).unwrap(), expected);
        }
        for bad in ["", "SIG", "0", "65", "SIGRTMIN+31", "SIGFOO"] {
            assert!(signal(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_health_check_is_for_a_shell_or_words() {
        assert_eq!(test("curl x || exit 1").unwrap(), ["CMD-SHELL", "curl x || exit 1"]);
        assert_eq!(test(r#"["/bin/web", "-t"]"#).unwrap(), ["CMD", "/bin/web", "-t"]);
        assert!(test("[]").is_err() && test("[7]").is_err());
    }
}
