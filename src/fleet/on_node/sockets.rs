//! The sockets of a network: asked of the kernel by sock_diag(7), or, where it does not answer
//! that, read of its tables in proc(5). For each read(2) of that of TCP it goes through the hash
//! table of connections, which is as large as the machine's memory allows; asked for listeners,
//! it goes through theirs alone.

mod sock_diag;

use std::fs;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::fleet::pod::Protocol;

/// A socket of IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Socket {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its own address.
    pub address: IpAddr,
    /// Its own port.
    pub port: u16,
    /// The address that it is connected to; the unspecified one where it is to none.
    pub peer: IpAddr,
    /// Its inode; 0 where no program has it yet.
    pub inode: u64,
}

impl Socket {
    /// Whether its other end is in the same network: 127.0.0.0/8, also mapped to IPv6, or ::1.
    pub(super) fn is_near(&self) -> bool {
        self.peer.to_canonical().is_loopback()
    }
}

/// What sockets are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Those that wait for connections, or packets.
    Listening,
    /// Connections of TCP, also such as are being made.
    Connected,
}

impl Wanted {
    /// The states of these sockets, as bits (`net/tcp_states.h` of Linux): LISTEN, CLOSE, which
    /// a socket of UDP has while it is not connected, and ESTABLISHED and SYN_RECV.
    fn states(self, protocol: Protocol) -> u32 {
        match (self, protocol) {
            (Wanted::Listening, Protocol::Tcp) => 1 << 10,
            (Wanted::Listening, Protocol::Udp) => 1 << 7,
            (Wanted::Connected, Protocol::Tcp) => 1 << 1 | 1 << 3,
            (Wanted::Connected, Protocol::Udp) => 0,
        }
    }
}

/// The sockets in the network of this process, or of another one.
pub(super) fn read(pid: Option<u64>, wanted: Wanted) -> Vec<Socket> {
    sock_diag::read(pid, wanted).unwrap_or_else(|_| tables(pid, wanted))
}

/// As the kernel's tables in proc(5) have them; what cannot be read has none.
fn tables(pid: Option<u64>, wanted: Wanted) -> Vec<Socket> {
    let pid = pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let mut found = Vec::new();
    for (file, protocol) in [
        ("tcp", Protocol::Tcp),
        ("tcp6", Protocol::Tcp),
        ("udp", Protocol::Udp),
        ("udp6", Protocol::Udp),
    ] {
        let states = wanted.states(protocol);
        if states != 0 {
            let text = table(&format!("/proc/{pid}/net/{file}")).unwrap_or_default();
            found.extend(text.lines().filter_map(|line| row(line, protocol, states)));
        }
    }
    found
}

/// Reads a table in few and large pieces, since each costs the same.
fn table(path: &str) -> io::Result<String> {
    let mut text = String::with_capacity(256 << 10);
    fs::File::open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

/// A line of `/proc/net/tcp` (proc(5)) that is in one of these states: number, own address,
/// other address, state, five other columns, inode.
fn row(line: &str, protocol: Protocol, states: u32) -> Option<Socket> {
    let mut words = line.split_whitespace().skip(1);
    let (address, port) = words.next()?.rsplit_once(':')?;
    let (peer, _) = words.next()?.rsplit_once(':')?;
    let state = 1u32.checked_shl(u32::from_str_radix(words.next()?, 16).ok()?)?;
    (states & state != 0).then_some(())?;
    Some(Socket {
        protocol,
        address: hex(address)?,
        port: u16::from_str_radix(port, 16).ok()?,
        peer: hex(peer)?,
        inode: words.nth(5)?.parse().ok()?,
    })
}

/// An address as one or four numbers of the host's order.
fn hex(digits: &str) -> Option<IpAddr> {
    let word = |at| u32::from_str_radix(digits.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    match digits.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            Some(Ipv6Addr::from(*words.as_flattened().first_chunk::<16>()?).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    #[test]
    fn the_kernel_tells_the_same_sockets_by_sock_diag_as_by_its_tables() {
        let near = TcpListener::bind("127.0.0.1:0").unwrap();
        let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
        let both = TcpListener::bind("[::]:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let connection = TcpStream::connect(near.local_addr().unwrap()).unwrap();
        let mapped = TcpStream::connect(("127.0.0.1", both.local_addr().unwrap().port())).unwrap();
        let listening = [
            (Protocol::Tcp, near.local_addr().unwrap()),
            (Protocol::Tcp, everywhere.local_addr().unwrap()),
            (Protocol::Tcp, both.local_addr().unwrap()),
            (Protocol::Udp, udp.local_addr().unwrap()),
        ];
        let own = |sockets: Vec<Socket>| {
            let mut ports = listening.map(|(_, address)| address.port()).to_vec();
            ports.push(connection.local_addr().unwrap().port());
            ports.push(mapped.local_addr().unwrap().port());
            let all: Vec<Socket> =
                sockets.into_iter().filter(|socket| ports.contains(&socket.port)).collect();
            let set: BTreeSet<Socket> = all.iter().copied().collect();
            assert_eq!(set.len(), all.len(), "{all:?}");
            set
        };
        for (wanted, number) in [(Wanted::Listening, 4), (Wanted::Connected, 4)] {
            let asked = own(sock_diag::read(None, wanted).unwrap());
            assert_eq!(asked, own(tables(None, wanted)));
            assert_eq!(asked.len(), number, "{asked:?}");
            if wanted == Wanted::Listening {
                let addresses = asked.iter().map(|s| (s.protocol, (s.address, s.port).into()));
                assert_eq!(addresses.collect::<BTreeSet<_>>(), BTreeSet::from(listening));
            }
            // Only root enters a network, be it its own.
            let pid = Some(std::process::id().into());
            match sock_diag::read(pid, wanted) {
                Ok(entered) => assert_eq!(own(entered), asked),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
            }
            assert_eq!(own(read(pid, wanted)), asked);
        }
    }

    #[test]
    fn tables_are_read_as_the_kernel_shows_them() {
        let check = |line: &str, wanted: Wanted, expected: Option<(&str, u16, &str)>| {
            let line = format!("{line} 00000000:00000000 00:00000000 00000000  1000  0 4711 1 0");
            let read = row(&line, Protocol::Tcp, wanted.states(Protocol::Tcp));
            let expected = expected.map(|(address, port, peer)| Socket {
                protocol: Protocol::Tcp,
                address: address.parse().unwrap(),
                port,
                peer: peer.parse().unwrap(),
                inode: 4711,
            });
            assert_eq!(read, expected, "{line}");
        };
        // As a machine of this one's order of bytes shows them.
        let v4 = |a: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(a));
        let v6 = |a: &str| {
            let octets = a.parse::<Ipv6Addr>().unwrap().octets();
            octets.as_chunks::<4>().0.iter().map(|word| v4(*word)).collect::<String>()
        };
        let (any, pod, far) = (v4([0; 4]), v4([198, 18, 0, 7]), v4([10, 78, 0, 1]));
        let listener = format!("   0: {any}:1F90 {any}:0000 0A");
        check(&listener, Wanted::Listening, Some(("0.0.0.0", 8080, "0.0.0.0")));
        check(&listener, Wanted::Connected, None);
        let connected = format!("   1: {pod}:1F90 {far}:C350 01");
        check(&connected, Wanted::Connected, Some(("198.18.0.7", 8080, "10.78.0.1")));
        check(&connected, Wanted::Listening, None);
        check(&format!("   2: {pod}:1F90 {far}:C350 06"), Wanted::Connected, None);
        let (pod, far) = ("::ffff:198.18.0.7", "2001:db8::7f00:1");
        let connecting = format!("   3: {}:0050 {}:C350 03", v6(pod), v6(far));
        check(&connecting, Wanted::Connected, Some((pod, 80, far)));
        check("  sl  local_address rem_address   st", Wanted::Listening, None);
        check("   4: 0000000\u{e9}:1F90 00000000:0000 0A", Wanted::Listening, None);
        check("   5: 00000000:1F90 00000000:0000 FF", Wanted::Listening, None);
    }

    #[test]
    fn a_socket_is_near_that_is_connected_by_the_loopback() {
        let check = |peer: &str, expected: bool| {
            let (address, peer) = (Ipv4Addr::UNSPECIFIED.into(), peer.parse().unwrap());
            let socket = Socket { protocol: Protocol::Tcp, address, port: 80, peer, inode: 1 };
            assert_eq!(socket.is_near(), expected, "{peer}");
        };
        check("127.0.0.1", true);
        check("::ffff:127.1.2.3", true);
        check("::1", true);
        check("10.78.0.1", false);
        check("2001:db8::7f00:1", false);
    }
}
