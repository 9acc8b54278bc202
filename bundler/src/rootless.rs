//! What an ordinary user's container can have of a `config.json`.

use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespaceType, Mount, Spec};

use crate::config::{mount, namespace};

/// Changes `spec` so that the user `uid` with the group `gid` can run it: in a
/// user namespace that has one user, root inside and `uid` outside. Runtimes
/// need root to be mapped, and an ordinary user may map no one but themselves.
///
/// The command then runs as that root; supplementary groups, limits that the
/// user may not raise and control groups fall away.
pub fn make_rootless(spec: &mut Spec, uid: u32, gid: u32) {
    let own_network = has_namespace(spec, LinuxNamespaceType::Network);
    if let Some(process) = spec.process_mut() {
        let user = process.user_mut();
        user.set_uid(0).set_gid(0).set_additional_gids(None);
        process.set_rlimits(None);
    }
    for mount in spec.mounts_mut().iter_mut().flatten() {
        adapt_mount(mount, own_network);
    }
    if let Some(linux) = spec.linux_mut() {
        let mut namespaces = linux.namespaces().clone().unwrap_or_default();
        namespaces.retain(|ns| ns.typ() != LinuxNamespaceType::User);
        namespaces.push(namespace(LinuxNamespaceType::User));
        linux
            .set_namespaces(Some(namespaces))
            .set_uid_mappings(Some(vec![only(uid)]))
            .set_gid_mappings(Some(vec![only(gid)]))
            .set_resources(None)
            .set_cgroups_path(None);
    }
}

/// Whether `spec` makes a new namespace of this kind.
pub fn has_namespace(spec: &Spec, kind: LinuxNamespaceType) -> bool {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    namespaces.into_iter().flatten().any(|ns| ns.typ() == kind && ns.path().is_none())
}

fn only(id: u32) -> LinuxIdMapping {
    let mapping = LinuxIdMappingBuilder::default().container_id(0_u32).host_id(id).size(1_u32);
    mapping.build().unwrap_or_default()
}

fn adapt_mount(old: &mut Mount, own_network: bool) {
    // sysfs shows the network, so it can be mounted by its owner only.
    if old.typ().as_deref() == Some("sysfs") && !own_network {
        let options = ["rbind", "nosuid", "noexec", "nodev", "ro"];
        *old = mount(&old.destination().to_string_lossy(), "bind", "/sys", &options);
    }
    let is_kept = |option: &String| match option.split_once('=') {
        // The tty group, and owners that the namespace does not have.
        Some(("uid" | "gid", id)) => id == "0",
        _ => true,
    };
    if let Some(options) = old.options_mut() {
        options.retain(is_kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Container, print};

    #[test]
    fn an_ordinary_user_is_root_inside() {
        let container = Container { uid: 33, sysfs: true, ..Container::default() };
        let mut spec = container.spec();
        make_rootless(&mut spec, 1000, 100);
        let text = String::from_utf8(print(&spec).unwrap()).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let mapping = serde_json::json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
        assert_eq!(json["linux"]["uidMappings"], mapping);
        assert_eq!(json["process"]["user"]["uid"], 0);
        assert!(!text.contains("gid=5") && !text.contains("sysfs"), "{text}");

        let mut twice = spec.clone();
        make_rootless(&mut twice, 1000, 100);
        assert_eq!(twice, spec);
    }
}
