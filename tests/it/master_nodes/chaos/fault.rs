//! What goes wrong, when, and in which order.

use std::time::Duration;

/// What goes wrong in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    MasterKilled,
    /// Ctrl-C on its terminal: it and all ssh get SIGINT.
    MasterInterrupted,
    NodesEndKilled,
    LinkCut,
    /// The node is there, and answers nothing.
    Frozen,
    PowerCut,
    DiskFills,
    /// From before the deployment on.
    DiskFull,
    /// The whole node has 64 MB.
    LittleMemory,
    /// The node's clock jumped: its files are a year old, or of next year.
    Clock,
    /// A revision that answers no probe.
    Deaf,
    /// A revision whose program ends at once.
    Crash,
}

/// How far the deployment is then, on the node that it happens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Connect,
    Push,
    Start,
    Judge,
    Confirm,
    /// It is done there, and others follow.
    Follow,
    /// All the time.
    Whole,
}

const TIMED: [Fault; 7] = [
    Fault::MasterKilled,
    Fault::NodesEndKilled,
    Fault::LinkCut,
    Fault::PowerCut,
    Fault::MasterInterrupted,
    Fault::DiskFills,
    Fault::Frozen,
];

const PHASES: [Phase; 6] =
    [Phase::Judge, Phase::Confirm, Phase::Push, Phase::Start, Phase::Connect, Phase::Follow];

const WHOLE: [Fault; 5] =
    [Fault::Deaf, Fault::Crash, Fault::DiskFull, Fault::Clock, Fault::LittleMemory];

/// One round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    pub(super) number: usize,
    pub(super) fault: Fault,
    pub(super) phase: Phase,
    /// Whether the pod has a network of its own, so that the new revision starts first.
    pub(super) apart: bool,
}

/// All rounds: each fault in each phase, and those that last, with either kind of pod.
pub(super) fn rounds() -> Vec<Round> {
    let mut pairs: Vec<(Fault, Phase)> = Vec::new();
    for (phase, whole) in PHASES.iter().zip(WHOLE.iter().map(Some).chain([None])) {
        pairs.extend(TIMED.iter().map(|fault| (*fault, *phase)));
        pairs.extend(whole.map(|fault| (*fault, Phase::Whole)));
    }
    let twice = [true, false].into_iter().flat_map(|apart| pairs.iter().map(move |p| (p, apart)));
    let numbered = twice.enumerate();
    numbered
        .map(|(number, (&(fault, phase), apart))| Round { number, fault, phase, apart })
        .collect()
}

impl Round {
    /// A number below `limit` of its own.
    fn chosen(self, limit: u64) -> u64 {
        (self.number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17) % limit
    }

    /// The node that it happens to, of so many.
    pub(super) fn victim(self, nodes: usize) -> usize {
        self.number % nodes
    }

    /// Whether `line` of the deployment says that the phase has begun on `node`.
    pub(super) fn begins(self, line: &str, node: &str) -> bool {
        let on_node =
            |what: &str| line.contains(&format!("{node}: vz-test: ")) && line.contains(what);
        match self.phase {
            Phase::Connect | Phase::Whole => true,
            Phase::Push => line.contains("vz-test") && line.contains(" -> "),
            Phase::Start | Phase::Judge | Phase::Confirm => on_node("starts it"),
            Phase::Follow => on_node(" runs"),
        }
    }

    /// How long after that it happens.
    pub(super) fn delay(self) -> Duration {
        // A revision is judged for five seconds.
        let (from, length) = match self.phase {
            Phase::Judge => (700, 4000),
            Phase::Confirm => (4900, 2000),
            _ => (0, 700),
        };
        Duration::from_millis(from + self.chosen(length))
    }

    /// How long a node cannot be reached; a revision waits for a minute to be confirmed.
    pub(super) fn away(self) -> Duration {
        Duration::from_secs([4, 20, 70][self.number / 8 % 3])
    }
}
