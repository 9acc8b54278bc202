//! That vzmaster itself is on its way to a node, which takes its time on a slow link.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::progress::{Bar, Bars};
use crate::push::outcome::bytes;
use crate::push::target::Node;
use crate::report;

/// So long nothing is said of it where there is no terminal.
const SILENT: Duration = Duration::from_secs(3);

/// The way to one node: a bar on a terminal, else a line where it takes longer.
pub(super) struct Copying<'a> {
    node: &'a Node,
    bar: Option<Bar>,
    begun: Cell<Option<Instant>>,
    said: Cell<bool>,
}

impl<'a> Copying<'a> {
    /// Not begun yet, and nothing is seen of it.
    pub(super) fn to(node: &'a Node, bars: &Bars) -> Self {
        let bar = (!bars.are_hidden()).then(|| bars.add(&node.label));
        Copying { node, bar, begun: Cell::new(None), said: Cell::new(false) }
    }

    /// So much of it is there.
    pub(super) fn show(&self, done: u64, all: u64) {
        match &self.bar {
            Some(bar) => bar.set("copying vzmaster", done, all),
            None => {
                let begun = self.begun.get().unwrap_or_else(Instant::now);
                self.begun.set(Some(begun));
                if let Some(line) = self.line(begun.elapsed(), done, all) {
                    report::say("vzmaster", line);
                }
            }
        }
    }

    /// What is said after so long, once.
    fn line(&self, since: Duration, done: u64, all: u64) -> Option<String> {
        let due = since >= SILENT && done < all && !self.said.replace(true);
        due.then(|| format!("copying vzmaster to {}, {} of {}", self.node, bytes(done), bytes(all)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_said_once_where_it_takes_longer() {
        let node = Node { label: "web1".into(), host: "a".into(), user: None, port: None };
        let copying =
            Copying { node: &node, bar: None, begun: Cell::new(None), said: Cell::new(false) };
        let check = |since: f64, done: u64, expected: Option<&str>| {
            let line = copying.line(Duration::from_secs_f64(since), done, 8_100_000);
            assert_eq!(line.as_deref(), expected);
        };
        check(0.0, 65_536, None);
        check(2.9, 2_900_000, None);
        check(3.1, 3_100_000, Some("copying vzmaster to web1, 3.10 MB of 8.10 MB"));
        check(9.0, 8_100_000, None);
    }
}
