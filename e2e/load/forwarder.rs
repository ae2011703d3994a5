//! The reference: the plainest forwarder one would write on hyper. Ratios to it carry over between machines.

use std::net::SocketAddr;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

/// Forwards everything to one backend.
pub(crate) async fn serve(listen: SocketAddr, backend: SocketAddr) -> anyhow::Result<()> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Incoming> = Client::builder(TokioExecutor::new()).build(connector);
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let client = client.clone();
        tokio::task::spawn_local(async move {
            let service = service_fn(|mut request: Request<Incoming>| {
                let client = client.clone();
                async move {
                    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
                    *request.uri_mut() = Uri::builder()
                        .scheme("http")
                        .authority(backend.to_string())
                        .path_and_query(path)
                        .build()
                        .expect("an address and a path that was parsed make a URI");
                    client.request(request).await
                }
            });
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // A connection that breaks is the generator's to notice.
            let _ = connection.await;
        });
    }
}
