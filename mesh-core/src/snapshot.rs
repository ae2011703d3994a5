//! The configuration compiled for lookup: immutable, swapped as a whole, reused piece by piece.
//!
//! [`compile()`] turns a [`Config`] (what the control plane has delivered) into a [`Snapshot`]. What has not changed since
//! the snapshot before is taken over as it is; what is learnt by using clusters and endpoints lives on under their names.
//! A part that cannot be compiled is refused alone and its last good version stays. Nothing here does I/O or decides
//! anything about a request.
//!
//! Invariants: a lookup says [`Lookup::NotFound`] only where the control plane has said so; one snapshot is never changed,
//! but for the endpoints of its clusters.

pub mod address;
pub mod authorizer;
pub mod authz;
pub mod cluster;
pub mod compile;
pub mod config;
pub mod edits;
pub mod hosts;
pub mod limit;
pub mod matcher;
pub mod own;
mod prefix_index;
pub mod retry;
pub mod rule;
mod rule_index;
pub mod table;
pub mod text;
pub mod token;
pub mod weighted;

use std::net::SocketAddr;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use crate::model::{self, Host, MtlsMode, Root};

pub use address::CompiledDestination;
pub use cluster::Cluster;
pub use compile::{Problem, compile};
pub use config::Config;
pub use hosts::HostIndex;
pub use own::Own;
pub use retry::Retry;
pub use rule::CompiledRule;
pub use table::{RouteTable, VirtualHost};

pub use crate::balance::{ActiveRequest, Endpoint, EndpointKey, EndpointSet, Pick};
pub use crate::guard::{ConnectionPermit, Outcome, PendingPermit, RequestPermit, RetryPermit};

/// What is known under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup<T> {
    /// This.
    Found(T),
    /// Nothing, and the control plane has said so.
    NotFound,
    /// Not asked yet.
    Unknown,
}

impl<T> Lookup<T> {
    /// What was found, if anything.
    pub fn found(self) -> Option<T> {
        match self {
            Self::Found(found) => Some(found),
            Self::NotFound | Self::Unknown => None,
        }
    }
}

/// Everything a proxy knows, compiled for lookup.
#[derive(Debug, Default)]
pub struct Snapshot {
    own: Option<Arc<Own>>,
    addresses: HashMap<SocketAddr, Arc<CompiledDestination>>,
    names: HashMap<Host, Arc<model::DnsName>>,
    tables: HashMap<String, Arc<RouteTable>>,
    /// Virtual hosts of sidecars' tables, by the listener's port.
    ports: HashMap<u16, Arc<HostIndex<Arc<VirtualHost>>>>,
    clusters: HashMap<String, Arc<Cluster>>,
    secrets: HashMap<String, Arc<model::Secret>>,
    absent: HashSet<Root>,
}

impl Snapshot {
    /// What the proxy itself is; `None` until it has been delivered.
    pub fn own(&self) -> Option<&Own> {
        self.own.as_deref()
    }

    /// What stands behind an address. `Unknown` asks for [`Root::Address`].
    pub fn address(&self, address: SocketAddr) -> Lookup<&CompiledDestination> {
        self.lookup(self.addresses.get(&address).map(Arc::as_ref), || Root::Address(address))
    }

    /// A route table by name.
    pub fn routes(&self, name: &str) -> Option<&Arc<RouteTable>> {
        self.tables.get(name)
    }

    /// All route tables, in no order.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<RouteTable>> {
        self.tables.values()
    }

    /// The rules for a host on a sidecar's outbound port: of the virtual hosts in tables named `…:PORT`, the most
    /// specific. `Unknown` asks for [`Root::Host`].
    ///
    /// A wildcard serves hosts that were never asked for: having delivered it, the control plane delivers the more
    /// specific hosts below it without being asked.
    pub fn host(&self, host: &Host, port: u16) -> Lookup<&Arc<VirtualHost>> {
        let found = self.ports.get(&port).and_then(|hosts| hosts.get(host));
        self.lookup(found, || Root::Host { host: host.clone(), port })
    }

    /// The addresses of a DNS name. `Unknown` asks for [`Root::Name`].
    pub fn dns(&self, name: &Host) -> Lookup<&model::DnsName> {
        self.lookup(self.names.get(name).map(Arc::as_ref), || Root::Name(name.clone()))
    }

    /// A cluster by name.
    pub fn cluster(&self, name: &str) -> Option<&Arc<Cluster>> {
        self.clusters.get(name)
    }

    /// All clusters, in no order.
    pub fn clusters(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.clusters.values()
    }

    /// A certificate by name.
    pub fn secret(&self, name: &str) -> Option<&Arc<model::Secret>> {
        self.secrets.get(name)
    }

    /// Mutual TLS on an inbound port. Before anything is known: only mutual TLS.
    pub fn mtls_mode(&self, port: u16) -> MtlsMode {
        self.own().map_or(MtlsMode::Strict, |own| own.mtls_mode(port))
    }

    fn lookup<T>(&self, found: Option<T>, root: impl FnOnce() -> Root) -> Lookup<T> {
        match found {
            Some(found) => Lookup::Found(found),
            None if self.absent.contains(&root()) => Lookup::NotFound,
            None => Lookup::Unknown,
        }
    }
}

#[cfg(test)]
mod tests;
