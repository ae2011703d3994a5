//! How bytes and names get out of this network namespace: by our own sockets, or by those that a broker opens for us where
//! nothing outside can be reached from here.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::{TcpStream, lookup_host};

use super::settings::Settings;
use super::socket;
use crate::broker::{self, BrokerError};

/// A connection to an address. The caller bounds the time.
pub(crate) async fn connect(settings: &Settings, address: SocketAddr) -> io::Result<TcpStream> {
    match &settings.broker {
        Some(broker) if !broker::is_inside(address.ip()) => {
            let stream = TcpStream::from_std(broker.connect(address).await?)?;
            stream.set_nodelay(true)?;
            Ok(stream)
        }
        _ => socket::upstream(address, settings.mark)?.connect(address).await,
    }
}

/// The first address of a name. The caller bounds the time.
///
/// A broker is asked first: our own resolver may answer with the address under which the mesh itself knows the name.
pub(crate) async fn resolve(settings: &Settings, name: &str) -> io::Result<IpAddr> {
    if let Some(broker) = &settings.broker {
        match broker.resolve(name).await {
            Ok(addresses) => {
                return addresses.into_iter().next().ok_or_else(|| io::ErrorKind::NotFound.into());
            }
            Err(BrokerError::NoSuchName) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut found = lookup_host((name, 0)).await?;
    found.next().map(|address| address.ip()).ok_or_else(|| io::ErrorKind::NotFound.into())
}
