//! How bytes get out of this network namespace: by our own sockets, or by those that a broker opens for us where nothing
//! outside can be reached from here.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::settings::Settings;
use super::socket;
use crate::broker;

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
