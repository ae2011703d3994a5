//! Tests on who is calling.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::identity::SpiffeId;
use crate::message::RequestHead;
use crate::model::Host;
use crate::snapshot::text::Text;
use crate::snapshot::token::{Claims, PrincipalTest};

/// Everything policies may look at. Identity comes from the verified certificate only.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// Who has proven to be calling.
    pub identity: Option<&'a SpiffeId>,
    /// The socket's peer.
    pub address: IpAddr,
    /// The client before all trusted proxies; the socket's peer for what is not HTTP.
    pub remote: IpAddr,
    /// The address that was called.
    pub local: IpAddr,
    /// The port that was called.
    pub port: u16,
    /// The server name of the TLS connection.
    pub sni: Option<&'a Host>,
    /// The request; `None` for connections that are not HTTP.
    pub head: Option<&'a RequestHead>,
    /// What its verified token says.
    pub token: Option<&'a Claims>,
}

/// One of the values, if there are any, and none of the others.
#[derive(Debug)]
pub(super) struct Check<T> {
    pub(super) values: Box<[T]>,
    pub(super) not: Box<[T]>,
}

impl<T> Default for Check<T> {
    fn default() -> Self {
        Self { values: Box::default(), not: Box::default() }
    }
}

impl<T> Check<T> {
    pub(super) fn passes(&self, test: impl Fn(&T) -> bool) -> bool {
        (self.values.is_empty() || self.values.iter().any(&test)) && !self.not.iter().any(&test)
    }
}

impl Check<Text> {
    /// What is not there has none of the values.
    pub(super) fn passes_optional(&self, text: Option<&[u8]>) -> bool {
        self.passes(|test| text.is_some_and(|text| test.matches(text)))
    }
}

/// Every check must pass.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) principals: Check<Text>,
    pub(super) request_principals: Check<PrincipalTest>,
    pub(super) namespaces: Check<Text>,
    pub(super) service_accounts: Check<(Box<str>, Box<str>)>,
    pub(super) ip_blocks: Blocks,
    pub(super) remote_ip_blocks: Blocks,
}

impl Source {
    pub(super) fn matches(&self, caller: &Caller<'_>) -> bool {
        let of_identity = |part: fn(&SpiffeId) -> &str| caller.identity.map(|id| part(id).as_bytes());
        let is_account = |(namespace, account): &(Box<str>, Box<str>)| {
            caller
                .identity
                .is_some_and(|id| id.namespace() == &**namespace && id.service_account() == &**account)
        };
        self.principals.passes_optional(of_identity(SpiffeId::principal))
            && self.namespaces.passes_optional(of_identity(SpiffeId::namespace))
            && self.service_accounts.passes(is_account)
            && self.ip_blocks.passes(caller.address)
            && self.remote_ip_blocks.passes(caller.remote)
            && self.request_principals.passes(|test| caller.token.is_some_and(|token| test.matches(token)))
    }
}

/// `namespace/account`, or an account of the policy's namespace.
pub(super) fn service_account(name: &str, policy_namespace: &str) -> (Box<str>, Box<str>) {
    let (namespace, account) = name.split_once('/').unwrap_or((policy_namespace, name));
    (namespace.into(), account.into())
}

/// Address ranges.
#[derive(Debug, Default)]
pub(super) struct Blocks(Check<IpNet>);

impl Blocks {
    pub(super) fn new(values: &[IpNet], not: &[IpNet]) -> Self {
        Self(Check { values: values.into(), not: not.into() })
    }

    pub(super) fn passes(&self, address: IpAddr) -> bool {
        // An IPv4 peer of a dual-stack socket is still that IPv4 peer.
        let address = address.to_canonical();
        self.0.passes(|block| block.contains(&address))
    }
}

/// An address range; a single address is a range of one.
pub(super) struct Net(pub(super) IpNet);

impl FromStr for Net {
    type Err = ipnet::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<IpAddr>() {
            Ok(address) => Ok(Self(address.into())),
            Err(_) => text.parse().map(Self),
        }
    }
}
