//! Running a bundle without runc and crun.
//!
//! This process moves into the new namespaces itself (it has one thread, and
//! nothing else to do than to wait) and starts `vzbuild init`, which as the
//! first process of the new PID namespace sets up the mounts and becomes the
//! program. There is no fork without exec, so no unsafe code, and no process
//! beside the program's own that a runtime would not have either.
//!
//! Control groups and device rules are not set up: the program has the limits
//! of its caller. Of what else a `config.json` may ask for, what is not
//! honoured is refused by name.

use std::fs;
use std::process::Child;

use anyhow::{Context, bail};
use nix::sched::{CloneFlags, unshare};
use oci_spec::runtime::{Linux, LinuxNamespaceType, Spec};

use super::seccomp::Seccomp;
use super::state::State;
use crate::process;
use crate::report::Advice;

/// Starts the bundle of `state`, whose `config.json` is `spec`.
///
/// # Errors
/// What `spec` asks for and this runner does not have; namespaces that this
/// user may not make.
pub fn start(spec: &Spec, state: &State) -> anyhow::Result<Child> {
    refuse_unknown(spec)?;
    let linux = spec.linux().clone().unwrap_or_default();
    let flags = flags(&linux)?;
    if !nix::unistd::geteuid().is_root() && !flags.contains(CloneFlags::CLONE_NEWUSER) {
        bail!("only root can run it without a user namespace");
    }
    let is_mapped = flags.contains(CloneFlags::CLONE_NEWUSER);
    unshare(flags)
        .context("cannot make the container's namespaces")
        .hint("this kernel, or the container around, does not let this user do it (user.max_user_namespaces, kernel.unprivileged_userns_clone, an AppArmor profile?)")?;
    if is_mapped {
        map_ids(&linux).context("cannot map the ids of the user namespace")?;
    }
    let mut init = process::command("/proc/self/exe");
    init.arg("init").arg(state.dir());
    init.spawn().context("cannot start the container's first process")
}

/// Refuses what would make the container weaker than its `config.json` says.
pub(super) fn refuse_unknown(spec: &Spec) -> anyhow::Result<()> {
    let linux = spec.linux().clone().unwrap_or_default();
    let process = spec.process().as_ref();
    let limits = linux.resources().as_ref().is_some_and(|limits| {
        limits.memory().is_some() || limits.cpu().is_some() || limits.pids().is_some()
    });
    let unknown = [
        ("linux.resources other than devices", limits),
        ("linux.devices", linux.devices().as_ref().is_some_and(|list| !list.is_empty())),
        ("linux.intelRdt", linux.intel_rdt().is_some()),
        ("linux.personality", linux.personality().is_some()),
        ("linux.timeOffsets", linux.time_offsets().is_some()),
        ("hooks", spec.hooks().is_some()),
        ("process.apparmorProfile", process.is_some_and(|p| p.apparmor_profile().is_some())),
        ("process.selinuxLabel", process.is_some_and(|p| p.selinux_label().is_some())),
        ("process.terminal", process.is_some_and(|p| p.terminal() == Some(true))),
    ];
    Seccomp::of(spec)?;
    for (name, is_there) in unknown {
        if is_there {
            bail!(
                "the embedded runner does not have `{name}` of config.json: install runc or crun"
            );
        }
    }
    Ok(())
}

pub(super) fn flags(linux: &Linux) -> anyhow::Result<CloneFlags> {
    let mut flags = CloneFlags::empty();
    for namespace in linux.namespaces().iter().flatten() {
        if namespace.path().is_some() {
            bail!("the embedded runner joins no namespaces: install runc or crun");
        }
        flags |= match namespace.typ() {
            // The first process makes its own: the change of root would be this
            // process's too.
            LinuxNamespaceType::Mount => CloneFlags::empty(),
            LinuxNamespaceType::Cgroup => CloneFlags::CLONE_NEWCGROUP,
            LinuxNamespaceType::Uts => CloneFlags::CLONE_NEWUTS,
            LinuxNamespaceType::Ipc => CloneFlags::CLONE_NEWIPC,
            LinuxNamespaceType::User => CloneFlags::CLONE_NEWUSER,
            LinuxNamespaceType::Pid => CloneFlags::CLONE_NEWPID,
            LinuxNamespaceType::Network => CloneFlags::CLONE_NEWNET,
            LinuxNamespaceType::Time => bail!("the embedded runner has no time namespaces"),
        };
    }
    Ok(flags)
}

/// A process maps its own ids itself, and nothing else (user_namespaces(7)).
pub(super) fn map_ids(linux: &Linux) -> anyhow::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    for (file, mappings) in [("uid_map", linux.uid_mappings()), ("gid_map", linux.gid_mappings())] {
        let lines = mappings.iter().flatten().map(|mapping| {
            format!("{} {} {}\n", mapping.container_id(), mapping.host_id(), mapping.size())
        });
        fs::write(format!("/proc/self/{file}"), lines.collect::<String>()).with_context(|| {
            format!("the {file} of config.json is not this user's own id alone")
        })?;
    }
    Ok(())
}
