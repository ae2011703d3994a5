//! What makes two connections interchangeable.

use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;

use hashbrown::Equivalent;

use crate::identity::SpiffeId;
use crate::model::{self, EndpointAddress, LoadBalancer};
use crate::snapshot::Snapshot;

/// A pool's key. The cluster stands for port, subset and host, and so for the server name under mesh TLS, where no rule
/// asks for another: that one is part of the key, as a gateway goes by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    cluster: Box<str>,
    address: SocketAddr,
    pod: Arc<str>,
    /// Who must answer under mesh TLS; `None` in the clear.
    identity: Option<Option<SpiffeId>>,
    server_name: Option<Box<str>>,
}

/// A key that borrows, so that looking up copies nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyView<'a> {
    /// None for addresses that were dialled as they came.
    pub(crate) cluster: Option<&'a model::Cluster>,
    pub(crate) address: SocketAddr,
    pub(crate) pod: &'a Arc<str>,
    pub(crate) identity: Option<Option<&'a SpiffeId>>,
}

impl<'a> KeyView<'a> {
    /// The cluster's name, or nothing.
    pub(crate) fn cluster(self) -> &'a str {
        self.cluster.map_or("", |cluster| &cluster.name)
    }

    fn server_name(self) -> Option<&'a str> {
        self.cluster.and_then(|cluster| cluster.tls.mesh_server_name())
    }

    pub(crate) fn to_key(self) -> Key {
        Key {
            cluster: self.cluster().into(),
            address: self.address,
            pod: Arc::clone(self.pod),
            identity: self.identity.map(Option::<&_>::cloned),
            server_name: self.server_name().map(Box::from),
        }
    }
}

impl Key {
    pub(super) fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Whether the endpoint is still one of its cluster's. Addresses that were dialled as they came have no cluster, or
    /// one without endpoints, and grow old only.
    pub(super) fn is_present(&self, snapshot: &Snapshot) -> bool {
        if self.cluster.is_empty() {
            return true;
        }
        let Some(cluster) = snapshot.cluster(&self.cluster) else { return false };
        if cluster.model.load_balancer == LoadBalancer::OriginalDestination {
            return true;
        }
        cluster.endpoints().endpoints().iter().any(|endpoint| {
            let key = endpoint.key();
            let same_place = match &key.address {
                EndpointAddress::Socket(address) => *address == self.address,
                // Names are resolved anew with every connection.
                EndpointAddress::Name(..) => true,
            };
            same_place && key.pod == self.pod
        })
    }
}

impl Hash for KeyView<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The rest hardly ever differs where these two are the same.
        (self.cluster(), self.address).hash(state);
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&*self.cluster, self.address).hash(state);
    }
}

impl Equivalent<Key> for KeyView<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self.cluster() == *key.cluster
            && self.address == key.address
            && self.identity == key.identity.as_ref().map(Option::as_ref)
            && self.server_name() == key.server_name.as_deref()
            && *self.pod == key.pod
    }
}
