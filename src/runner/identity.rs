//! Who the program of a container is: limits, groups, user, capabilities.

use anyhow::{Context, bail};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use oci_spec::runtime::{Capabilities, PosixRlimit, Process};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs,
};

/// Highest number of a capability that a kernel may know: 64 bits hold them.
const CAPABILITIES: u32 = 63;

/// Gives up everything that `process` is not to have.
///
/// # Errors
/// What it asks for and this process may not give.
pub fn assume(process: &Process) -> anyhow::Result<()> {
    for limit in process.rlimits().iter().flatten() {
        set_limit(limit)?;
    }
    let sets = process.capabilities().clone();
    let set = |list: Option<&Option<Capabilities>>| to_set(list.and_then(Option::as_ref));
    let sets = sets.as_ref();
    let bounding = set(sets.map(oci_spec::runtime::LinuxCapabilities::bounding));
    let ambient = set(sets.map(oci_spec::runtime::LinuxCapabilities::ambient));
    let permitted = set(sets.map(oci_spec::runtime::LinuxCapabilities::permitted));
    let effective = set(sets.map(oci_spec::runtime::LinuxCapabilities::effective));
    let inheritable = set(sets.map(oci_spec::runtime::LinuxCapabilities::inheritable));

    for capability in each(!bounding) {
        if capability_is_in_bounding_set(capability).unwrap_or(false) {
            remove_capability_from_bounding_set(capability).context("cannot drop a capability")?;
        }
    }
    // The change of user must not take what the program is to keep.
    set_keep_capabilities(true).context("cannot keep capabilities")?;
    set_user(process)?;
    set_keep_capabilities(false).context("cannot stop keeping capabilities")?;
    set_capabilities(None, CapabilitySets { effective, permitted, inheritable })
        .context("cannot set the capabilities of config.json")?;
    clear_ambient_capability_set().context("cannot clear ambient capabilities")?;
    for capability in each(ambient) {
        configure_capability_in_ambient_set(capability, true)
            .context("cannot raise an ambient capability")?;
    }
    if process.no_new_privileges() == Some(true) {
        set_no_new_privs(true).context("cannot set no_new_privs")?;
    }
    Ok(())
}

fn set_user(process: &Process) -> anyhow::Result<()> {
    let user = process.user();
    let groups: Vec<Gid> =
        user.additional_gids().iter().flatten().map(|&gid| Gid::from_raw(gid)).collect();
    match setgroups(&groups) {
        // A user namespace of an ordinary user cannot change groups.
        Err(nix::Error::EPERM) if groups.is_empty() => {}
        other => other.context("cannot set the supplementary groups")?,
    }
    let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
    setresgid(gid, gid, gid).with_context(|| format!("cannot become group {gid}"))?;
    setresuid(uid, uid, uid).with_context(|| format!("cannot become user {uid}"))?;
    if let Some(mask) = user.umask() {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
    }
    Ok(())
}

fn set_limit(limit: &PosixRlimit) -> anyhow::Result<()> {
    use oci_spec::runtime::PosixRlimitType as T;
    let resource = match limit.typ() {
        T::RlimitCpu => Resource::RLIMIT_CPU,
        T::RlimitFsize => Resource::RLIMIT_FSIZE,
        T::RlimitData => Resource::RLIMIT_DATA,
        T::RlimitStack => Resource::RLIMIT_STACK,
        T::RlimitCore => Resource::RLIMIT_CORE,
        T::RlimitRss => Resource::RLIMIT_RSS,
        T::RlimitNproc => Resource::RLIMIT_NPROC,
        T::RlimitNofile => Resource::RLIMIT_NOFILE,
        T::RlimitMemlock => Resource::RLIMIT_MEMLOCK,
        T::RlimitAs => Resource::RLIMIT_AS,
        T::RlimitLocks => Resource::RLIMIT_LOCKS,
        T::RlimitSigpending => Resource::RLIMIT_SIGPENDING,
        T::RlimitMsgqueue => Resource::RLIMIT_MSGQUEUE,
        T::RlimitNice => Resource::RLIMIT_NICE,
        T::RlimitRtprio => Resource::RLIMIT_RTPRIO,
        T::RlimitRttime => Resource::RLIMIT_RTTIME,
        #[expect(unreachable_patterns, reason = "the list of the specification may grow")]
        other => bail!("the embedded runner does not know the limit {other}"),
    };
    setrlimit(resource, limit.soft(), limit.hard())
        .with_context(|| format!("cannot set the limit {} to {}", limit.typ(), limit.hard()))
}

/// The kernel numbers capabilities as capabilities(7) orders them; so does
/// linux/capability.h, whose names are these.
fn to_set(capabilities: Option<&Capabilities>) -> CapabilitySet {
    let mut set = CapabilitySet::empty();
    for capability in capabilities.into_iter().flatten() {
        // A capability that this kernel has no name for cannot be given.
        set |= CapabilitySet::from_name(&capability.to_string()).unwrap_or(CapabilitySet::empty());
    }
    set
}

fn each(set: CapabilitySet) -> impl Iterator<Item = CapabilitySet> {
    (0..=CAPABILITIES)
        .map(|number| CapabilitySet::from_bits_retain(1 << number))
        .filter(move |one| set.contains(*one))
}
