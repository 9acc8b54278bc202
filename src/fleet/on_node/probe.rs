//! Asking a container whether it does its work.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::tls;
use crate::fleet::pod::{Probe, Probing};
use crate::fleet::revision::Placed;
use crate::fleet::unit;
use crate::process;

/// How much of an answer is read to its end: as much as Kubernetes' kubelet reads.
const ANSWER: usize = 10 << 10;
/// How long the rest of an answer is waited for.
const REST: Duration = Duration::from_secs(1);

/// What can ask.
pub trait Prober {
    /// Asks once, at `address` where the probe names no host.
    ///
    /// # Errors
    /// What kept it from being a success.
    fn probe(&self, container: &Placed, address: &str, probe: &Probe) -> anyhow::Result<()>;
}

/// Asks from the node itself.
pub struct Probes;

impl Prober for Probes {
    fn probe(&self, container: &Placed, address: &str, probe: &Probe) -> anyhow::Result<()> {
        let at = |host: &str| if host.is_empty() { address.to_owned() } else { host.to_owned() };
        let timeout = Duration::from_secs(probe.timeout.into());
        match &probe.probing {
            Probing::Tcp { host, port } => connect(&at(host), *port, timeout).map(drop),
            Probing::Http { host, port, tls, path, headers } => {
                let get = Get { host: &at(host), port: *port, tls: *tls, path, headers };
                match get.status(timeout)? {
                    200..=399 => Ok(()),
                    status => bail!("{} answers {status}", get.url()),
                }
            }
            Probing::Exec { command } => {
                let script = format!("{} \"$@\"", unit::exec(container, false));
                // coreutils' own: the runtime waits for as long as the command takes.
                let mut timed = process::command("timeout");
                timed.args(["--kill-after=1", &probe.timeout.to_string()]);
                timed.args(["sh", "-c", &script, "sh"]).args(command);
                process::output(&mut timed).map(drop)
            }
        }
    }
}

/// Connects to the first address of `host` that takes it: a name may have one of IPv6 and
/// one of IPv4.
fn connect(host: &str, port: u16, timeout: Duration) -> anyhow::Result<TcpStream> {
    let cannot = || format!("cannot connect to {}", authority(host, port));
    let started = Instant::now();
    let mut failure = None;
    for address in (host, port).to_socket_addrs().with_context(cannot)? {
        let left = timeout.saturating_sub(started.elapsed()).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.map_or_else(|| anyhow::anyhow!("it has no address"), Into::into))
        .with_context(cannot)
}

/// Host and port as URLs have them (RFC 3986, section 3.2).
fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The host of what [`authority`] makes, or of the header `Host`.
fn host_of(authority: &str) -> &str {
    let bare = authority.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let named = || authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    bare.map_or_else(named, |(host, _)| host)
}

/// A GET by HTTP/1.1.
struct Get<'a> {
    host: &'a str,
    port: u16,
    tls: bool,
    path: &'a str,
    headers: &'a [(String, String)],
}

impl Get<'_> {
    fn url(&self) -> String {
        let (scheme, authority) = (if self.tls { "https" } else { "http" }, self.authority());
        format!("{scheme}://{authority}{}", self.path)
    }

    fn authority(&self) -> String {
        authority(self.host, self.port)
    }

    /// Returns the answer's status.
    fn status(&self, timeout: Duration) -> anyhow::Result<u16> {
        let stream = connect(self.host, self.port, timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        let named = self.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host"));
        let cannot = || format!("no answer from {}", self.url());
        if !self.tls {
            return self.ask(stream).with_context(cannot);
        }
        // The server is asked for by the name that the request has.
        let name = named.map_or(self.host, |(_, value)| host_of(value));
        tls::connect(stream, name).and_then(|stream| self.ask(stream)).with_context(cannot)
    }

    fn ask(&self, mut stream: impl Read + Write) -> anyhow::Result<u16> {
        let Get { path, headers, .. } = self;
        let mut request =
            format!("GET {path} HTTP/1.1\r\nConnection: close\r\nUser-Agent: vzmaster\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            request.push_str(&format!("Host: {}\r\n", self.authority()));
        }
        for (name, value) in *headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes())?;
        // `HTTP/1.1 200`: twelve bytes are enough.
        let mut start = [0; 12];
        stream.read_exact(&mut start)?;
        drain(&mut stream);
        let text = String::from_utf8_lossy(&start);
        let status = text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..)?.parse().ok());
        status.context("that is not HTTP")
    }
}

/// Reads the rest of an answer: closing before that resets the connection, in the midst of the
/// server's work.
fn drain(stream: &mut impl Read) {
    let started = Instant::now();
    let mut buffer = [0; 1024];
    let mut left = ANSWER;
    while left > 0 && started.elapsed() < REST {
        match stream.read(&mut buffer) {
            Ok(read) if read > 0 => left = left.saturating_sub(read),
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn answered(answer: &'static str) -> anyhow::Result<u16> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 512];
                let read = stream.read(&mut request).unwrap();
                let request = String::from_utf8_lossy(&request[..read]).into_owned();
                assert!(request.starts_with("GET /h?x HTTP/1.1\r\n"), "{request}");
                assert!(request.contains("\r\nX-A: b\r\n"), "{request}");
                stream.write_all(answer.as_bytes()).unwrap();
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "the connection ends by a reset");
            });
            let headers = [("X-A".to_owned(), "b".to_owned())];
            let get = Get { host: "127.0.0.1", port, tls: false, path: "/h?x", headers: &headers };
            get.status(Duration::from_secs(5))
        })
    }

    #[test]
    fn the_status_of_an_answer_is_read() {
        assert_eq!(answered("HTTP/1.1 200 OK\r\n\r\n").unwrap(), 200);
        assert_eq!(answered("HTTP/1.0 503 Busy\r\n\r\nlater, please\n").unwrap(), 503);
        assert!(answered("SSH-2.0-OpenSSH_9.2\r\n").is_err());
        assert!(answered("").is_err());
    }

    #[test]
    fn a_host_may_be_an_ipv6_address() {
        let headers = [("Host".to_owned(), "[2001:db8::1]:443".to_owned())];
        let get = Get { host: "::1", port: 8443, tls: true, path: "/up", headers: &headers };
        assert_eq!(get.url(), "https://[::1]:8443/up");
        for (text, host) in [
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("[::1]", "::1"),
            ("example.org:443", "example.org"),
            ("example.org", "example.org"),
        ] {
            assert_eq!(host_of(text), host);
        }
    }

    #[test]
    fn all_addresses_of_a_name_are_tried() {
        // `localhost` may be ::1 first, where nobody listens.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        connect("localhost", port, Duration::from_secs(5)).unwrap();
    }

    #[test]
    fn a_port_that_nobody_listens_on_is_no_success() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        assert!(connect("127.0.0.1", port, Duration::from_secs(1)).is_err());
    }
}
