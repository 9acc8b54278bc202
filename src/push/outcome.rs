//! What became of a node, as lines and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::protocol::Receipt;
use crate::report::count;

/// What was pushed to one node, and what that took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// `present`, `delta` or `files`.
    pub way: &'static str,
    /// The revision.
    pub target: String,
    /// Bytes of content of the whole bundle.
    pub full: u64,
    /// Bytes of delta, listing and contents that were sent.
    pub payload: u64,
    /// All bytes that were sent inside the channel of ssh.
    pub sent: u64,
    /// All bytes that came back.
    pub received: u64,
    /// Bytes of the receiver, where it had to be put on the node first.
    pub receiver: u64,
    /// From the start of ssh to the receipt.
    pub time: Duration,
    /// Bytes a second that the line took, where so much was sent that it tells.
    pub rate: Option<f64>,
    /// Revision that a delta was made against.
    pub base: Option<String>,
    /// Files of the node's revisions that were damaged and sent anew.
    pub damaged: u64,
    /// What the node said; nothing for a plan.
    pub receipt: Option<Receipt>,
    /// How each file would travel; for a plan.
    pub files: Vec<Step>,
}

/// How one file travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its path in the bundle.
    pub path: String,
    /// `copy`, `full`, or a codec of the delta.
    pub how: &'static str,
    /// Bytes of content.
    pub size: u64,
    /// About how many bytes travel; nothing where only the node can tell.
    pub bytes: Option<u64>,
}

/// A count of bytes for people: three digits and a unit of 1000.
pub fn bytes(count: u64) -> String {
    let mut value = count as f64;
    let mut unit = "B";
    for next in ["kB", "MB", "GB", "TB"] {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    match unit {
        "B" => format!("{count} B"),
        _ if value < 9.995 => format!("{value:.2} {unit}"),
        _ if value < 99.95 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

/// The first digits of a digest, which tell revisions apart well enough for people.
pub fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

impl Outcome {
    /// One line: full size, sent, saved, seconds, base.
    pub fn line(&self) -> String {
        let saved = self.full.saturating_sub(self.payload);
        let mut line = format!(
            "{} {}: full {}, {} {}, saved {}, {:.2} s",
            short(&self.target),
            self.way,
            bytes(self.full),
            if self.receipt.is_some() { "sent" } else { "to send" },
            bytes(self.payload),
            bytes(saved),
            self.time.as_secs_f64(),
        );
        if let Some(base) = &self.base {
            let _ = write!(line, ", base {}", short(base));
        }
        if self.receiver > 0 {
            let _ = write!(line, ", receiver put in place ({})", bytes(self.receiver));
        }
        if self.damaged > 0 {
            let _ = write!(line, ", {} of the node replaced", count(self.damaged, "damaged file"));
        }
        let unkept = self.receipt.as_ref().map_or(0, |receipt| receipt.unkept);
        if unkept > 0 {
            let _ = write!(
                line,
                ", {} without an owner, setuid bit or device of theirs (only root there can give it)",
                count(unkept, "file")
            );
        }
        if let Some(why) = self.receipt.as_ref().and_then(|receipt| receipt.unswept.as_ref()) {
            let _ = write!(line, ", but old revisions could not be swept: {why}");
        }
        line
    }

    /// The same and more, for programs.
    pub fn json(&self) -> Value {
        let steps: Vec<Value> = self
            .files
            .iter()
            .map(|s| json!({ "path": s.path, "how": s.how, "size": s.size, "bytes": s.bytes }))
            .collect();
        json!({
            "way": self.way,
            "revision": self.target,
            "full": self.full,
            "payload": self.payload,
            "sent": self.sent,
            "received": self.received,
            "receiver": self.receiver,
            "seconds": self.time.as_secs_f64(),
            "base": self.base,
            "damaged": self.damaged,
            "receipt": self.receipt,
            "files": steps,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_three_digits() {
        for (count, text) in [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (464_000, "464 kB")] {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(bytes(132_400_000), "132 MB");
        assert_eq!(bytes(12_345_678_901), "12.3 GB");
    }
}
