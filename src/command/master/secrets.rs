//! Secrets of a deployment: found here, brought to nodes over ssh's standard input.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, anyhow, bail};

use super::directory;
use super::gather::{Gathered, PARALLEL};
use super::session::Nodes;
use crate::cli::master::{Args, Deploy};
use crate::fleet::secret::{Sealed, Secrets, Source, Sources, names};
use crate::fleet::state::{Answer, Order};
use crate::process;
use crate::push::fanout;
use crate::push::target::Node;
use crate::report;

/// Most bytes of a pod's secrets together: one order has them all.
const LIMIT: usize = 100_000;

/// Secrets on their way, and what became of them.
#[derive(Default)]
pub(super) struct Brought {
    /// Hosts where that failed, and why.
    pub(super) failed: BTreeMap<String, String>,
    /// Those that have other keys, too: what the revision before may need.
    surplus: Vec<(Node, String, Secrets)>,
}

/// Brings their secrets to all hosts that answered, and removes none there.
///
/// # Errors
/// When a secret cannot be had here; then nothing was brought.
pub(super) fn bring(
    args: &Args,
    wish: &Deploy,
    nodes: &Nodes,
    gathered: &Gathered,
) -> anyhow::Result<Brought> {
    let fleet = directory::read_right(args, &wish.plan.select.limit)?;
    let mut found = BTreeMap::new();
    let mut orders = Vec::new();
    for (label, host) in &fleet.deployment.hosts {
        let known =
            |(node, known): &(Node, anyhow::Result<_>)| node.label == *label && known.is_ok();
        if !gathered.hosts.iter().any(known) {
            continue;
        }
        for (pod, wished) in &host.pods {
            let names = names(wished);
            if names.is_empty() {
                continue;
            }
            let secrets = match found.get(pod) {
                Some(secrets) => Secrets::clone(secrets),
                None => {
                    let wanted = names.iter().map(|name| name.as_str());
                    let secrets = resolve(&args.directory, &fleet.secrets, wanted)
                        .with_context(|| format!("cannot find the secrets of `{pod}`"))?;
                    found.insert(pod.clone(), secrets.clone());
                    secrets
                }
            };
            orders.push((host.node.clone(), pod.clone(), secrets));
        }
    }
    let mut brought = Brought::default();
    let answers = send(nodes, &orders, wish.encrypt_at_rest, false);
    for ((node, pod, secrets), answer) in orders.into_iter().zip(answers) {
        match answer {
            Ok((changed, surplus)) => {
                if changed {
                    let line = format!(
                        "{node}: {pod}: secrets are new; what reads them once needs `vzmaster restart {pod}`"
                    );
                    report::say("vzmaster", line);
                }
                if surplus {
                    brought.surplus.push((node, pod, secrets));
                }
            }
            Err(error) => {
                let why = format!("cannot bring secrets: {error:#}");
                brought.failed.insert(node.label, why);
            }
        }
    }
    Ok(brought)
}

impl Brought {
    /// Removes the other keys, once what was wished does its work.
    pub(super) fn settle(&self, nodes: &Nodes) {
        let answers = send(nodes, &self.surplus, None, true);
        for ((node, pod, _), answer) in self.surplus.iter().zip(answers) {
            if let Err(error) = answer {
                let what =
                    format_args!("{node}: {pod}: old keys of secrets are still there: {error:#}");
                report::warn("vzmaster", what);
            }
        }
    }
}

/// Sends each pod's secrets; returns whether any was new, and whether they have other keys.
fn send(
    nodes: &Nodes,
    orders: &[(Node, String, Secrets)],
    at_rest: Option<bool>,
    exact: bool,
) -> Vec<anyhow::Result<(bool, bool)>> {
    fanout::each(orders, PARALLEL, |(node, pod, secrets)| {
        let (pod, secrets) = (pod.clone(), secrets.clone());
        let order = Order::Secrets { pod, secrets, at_rest, exact };
        match nodes.order(node, &order, &mut |_| ())? {
            Answer::Secrets { changed, surplus } => Ok((changed, surplus)),
            _ => bail!("the node answered something else"),
        }
    })
}

fn resolve<'a>(
    dir: &Path,
    sources: &Sources,
    names: impl Iterator<Item = &'a str>,
) -> anyhow::Result<Secrets> {
    let mut secrets = Secrets::new();
    let mut size = 0;
    for name in names {
        let keys = sources.get(name).with_context(|| format!("there is no secret `{name}`"))?;
        let mut values = BTreeMap::new();
        for (key, source) in keys {
            let value = value(dir, source).with_context(|| format!("cannot get `{name}/{key}`"))?;
            size += value.len();
            values.insert(key.clone(), Sealed(value));
        }
        secrets.insert(name.to_owned(), values);
    }
    if size > LIMIT {
        return Err(anyhow!("they have {size} bytes, and {LIMIT} are the most"));
    }
    Ok(secrets)
}

fn value(dir: &Path, source: &Source) -> anyhow::Result<Vec<u8>> {
    match source {
        Source::File(file) => {
            let path = dir.join(file);
            std::fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))
        }
        Source::Command(words) => {
            let (program, rest) = words.split_first().context("there is no command")?;
            let mut value = process::output(process::command(program).args(rest).current_dir(dir))?;
            // As a shell takes what a command prints.
            if value.last() == Some(&b'\n') {
                value.pop();
            }
            Ok(value)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_that_of_the_file_or_what_the_command_prints() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("key"), "a\n").unwrap();
        assert_eq!(value(dir.path(), &Source::File("key".into())).unwrap(), b"a\n");
        let words =
            |words: &[&str]| Source::Command(words.iter().map(|w| (*w).to_owned()).collect());
        assert_eq!(value(dir.path(), &words(&["cat", "key"])).unwrap(), b"a");
        assert!(value(dir.path(), &words(&["false"])).is_err());
        let sources = Sources::from([(
            "s".to_owned(),
            BTreeMap::from([("k".to_owned(), words(&["head", "-c", "100001", "/dev/zero"]))]),
        )]);
        let error = resolve(dir.path(), &sources, ["s"].into_iter()).unwrap_err().to_string();
        assert_eq!(error, "they have 100001 bytes, and 100000 are the most");
    }
}
