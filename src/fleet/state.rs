//! What a node says of its pods, and what it is told to do.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::obstacle::{Found, Needs};
use super::revision::Files;
use super::secret::Secrets;

/// Version of orders and answers.
pub const VERSION: u32 = 3;

/// How a session begins. The order follows by itself, once the node's end is there: it
/// must not be given twice, nor be seen in the words of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// [`VERSION`].
    pub version: u32,
}

/// What a session with a node is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Say what there is.
    State {
        /// Whether bundles are hashed again, too.
        verify: bool,
        /// What is to be looked at for pods that may be started.
        needs: Needs,
    },
    /// Make a revision the one that runs.
    Apply(Apply),
    /// Make a revision that was applied the current one: the node can still be reached.
    Confirm {
        /// Of which pod.
        pod: String,
        /// Which.
        id: String,
    },
    /// Make an earlier revision the one that runs; the previous one unless named.
    Rollback {
        /// Of which pod.
        pod: String,
        /// The beginning of its digest.
        revision: Option<String>,
        /// Who asks, for the history.
        by: String,
        /// Whether what runs now is nothing to go back to: it failed elsewhere.
        forget: bool,
    },
    /// Start, stop, kill or restart the pod's units.
    Control {
        /// Which pod.
        pod: String,
        /// What to do.
        verb: Control,
        /// Who asks, for the history.
        by: String,
    },
    /// Say which number the pod's secrets have there, or would have.
    Compare {
        /// Which pod.
        pod: String,
        /// They.
        secrets: Secrets,
    },
    /// Have these secrets for revisions of the pod.
    Secrets {
        /// Which pod.
        pod: String,
        /// Their number.
        number: String,
        /// They.
        secrets: Secrets,
        /// Whether the next boot is to have them, too, encrypted on the disk; as it was
        /// where nothing is said.
        at_rest: Option<bool>,
    },
    /// Stop the pod and remove all that the node has of it but its volumes.
    Remove {
        /// Which pod.
        pod: String,
    },
    /// Say what was done to the pod.
    History {
        /// Which pod.
        pod: String,
    },
}

/// A revision that is to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Apply {
    /// The pod.
    pub pod: String,
    /// The revision's digest.
    pub id: String,
    /// Its files.
    pub files: Files,
    /// The revision that the plan was made for; another one by now is refused.
    pub expected: Option<String>,
    /// Who asks, for the history.
    pub by: String,
    /// Whether what runs now is nothing to go back to later.
    pub forget: bool,
    /// Pods that nothing wishes any more, which stop once this one does its work, and run again
    /// where it does not.
    #[serde(default)]
    pub instead: Vec<String>,
    /// Whether what runs goes on where it is this revision and whole: at most ports lead elsewhere,
    /// or another one's units are left.
    pub ports: bool,
}

/// What is done to units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Control {
    /// Start what does not run.
    Start,
    /// Stop, with the time of grace.
    Stop,
    /// Kill at once, and leave stopped.
    Kill,
    /// Stop and start.
    Restart,
}

impl Control {
    /// What it does, and what was done then.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Control::Start => ("start", "was started"),
            Control::Stop => ("stop", "was stopped"),
            Control::Kill => ("kill", "was killed"),
            Control::Restart => ("restart", "was started again"),
        }
    }
}

/// What a node answers; several of them end with one that is no progress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// What is going on.
    Progress(String),
    /// To [`Order::State`], each pod by itself: all of them might be too much for a frame.
    Pod(PodState),
    /// To [`Order::State`], after its pods.
    State(State),
    /// To [`Order::Apply`], [`Order::Rollback`] and [`Order::Confirm`].
    Applied(Applied),
    /// To [`Order::History`], the oldest first.
    History(Vec<Entry>),
    /// To [`Order::Compare`], the number.
    Compared(String),
    /// To the others.
    Done,
    /// It could not be done.
    Refused {
        /// What went wrong, causes included.
        why: String,
        /// What to do about it.
        hint: Option<String>,
    },
}

/// What became of a revision that was to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The revision that runs now; none where nothing does.
    pub current: Option<String>,
    /// Why the wished one does not run.
    pub failure: Option<String>,
    /// Whether what ran before runs again and was probed; nothing where nothing ran.
    pub restored: Option<bool>,
    /// The last lines that the wished one logged, where it failed.
    pub log: Vec<String>,
    /// Milliseconds between the stop of the old one and the new one being ready.
    pub gap: u64,
}

impl Applied {
    /// The revision `id` runs.
    pub fn good(id: &str) -> Self {
        let current = Some(id.to_owned());
        Applied { current, failure: None, restored: None, log: Vec::new(), gap: 0 }
    }
}

/// One line of a pod's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When, in seconds since 1970.
    pub time: u64,
    /// What was wished.
    pub revision: String,
    /// What came of it.
    pub outcome: String,
    /// Who wished it.
    pub by: String,
    /// The revisions of its containers' bundles, as far as they were noted.
    #[serde(default)]
    pub bundles: BTreeMap<String, String>,
}

/// Everything a node has of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// What the preflight script printed, at most an hour ago.
    pub facts: String,
    /// Whether something is being changed just now.
    pub busy: bool,
    /// Its pods, by name; they travel by themselves.
    #[serde(skip)]
    pub pods: Vec<PodState>,
    /// Units and ports of ours that belong to no pod.
    pub stray: Vec<String>,
    /// Chains of the administrator's that drop what comes to pods from outside.
    pub dropping: BTreeSet<String>,
    /// What there is of what pods need.
    pub found: Found,
}

/// A pod on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodState {
    /// Its name.
    pub name: String,
    /// The revision that is to run.
    pub current: Option<String>,
    /// The one before.
    pub previous: Option<String>,
    /// The revision of a deployment that was begun and not ended.
    pub pending: Option<String>,
    /// Units of other revisions that are still there.
    pub leftover: Vec<String>,
    /// The addresses of its own network: that of IPv6, too, where the node has it.
    pub addresses: Vec<String>,
    /// The ports of the node that lead somewhere, as `nft` has them.
    pub rules: Vec<String>,
    /// Whether the secrets of the current revision are not in memory.
    pub lacks_secrets: bool,
    /// Whether the secrets of the current revision are kept for the next boot.
    #[serde(default)]
    pub keeps_secrets: bool,
    /// Ports of the pod on which nobody listens, as `80/tcp`.
    pub deaf: Vec<String>,
    /// Files of the current revision.
    pub files: Files,
    /// Its containers, as the current revision has them.
    pub containers: Vec<ContainerState>,
}

/// A container on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerState {
    /// Its name.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// Revision of its bundle.
    pub bundle: String,
    /// Whether the bundle is in the store.
    pub stored: bool,
    /// What is not as listed in the bundle, where that was looked at.
    pub altered: Vec<String>,
    /// Whether systemd runs the revision's own unit.
    pub linked: bool,
    /// Whether it starts at boot.
    pub enabled: bool,
    /// systemd's ActiveState.
    pub active: String,
    /// systemd's SubState.
    pub sub: String,
    /// systemd's Result.
    pub result: String,
    /// How often it was started again since it was last started by hand: as it ended, or did
    /// not answer its livenessProbe.
    pub restarts: u64,
    /// The timer that is to ask whether it is alive, and is not there.
    pub unasked: Option<String>,
    /// Its first process; 0 where there is none.
    pub pid: u64,
    /// Seconds since it is active.
    pub uptime: Option<u64>,
    /// Bytes of memory, where they are counted.
    pub memory: Option<u64>,
}
