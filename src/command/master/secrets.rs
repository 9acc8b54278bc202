//! Secrets of a deployment: found here, brought to nodes over ssh's standard input.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, anyhow, bail};

use super::directory;
use super::gather::{Gathered, PARALLEL};
use super::session::Nodes;
use crate::cli::master::Deploy;
use crate::fleet::deployment::Host;
use crate::fleet::pod::Pod;
use crate::fleet::revision::record;
use crate::fleet::secret::{Sealed, Secrets, Source, Sources, names};
use crate::fleet::state::{Answer, Order, State};
use crate::process;
use crate::push::fanout;
use crate::report::{self, with_hint};

/// Most bytes of a pod's secrets together: one order has them all.
const LIMIT: usize = 100_000;

/// Finds the secrets of all pods that are to run somewhere.
pub(super) fn find(
    dir: &Path,
    fleet: &directory::Fleet,
) -> BTreeMap<String, anyhow::Result<Secrets>> {
    let pods: BTreeMap<&String, &Pod> =
        fleet.deployment.hosts.values().flat_map(|host| &host.pods).collect();
    let having = pods.into_iter().map(|(name, pod)| (name, names(pod)));
    let secrets = |(pod, names): (&String, BTreeSet<&String>)| {
        let secrets = resolve(dir, &fleet.secrets, names.iter().map(|name| name.as_str()));
        (pod.clone(), secrets.with_context(|| format!("cannot find the secrets of `{pod}`")))
    };
    having.filter(|(_, names)| !names.is_empty()).map(secrets).collect()
}

/// Has a host compare the secrets of its pods with those that it has, in its memory: they
/// come back as numbers, which say nothing of them. Where a secret cannot be had here, the
/// one that is there is taken for it, and that is said.
///
/// # Errors
/// When the host does not answer.
pub(super) fn compare(
    nodes: &Nodes,
    host: &Host,
    secrets: &BTreeMap<String, anyhow::Result<Secrets>>,
    state: &State,
) -> anyhow::Result<(BTreeMap<String, String>, Vec<String>)> {
    let (mut numbers, mut unseen) = (BTreeMap::new(), Vec::new());
    for (pod, secrets) in secrets.iter().filter(|(pod, _)| host.pods.contains_key(*pod)) {
        let number = match secrets {
            Ok(secrets) => {
                let order = Order::Compare { pod: pod.clone(), secrets: secrets.clone() };
                match nodes.order(&host.node, &order, &mut |_| ())? {
                    Answer::Compared(number) => Some(number),
                    _ => bail!("the node answered something else"),
                }
            }
            Err(error) => {
                unseen.push(format!("secrets were not compared: {error:#}"));
                let there = state.pods.iter().find(|there| there.name == *pod);
                there.and_then(|there| record(&there.files)?.secrets)
            }
        };
        numbers.extend(number.map(|number| (pod.clone(), number)));
    }
    Ok((numbers, unseen))
}

/// Looks whether all secrets were found.
///
/// # Errors
/// When one was not.
pub(super) fn all_found(gathered: &Gathered) -> anyhow::Result<()> {
    match gathered.secrets.iter().find_map(|(_, secrets)| secrets.as_ref().err()) {
        Some(error) => Err(anyhow!("{error:#}")),
        None => Ok(()),
    }
}

/// Brings their secrets to all hosts that answered; returns the hosts where that failed, which
/// is said, too.
pub(super) fn bring(wish: &Deploy, nodes: &Nodes, gathered: &Gathered) -> BTreeMap<String, String> {
    let mut orders = Vec::new();
    for (node, known) in &gathered.hosts {
        let Ok(known) = known else { continue };
        for (pod, number) in &known.numbers {
            let Some(Ok(secrets)) = gathered.secrets.get(pod) else { continue };
            let (pod, number, secrets) = (pod.clone(), number.clone(), secrets.clone());
            let at_rest = wish.encrypt_at_rest;
            orders.push((node, Order::Secrets { pod, number, secrets, at_rest }));
        }
    }
    let answers = fanout::each(&orders, PARALLEL, |(node, order)| {
        nodes.order(node, order, &mut |_| ()).map(drop)
    });
    let mut failed = BTreeMap::new();
    for ((node, _), answer) in orders.iter().zip(answers) {
        if let Err(error) = answer {
            let error = error.context("cannot bring secrets");
            report::say("vzmaster", format!("{node}: FAILED: {}", with_hint(&error)));
            failed.insert(node.label.clone(), format!("{error:#}"));
        }
    }
    failed
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
