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

/// The server's port, of what sshd says of a connection (ssh(1)): address and port of the
/// client, then those of the server.
fn ssh_port(connection: Option<&str>) -> Option<u16> {
    connection?.split_whitespace().nth(3)?.parse().ok()
}

fn site(guard: &Watchdog) -> Site<'_> {
    Site {
        places: Places::usual(guard.store.clone()),
        systemd: &Systemctl,
        prober: &Probes,
        network: &Nftables,
        guard,
        patience: Patience::default(),
        ssh: ssh_port(std::env::var("SSH_CONNECTION").ok().as_deref()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sshd_says_by_which_port_it_is_reached() {
        assert_eq!(ssh_port(Some("203.0.113.7 51022 10.0.0.1 22")), Some(22));
        assert_eq!(ssh_port(Some("2001:db8::7 51022 2001:db8::1 2222")), Some(2222));
        assert_eq!(ssh_port(None), None);
    }
}
