//! Our own server certificate: signed by ourselves, in memory only, made anew at half its life and when another authority signs.
//!
//! Whoever signs is trusted by every proxy at that time, so this certificate is, too. Connections that are open stay.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use mesh_core::tls::{certificates, private_key, provider, validity};
use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::sync::watch;

use crate::ca::keeper::Standing;

/// Keeps the certificate for one address.
pub(super) struct Certificate {
    standings: watch::Receiver<Arc<Standing>>,
    address: IpAddr,
    current: Mutex<Current>,
}

struct Current {
    signer: String,
    renew_at: SystemTime,
    config: Arc<ServerConfig>,
}

impl Certificate {
    pub(super) fn new(standings: watch::Receiver<Arc<Standing>>, address: IpAddr) -> anyhow::Result<Self> {
        let current = Mutex::new(Current::make(&standings.borrow(), address)?);
        Ok(Self { standings, address, current })
    }

    /// For the next handshake.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        let standing = Arc::clone(&self.standings.borrow());
        let mut current = self.current.lock();
        if current.signer != standing.authority.id() || SystemTime::now() >= current.renew_at {
            match Current::make(&standing, self.address) {
                Ok(made) => *current = made,
                Err(error) => tracing::error!(%error, "the control plane's own certificate is not renewed"),
            }
        }
        Arc::clone(&current.config)
    }
}

impl Current {
    fn make(standing: &Standing, address: IpAddr) -> anyhow::Result<Self> {
        let (chain, key) = standing.authority.server(address)?;
        let chain = certificates(&chain)?;
        let now = SystemTime::now();
        let until = validity(&chain[0]).map_or(now, |(_, until)| until);
        let renew_at = now + until.duration_since(now).unwrap_or_default() / 2;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, private_key(&key)?)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { signer: standing.authority.id().to_owned(), renew_at, config: Arc::new(config) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::{Authority, LIFETIME};

    fn standing() -> Arc<Standing> {
        let (root, key) = Authority::make().unwrap();
        Arc::new(Standing::alone(Authority::from_pem(&root, &key, None).unwrap()))
    }

    #[test]
    fn it_lives_a_day_and_is_made_anew_at_half_life_and_when_another_signs() {
        let (put, standings) = watch::channel(standing());
        let own = Certificate::new(standings, "127.0.0.1".parse().unwrap()).unwrap();
        let left = own.current.lock().renew_at.duration_since(SystemTime::now()).unwrap();
        assert!(left <= LIFETIME / 2 && left > LIFETIME / 3, "{left:?}");
        let first = own.config();
        assert!(Arc::ptr_eq(&first, &own.config()));
        own.current.lock().renew_at = SystemTime::now();
        let second = own.config();
        assert!(!Arc::ptr_eq(&first, &second));
        put.send_replace(standing());
        assert!(!Arc::ptr_eq(&second, &own.config()));
    }
}
