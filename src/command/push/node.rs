//! Verbs that one node answers line by line: ls, verify, gc, rollback.

use std::process::ExitCode;
use std::sync::atomic::Ordering;

use anyhow::{bail, ensure};
use serde_json::Value;

use super::{receiver, ssh, targets};
use crate::cli::push::SshArgs;
use crate::push::outcome::{bytes, short};
use crate::push::protocol::{Hello, Reply, Task, VERSION};
use crate::push::sender::answer;
use crate::report::{self, Status};

/// Bytes of answers that are taken from a node.
const MAX_ANSWER: u64 = 64 << 20;

pub(super) fn run(text: &str, task: &Task, args: &SshArgs) -> anyhow::Result<ExitCode> {
    let node = targets::one(text)?;
    let hello = Hello { version: VERSION, task: task.clone() };
    let mut session = ssh(args).connect(&node, &receiver("receive")?, &hello, false, &|_, _| ())?;
    let mut values = Vec::new();
    loop {
        let Reply::Answer { value, more } = answer(&mut session.link)? else {
            bail!("the node answered something else");
        };
        if !more {
            break;
        }
        values.push(value);
        let received = session.link.counters.received.load(Ordering::Relaxed);
        ensure!(received < MAX_ANSWER, "the node answers without end");
    }
    session.end();
    let differs = values.iter().any(|value| value["whole"] == Value::Bool(false));
    if args.json {
        report::data(format!("{:#}\n", Value::Array(values)).as_bytes())?;
    } else {
        let lines: String = values.iter().map(|value| line(task, value)).collect();
        report::data(report::plain(lines).as_bytes())?;
    }
    Ok(if differs { Status::No } else { Status::Done }.into())
}

fn line(task: &Task, value: &Value) -> String {
    let text = |key: &str| value[key].as_str().unwrap_or_default();
    let number = |key: &str| value[key].as_u64().unwrap_or_default();
    match task {
        Task::Ls => {
            let mark = match (value["current"] == true, value["previous"] == true) {
                (true, _) => "current",
                (_, true) => "previous",
                _ => "",
            };
            let (name, id) = (text("name"), short(text("revision")));
            let size = value["size"].as_u64().map_or_else(|| "damaged".to_owned(), bytes);
            format!("{name:24} {id} {mark:8} {size:>9} {:>6} files\n", number("files"))
        }
        Task::Verify { .. } => {
            let head = format!("{} {}", text("name"), short(text("revision")));
            if value["whole"] == true {
                return format!("{head}: whole\n");
            }
            let mut lines = match value["error"].as_str() {
                Some(error) => format!("{head}: {error}\n"),
                None => format!("{head}: differs\n"),
            };
            for difference in value["differences"].as_array().into_iter().flatten() {
                let what = difference["what"].as_str().unwrap_or_default();
                let path = difference["path"].as_str().unwrap_or_default();
                lines.push_str(&format!("  {what:10} {}\n", path.escape_debug()));
            }
            if number("omitted") > 0 {
                lines.push_str(&format!("  and {} more\n", number("omitted")));
            }
            lines
        }
        Task::Gc => match value["removed"].as_str() {
            Some(removed) => format!("removed {removed}\n"),
            None => format!(
                "removed {} broken-off pushes, {} old receivers\n",
                number("incoming"),
                number("receivers")
            ),
        },
        Task::Rollback { .. } => {
            let (name, current) = (text("name"), short(text("current")));
            format!("{name}: current is {current}, previous is {}\n", short(text("previous")))
        }
        Task::Push { .. } | Task::Pull { .. } => String::new(),
    }
}
