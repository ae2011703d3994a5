//! From what was delivered to what is looked up.
//!
//! A resource whose `Arc` is the one compiled before is not looked at again. Note that this is not entirely without
//! effect on `previous`: clusters of both snapshots share their endpoints, so that a request which began on the older
//! snapshot does not try endpoints that are gone.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::{Cluster, CompiledDestination, Config, HostIndex, Own, RouteTable, Snapshot, VirtualHost};
use crate::model::{Key, Resource};

/// What is wrong with a resource, or with one part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The resource.
    pub key: Key,
    /// Which part, and why.
    pub reason: String,
}

/// Compiles `config`. What equals `previous` is taken over from it, as is what was learnt by using it.
///
/// Problems name what was refused in resources that are new or have changed since `previous`; the rest of the snapshot
/// is whole.
pub fn compile(previous: Option<&Snapshot>, config: &Config) -> (Snapshot, Vec<Problem>) {
    let mut compiler =
        Compiler { previous, next: Snapshot::default(), endpoints: HashMap::new(), problems: Vec::new() };
    for (key, resource) in config.iter() {
        compiler.add(key, resource);
    }
    compiler.join_endpoints();
    compiler.index_hosts();
    compiler.next.absent = config.absent().clone();
    (compiler.next, compiler.problems)
}

struct Compiler<'a> {
    previous: Option<&'a Snapshot>,
    next: Snapshot,
    /// Endpoints by the cluster's name.
    endpoints: HashMap<&'a str, &'a Arc<Resource>>,
    problems: Vec<Problem>,
}

impl<'a> Compiler<'a> {
    fn add(&mut self, key: &Key, resource: &'a Arc<Resource>) {
        match &**resource {
            Resource::Own(model) => {
                let before = self.previous.and_then(|before| before.own.as_ref());
                let unchanged = before.filter(|before| Arc::ptr_eq(&before.source, resource));
                self.next.own = Some(unchanged.cloned().unwrap_or_else(|| {
                    let (own, reasons) = Own::new(model, resource, before.map(Arc::as_ref));
                    let problem = |reason| Problem { key: key.clone(), reason };
                    self.problems.extend(reasons.into_iter().map(problem));
                    Arc::new(own)
                }));
            }
            Resource::Address(model) => {
                let before = self.previous.and_then(|before| before.addresses.get(&model.address));
                let unchanged = before.filter(|before| Arc::ptr_eq(&before.source, resource));
                let compile = || Arc::new(CompiledDestination::new(&model.destination, resource));
                self.next.addresses.insert(model.address, unchanged.cloned().unwrap_or_else(compile));
            }
            Resource::Routes(model) => {
                let before = self.previous.and_then(|before| before.tables.get(&model.name));
                let unchanged = before.filter(|before| Arc::ptr_eq(&before.source, resource));
                let table = unchanged.cloned().unwrap_or_else(|| {
                    let before = before.map(Arc::as_ref);
                    Arc::new(RouteTable::compile(model, resource, before, &mut self.problems))
                });
                self.next.tables.insert(model.name.clone(), table);
            }
            Resource::Cluster(model) => {
                let before = self.previous.and_then(|before| before.clusters.get(&model.name));
                let unchanged = before.filter(|before| Arc::ptr_eq(&before.source, resource));
                let compile = || Arc::new(Cluster::new(model, resource, before.map(Arc::as_ref)));
                self.next.clusters.insert(model.name.clone(), unchanged.cloned().unwrap_or_else(compile));
            }
            Resource::Endpoints(model) => {
                self.endpoints.insert(&model.cluster, resource);
            }
            Resource::Name(model) => {
                let before = self.previous.and_then(|before| before.names.get(&model.name));
                let unchanged = before.filter(|before| ***before == *model);
                let compile = || Arc::new(model.clone());
                self.next.names.insert(model.name.clone(), unchanged.cloned().unwrap_or_else(compile));
            }
            Resource::Secret(model) => {
                let before = self.previous.and_then(|before| before.secrets.get(&model.name));
                let unchanged = before.filter(|before| ***before == *model);
                let compile = || Arc::new(model.clone());
                self.next.secrets.insert(model.name.clone(), unchanged.cloned().unwrap_or_else(compile));
            }
        }
    }

    fn join_endpoints(&self) {
        let own = self.next.own.as_ref().map(|own| Arc::clone(&own.locality)).unwrap_or_default();
        for cluster in self.next.clusters.values() {
            cluster.set_endpoints(self.endpoints.get(cluster.model.name.as_str()).copied(), &own);
        }
    }

    /// Builds the host index of each port whose tables have changed.
    fn index_hosts(&mut self) {
        let mut ports: HashMap<u16, Vec<&Arc<RouteTable>>> = HashMap::new();
        for table in self.next.tables.values() {
            if let Some(port) = table.port() {
                ports.entry(port).or_default().push(table);
            }
        }
        let touched = self.touched_ports();
        let mut indexes = HashMap::with_capacity(ports.len());
        for (port, mut tables) in ports {
            let before = self.previous.and_then(|before| before.ports.get(&port));
            let index = match before {
                Some(before) if !touched.contains(&port) => before.clone(),
                _ => {
                    tables.sort_by(|left, right| left.name.cmp(&right.name));
                    Arc::new(index(&tables))
                }
            };
            indexes.insert(port, index);
        }
        self.next.ports = indexes;
    }

    /// Ports of which a table has been added, changed or removed.
    fn touched_ports(&self) -> HashSet<u16> {
        let Some(previous) = self.previous else {
            return self.next.tables.values().filter_map(|table| table.port()).collect();
        };
        let differ = |left: &'_ Snapshot, right: &'_ Snapshot| -> Vec<u16> {
            let changed = |table: &&Arc<RouteTable>| {
                right.tables.get(&table.name).is_none_or(|other| !Arc::ptr_eq(table, other))
            };
            left.tables.values().filter(changed).filter_map(|table| table.port()).collect()
        };
        differ(&self.next, previous).into_iter().chain(differ(previous, &self.next)).collect()
    }
}

fn index(tables: &[&Arc<RouteTable>]) -> HostIndex<Arc<VirtualHost>> {
    let mut index = HostIndex::default();
    for virtual_host in tables.iter().flat_map(|table| table.virtual_hosts()) {
        for pattern in &virtual_host.hosts {
            index.insert(pattern, Arc::clone(virtual_host));
        }
    }
    index
}
