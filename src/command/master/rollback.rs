//! `vzmaster rollback POD [REV]` and `vzmaster history POD`.

use std::process::ExitCode;

use super::control::{Answers, everywhere, hosts, print};
use super::deploy::{by, say_failure};
use super::gather::PARALLEL;
use super::interruption::{Stage, Watched};
use super::session::Nodes;
use crate::cli::master::{Args, OnePod, Rollback};
use crate::fleet::state::{Answer, Entry, Order};
use crate::push::fanout;
use crate::push::outcome::short;
use crate::report::Status;

pub(super) fn run(args: &Args, rollback: &Rollback) -> anyhow::Result<ExitCode> {
    let pod = &rollback.pod;
    let revision = rollback.revision.clone();
    let order = Order::Rollback {
        pod: pod.clone(),
        revision,
        by: format!("{} (rollback)", by()),
        forget: false,
    };
    let hosts = hosts(args, pod, &rollback.select)?;
    let nodes = Nodes::new(args)?;
    let course = Watched::start(&format!("while {pod} was being rolled back"))?;
    hosts.iter().for_each(|node| course.set_rollback(node, pod, Stage::Waiting));
    let results = fanout::each(&hosts, PARALLEL, |node| {
        course.set_rollback(node, pod, Stage::Trying);
        let applied = nodes.apply(node, &order, &mut |_| ());
        let good = applied.as_ref().is_ok_and(|applied| applied.failure.is_none());
        course.set_rollback(node, pod, if good { Stage::Done } else { Stage::Failed });
        applied.map(Answer::Applied)
    });
    let answers: Answers = hosts.into_iter().zip(results).collect();
    let mut failed = false;
    for (node, answer) in &answers {
        if let Ok(Answer::Applied(applied)) = answer
            && applied.failure.is_some()
        {
            say_failure(node, pod, applied);
            failed = true;
        }
    }
    let code = print(args, pod, &answers, |answer| match answer {
        Answer::Applied(applied) => {
            let current = applied.current.as_deref().map_or("nothing", short);
            format!("{current} runs")
        }
        _ => String::new(),
    })?;
    Ok(if failed { Status::Failed.into() } else { code })
}

pub(super) fn history(args: &Args, one: &OnePod) -> anyhow::Result<ExitCode> {
    let order = Order::History { pod: one.pod.clone() };
    let answers = everywhere(args, &one.pod, &one.select, &order)?;
    print(args, &one.pod, &answers, |answer| match answer {
        Answer::History(entries) => {
            entries.iter().map(|entry| format!("\n  {}", line(entry))).collect()
        }
        _ => String::new(),
    })
}

fn line(entry: &Entry) -> String {
    let (date, time) = utc(entry.time);
    let (revision, outcome) = (short(&entry.revision), &entry.outcome);
    let bundle = |(name, id): (&String, &String)| format!(", {name}: bundle {}", short(id));
    let bundles: String = entry.bundles.iter().map(bundle).collect();
    format!("{date} {time} UTC  {revision}  {outcome}, by {}{bundles}", entry.by)
}

/// Date and time of seconds since 1970 (Howard Hinnant's days-to-civil algorithm).
pub(super) fn utc(seconds: u64) -> (String, String) {
    let (days, rest) = (seconds / 86400 + 719_468, seconds % 86400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let date = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let time = format!("{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    (format!("{year:04}-{month:02}-{date:02}"), time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_dates() {
        for (seconds, date, time) in [
            (0, "1970-01-01", "00:00:00"),
            (951_782_399, "2000-02-28", "23:59:59"),
            (951_782_400, "2000-02-29", "00:00:00"),
            (1_795_270_289, "2026-11-21", "14:11:29"),
        ] {
            assert_eq!(utc(seconds), (date.to_owned(), time.to_owned()), "{seconds}");
        }
    }
}
