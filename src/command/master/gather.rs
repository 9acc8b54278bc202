//! Wish and state of all hosts, put side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, anyhow, bail};

use super::session::Nodes;
use super::{directory, mount_points, secrets};
use crate::cli::master::{Args, Plan};
use crate::fleet::deployment::{Deployment, Host};
use crate::fleet::network::published;
use crate::fleet::obstacle::{Obstacle, needs, obstacles};
use crate::fleet::plan::{self, Step};
use crate::fleet::pod::Pod;
use crate::fleet::preflight::{Facts, Grade, Reason, cannot, judge};
use crate::fleet::render::{Built, Machine, render};
use crate::fleet::revision::Revision;
use crate::fleet::secret::Secrets;
use crate::fleet::state::State;
use crate::push::bundle::Bundle;
use crate::push::fanout;
use crate::push::ssh::was_unreached;
use crate::push::target::Node;
use crate::report::{Advice, hint_of};

/// Where bundles lie on nodes, unless asked for otherwise.
pub(super) const STORE: &str = "/var/lib/vz";
/// How many nodes are asked at a time.
pub(super) const PARALLEL: usize = 20;

/// All that a deployment is decided from.
pub(super) struct Gathered {
    /// The bundles of all pods, by directory.
    pub(super) bundles: BTreeMap<String, Bundle>,
    /// Digests of their layers, which `vzbuild` calls them by, by revision.
    pub(super) layers: BTreeMap<String, String>,
    /// The hosts, by name.
    pub(super) hosts: Vec<(Node, anyhow::Result<Known>)>,
    /// The secrets of all pods that have some, as far as they can be had here.
    pub(super) secrets: BTreeMap<String, anyhow::Result<Secrets>>,
}

/// What is known of a host that answered.
pub(super) struct Known {
    /// What is wished there.
    pub(super) wished: BTreeMap<String, Revision>,
    /// What is to be done.
    pub(super) steps: Vec<Step>,
    /// What is in the way of that.
    pub(super) obstacles: Vec<Obstacle>,
    /// What cannot be kept there, such as limits.
    pub(super) lost: Vec<String>,
    /// What could not be seen.
    pub(super) unseen: Vec<String>,
    /// The numbers of the secrets of pods.
    pub(super) numbers: BTreeMap<String, String>,
}

/// Reads the files, hashes the bundles, asks the nodes.
///
/// # Errors
/// When anything is wrong with the files or the bundles; a node that does not answer
/// is a value.
pub(super) fn gather(args: &Args, plan: &Plan, nodes: &Nodes) -> anyhow::Result<Gathered> {
    let fleet = directory::read_right(args, &plan.select.limit)?;
    let bundles = open_bundles(&args.directory, &fleet.deployment)?;
    let built: BTreeMap<String, Built> =
        bundles.iter().map(|(dir, (_, built))| (dir.clone(), built.clone())).collect();
    let secrets = secrets::find(&args.directory, &fleet);
    let hosts: Vec<&Host> = fleet.deployment.hosts.values().collect();
    let store = args.ssh.store.as_deref().unwrap_or(STORE);
    let known = fanout::each(&hosts, PARALLEL, |host| {
        let needs = needs(host.pods.values());
        let state = nodes.look(&host.node, plan.verify, needs);
        let state = state.or_else(|error| or_retire(&host.node, error))?;
        let (numbers, unseen) = secrets::compare(nodes, host, &secrets, &state)?;
        let known = know(host, &built, (&state, numbers), store, plan.prune)?;
        Ok(Known { unseen, ..known })
    });
    let hosts = hosts.iter().map(|host| host.node.clone()).zip(known).collect();
    let layer = |built: &Built| {
        let digest = built.config.get("annotations")?.get(bundler::config::DIFF_ID)?.as_str()?;
        Some((built.id.clone(), digest.to_owned()))
    };
    let layers = built.values().filter_map(layer).collect();
    let bundles = bundles.into_iter().map(|(dir, (bundle, _))| (dir, bundle)).collect();
    Ok(Gathered { bundles, layers, hosts, secrets })
}

/// Adds the way out where a machine may be no more.
fn or_retire(node: &Node, error: anyhow::Error) -> anyhow::Result<State> {
    match was_unreached(&error) && hint_of(&error).is_none() {
        false => Err(error),
        true => Err(error).hint(format!(
            "where the machine is no more, `vzmaster retire {node}` leaves it out from now on"
        )),
    }
}

/// What runs the pods of `host`, a node with these facts, and what is lost there.
///
/// # Errors
/// When it cannot run them.
pub(super) fn machine(
    host: &Host,
    facts: &str,
    store: &str,
) -> anyhow::Result<(Machine, Vec<Reason>)> {
    let facts = Facts::parse(facts)?;
    let verdict = judge(&facts, None);
    let (Some(runtime), true) = (verdict.runtime, verdict.grade != Grade::Unusable) else {
        let reason = verdict.reasons.first();
        let reason = reason.context("the node cannot run pods")?;
        return Err(anyhow!("the node cannot run pods: {}", reason.what)).hint(&reason.fix);
    };
    let networks = ["try.nftables", "try.veth"].iter().all(|fact| facts.get(fact) == "yes");
    let apart = host.pods.values().find(|pod| !pod.host_network);
    if let (Some(pod), false) = (apart, networks) {
        let name = &pod.name;
        return Err(anyhow!("the pod `{name}` cannot have a network of its own there"))
            .hint("install nftables and iproute2 on the node, or say hostNetwork: true");
    }
    for pod in host.pods.values() {
        if let Some(reason) = cannot(&facts, pod.backend) {
            let (name, what) = (&pod.name, reason.what);
            return Err(anyhow!("the pod `{name}` cannot be run there as it asks: {what}"))
                .hint(reason.fix);
        }
    }
    let systemd = facts.number("systemd").unwrap_or(0);
    let number = |(key, value): (&str, &str)| {
        Some((key.strip_prefix("secrets.")?.to_owned(), value.to_owned()))
    };
    let secrets = facts.all().filter_map(number).collect();
    Ok((Machine { runtime, systemd, store: store.to_owned(), secrets }, verdict.reasons))
}

/// The revisions of a host's pods on this machine.
///
/// # Errors
/// When a bundle cannot serve.
pub(super) fn wished(
    host: &Host,
    built: &BTreeMap<String, Built>,
    machine: &Machine,
) -> anyhow::Result<BTreeMap<String, Revision>> {
    let revision = |(name, pod): (&String, &Pod)| {
        let revision = render(pod, built, machine);
        Ok((name.clone(), revision.with_context(|| format!("cannot run the pod `{name}`"))?))
    };
    host.pods.iter().map(revision).collect()
}

fn know(
    host: &Host,
    built: &BTreeMap<String, Built>,
    (state, numbers): (&State, BTreeMap<String, String>),
    store: &str,
    prune: bool,
) -> anyhow::Result<Known> {
    let (machine, reasons) = machine(host, &state.facts, store)?;
    // The facts may be of an hour ago.
    let machine = Machine { secrets: numbers.clone(), ..machine };
    let mut wished = wished(host, built, &machine)?;
    let facts = Facts::parse(&state.facts)?;
    let mut doubted = Vec::new();
    for there in &state.pods {
        let Some(pod) = host.pods.get(&there.name) else { continue };
        let Some(runtime) = plan::proven(there, &facts) else { continue };
        doubted.push(format!(
            "{} failed its trial, and runs `{}`: it goes on doing so",
            runtime.name, pod.name
        ));
        let revision = render(pod, built, &Machine { runtime, ..machine.clone() })?;
        wished.insert(pod.name.clone(), revision);
    }
    let steps = plan::plan(&wished, state, prune);
    let obstacles = obstacles(&host.pods, &wished, &steps, state);
    // Limits that cannot be kept are no loss to who asks for none.
    let limits = || host.pods.values().flat_map(|pod| &pod.containers).map(|c| c.limits);
    let lost = reasons.into_iter().filter(|reason| {
        reason.grade == Grade::Degraded
            && (!reason.what.starts_with("limits of memory")
                || limits().any(|l| l.memory.is_some()))
            && (!reason.what.starts_with("limits of CPU")
                || limits().any(|l| l.milli_cpus.is_some()))
    });
    let publishes = |pod: &&Pod| !pod.host_network && !published(pod).is_empty();
    let dropping = state.dropping.iter().filter(|_| host.pods.values().any(|pod| publishes(&pod)));
    let dropping = dropping.map(|chain| {
        format!(
            "{chain} drops what comes to pods from outside; `oifname \"vz*\" accept` in it lets that pass"
        )
    });
    let keeps = |pod: &String| state.pods.iter().any(|p| p.name == *pod && p.keeps_secrets);
    let forgotten = numbers.keys().filter(|pod| !keeps(pod)).map(|pod| {
        format!(
            "a reboot takes the secrets of {pod}, which cannot start without; `deploy --encrypt-at-rest` keeps them"
        )
    });
    let lost = lost.map(|reason| reason.what).chain(doubted).chain(dropping).chain(forgotten);
    let lost = lost.collect();
    Ok(Known { wished, steps, obstacles, lost, unseen: Vec::new(), numbers })
}

/// Bundles by directory.
pub(super) type Opened = BTreeMap<String, (Bundle, Built)>;

/// Opens and hashes each bundle that a pod of a host needs, once.
///
/// # Errors
/// When one cannot be used by a container.
pub(super) fn open_bundles(dir: &Path, deployment: &Deployment) -> anyhow::Result<Opened> {
    let pods: BTreeMap<&String, &Pod> =
        deployment.hosts.values().flat_map(|host| &host.pods).collect();
    let names: BTreeSet<&String> =
        pods.values().flat_map(|pod| &pod.containers).map(|c| &c.bundle).collect();
    let names: Vec<&String> = names.into_iter().collect();
    let parallel = std::thread::available_parallelism().map_or(1, usize::from);
    let opened = fanout::each(&names, parallel, |name| open(&dir.join(name)));
    let mut bundles = Opened::new();
    for (name, opened) in names.iter().zip(opened) {
        let opened = opened.with_context(|| format!("cannot use the bundle `{name}`"))?;
        bundles.insert((*name).clone(), opened);
    }
    for pod in pods.values() {
        for container in &pod.containers {
            mount_points::check(&dir.join(&container.bundle), container).with_context(|| {
                format!("cannot run container `{}` of the pod `{}`", container.name, pod.name)
            })?;
        }
    }
    Ok(bundles)
}

fn open(dir: &Path) -> anyhow::Result<(Bundle, Built)> {
    let bundle = Bundle::open(dir)?;
    let name = bundle.name().context("its directory has no name")?;
    if !crate::push::protocol::valid_name(&name) {
        bail!("`{}` cannot be the name of a bundle on a node", name.escape_debug());
    }
    let config = std::fs::read(dir.join("config.json")).context("cannot read its config.json")?;
    let config = serde_json::from_slice(&config).context("its config.json is none")?;
    let built = Built { name, id: bundle.id.clone(), config };
    Ok((bundle, built))
}
