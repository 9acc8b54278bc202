//! `vzmaster node`: the node's end of an order, started by ssh; and `vzmaster guard`, which
//! takes back what that leaves undone.

use std::io::Read;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;

use crate::cli::push::SshArgs;
use crate::fleet::on_node::{self, Nftables, Patience, Places, Probes, Site, Systemctl, Watchdog};
use crate::push::link::Link;
use crate::push::ssh;
use crate::report::{self, Status};

pub(super) fn run(hello: &str, args: &SshArgs) -> anyhow::Result<ExitCode> {
    let input = ssh::greeting(hello)?.chain(std::io::stdin());
    let guard = watchdog(args)?;
    let site = site(&guard);
    // Whatever hangs before there is an order. Afterwards the node decides alone.
    let ordered = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&ordered);
    let silence = args.silence;
    let hang_up = move || {
        if !heard.load(Ordering::Relaxed) {
            let seconds = silence.as_secs_f64();
            report::abandon("vzmaster", format_args!("nothing was heard for {seconds} s"));
        }
    };
    let mut link = Link::start(input, report::output(), silence, hang_up)?;
    on_node::serve(&mut link, &site, &|| ordered.store(true, Ordering::Relaxed))?;
    Ok(Status::Done.into())
}

/// Watches the deployment of a pod until it ends.
pub(super) fn guard(pod: &str, args: &SshArgs) -> anyhow::Result<ExitCode> {
    let guard = watchdog(args)?;
    on_node::watch(&site(&guard), pod)?;
    Ok(Status::Done.into())
}

fn watchdog(args: &SshArgs) -> anyhow::Result<Watchdog> {
    let store = args.store.as_ref().context("--store is needed")?;
    let program = std::env::current_exe().context("cannot find this program")?;
    Ok(Watchdog { program, store: store.into() })
}

fn site(guard: &Watchdog) -> Site<'_> {
    Site {
        places: Places::usual(guard.store.clone()),
        systemd: &Systemctl,
        prober: &Probes,
        network: &Nftables,
        guard,
        patience: Patience::default(),
    }
}
