//! Where to push: what a user writes for one node.

use std::fmt;

/// One node, as ssh is told of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    /// What it is called in reports: as the user wrote it, or the inventory's name.
    pub label: String,
    /// An alias of ssh_config, a host name or an address.
    pub host: String,
    /// User to log in as, if not ssh's own choice.
    pub user: Option<String>,
    /// Port, if not ssh's own choice.
    pub port: Option<u16>,
}

/// One TARGET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A node.
    Node(Node),
    /// A group of the inventory, or one of its hosts.
    Group(String),
}

/// Why a TARGET is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// There is nothing where the host should be.
    #[error("target `{0}` has no host")]
    NoHost(String),
    /// There is nothing before the `@`.
    #[error("target `{0}` has no user before the `@`")]
    NoUser(String),
    /// There is no number from 1 to 65535 after the colon.
    #[error("target `{0}` has no port from 1 to 65535 after the colon")]
    Port(String),
    /// It would be taken for an option, or has white space or control characters.
    #[error("target `{}` cannot be a host", .0.escape_debug())]
    Host(String),
}

impl Target {
    /// Understands `@GROUP`, `HOST`, `USER@HOST`, `USER@HOST:PORT` and `[IPV6]:PORT`.
    ///
    /// # Errors
    /// When a part is missing or cannot be one.
    pub fn parse(text: &str) -> Result<Target, TargetError> {
        if let Some(group) = text.strip_prefix('@') {
            return match group {
                "" => Err(TargetError::NoHost(text.to_owned())),
                group => Ok(Target::Group(group.to_owned())),
            };
        }
        let (user, rest) = match text.rsplit_once('@') {
            Some(("", _)) => return Err(TargetError::NoUser(text.to_owned())),
            Some((user, rest)) => (Some(user.to_owned()), rest),
            None => (None, text),
        };
        let (host, port) = split_port(rest);
        let port = match port {
            None => None,
            Some(digits) => match digits.parse::<u16>() {
                Ok(port) if port > 0 && digits.bytes().all(|d| d.is_ascii_digit()) => Some(port),
                _ => return Err(TargetError::Port(text.to_owned())),
            },
        };
        if host.is_empty() {
            return Err(TargetError::NoHost(text.to_owned()));
        }
        let host = host.to_owned();
        let odd = |part: &str| {
            part.starts_with('-') || part.chars().any(|c| c.is_whitespace() || c.is_control())
        };
        if odd(&host) || user.as_deref().is_some_and(odd) {
            return Err(TargetError::Host(text.to_owned()));
        }
        Ok(Target::Node(Node { label: text.to_owned(), host, user, port }))
    }
}

/// Host and port: a colon alone separates them, unless there are several, as in an
/// IPv6 address without brackets.
fn split_port(text: &str) -> (&str, Option<&str>) {
    if let Some(rest) = text.strip_prefix('[')
        && let Some((host, after)) = rest.split_once(']')
    {
        return (host, after.strip_prefix(':'));
    }
    match text.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, Some(port)),
        _ => (text, None),
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, user: Option<&str>, host: &str, port: Option<u16>) {
        let user = user.map(str::to_owned);
        let node = Node { label: text.into(), host: host.into(), user, port };
        assert_eq!(Target::parse(text), Ok(Target::Node(node)));
    }

    #[test]
    fn a_target_is_what_ssh_users_write() {
        check("node-a", None, "node-a", None);
        check("root@10.0.0.1", Some("root"), "10.0.0.1", None);
        check("app@host:2222", Some("app"), "host", Some(2222));
        check("user@domain@host", Some("user@domain"), "host", None);
        check("[::1]:22", None, "::1", Some(22));
        check("fe80::1", None, "fe80::1", None);
        assert_eq!(Target::parse("@web"), Ok(Target::Group("web".into())));
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = |text: &str| Target::parse(text).unwrap_err().to_string();
        assert_eq!(error(""), "target `` has no host");
        assert_eq!(error("user@"), "target `user@` has no host");
        assert_eq!(error("@"), "target `@` has no host");
        assert_eq!(error(":22"), "target `:22` has no host");
    }

    #[test]
    fn options_in_disguise_are_refused() {
        for bad in ["-oProxyCommand=x", "root@-x", "a b", "host:0", "host:99999", "host:"] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }
}
