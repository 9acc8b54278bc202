//! File capabilities (capabilities(7)) as text.

/// Names by number, from linux/capability.h of Linux 6.18.
const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// The permitted capabilities in the attribute `security.capability`, such as
/// `cap_net_raw`, joined by commas; what cannot be read is `unknown`.
pub(super) fn text(attribute: &[u8]) -> String {
    let word = |at: usize| {
        let bytes = attribute.get(at..).and_then(|rest| rest.first_chunk::<4>());
        bytes.map(|bytes| u32::from_le_bytes(*bytes))
    };
    // VFS_CAP_REVISION_2 and 3 have 64 bits, in two halves.
    let (Some(low), Some(high)) = (word(4), word(12)) else { return "unknown".to_owned() };
    let bits = u64::from(high) << 32 | u64::from(low);
    let names = NAMES.iter().enumerate().filter(|(bit, _)| bits & 1 << bit != 0);
    let names: Vec<String> = names.map(|(_, name)| format!("cap_{name}")).collect();
    names.join(",")
}

#[cfg(test)]
mod tests {
    #[test]
    fn ping_may_send_raw_packets() {
        // As `setcap cap_net_raw,cap_bpf+ep` writes it.
        let attribute = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(super::text(&attribute), "cap_net_raw,cap_bpf");
        assert_eq!(super::text(b"short"), "unknown");
    }
}
