//! The service manager of a node.

use std::collections::BTreeMap;

use anyhow::Context;

use crate::process;

/// What is needed of it.
pub trait Systemd {
    /// Reads unit files again.
    ///
    /// # Errors
    /// When it does not answer.
    fn reload(&self) -> anyhow::Result<()>;
    /// Starts units and waits for their start jobs.
    ///
    /// # Errors
    /// When one fails.
    fn start(&self, units: &[String]) -> anyhow::Result<()>;
    /// Stops units and waits until they are.
    ///
    /// # Errors
    /// When one does not stop.
    fn stop(&self, units: &[String]) -> anyhow::Result<()>;
    /// Kills all processes of units, and leaves them stopped.
    ///
    /// # Errors
    /// When one does not stop.
    fn kill(&self, units: &[String]) -> anyhow::Result<()>;
    /// How units are, in their order.
    ///
    /// # Errors
    /// When it does not answer.
    fn show(&self, units: &[String]) -> anyhow::Result<Vec<UnitState>>;
    /// The last lines that a unit logged; none where they cannot be had.
    fn log(&self, unit: &str, lines: usize) -> Vec<String>;
}

/// How a unit is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitState {
    /// ActiveState.
    pub active: String,
    /// SubState.
    pub sub: String,
    /// Result.
    pub result: String,
    /// NRestarts.
    pub restarts: u64,
    /// MainPID.
    pub pid: u64,
    /// Microseconds of the monotonic clock when it became active.
    pub since: u64,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Whether its file changed since systemd read it.
    pub stale: bool,
}

/// The system's `systemctl` and `journalctl`.
pub struct Systemctl;

const PROPERTIES: &str = "ActiveState,SubState,Result,NRestarts,MainPID,ActiveEnterTimestampMonotonic,MemoryCurrent,NeedDaemonReload";

impl Systemctl {
    fn call(&self, words: &[&str], units: &[String]) -> anyhow::Result<Vec<u8>> {
        if units.is_empty() && words != ["daemon-reload"] {
            return Ok(Vec::new());
        }
        let mut command = process::command("systemctl");
        process::output(command.args(words).arg("--").args(units))
    }
}

impl Systemd for Systemctl {
    fn reload(&self) -> anyhow::Result<()> {
        self.call(&["daemon-reload"], &[]).map(drop)
    }

    fn start(&self, units: &[String]) -> anyhow::Result<()> {
        self.call(&["start"], units).map(drop)
    }

    fn stop(&self, units: &[String]) -> anyhow::Result<()> {
        let ended = |state: &UnitState| matches!(state.active.as_str(), "inactive" | "failed");
        // A link that leads nowhere is of no unit: there is nothing to stop.
        if let Err(error) = self.call(&["stop"], units)
            && !self.show(units)?.iter().all(ended)
        {
            return Err(error);
        }
        // A failed state is history once it was stopped on purpose; a unit that
        // systemd has not loaded has none.
        let _ = self.call(&["reset-failed"], units);
        Ok(())
    }

    fn kill(&self, units: &[String]) -> anyhow::Result<()> {
        // First asked to stop, so that it is not started again.
        self.call(&["stop", "--no-block"], units)?;
        // What has ended meanwhile cannot be killed.
        let _ = self.call(&["kill", "--signal=SIGKILL"], units);
        self.stop(units)
    }

    fn show(&self, units: &[String]) -> anyhow::Result<Vec<UnitState>> {
        let text = self.call(&["show", "--property", PROPERTIES], units)?;
        let states = parse(&String::from_utf8_lossy(&text));
        (states.len() == units.len())
            .then_some(states)
            .context("`systemctl show` answers for another number of units")
    }

    fn log(&self, unit: &str, lines: usize) -> Vec<String> {
        let mut command = process::command("journalctl");
        command.args(["--no-pager", "--output=cat", "--lines"]).arg(lines.to_string());
        let text = process::output(command.arg("--unit").arg(unit)).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
    }
}

/// Understands what `systemctl show` prints: a block of lines for each unit.
fn parse(text: &str) -> Vec<UnitState> {
    let blocks = text.split("\n\n").filter(|block| !block.trim().is_empty());
    let state = |block: &str| {
        let map: BTreeMap<&str, &str> =
            block.lines().filter_map(|line| line.split_once('=')).collect();
        let get = |key: &str| map.get(key).copied().unwrap_or_default();
        let number = |key: &str| get(key).parse().ok();
        UnitState {
            active: get("ActiveState").to_owned(),
            sub: get("SubState").to_owned(),
            result: get("Result").to_owned(),
            restarts: number("NRestarts").unwrap_or(0),
            pid: number("MainPID").unwrap_or(0),
            since: number("ActiveEnterTimestampMonotonic").unwrap_or(0),
            // `[not set]` where it is not counted, and the largest number in older ones.
            memory: number("MemoryCurrent").filter(|bytes| *bytes < u64::MAX / 2),
            stale: get("NeedDaemonReload") == "yes",
        }
    };
    blocks.map(state).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_has_its_block() {
        let text = "MainPID=7\nResult=success\nNRestarts=2\nMemoryCurrent=[not set]\nActiveState=active\nSubState=running\nActiveEnterTimestampMonotonic=99\nNeedDaemonReload=no\n\nActiveState=failed\nResult=exit-code\nMemoryCurrent=18446744073709551615\nNeedDaemonReload=yes\n";
        let states = parse(text);
        let [one, two] = states.as_slice() else { panic!("two: {states:?}") };
        assert_eq!((one.pid, one.restarts, one.since, one.memory), (7, 2, 99, None));
        assert_eq!((one.active.as_str(), one.stale), ("active", false));
        assert_eq!((two.active.as_str(), two.result.as_str()), ("failed", "exit-code"));
        assert_eq!((two.memory, two.stale), (None, true));
        assert_eq!(parse(""), []);
    }
}
