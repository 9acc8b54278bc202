//! Probes: how a container is asked whether it does its work.

use serde::{Deserialize, Serialize};

use super::container::Port;
use crate::fleet::fields::{At, Check};
use crate::fleet::yaml::Value;

/// A probe and its times, in seconds; defaults are those of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// What is asked.
    pub probing: Probing,
    /// Before the first try.
    pub initial_delay: u32,
    /// Between tries.
    pub period: u32,
    /// For one try.
    pub timeout: u32,
    /// Successes in a row that it takes.
    pub successes: u32,
    /// Failures in a row that it takes.
    pub failures: u32,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probing {
    /// A GET is answered by a status from 200 to 399.
    Http {
        /// Address or name; empty for the pod itself.
        host: String,
        /// TCP port.
        port: u16,
        /// Whether by HTTPS, with whatever certificate.
        tls: bool,
        /// Path and query.
        path: String,
        /// Headers beside Host and User-Agent.
        headers: Vec<(String, String)>,
    },
    /// A connection is taken.
    Tcp {
        /// Address or name; empty for the pod itself.
        host: String,
        /// Port.
        port: u16,
    },
    /// A command in the container ends with 0.
    Exec {
        /// Its words.
        command: Vec<String>,
    },
}

const TIMES: [&str; 5] = [
    "initialDelaySeconds",
    "periodSeconds",
    "timeoutSeconds",
    "successThreshold",
    "failureThreshold",
];

/// Reads a probe; `ports` are those that it may call by name.
pub(super) fn read(check: &mut Check, at: &At<'_>, ports: &[Port]) -> Option<Probe> {
    let mut known = vec!["httpGet", "tcpSocket", "exec"];
    known.extend(TIMES);
    let fields = check.fields(at, &known, |name| match name {
        "grpc" => "use tcpSocket, httpGet or exec",
        _ => "",
    })?;
    let mut number = |name: &str, default: u32, least: u32| match fields.get(name) {
        Some(at) => check.number(&at, least..=86_400).unwrap_or(default),
        None => default,
    };
    let (initial_delay, period, timeout) =
        (number(TIMES[0], 0, 0), number(TIMES[1], 10, 1), number(TIMES[2], 1, 1));
    let (successes, failures) = (number(TIMES[3], 1, 1), number(TIMES[4], 3, 1));
    let actions: Vec<At<'_>> =
        ["httpGet", "tcpSocket", "exec"].iter().filter_map(|name| fields.get(name)).collect();
    let [action] = actions.as_slice() else {
        check.wrong(at, "must have one of httpGet, tcpSocket and exec");
        return None;
    };
    let probing = if action.path.ends_with("httpGet") {
        http(check, action, ports)
    } else if action.path.ends_with("tcpSocket") {
        let fields = check.fields(action, &["port", "host"], |_| "")?;
        let host = host(check, fields.get("host"));
        port(check, &fields, ports).map(|port| Probing::Tcp { host, port })
    } else {
        let fields = check.fields(action, &["command"], |_| "")?;
        let command = fields.get("command").map(|at| check.texts(&at)).unwrap_or_default();
        if command.is_empty() {
            check.missing(&fields, "command");
        }
        Some(Probing::Exec { command })
    };
    Some(Probe { probing: probing?, initial_delay, period, timeout, successes, failures })
}

fn http(check: &mut Check, at: &At<'_>, ports: &[Port]) -> Option<Probing> {
    let fields = check.fields(at, &["path", "port", "host", "scheme", "httpHeaders"], |_| "")?;
    let mut tls = false;
    if let Some(at) = fields.get("scheme")
        && let Some(scheme) = check.text(&at)
    {
        tls = scheme == "HTTPS";
        if !tls && scheme != "HTTP" {
            check.wrong(&at, format!("must be HTTP or HTTPS, and is `{}`", scheme.escape_debug()));
        }
    }
    let path = fields.get("path").map(|at| (check.text(&at), at));
    let path = match path {
        Some((Some(path), at)) => {
            if !path.starts_with('/') || !path.bytes().all(|c| c.is_ascii_graphic()) {
                check.wrong(&at, "must begin with `/` and have printable ASCII only");
            }
            path
        }
        _ => "/".to_owned(),
    };
    let mut headers = Vec::new();
    for at in fields.get("httpHeaders").map(|at| check.list(&at)).unwrap_or_default() {
        let Some(header) = check.fields(&at, &["name", "value"], |_| "") else { continue };
        let [name, value] =
            ["name", "value"].map(|key| header.get(key).and_then(|at| check.text(&at)));
        let (Some(name), Some(value)) = (name, value) else {
            check.wrong(&at, "must have a name and a value");
            continue;
        };
        let token = |c: u8| c.is_ascii_alphanumeric() || b"-_".contains(&c);
        if name.is_empty() || !name.bytes().all(token) || value.bytes().any(|c| c < b' ') {
            check.wrong(&at, "is no header of HTTP");
        }
        headers.push((name, value));
    }
    let host = host(check, fields.get("host"));
    let port = port(check, &fields, ports)?;
    Some(Probing::Http { host, port, tls, path, headers })
}

fn host(check: &mut Check, at: Option<At<'_>>) -> String {
    let Some(at) = at else { return String::new() };
    let text = check.text(&at).unwrap_or_default();
    let plain = |c: u8| c.is_ascii_alphanumeric() || b".:-_".contains(&c);
    if text.is_empty() || !text.bytes().all(plain) {
        check.wrong(&at, "is no host");
    }
    text
}

fn port(
    check: &mut Check,
    fields: &crate::fleet::fields::Fields<'_>,
    ports: &[Port],
) -> Option<u16> {
    let Some(at) = fields.get("port") else {
        check.missing(fields, "port");
        return None;
    };
    let (Value::Plain(text) | Value::Quoted(text)) = &at.node.value else {
        check.wrong(&at, "must be a port's number or name");
        return None;
    };
    if let Some(port) = ports.iter().find(|port| port.name.as_deref() == Some(text)) {
        return Some(port.number);
    }
    if text.starts_with(|c: char| c.is_ascii_alphabetic()) {
        check.wrong(&at, format!("no port of this container is called `{}`", text.escape_debug()));
        return None;
    }
    check.number(&at, 1..=65535).and_then(|number| number.try_into().ok())
}
