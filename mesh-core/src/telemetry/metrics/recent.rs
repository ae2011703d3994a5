//! The series of the last requests, found by what their records share: no text is hashed or compared.
//!
//! Workloads, services and identities are shared objects, so a record that points to the same ones as a record before, and
//! has the same outcome, has the same labels. What is found here was found by its labels first.

use std::sync::Arc;

use super::super::record::{Record, Reporting, RequestProtocol, Security, ServiceLabels};
use crate::failure::Failure;
use crate::identity::SpiffeId;
use crate::model::Workload;

/// How many are remembered. A record has one place; another in it is forgotten.
const PLACES: usize = 256;

/// The series of the last requests.
pub(super) struct Recent<S>(Vec<Option<(Key, Arc<S>)>>);

/// All that labels depend on. It keeps what it points to, so that no address comes to mean something else.
struct Key {
    reporting: Reporting,
    protocol: RequestProtocol,
    security: Security,
    status: u16,
    grpc_status: Option<u8>,
    failure: Option<Failure>,
    source: Option<Arc<Workload>>,
    source_principal: Option<SpiffeId>,
    destination: Option<Arc<Workload>>,
    destination_principal: Option<SpiffeId>,
    service: Option<Arc<ServiceLabels>>,
}

impl<S> Recent<S> {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn get(&self, record: &Record) -> Option<&S> {
        let (key, series) = self.0.get(place(record))?.as_ref()?;
        key.is_of(record).then_some(series)
    }

    pub(super) fn put(&mut self, record: &Record, series: Arc<S>) {
        if self.0.is_empty() {
            self.0.resize_with(PLACES, || None);
        }
        self.0[place(record)] = Some((Key::of(record), series));
    }

    pub(super) fn clear(&mut self) {
        self.0 = Vec::new();
    }
}

/// By what most often differs: who is called, by whom, and the status.
fn place(record: &Record) -> usize {
    let mixed = address(record.destination.as_ref())
        ^ address(record.service.as_ref()).rotate_left(16)
        ^ address(record.source.as_ref()).rotate_left(32)
        ^ usize::from(record.status);
    // Fibonacci hashing: the upper bits depend on all.
    mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (usize::BITS - PLACES.ilog2())
}

fn address<T>(shared: Option<&Arc<T>>) -> usize {
    shared.map_or(0, |shared| Arc::as_ptr(shared).addr())
}

impl Key {
    fn of(record: &Record) -> Self {
        Self {
            reporting: record.reporting,
            protocol: record.protocol,
            security: record.security,
            status: record.status,
            grpc_status: record.grpc_status,
            failure: record.failure,
            source: record.source.clone(),
            source_principal: record.source_principal.clone(),
            destination: record.destination.clone(),
            destination_principal: record.destination_principal.clone(),
            service: record.service.clone(),
        }
    }

    fn is_of(&self, record: &Record) -> bool {
        self.status == record.status
            && is_same(self.destination.as_ref(), record.destination.as_ref())
            && is_same(self.service.as_ref(), record.service.as_ref())
            && is_same(self.source.as_ref(), record.source.as_ref())
            && self.reporting == record.reporting
            && self.protocol == record.protocol
            && self.security == record.security
            && self.grpc_status == record.grpc_status
            && self.failure == record.failure
            && self.source_principal == record.source_principal
            && self.destination_principal == record.destination_principal
    }
}

fn is_same<T>(one: Option<&Arc<T>>, other: Option<&Arc<T>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_record_with_the_same_labels_finds_a_series() {
        let workload = |app: &str| Some(Arc::new(Workload { app: app.into(), ..Workload::default() }));
        let record = Record { status: 200, destination: workload("web"), ..Record::default() };
        let mut recent = Recent::new();
        assert!(recent.get(&record).is_none());
        recent.put(&record, Arc::new("found"));
        assert_eq!(recent.get(&record.clone()), Some(&"found"));
        for other in [
            Record { status: 503, ..record.clone() },
            Record { destination: workload("db"), ..record.clone() },
            Record { source: workload("web"), ..record.clone() },
            Record { service: Some(Arc::default()), ..record.clone() },
            Record { security: Security::MutualTls, ..record.clone() },
            Record { reporting: Reporting::Destination, ..record.clone() },
            Record { protocol: RequestProtocol::Grpc, ..record.clone() },
            Record { grpc_status: Some(5), ..record.clone() },
            Record { failure: Some(Failure::ResponseCut), ..record.clone() },
            Record { source_principal: SpiffeId::new("a", "b", "c").ok(), ..record.clone() },
            Record { destination_principal: SpiffeId::new("a", "b", "c").ok(), ..record.clone() },
        ] {
            assert!(recent.get(&other).is_none(), "{other:?}");
        }
    }
}
