//! Host names: canonical hosts and the patterns that match them.
//!
//! One canonical form is computed at the edge and used by routing, authorization, logging and forwarding alike:
//! lower case, no trailing dot, no port, no userinfo. What cannot be brought into that form is refused.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A host in canonical form: a DNS name, an IPv4 address or a bracketed IPv6 address.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Host(Arc<str>);

impl Host {
    /// Reads a host without a port.
    ///
    /// # Errors
    /// When it is empty, longer than 253 bytes, or has a byte that no host has.
    pub fn parse(text: &str) -> Result<Self, InvalidHost> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() || text.len() > 253 {
            return Err(InvalidHost(text.chars().take(80).collect()));
        }
        let valid = match text.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok()),
            None => text.split('.').all(is_label),
        };
        if !valid {
            return Err(InvalidHost(text.chars().take(80).collect()));
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    /// Reads an authority, `host` or `host:port`; the port is returned beside the host.
    ///
    /// # Errors
    /// As [`Host::parse`], and when the port is not a number or there is userinfo (`user@host`).
    pub fn parse_authority(text: &str) -> Result<(Self, Option<u16>), InvalidHost> {
        let refuse = || InvalidHost(text.chars().take(80).collect());
        let colon = match text.rfind(']') {
            Some(end) => text[end..].find(':').map(|at| end + at),
            None => text.find(':'),
        };
        let Some(colon) = colon else { return Ok((Self::parse(text)?, None)) };
        let digits = &text[colon + 1..];
        if !digits.bytes().all(|b| b.is_ascii_digit()) || digits.is_empty() {
            return Err(refuse());
        }
        let port = digits.parse().map_err(|_| refuse())?;
        Ok((Self::parse(&text[..colon])?, Some(port)))
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same, shared.
    pub fn to_shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

fn is_label(label: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    !label.is_empty() && label.len() <= 63 && label.bytes().all(plain)
}

impl Borrow<str> for Host {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Host {
    type Error = InvalidHost;

    fn try_from(text: String) -> Result<Self, InvalidHost> {
        Self::parse(&text)
    }
}

impl From<Host> for String {
    fn from(host: Host) -> Self {
        host.0.as_ref().to_owned()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which hosts a virtual host serves.
///
/// Ordered by specificity as Istio and Gateway API do: exact, then the longest wildcard, then any.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HostPattern {
    /// This host only.
    Exact(Host),
    /// `*.example.com`: hosts below it at any depth, not the name itself. Holds the part after `*.`.
    Suffix(Host),
    /// `*.example.com` where the star stands for exactly one label (Ingress).
    OneLabel(Host),
    /// `*`.
    Any,
}

impl HostPattern {
    /// Reads `host`, `*.suffix` or `*`, with the star standing for any depth.
    ///
    /// # Errors
    /// When the rest is not a host.
    pub fn parse(text: &str) -> Result<Self, InvalidHost> {
        match text.strip_prefix('*') {
            None => Host::parse(text).map(Self::Exact),
            Some("") => Ok(Self::Any),
            Some(rest) => match rest.strip_prefix('.') {
                Some(suffix) => Host::parse(suffix).map(Self::Suffix),
                None => Err(InvalidHost(text.chars().take(80).collect())),
            },
        }
    }

    /// Whether this pattern serves `host`.
    pub fn matches(&self, host: &Host) -> bool {
        let below = |suffix: &Host| {
            host.as_str().strip_suffix(suffix.as_str()).and_then(|rest| rest.strip_suffix('.'))
        };
        match self {
            Self::Exact(exact) => exact == host,
            Self::Suffix(suffix) => below(suffix).is_some_and(|rest| !rest.is_empty()),
            Self::OneLabel(suffix) => {
                below(suffix).is_some_and(|rest| !rest.is_empty() && !rest.contains('.'))
            }
            Self::Any => true,
        }
    }
}

impl TryFrom<String> for HostPattern {
    type Error = InvalidHost;

    /// The written form also knows `+.example.com` for [`HostPattern::OneLabel`].
    fn try_from(text: String) -> Result<Self, InvalidHost> {
        match text.strip_prefix("+.") {
            Some(suffix) => Host::parse(suffix).map(Self::OneLabel),
            None => Self::parse(&text),
        }
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => write!(f, "{host}"),
            Self::Suffix(suffix) => write!(f, "*.{suffix}"),
            Self::OneLabel(suffix) => write!(f, "+.{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}

/// Why a text is not a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a host name or address")]
pub struct InvalidHost(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_canonical() {
        assert_eq!(Host::parse("Reviews.Default.svc.").unwrap().as_str(), "reviews.default.svc");
        let (host, port) = Host::parse_authority("Example.com:8080").unwrap();
        assert_eq!((host.as_str(), port), ("example.com", Some(8080)));
        let (host, port) = Host::parse_authority("[::1]:80").unwrap();
        assert_eq!((host.as_str(), port), ("[::1]", Some(80)));
    }

    /// SM-12 of the attack list.
    #[test]
    fn ambiguous_hosts_are_refused() {
        for text in
            ["", ".", "a b", "a/b", "a,b", "u@x", "x:99999", "x:", "x:8o", "x\0y", "[::1", "a..b", "::1"]
        {
            assert!(Host::parse_authority(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn wildcards_end_on_label_boundaries() {
        let pattern = HostPattern::parse("*.example.com").unwrap();
        let matches = |host| pattern.matches(&Host::parse(host).unwrap());
        assert!(matches("a.example.com") && matches("a.b.example.com"));
        assert!(!matches("example.com") && !matches("evil-example.com") && !matches("x.example.com.evil"));
        let one = HostPattern::try_from("+.example.com".to_owned()).unwrap();
        assert!(one.matches(&Host::parse("a.example.com").unwrap()));
        assert!(!one.matches(&Host::parse("a.b.example.com").unwrap()));
    }
}
