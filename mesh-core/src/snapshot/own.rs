//! What the proxy itself is, compiled.

use std::net::SocketAddr;
use std::sync::Arc;

use hashbrown::HashMap;

use super::address::CompiledTcpRoute;
use super::authz::Authorization;
use super::hosts::HostIndex;
use super::limit::Limits;
use super::token::TokenRules;
use crate::model::{self, Host, InboundPort, Listener, Locality, MtlsMode, Resource};

/// A proxy's own configuration.
#[derive(Debug)]
pub struct Own {
    model: model::Own,
    inbound: HashMap<u16, usize>,
    listeners: HashMap<u16, CompiledListener>,
    /// Policies that select the workload.
    pub authorization: Authorization,
    /// Tokens that requests may carry.
    pub tokens: TokenRules,
    /// Rate limits.
    pub limits: Limits,
    /// Where the proxy is.
    pub locality: Arc<Locality>,
    pub(super) source: Arc<Resource>,
}

/// A gateway's port.
#[derive(Debug)]
pub struct CompiledListener {
    at: usize,
    servers: HostIndex<usize>,
    /// Routes of cleartext TCP.
    pub tcp_routes: Box<[CompiledTcpRoute]>,
    /// Routes of each server.
    pub server_routes: Box<[Box<[CompiledTcpRoute]>]>,
}

impl Own {
    pub(super) fn new(
        model: &model::Own,
        source: &Arc<Resource>,
        previous: Option<&Self>,
    ) -> (Self, Vec<String>) {
        let (authorization, mut problems) = Authorization::new(model);
        let (limits, refused) = Limits::new(&model.limits, previous.map(|before| &before.limits));
        problems.extend(refused);
        let listener =
            |(at, listener): (usize, &Listener)| (listener.port, CompiledListener::new(at, listener));
        let own = Self {
            inbound: model.inbound.iter().enumerate().map(|(at, port)| (port.port, at)).collect(),
            listeners: model.listeners.iter().enumerate().map(listener).collect(),
            authorization,
            tokens: TokenRules::new(&model.tokens),
            limits,
            locality: Arc::new(model.locality.clone()),
            model: model.clone(),
            source: Arc::clone(source),
        };
        (own, problems)
    }

    /// As delivered.
    pub fn model(&self) -> &model::Own {
        &self.model
    }

    /// A declared port of the workload.
    pub fn inbound(&self, port: u16) -> Option<&InboundPort> {
        self.inbound.get(&port).map(|&at| &self.model.inbound[at])
    }

    /// Where the application listens for what was dialled at this address of the workload.
    pub fn application(&self, dialled: SocketAddr) -> SocketAddr {
        self.inbound(dialled.port()).and_then(|inbound| inbound.endpoint).unwrap_or(dialled)
    }

    /// Mutual TLS on a port of the workload, declared or not.
    pub fn mtls_mode(&self, port: u16) -> MtlsMode {
        self.inbound(port).map_or(self.model.default_mtls, |inbound| inbound.mtls)
    }

    /// A gateway's port.
    pub fn listener(&self, port: u16) -> Option<(&Listener, &CompiledListener)> {
        self.listeners.get(&port).map(|compiled| (&self.model.listeners[compiled.at], compiled))
    }

    /// What a gateway's TLS port does for a server name: the most specific server. Without a name, only a server for any
    /// host.
    pub fn server(&self, port: u16, sni: Option<&Host>) -> Option<(&model::Server, &[CompiledTcpRoute])> {
        let (listener, compiled) = self.listener(port)?;
        let at = match sni {
            Some(sni) => *compiled.servers.get(sni)?,
            None => {
                listener.servers.iter().position(|server| server.hosts.contains(&model::HostPattern::Any))?
            }
        };
        Some((&listener.servers[at], &compiled.server_routes[at]))
    }
}

impl CompiledListener {
    fn new(at: usize, model: &Listener) -> Self {
        let mut servers = HostIndex::default();
        for (at, server) in model.servers.iter().enumerate() {
            server.hosts.iter().for_each(|pattern| servers.insert(pattern, at));
        }
        let routes = |routes: &[model::TcpRoute]| routes.iter().map(CompiledTcpRoute::new).collect();
        Self {
            at,
            servers,
            tcp_routes: routes(&model.tcp_routes),
            server_routes: model.servers.iter().map(|server| routes(&server.tcp_routes)).collect(),
        }
    }
}
