//! What happens on a node, while an ssh session runs it: one order, its answers.
//!
//! Once a revision is being put in place, the node goes on by itself to the end,
//! which is the new revision or the old one, whether anyone listens or not. The lock
//! is the kernel's, so it ends with the process.

mod apply;
mod control;
mod displaced;
mod guard;
mod listeners;
mod network;
mod pending;
mod pods;
mod probe;
mod remove;
mod secrets;
mod sockets;
mod state;
mod systemd;
mod tls;
mod units;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};

pub use guard::{Guard, Watchdog, watch};
pub use network::{Network, Nftables};
pub use pending::Pending;
pub use pods::Pods;
pub use probe::{Prober, Probes};
pub use sockets::{Socket, Wanted};
pub use systemd::{Systemctl, Systemd, UnitState};
pub use watch::Patience;

use super::fields::is_label;
use super::revision::Record;
use super::state::{Answer, Apply, Order, Start, VERSION};
use crate::push::link::{Link, LinkError};
use crate::push::lock::{self, Lock};
use crate::report::hint_of;

/// How long another change may take to end.
const MOMENT: Duration = Duration::from_secs(2);
/// How long a revision may take to be judged.
const JUDGING: Duration = Duration::from_secs(300);

/// Where things lie on a node.
#[derive(Clone, Debug)]
pub struct Places {
    /// Pods and their revisions.
    pub pods: PathBuf,
    /// The administrator's units.
    pub units: PathBuf,
    /// What Quadlet makes units of.
    pub quadlets: PathBuf,
    /// What a reboot may take.
    pub run: PathBuf,
    /// The store of bundles.
    pub store: PathBuf,
}

/// A node, and what it is acted on with.
pub struct Site<'a> {
    /// Where things lie.
    pub places: Places,
    /// Its service manager.
    pub systemd: &'a dyn Systemd,
    /// What asks containers whether they work.
    pub prober: &'a dyn Prober,
    /// The networks of its pods.
    pub network: &'a dyn Network,
    /// What takes a deployment back that nobody ends.
    pub guard: &'a dyn Guard,
    /// How long to wait for what.
    pub patience: Patience,
    /// The port by which ssh came in, where it did.
    pub ssh: Option<u16>,
}

impl Places {
    /// The usual ones, with this store.
    pub fn usual(store: PathBuf) -> Self {
        let [pods, units, quadlets, run] =
            [super::unit::PODS, "/etc/systemd/system", "/etc/containers/systemd", "/run/vz"]
                .map(PathBuf::from);
        Places { pods, units, quadlets, run, store }
    }
}

/// Serves one session: hears an order, carries it out, answers. What goes wrong is
/// told to the other end as well. `ordered` is called when the order is there.
///
/// # Errors
/// When the order was not carried out.
pub fn serve(link: &mut Link, site: &Site<'_>, ordered: &dyn Fn()) -> anyhow::Result<()> {
    let served = dispatch(link, site, ordered);
    if let Err(error) = &served
        && error.downcast_ref::<LinkError>().is_none()
    {
        let why = error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ");
        // Who is gone cannot be told.
        let _ = link.say(&Answer::Refused { why, hint: hint_of(error).map(str::to_owned) });
    }
    served
}

fn dispatch(link: &mut Link, site: &Site<'_>, ordered: &dyn Fn()) -> anyhow::Result<()> {
    let start: Start = link.hear()?;
    if start.version != VERSION {
        bail!("this node's end speaks version {VERSION}, not {}", start.version);
    }
    let order: Order = link.hear()?;
    ordered();
    let pod = match &order {
        Order::State { .. } => None,
        Order::Apply(apply) => Some(&apply.pod),
        Order::Rollback { pod, .. }
        | Order::Confirm { pod, .. }
        | Order::Control { pod, .. }
        | Order::Compare { pod, .. }
        | Order::Secrets { pod, .. }
        | Order::Remove { pod }
        | Order::History { pod } => Some(pod),
    };
    if let Some(bad) = pod.filter(|pod| !is_label(pod)) {
        bail!("`{}` cannot be the name of a pod", bad.escape_debug());
    }
    let pods = Pods::new(&site.places);
    match order {
        Order::State { verify, needs } => {
            let (state, of_pods) = state::read(site, verify, &needs)?;
            for pod in of_pods {
                link.say(&Answer::Pod(pod))?;
            }
            link.say(&Answer::State(state))?;
        }
        Order::Apply(apply) => {
            let _lock = site.lock()?;
            let mut say = |what: String| {
                // The node goes on to the end, whether anyone listens or not.
                let _ = link.say(&Answer::Progress(what));
            };
            let applied = apply::apply(site, &apply, &mut say)?;
            link.say(&Answer::Applied(applied))?;
        }
        Order::Confirm { pod, id } => {
            // Whoever still judges it ends in his own time.
            let _lock = site.lock_within(JUDGING)?;
            let mut say = |what: String| {
                let _ = link.say(&Answer::Progress(what));
            };
            let applied = apply::confirm(site, &pod, &id, &mut say)?;
            link.say(&Answer::Applied(applied))?;
        }
        Order::Rollback { pod, revision, by, forget } => {
            let _lock = site.lock()?;
            let apply = apply::earlier(&pods, pod, revision.as_deref(), by)?;
            let apply = Apply { forget, ..apply };
            let mut say = |what: String| {
                let _ = link.say(&Answer::Progress(what));
            };
            let applied = apply::apply(site, &apply, &mut say)?;
            link.say(&Answer::Applied(applied))?;
        }
        Order::Control { pod, verb, by } => {
            let _lock = site.lock()?;
            let mut say = |what: String| {
                let _ = link.say(&Answer::Progress(what));
            };
            control::control(site, &pods, (&pod, &by), verb, &mut say)?;
            link.say(&Answer::Done)?;
        }
        Order::Remove { pod } => {
            let _lock = site.lock()?;
            remove::remove(site, &pods, &pod)?;
            link.say(&Answer::Done)?;
        }
        Order::Compare { pod, secrets } => {
            link.say(&Answer::Compared(site.compare_secrets(&pods, &pod, &secrets)?))?;
        }
        Order::Secrets { pod, number, secrets, at_rest } => {
            let _lock = site.lock()?;
            site.put_secrets(&pods, (&pod, &number), &secrets, at_rest)?;
            link.say(&Answer::Done)?;
        }
        Order::History { pod } => {
            let entries = pods.history(&pod)?;
            link.say(&Answer::History(entries))?;
        }
    }
    Ok(())
}

impl Site<'_> {
    /// One change of the node's pods at a time.
    fn lock(&self) -> anyhow::Result<Lock> {
        self.lock_within(MOMENT)
    }

    fn lock_within(&self, patience: Duration) -> anyhow::Result<Lock> {
        let run = &self.places.run;
        std::fs::create_dir_all(run).with_context(|| format!("cannot make `{}`", run.display()))?;
        let lock = lock::take(&run.join("lock"), patience).context("cannot lock the node")?;
        lock.context("another vzmaster is at work on this node")
    }

    /// Whether another session holds the lock.
    fn busy(&self) -> bool {
        let held = lock::take(&self.places.run.join("lock"), Duration::ZERO);
        held.is_ok_and(|lock| lock.is_none())
    }

    /// How the containers of a revision are, each with the program's own process.
    ///
    /// # Errors
    /// When systemd does not answer.
    fn show(&self, record: &Record) -> anyhow::Result<Vec<UnitState>> {
        let mut states = self.systemd.show(&record.units())?;
        let podmans = record.containers.iter().zip(&mut states);
        // To systemd it is conmon, which is in the node's own network.
        for (placed, state) in podmans.filter(|(placed, _)| placed.runtime.by_podman()) {
            let pid = std::fs::read_to_string(self.places.run.join(format!("{}.pid", placed.id)));
            let pid = pid.ok().and_then(|pid| pid.trim().parse().ok());
            state.pid = pid.filter(|_| state.pid != 0).unwrap_or(0);
        }
        Ok(states)
    }
}
