//! Sockets: ports that the run listens on, and the paths of Unix sockets.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::rc::Rc;

use rustix::io::Errno;
use rustix::net::{SocketType, sockopt};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::access::Asked;
use crate::changes::Pending;
use crate::memory::{Fault, TraceeAddr};
use crate::observer::{Given, Observer};
use crate::record::{Port, Use};
use crate::resolve::Target;
use crate::sys::Tid;
use crate::syscall::Shape;

/// Address families of <linux/socket.h>.
const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
/// `SYS_BIND`, `SYS_CONNECT` and `SYS_SENDTO` of <linux/net.h>.
const SYS_BIND: u64 = 2;
const SYS_CONNECT: u64 = 3;
const SYS_SENDTO: u64 = 11;

/// The address of a bind or connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) fd: i32,
    pub(crate) binds: bool,
    pub(crate) name: Name,
}

/// What an address names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// A Unix socket's path, as the program gave it.
    Path(Vec<u8>),
    /// A numeric address and a port.
    Port(String, u16),
}

/// Reads the address of the stopped call; `None` where it names nothing.
pub(crate) fn of(asked: &Asked<'_>) -> Result<Option<Address>, Fault> {
    let call = &asked.call;
    let memory = &asked.task.memory;
    let (fd, address, length, binds) = match asked.row.shape {
        Shape::SocketCall => {
            let binds = call.arg(0) == SYS_BIND;
            // Address and length are the second and third word, or the fifth and sixth.
            let at = match call.arg(0) {
                SYS_BIND | SYS_CONNECT => 4,
                SYS_SENDTO => 16,
                _ => return Ok(None),
            };
            let mut words = [0u8; 24];
            let needed = words.get_mut(..at + 8).unwrap_or_default();
            memory.read_exact(asked.tid, TraceeAddr(call.arg(1)), needed)?;
            let word = |at: usize| {
                words.get(at..at + 4).and_then(|w| w.try_into().ok()).map_or(0, u32::from_le_bytes)
            };
            (word(0) as i32, u64::from(word(at)), u64::from(word(at + 4)), binds)
        }
        Shape::SendTo => (call.int(0), call.arg(4), call.arg(5), false),
        shape => (call.int(0), call.arg(1), call.arg(2), shape == Shape::Bind),
    };
    // sockaddr_storage has 128 bytes; nothing that matters here is longer.
    let mut bytes = [0u8; 128];
    let length = usize::try_from(length).unwrap_or(usize::MAX).min(bytes.len());
    if address == 0 {
        return Ok(None);
    }
    let Some(into) = bytes.get_mut(..length).filter(|into| !into.is_empty()) else {
        return Ok(None);
    };
    let count = memory.read(asked.tid, TraceeAddr(address), into)?;
    Ok(parse(bytes.get(..count).unwrap_or_default()).map(|name| Address { fd, binds, name }))
}

/// Reads a `struct sockaddr` of its length.
fn parse(bytes: &[u8]) -> Option<Name> {
    let family = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
    let port = |bytes: &[u8]| Some(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?));
    match family {
        AF_UNIX => {
            let path = bytes.get(2..)?;
            let end = path.iter().position(|&b| b == 0).unwrap_or(path.len());
            // An abstract name begins with NUL; an autobind has none.
            path.get(..end).filter(|path| !path.is_empty()).map(|path| Name::Path(path.to_vec()))
        }
        AF_INET => {
            let address: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
            Some(Name::Port(Ipv4Addr::from(address).to_string(), port(bytes)?))
        }
        AF_INET6 => {
            let address: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
            Some(Name::Port(Ipv6Addr::from(address).to_string(), port(bytes)?))
        }
        _ => None,
    }
}

/// The type of a socket that a process has under `fd` (Linux 5.6).
fn socket_type(process: Tid, fd: i32) -> Result<SocketType, Errno> {
    let process = Pid::from_raw(process).ok_or(Errno::SRCH)?;
    let process = pidfd_open(process, PidfdFlags::empty())?;
    sockopt::socket_type(pidfd_getfd(&process, fd, PidfdGetfdFlags::empty())?)
}

impl Observer {
    /// Notes what a bind or connect names.
    pub(crate) fn socket(&mut self, asked: &Asked<'_>, found: Address, pending: &mut Pending) {
        match found.name {
            Name::Port(_, 0) => {}
            Name::Port(address, port) => {
                if found.binds {
                    let process = asked.task.process.pid;
                    let protocol = match socket_type(process, found.fd) {
                        Ok(SocketType::DGRAM) => "udp",
                        Ok(SocketType::SEQPACKET) => "sctp",
                        _ => "tcp",
                    };
                    let protocol = protocol.to_owned();
                    pending.bound = Some(Port { protocol, address, port });
                }
            }
            Name::Path(path) => {
                let view = &asked.task.view;
                let root = view.root(asked.tid, self.generation);
                let base = if path.first() == Some(&b'/') {
                    Rc::clone(&root)
                } else {
                    view.cwd(asked.tid, self.generation)
                };
                let follow = !found.binds;
                let given = Given { root: &root, base: &base, path: &path, follow };
                let who = asked.who();
                let resolved = if found.binds {
                    self.make(&given, &who, false, pending)
                } else {
                    self.look(&given, Use::Socket, &who);
                    self.resolve(&given, &who)
                };
                if found.binds || matches!(resolved.target, Target::There(_)) {
                    self.uses.sockets.insert(resolved.path);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: impl Into<Option<Name>>) {
        assert_eq!(parse(bytes), expected.into());
    }

    #[test]
    fn addresses_are_read_as_the_kernel_does() {
        check(b"\x01\x00/run/x\0rest", Some(Name::Path(b"/run/x".to_vec())));
        check(b"\x01\x00relative", Some(Name::Path(b"relative".to_vec())));
        check(b"\x01\x00\0abstract", None);
        check(b"\x01\x00", None);
        check(b"\x02\x00\x1f\x90\x7f\x00\x00\x01", Some(Name::Port("127.0.0.1".into(), 8080)));
        check(b"\x02\x00\x1f", None);
        let mut six = vec![10, 0, 0, 80, 0, 0, 0, 0];
        six.extend([0; 15]);
        six.push(1);
        check(&six, Some(Name::Port("::1".into(), 80)));
        check(b"\x10\x00netlink", None);
    }
}
