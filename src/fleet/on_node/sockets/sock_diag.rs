//! sock_diag(7): what sockets there are, of the kernel, by netlink(7).

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{connect, recv, send, socket_with};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{Socket, Wanted};
use crate::fleet::pod::Protocol;

// `linux/netlink.h` and `linux/sock_diag.h` of Linux.
const NLMSGHDR: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
/// The kernel makes no larger datagrams (`netlink_recvmsg` in `af_netlink.c` of Linux).
const DATAGRAM: usize = 32 << 10;

/// The sockets in the network of this process, or of another one.
///
/// # Errors
/// When the network cannot be entered, the kernel has no such answer, or it cannot be read.
pub(super) fn read(pid: Option<u64>, wanted: Wanted) -> io::Result<Vec<Socket>> {
    let kernel = match pid {
        None => open()?,
        // The socket is the network's in which it was made, and a thread can enter one alone.
        Some(pid) => {
            let network = fs::File::open(format!("/proc/{pid}/ns/net"))?;
            let enter = move || {
                move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
                open()
            };
            let thread = thread::Builder::new().spawn(enter)?;
            thread.join().map_err(|_| io::Error::other("a thread panicked"))??
        }
    };
    let mut found = Vec::new();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let states = wanted.states(protocol);
        for family in [AddressFamily::INET, AddressFamily::INET6] {
            if states != 0 {
                ask(&kernel, &request(family, protocol, states), protocol, &mut found)?;
            }
        }
    }
    Ok(found)
}

/// A socket that only the kernel can answer on.
fn open() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let kernel = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(SOCK_DIAG))?;
    connect(&kernel, &SocketAddrNetlink::new(0, 0))?;
    Ok(kernel)
}

/// A `struct nlmsghdr` and a `struct inet_diag_req_v2`, which asks for all ports and addresses.
fn request(family: AddressFamily, protocol: Protocol, states: u32) -> Vec<u8> {
    const LENGTH: u32 = NLMSGHDR as u32 + 56;
    let (family, protocol) = match protocol {
        Protocol::Tcp => (family.as_raw() as u8, 6),
        Protocol::Udp => (family.as_raw() as u8, 17),
    };
    let mut message = LENGTH.to_ne_bytes().to_vec();
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    message.extend([0; 8]);
    message.extend([family, protocol, 0, 0]);
    message.extend(states.to_ne_bytes());
    message.resize(LENGTH as usize, 0);
    message
}

/// Asks, and reads answers to the last one.
fn ask(
    kernel: &OwnedFd,
    request: &[u8],
    protocol: Protocol,
    found: &mut Vec<Socket>,
) -> io::Result<()> {
    send(kernel, request, SendFlags::empty())?;
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let (_, length) = recv(kernel, &mut buffer[..], RecvFlags::TRUNC)?;
        let datagram = buffer.get(..length).ok_or(io::ErrorKind::InvalidData)?;
        if answer(datagram, protocol, found)? {
            return Ok(());
        }
    }
}

/// Reads a datagram of messages; says whether the last one of all was in it.
fn answer(mut datagram: &[u8], protocol: Protocol, found: &mut Vec<Socket>) -> io::Result<bool> {
    loop {
        let (kind, body, rest) = message(datagram).ok_or(io::ErrorKind::InvalidData)?;
        match kind {
            NLMSG_DONE | NLMSG_ERROR => {
                // The number of an error is negative, and of what came to an end well, not.
                let code = field(body, 0).map_or(0, i32::from_ne_bytes);
                if kind == NLMSG_DONE && code >= 0 {
                    return Ok(true);
                }
                return Err(io::Error::from_raw_os_error(code.saturating_neg()));
            }
            SOCK_DIAG_BY_FAMILY => {
                found.push(socket(body, protocol).ok_or(io::ErrorKind::InvalidData)?);
            }
            _ => {}
        }
        if rest.is_empty() {
            return Ok(false);
        }
        datagram = rest;
    }
}

/// The first message of a datagram: its type, what is in it, and the messages after it.
fn message(datagram: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(field(datagram, 0)?)).ok()?;
    let body = datagram.get(NLMSGHDR..length)?;
    let rest = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((u16::from_ne_bytes(field(datagram, 4)?), body, rest))
}

/// A `struct inet_diag_msg`.
fn socket(body: &[u8], protocol: Protocol) -> Option<Socket> {
    let address = |at| {
        Some(match AddressFamily::from_raw((*body.first()?).into()) {
            AddressFamily::INET => IpAddr::from(field::<4>(body, at)?),
            AddressFamily::INET6 => IpAddr::from(field::<16>(body, at)?),
            _ => return None,
        })
    };
    Some(Socket {
        protocol,
        address: address(8)?,
        port: u16::from_be_bytes(field(body, 4)?),
        peer: address(24)?,
        inode: u32::from_ne_bytes(field(body, 68)?).into(),
    })
}

fn field<const LENGTH: usize>(bytes: &[u8], at: usize) -> Option<[u8; LENGTH]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of netlink(7), padded.
    fn netlink(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut message = ((NLMSGHDR + body.len()) as u32).to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.resize(NLMSGHDR, 0);
        message.extend(body);
        message.resize(message.len().next_multiple_of(4), 0);
        message
    }

    /// A `struct inet_diag_msg` of a socket that listens.
    fn told(family: AddressFamily, address: IpAddr, port: u16, inode: u32) -> Vec<u8> {
        let mut body = vec![family.as_raw() as u8, 10, 0, 0];
        body.extend(port.to_be_bytes());
        body.extend([0; 2]);
        match address {
            IpAddr::V4(address) => body.extend(address.octets()),
            IpAddr::V6(address) => body.extend(address.octets()),
        }
        body.resize(68, 0);
        body.extend(inode.to_ne_bytes());
        // Attributes may follow.
        body.extend([5, 0, 8, 0, 0]);
        netlink(SOCK_DIAG_BY_FAMILY, &body)
    }

    fn read(datagram: &[u8]) -> (io::Result<bool>, Vec<(IpAddr, u16, u64)>) {
        let mut found = Vec::new();
        let done = answer(datagram, Protocol::Tcp, &mut found);
        (done, found.iter().map(|s| (s.address, s.port, s.inode)).collect())
    }

    #[test]
    fn answers_are_read_to_the_last_one() {
        let (v4, v6) = ("127.0.0.1".parse().unwrap(), "fdc9::7".parse().unwrap());
        let sockets = [
            told(AddressFamily::INET, v4, 80, 4711),
            told(AddressFamily::INET6, v6, 443, u32::MAX),
        ];
        let expected = vec![(v4, 80, 4711), (v6, 443, u32::MAX.into())];
        let (done, found) = read(&sockets.concat());
        assert_eq!((done.unwrap(), found), (false, expected.clone()));
        let last = [sockets.concat(), netlink(NLMSG_DONE, &0i32.to_ne_bytes())].concat();
        let (done, found) = read(&last);
        assert_eq!((done.unwrap(), found), (true, expected));
    }

    #[test]
    fn an_answer_that_is_an_error_is_one() {
        let check = |message: Vec<u8>, expected: i32| {
            assert_eq!(read(&message).0.unwrap_err().raw_os_error(), Some(expected));
        };
        const ENOENT: i32 = 2;
        check(netlink(NLMSG_ERROR, &(-ENOENT).to_ne_bytes()), ENOENT);
        // A kernel without udp_diag.
        check(netlink(NLMSG_DONE, &(-ENOENT).to_ne_bytes()), ENOENT);
        check(netlink(NLMSG_ERROR, &i32::MIN.to_ne_bytes()), i32::MAX);
    }

    #[test]
    fn an_answer_that_is_cut_or_not_of_the_kernels_form_is_an_error() {
        let any = IpAddr::from([0; 4]);
        let whole = told(AddressFamily::INET, any, 80, 1);
        for length in 0..whole.len() - 3 {
            assert!(read(&whole[..length]).0.is_err(), "{length}");
        }
        for length in [0, 1, 15, u32::MAX - 3, u32::MAX] {
            let mut hostile = whole.clone();
            hostile[..4].copy_from_slice(&length.to_ne_bytes());
            assert!(read(&hostile).0.is_err(), "{length}");
        }
        assert!(read(&told(AddressFamily::UNIX, any, 80, 1)).0.is_err());
        assert!(read(&netlink(SOCK_DIAG_BY_FAMILY, &[2, 10])).0.is_err());
        assert!(read(&netlink(NLMSG_ERROR, &[])).0.is_err());
    }
}
