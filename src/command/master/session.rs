//! Orders to nodes, over ssh.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};

use super::copying::Copying;
use crate::cli::master::Args;
use crate::command::push;
use crate::fleet::obstacle::Needs;
use crate::fleet::state::{Answer, Applied, Order, Start, State, VERSION};
use crate::progress::Bars;
use crate::push::link::Link;
use crate::push::ssh::{Receiver, Ssh};
use crate::push::target::Node;
use crate::report::Advice;

/// How long a revision is tried to be confirmed: as long as the node waits for it, and
/// may judge it.
const CONFIRM: Duration = Duration::from_secs(60);
/// Between tries.
const AGAIN: Duration = Duration::from_secs(1);

/// So much a node may answer to one order: a thousand pods, with all their files.
const ANSWERS: u64 = 32 << 20;

/// Hears what a node answers, to the last of it; `told` hears of the others.
///
/// # Errors
/// When it ends before, or goes on for too long.
fn last_answer(link: &mut Link, told: &mut dyn FnMut(Answer)) -> anyhow::Result<Answer> {
    loop {
        match link.hear::<Answer>().context("the node ended before it answered")? {
            more @ (Answer::Progress(_) | Answer::Pod(_)) => told(more),
            last => return Ok(last),
        }
        if link.counters.received.load(Ordering::Relaxed) > ANSWERS {
            bail!("the node answers without an end: {} MiB so far", ANSWERS >> 20);
        }
    }
}

/// What the node itself says against an order.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

/// A revision that was ordered, and of which nobody heard that it was confirmed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unconfirmed {
    /// The node says so.
    #[error("it was not confirmed; the node has what ran before")]
    Refused,
    /// The order to confirm it, or its answer, did not come through.
    #[error(
        "it could not be confirmed; unless that reached the node, it goes back to what ran before"
    )]
    Unheard,
}

/// How nodes are reached, and what runs there.
pub(super) struct Nodes {
    /// How ssh is called.
    pub(super) ssh: Ssh,
    receiver: Receiver,
    bars: Arc<Bars>,
}

impl Nodes {
    /// By the command line.
    ///
    /// # Errors
    /// When this program cannot be read.
    pub(super) fn new(args: &Args) -> anyhow::Result<Self> {
        let receiver = push::receiver("node")?;
        Ok(Nodes { ssh: push::ssh(&args.ssh), receiver, bars: Arc::new(Bars::new(0)) })
    }

    /// Gives an order, and returns its last answer; `told` hears of what goes on.
    ///
    /// # Errors
    /// When the node cannot be reached or refuses.
    pub(super) fn order(
        &self,
        node: &Node,
        order: &Order,
        told: &mut dyn FnMut(Answer),
    ) -> anyhow::Result<Answer> {
        let start = Start { version: VERSION };
        let copying = Copying::to(node, &self.bars);
        let shown = |done, all| copying.show(done, all);
        let mut session = self.ssh.connect(node, &self.receiver, &start, false, &shown)?;
        drop(copying);
        session.link.say(order).with_context(|| format!("cannot give `{node}` its order"))?;
        let answer = last_answer(&mut session.link, told);
        let said = session.end();
        match answer {
            Ok(Answer::Refused { why, hint }) => match hint {
                Some(hint) => Err(Refusal(why)).hint(hint),
                None => Err(Refusal(why).into()),
            },
            // It has the order, and goes on by itself.
            Err(error) if matches!(order, Order::Apply(_) | Order::Rollback { .. }) => {
                Err(error).hint("`vzmaster diff` says what runs there")
            }
            Err(error) => match said.lines().rfind(|line| !line.trim().is_empty()) {
                Some(last) => Err(error).hint(format!("the node said: {last}")),
                None => Err(error),
            },
            other => other,
        }
    }

    /// Gives an order to run a revision, and confirms it over a connection that is
    /// opened after the change; the node takes back what is not confirmed. Where the
    /// connection is lost meanwhile, the same is tried.
    ///
    /// # Errors
    /// When the node cannot be reached or refuses; then what ran before runs again, or
    /// is going to.
    pub(super) fn apply(
        &self,
        node: &Node,
        order: &Order,
        told: &mut dyn FnMut(Answer),
    ) -> anyhow::Result<Applied> {
        let (pod, mut id) = match order {
            Order::Apply(apply) => (apply.pod.clone(), Some(apply.id.clone())),
            Order::Rollback { pod, .. } => (pod.clone(), None),
            _ => bail!("this order runs no revision"),
        };
        let first = match self.order(node, order, told) {
            Ok(Answer::Applied(applied)) if applied.failure.is_some() => return Ok(applied),
            Ok(Answer::Applied(applied)) => {
                id = applied.current;
                None
            }
            Ok(_) => bail!("the node answered something else"),
            Err(error) if error.is::<Refusal>() => return Err(error),
            Err(error) => Some(error),
        };
        let Some(id) = id else {
            return Err(first.unwrap_or_else(|| anyhow!("the node did not say what runs")));
        };
        let confirm = Order::Confirm { pod, id };
        let started = Instant::now();
        loop {
            match self.fresh().order(node, &confirm, told) {
                Ok(Answer::Applied(applied)) => return Ok(applied),
                Ok(_) => bail!("the node answered something else"),
                Err(error) if error.is::<Refusal>() => {
                    return Err(first.unwrap_or(error)).context(Unconfirmed::Refused);
                }
                Err(error) if started.elapsed() > CONFIRM => {
                    return Err(first.unwrap_or(error))
                        .hint("`vzmaster diff` says what runs there")
                        .context(Unconfirmed::Unheard);
                }
                Err(_) => std::thread::sleep(AGAIN),
            }
        }
    }

    /// The same nodes, reached by connections that nobody else has.
    fn fresh(&self) -> Nodes {
        let mut ssh = self.ssh.clone();
        ssh.control = None;
        // Before what the user asks for, since the first one counts.
        ssh.options.splice(0..0, ["ControlMaster=no", "ControlPath=none"].map(str::to_owned));
        Nodes { ssh, receiver: self.receiver.clone(), bars: Arc::clone(&self.bars) }
    }

    /// What a node has.
    ///
    /// # Errors
    /// As [`Nodes::order`].
    pub(super) fn state(&self, node: &Node) -> anyhow::Result<State> {
        self.look(node, false, Needs::default())
    }

    /// What a node has, also of what pods need; with `verify`, its bundles are hashed again.
    ///
    /// # Errors
    /// As [`Nodes::order`].
    pub(super) fn look(&self, node: &Node, verify: bool, needs: Needs) -> anyhow::Result<State> {
        let mut pods = Vec::new();
        let mut told = |answer| {
            if let Answer::Pod(pod) = answer {
                pods.push(pod);
            }
        };
        match self.order(node, &Order::State { verify, needs }, &mut told)? {
            Answer::State(state) => Ok(State { pods, ..state }),
            _ => bail!("the node answered something else"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::frame::{self, Type};

    fn heard(pods: usize) -> anyhow::Result<Answer> {
        let mut stream = frame::MAGIC.to_vec();
        let mut say = |answer: &Answer| {
            let text = serde_json::to_vec(answer).unwrap();
            frame::write(&mut stream, Type::Message, &text).unwrap();
        };
        let more = Answer::Progress("x".repeat(1 << 18));
        (0..pods).for_each(|_| say(&more));
        say(&Answer::Done);
        let input = std::io::Cursor::new(stream);
        let silence = Duration::from_secs(20);
        let mut link = Link::resume(input, std::io::sink(), 0, silence, || ());
        last_answer(&mut link, &mut drop)
    }

    #[test]
    fn a_node_that_answers_without_an_end_is_left() {
        assert_eq!(heard(3).unwrap(), Answer::Done);
        let error = heard(200).unwrap_err();
        assert_eq!(error.to_string(), "the node answers without an end: 32 MiB so far");
    }
}
