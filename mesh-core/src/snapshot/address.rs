//! What stands behind an address, compiled.

use std::sync::Arc;

use super::weighted::Weighted;
use crate::model::{self, Host, HostPattern, Origin, Protocol, Resource};

/// Where a connection to an address goes.
#[derive(Debug)]
pub struct CompiledDestination {
    /// The service the address belongs to.
    pub service: Host,
    /// What the port carries.
    pub protocol: Protocol,
    /// The cluster for connections that are not HTTP, and for HTTP whose host is not known.
    pub cluster: Box<str>,
    /// Routes for connections that are not HTTP; the first match wins.
    pub tcp_routes: Box<[CompiledTcpRoute]>,
    pub(super) source: Arc<Resource>,
}

impl CompiledDestination {
    pub(super) fn new(model: &model::Destination, source: &Arc<Resource>) -> Self {
        Self {
            service: model.service.clone(),
            protocol: model.protocol,
            cluster: model.cluster.as_str().into(),
            tcp_routes: model.tcp_routes.iter().map(CompiledTcpRoute::new).collect(),
            source: Arc::clone(source),
        }
    }
}

/// A route for connections.
#[derive(Debug)]
pub struct CompiledTcpRoute {
    sni_hosts: Box<[HostPattern]>,
    /// Names of clusters, by weight.
    pub backends: Weighted<Box<str>>,
    /// The user's object.
    pub origin: Origin,
}

impl CompiledTcpRoute {
    pub(super) fn new(model: &model::TcpRoute) -> Self {
        let backends = model.backends.iter().map(|(cluster, weight)| (cluster.as_str().into(), *weight));
        Self {
            sni_hosts: model.sni_hosts.as_slice().into(),
            backends: Weighted::new(backends),
            origin: model.origin.clone(),
        }
    }

    /// Whether the route takes a connection whose TLS, if any, names this server.
    pub fn matches(&self, sni: Option<&Host>) -> bool {
        let names = |sni| self.sni_hosts.iter().any(|pattern| pattern.matches(sni));
        self.sni_hosts.is_empty() || sni.is_some_and(names)
    }
}
