//! From a root to all resources that it needs.

use std::collections::BTreeSet;

use mesh_core::model::{
    Action, AuthzAction, Cluster, Own, Resource, Role, Root, Routes, Rule, Secret, TcpRoute,
};

use crate::api::Item;
use crate::api::core::Pod;
use crate::translate::{Scope, cluster, own, sidecar};

/// The closure of a root, in no order and with nothing twice.
pub(super) fn of(
    scope: &Scope<'_>,
    pod: Option<&Item<'_, Pod>>,
    role: Role,
    root: &Root,
) -> Option<Vec<Resource>> {
    let mut closure = Collector {
        scope,
        // What sidecars ask for is shared by all of a class, and a gateway asks for nothing but itself.
        is_gateway: role.is_gateway() && *root == Root::Own,
        clusters: BTreeSet::new(),
        secrets: BTreeSet::new(),
        resources: Vec::new(),
    };
    match root {
        Root::Own => {
            let (own, tables) = own::own(scope, pod?, role)?;
            closure.own(own);
            tables.into_iter().for_each(|table| closure.routes(table));
        }
        Root::Address(address) => {
            let address = sidecar::address(scope, *address)?;
            closure.cluster(&address.destination.cluster);
            closure.connection_routes(&address.destination.tcp_routes);
            closure.resources.push(Resource::Address(address));
        }
        Root::Host { host, port } => {
            sidecar::routes(scope, host, *port)?.into_iter().for_each(|table| closure.routes(table));
        }
        Root::Name(name) => closure.resources.push(Resource::Name(sidecar::name(scope, name)?)),
    }
    Some(closure.resources)
}

struct Collector<'a, 'w> {
    scope: &'a Scope<'w>,
    is_gateway: bool,
    clusters: BTreeSet<String>,
    secrets: BTreeSet<String>,
    resources: Vec<Resource>,
}

impl Collector<'_, '_> {
    fn own(&mut self, own: Own) {
        for policy in &own.authorization {
            if let AuthzAction::Custom(authorizer) = &policy.action {
                authorizer.cluster.iter().for_each(|cluster| self.cluster(cluster));
            }
        }
        for listener in &own.listeners {
            self.connection_routes(&listener.tcp_routes);
            for server in &listener.servers {
                self.connection_routes(&server.tcp_routes);
                server.tls.secrets().for_each(|secret| self.secret(secret));
            }
        }
        self.resources.push(Resource::Own(Box::new(own)));
    }

    fn routes(&mut self, table: Routes) {
        for rule in table.virtual_hosts.iter().flat_map(|host| &host.rules) {
            self.rule(rule);
        }
        self.resources.push(Resource::Routes(table));
    }

    fn rule(&mut self, rule: &Rule) {
        if let Action::Forward(backends) = &rule.action {
            backends.iter().for_each(|backend| self.cluster(&backend.cluster));
        }
        let asked = rule.authorizer.as_ref().and_then(|authorizer| authorizer.cluster.as_ref());
        asked.into_iter().for_each(|cluster| self.cluster(cluster));
        rule.mirrors.iter().for_each(|mirror| self.cluster(&mirror.cluster));
    }

    fn connection_routes(&mut self, routes: &[TcpRoute]) {
        for (cluster, _) in routes.iter().flat_map(|route| &route.backends) {
            self.cluster(cluster);
        }
    }

    /// A cluster that nobody defines is left out, and proxies answer 503 for it.
    fn cluster(&mut self, name: &str) {
        if !self.clusters.insert(name.to_owned()) {
            return;
        }
        let Some((cluster, endpoints)) = cluster::by_name(self.scope, name) else { return };
        self.cluster_secrets(&cluster);
        self.resources.push(Resource::Cluster(Box::new(cluster)));
        self.resources.push(Resource::Endpoints(endpoints));
    }

    /// Keys for TLS that is originated go to gateways, and to sidecars that the rule selects, as in Istio: a rule for
    /// everybody must not hand a key to everybody.
    fn cluster_secrets(&mut self, cluster: &Cluster) {
        if self.is_gateway || cluster::is_for_selected(self.scope, cluster) {
            cluster::secrets(cluster).for_each(|name| self.secret(name));
        }
    }

    /// A certificate with its key, or trust anchors alone. What is incomplete travels too: a proxy refuses it, and goes on
    /// with the last good one.
    fn secret(&mut self, full: &str) {
        if !self.secrets.insert(full.to_owned()) {
            return;
        }
        let Some((namespace, name)) = full.split_once('/') else { return };
        let world = self.scope.world;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap_or_default();
        let parts = world.tls_parts(namespace, name);
        let anchors = world.trust_secret(namespace, name).ok();
        if parts.is_none() && anchors.is_none() {
            return;
        }
        let [certificates, private_key] = parts.unwrap_or_default().map(text);
        let trust_anchors = anchors.map(text).unwrap_or_default();
        let secret = Secret { name: full.to_owned(), certificates, private_key, trust_anchors };
        self.resources.push(Resource::Secret(secret));
    }
}
