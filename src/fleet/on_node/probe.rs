//! Asking a container whether it does its work.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::fleet::pod::{Probe, Probing};
use crate::fleet::revision::Placed;
use crate::fleet::unit;
use crate::process;

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
            Probing::Http { host, port, path, headers } => {
                let host = &at(host);
                let status = get(host, *port, path, headers, timeout)?;
                match status {
                    200..=399 => Ok(()),
                    _ => bail!("http://{host}:{port}{path} answers {status}"),
                }
            }
            Probing::Exec { command } => {
                let call = unit::runtime(&container.runtime);
                let mut words = call.split(' ');
                // coreutils' own: the runtime waits for as long as the command takes.
                let mut timed = process::command("timeout");
                timed.args(["--kill-after=1", &probe.timeout.to_string()]);
                timed.args(words.by_ref()).arg("exec").arg(&container.id).args(command);
                process::output(&mut timed).map(drop)
            }
        }
    }
}

fn connect(host: &str, port: u16, timeout: Duration) -> anyhow::Result<TcpStream> {
    let cannot = || format!("cannot connect to {host}:{port}");
    let mut addresses = (host, port).to_socket_addrs().with_context(cannot)?;
    let address = addresses.next().with_context(cannot)?;
    TcpStream::connect_timeout(&address, timeout).with_context(cannot)
}

/// GETs a path by HTTP/1.1 and returns the answer's status.
fn get(
    host: &str,
    port: u16,
    path: &str,
    headers: &[(String, String)],
    timeout: Duration,
) -> anyhow::Result<u16> {
    let mut stream = connect(host, port, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let mut request =
        format!("GET {path} HTTP/1.1\r\nConnection: close\r\nUser-Agent: vzmaster\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request.push_str(&format!("Host: {host}:{port}\r\n"));
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    let cannot = || format!("no answer from http://{host}:{port}{path}");
    stream.write_all(request.as_bytes()).with_context(cannot)?;
    // `HTTP/1.1 200`: twelve bytes are enough.
    let mut start = [0; 12];
    stream.read_exact(&mut start).with_context(cannot)?;
    let text = String::from_utf8_lossy(&start);
    let status = text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..)?.parse().ok());
    status.with_context(|| format!("{host}:{port} answers something that is not HTTP"))
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
            });
            let headers = [("X-A".to_owned(), "b".to_owned())];
            get("127.0.0.1", port, "/h?x", &headers, Duration::from_secs(5))
        })
    }

    #[test]
    fn the_status_of_an_answer_is_read() {
        assert_eq!(answered("HTTP/1.1 200 OK\r\n\r\n").unwrap(), 200);
        assert_eq!(answered("HTTP/1.0 503 Busy\r\n\r\n").unwrap(), 503);
        assert!(answered("SSH-2.0-OpenSSH_9.2\r\n").is_err());
        assert!(answered("").is_err());
    }

    #[test]
    fn a_port_that_nobody_listens_on_is_no_success() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        assert!(connect("127.0.0.1", port, Duration::from_secs(1)).is_err());
    }
}
