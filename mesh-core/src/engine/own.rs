//! What the proxy's own configuration says, in the form in which records carry it: made once per snapshot and worker.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use hashbrown::HashMap;

use super::connection::{Downstream, Through};
use crate::identity::SpiffeId;
use crate::model::{self, PathNormalization, ProxyHeaders, Side, Tracing, Workload};
use crate::name::Host;
use crate::snapshot::Snapshot;
use crate::telemetry::record::ServiceLabels;
use crate::telemetry::{Record, Reporting, Security, Shown};

/// The proxy's own facts.
#[derive(Debug)]
pub(crate) struct OwnFacts {
    pub(crate) identity: SpiffeId,
    pub(crate) tracing: Vec<Tracing>,
    pub(crate) shown: Shown,
    pub(crate) path_normalization: PathNormalization,
    pub(crate) trusted_proxies: u8,
    pub(crate) headers: ProxyHeaders,
    workload: Arc<Workload>,
    inbound: HashMap<u16, (Arc<ServiceLabels>, Arc<str>)>,
}

/// The facts of the snapshot that was asked about last.
#[derive(Default)]
pub(crate) struct OwnCache(RefCell<(Weak<Snapshot>, Option<Rc<OwnFacts>>)>);

impl OwnCache {
    /// The facts of this snapshot.
    pub(crate) fn of(&self, snapshot: &Arc<Snapshot>) -> Option<Rc<OwnFacts>> {
        let mut cache = self.0.borrow_mut();
        // The weak reference keeps the address from being given to another snapshot.
        if !std::ptr::eq(cache.0.as_ptr(), Arc::as_ptr(snapshot)) {
            let facts = snapshot.own().map(|own| Rc::new(OwnFacts::new(own.model())));
            *cache = (Arc::downgrade(snapshot), facts);
        }
        cache.1.clone()
    }
}

impl OwnFacts {
    fn new(own: &model::Own) -> Self {
        let inbound = own.inbound.iter().map(|port| {
            let labels = ServiceLabels {
                host: port.service.to_string(),
                name: port.service_name.clone(),
                namespace: port.service_namespace.clone(),
            };
            (port.port, (Arc::new(labels), Arc::from(format!("inbound|{}||", port.port))))
        });
        Self {
            identity: own.identity.clone(),
            tracing: own.mesh.tracing.clone(),
            shown: Shown::new(own),
            path_normalization: own.mesh.path_normalization,
            trusted_proxies: own.mesh.trusted_proxies,
            headers: own.mesh.headers.clone(),
            workload: Arc::new(own.workload.clone()),
            inbound: inbound.collect(),
        }
    }

    /// How requests of a side are traced; not at all when nothing says so.
    pub(crate) fn tracing(&self, side: Side) -> Option<&Tracing> {
        self.tracing.iter().find(|tracing| tracing.side.covers(side))
    }

    /// The workload beside us.
    pub(crate) fn workload(&self) -> &Workload {
        &self.workload
    }

    /// What is known of anything on this connection.
    pub(crate) fn record(&self, downstream: &Downstream) -> Record {
        let mut record = Record::default();
        self.begin(&mut record, downstream);
        record
    }

    /// Writes it into a record that has nothing yet, where it is: records are large and made for every request.
    pub(crate) fn begin(&self, record: &mut Record, downstream: &Downstream) {
        let peer = &downstream.peer;
        record.downstream_remote = Some(peer.address);
        record.downstream_local = Some(peer.local);
        record.downstream_principal.clone_from(&peer.identity);
        record.server_name = peer.tls.as_ref().and_then(|tls| tls.sni.as_ref()).map(Host::to_shared);
        match downstream.through {
            Through::Inbound(port) => self.begin_inbound(record, downstream, port),
            Through::Outbound(_) | Through::Gateway { .. } => {
                record.reporting = Reporting::Source;
                record.source = Some(Arc::clone(&self.workload));
                record.source_principal = Some(self.identity.clone());
            }
        }
    }

    fn begin_inbound(&self, record: &mut Record, downstream: &Downstream, port: u16) {
        let peer = &downstream.peer;
        let mutual = peer.identity.is_some();
        record.reporting = Reporting::Destination;
        record.security = if mutual { Security::MutualTls } else { Security::None };
        record.source.clone_from(&peer.workload);
        record.source_principal.clone_from(&peer.identity);
        record.destination = Some(Arc::clone(&self.workload));
        record.destination_principal = mutual.then(|| self.identity.clone());
        match self.inbound.get(&port) {
            Some((service, cluster)) => {
                record.service = Some(Arc::clone(service));
                record.cluster = Some(Arc::clone(cluster));
            }
            None => record.cluster = Some(Arc::from("InboundPassthroughCluster")),
        }
    }
}
