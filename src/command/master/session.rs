//! Orders to nodes, over ssh.

use anyhow::{Context, anyhow, bail};

use crate::cli::master::Args;
use crate::command::push;
use crate::fleet::state::{Answer, Order, Start, State, VERSION};
use crate::push::ssh::{Receiver, Ssh};
use crate::push::target::Node;
use crate::report::Advice;

/// How nodes are reached, and what runs there.
pub(super) struct Nodes {
    /// How ssh is called.
    pub(super) ssh: Ssh,
    receiver: Receiver,
}

impl Nodes {
    /// By the command line.
    ///
    /// # Errors
    /// When this program cannot be read.
    pub(super) fn new(args: &Args) -> anyhow::Result<Self> {
        let receiver = Receiver { verb: "node", ..push::receiver()? };
        Ok(Nodes { ssh: push::ssh(&args.ssh), receiver })
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
        let mut session = self.ssh.connect(node, &self.receiver, &start, false, &|_, _| ())?;
        session.link.say(order).with_context(|| format!("cannot give `{node}` its order"))?;
        let answer = loop {
            match session.link.hear::<Answer>() {
                Ok(more @ (Answer::Progress(_) | Answer::Pod(_))) => told(more),
                Ok(last) => break Ok(last),
                Err(error) => break Err(error),
            }
        };
        let said = session.end();
        match answer.context("the node ended before it answered") {
            Ok(Answer::Refused { why, hint }) => match hint {
                Some(hint) => Err(anyhow!(why)).hint(hint),
                None => Err(anyhow!(why)),
            },
            // It has the order, and carries it out whether it is heard of or not.
            Err(error) if matches!(order, Order::Apply(_) | Order::Rollback { .. }) => {
                Err(error).hint("the node goes on to its own end: `vzmaster diff` says which")
            }
            Err(error) => match said.lines().rfind(|line| !line.trim().is_empty()) {
                Some(last) => Err(error).hint(format!("the node said: {last}")),
                None => Err(error),
            },
            other => other,
        }
    }

    /// What a node has.
    ///
    /// # Errors
    /// As [`Nodes::order`].
    pub(super) fn state(&self, node: &Node) -> anyhow::Result<State> {
        let mut pods = Vec::new();
        let mut told = |answer| {
            if let Answer::Pod(pod) = answer {
                pods.push(pod);
            }
        };
        match self.order(node, &Order::State, &mut told)? {
            Answer::State(state) => Ok(State { pods, ..state }),
            _ => bail!("the node answered something else"),
        }
    }
}
