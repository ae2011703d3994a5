//! TLS configurations for destinations outside the mesh, made of what the configuration holds and kept until it changes.
//!
//! A configuration that cannot be made is a failure of the connection, never a reason to go without TLS.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

use hashbrown::HashMap;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::dial::DialError;
use super::worker::Worker;
use crate::model::{self, ClusterTls, Secret};
use crate::name::Host;
use crate::snapshot::{Cluster, Snapshot};
use crate::tls::origin::{Origination, Trust, client_configs};
use crate::tls::{MeshAlpn, TlsError, anchors, system};

/// The configurations of one worker, by cluster.
#[derive(Default)]
pub(crate) struct Originations(RefCell<HashMap<Box<str>, Made>>);

/// Of what a configuration was made, and the configurations by protocol.
struct Made {
    model: Arc<model::Cluster>,
    secrets: Secrets,
    configs: [Arc<ClientConfig>; 3],
}

type Secrets = [Option<Arc<Secret>>; 2];

/// The configuration for connections to a cluster that originates TLS, made on first use.
pub(crate) fn config(
    worker: &Worker,
    cluster: &Cluster,
    protocol: MeshAlpn,
) -> Result<Arc<ClientConfig>, TlsError> {
    let snapshot = worker.snapshot();
    let secrets = secrets(&snapshot, &cluster.model)?;
    let mut made = worker.originations().0.borrow_mut();
    if let Some(before) = made.get(cluster.model.name.as_str())
        && before.is_of(cluster, &secrets)
    {
        return Ok(Arc::clone(&before.configs[protocol as usize]));
    }
    made.retain(|name, _| snapshot.cluster(name).is_some());
    let configs = make(worker, &cluster.model, &secrets)?;
    let config = Arc::clone(&configs[protocol as usize]);
    let name = cluster.model.name.as_str().into();
    made.insert(name, Made { model: Arc::clone(&cluster.model), secrets, configs });
    Ok(config)
}

/// The name that the server is asked for, and must prove: the rule's, or the host that was meant.
pub(crate) fn server_name(
    cluster: &model::Cluster,
    host: Option<&Host>,
) -> Result<ServerName<'static>, DialError> {
    let given = match &cluster.tls {
        ClusterTls::Originate { sni: Some(sni), .. } => sni.as_str(),
        _ => host.unwrap_or(&cluster.service).as_str(),
    };
    ServerName::try_from(given.to_owned()).map_err(|_| DialError::ServerName(given.to_owned()))
}

impl Made {
    fn is_of(&self, cluster: &Cluster, secrets: &Secrets) -> bool {
        let same = |(before, now): (&Option<Arc<Secret>>, &Option<Arc<Secret>>)| match (before, now) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            (before, now) => before.is_none() && now.is_none(),
        };
        Arc::ptr_eq(&self.model, &cluster.model) && self.secrets.iter().zip(secrets).all(same)
    }
}

/// The secrets that the cluster's TLS names: with trust anchors, and with our certificate.
fn secrets(snapshot: &Snapshot, cluster: &model::Cluster) -> Result<Secrets, TlsError> {
    let ClusterTls::Originate { trust_anchors, client_certificate, .. } = &cluster.tls else {
        return Ok([None, None]);
    };
    let held = |name: &Option<String>| match name.as_deref().filter(|name| !is_file(name)) {
        Some(name) => {
            let secret = snapshot.secret(name).cloned();
            secret.ok_or_else(|| TlsError::NoSecret(name.to_owned())).map(Some)
        }
        None => Ok(None),
    };
    Ok([held(trust_anchors)?, held(client_certificate)?])
}

fn is_file(name: &str) -> bool {
    name.starts_with('/')
}

fn make(
    worker: &Worker,
    cluster: &model::Cluster,
    [trusted, own]: &Secrets,
) -> Result<[Arc<ClientConfig>; 3], TlsError> {
    let ClusterTls::Originate {
        subject_alt_names,
        trust_anchors,
        client_certificate,
        private_key,
        insecure_skip_verify,
        ..
    } = &cluster.tls
    else {
        return Err(TlsError::Missing("TLS setting"));
    };
    let trust = match (trust_anchors.as_deref().filter(|name| is_file(name)), trusted) {
        _ if *insecure_skip_verify => Trust::Unverified,
        (Some(file), _) => Trust::Anchors(system::file_anchors(Path::new(file))?),
        (None, Some(secret)) if !secret.trust_anchors.is_empty() => {
            Trust::Anchors(anchors(&secret.trust_anchors)?.into())
        }
        (None, _) => Trust::Anchors(worker.system_anchors()),
    };
    let files = match (client_certificate.as_deref().filter(|name| is_file(name)), private_key) {
        (Some(chain), Some(key)) => {
            Some((system::read_file(Path::new(chain))?, system::read_file(Path::new(key))?))
        }
        (Some(_), None) => return Err(TlsError::Missing("private key")),
        _ => None,
    };
    let held = own.as_ref().map(|secret| (secret.certificates.as_str(), secret.private_key.as_str()));
    let certificate = files.as_ref().map(|(chain, key)| (chain.as_str(), key.as_str())).or(held);
    client_configs(&Origination { trust, names: subject_alt_names, certificate })
}
