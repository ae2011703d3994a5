//! Asked as a proxy asks.

use mesh_core::broker::{Broker as Asker, BrokerError};

use super::*;

async fn with<T>(host: HostAccess, ask: impl AsyncFnOnce(Asker) -> T) -> T {
    let local = tokio::task::LocalSet::new();
    let work = async {
        let (asker, answerer) = Asker::pair().unwrap();
        Broker::new(host).serve(answerer);
        ask(Asker::new(asker)).await
    };
    timeout(Duration::from_secs(10), local.run_until(work)).await.unwrap()
}

#[tokio::test]
async fn the_host_is_reached_by_name_when_allowed() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    with(HostAccess::Allowed, async |asker| {
        let found = asker.resolve("Host.Mesh.Internal.").await.unwrap();
        assert_eq!(found, [IpAddr::V4(HOST_ADDRESS)]);
        let connection = asker.connect(SocketAddr::new(found[0], port)).await.unwrap();
        assert_eq!(connection.peer_addr().unwrap(), listener.local_addr().unwrap());
        let direct = asker.connect(listener.local_addr().unwrap()).await;
        assert!(matches!(direct, Err(BrokerError::Forbidden(_))), "{direct:?}");
    })
    .await;
}

#[tokio::test]
async fn the_host_has_no_name_and_no_way_when_refused() {
    with(HostAccess::Refused, async |asker| {
        assert!(matches!(asker.resolve(HOST_NAME).await, Err(BrokerError::NoSuchName)));
        let refused = asker.connect(SocketAddr::from((HOST_ADDRESS, 22))).await.unwrap_err();
        assert!(refused.to_string().contains("--allow-host"), "{refused}");
    })
    .await;
}

#[tokio::test]
async fn a_port_nobody_listens_on_is_refused_as_the_system_says() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    with(HostAccess::Allowed, async |asker| {
        let error = io::Error::from(asker.connect(SocketAddr::from((HOST_ADDRESS, free))).await.unwrap_err());
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    })
    .await;
}

#[tokio::test]
async fn names_are_those_of_the_host() {
    with(HostAccess::Refused, async |asker| {
        // Every hosts file has it. That it cannot be dialled is another matter.
        let found = asker.resolve("localhost").await.unwrap();
        assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
    })
    .await;
}

#[tokio::test]
async fn one_who_asks_too_much_is_told_and_others_are_served() {
    with(HostAccess::Allowed, async |asker| {
        let broker = Broker::new(HostAccess::Allowed);
        let (busy, answerer) = Asker::pair().unwrap();
        // Every place is taken: by questions that nobody gives up.
        let taken =
            Arc::clone(&broker.places).acquire_many_owned(u32::try_from(PLACES).unwrap()).await.unwrap();
        broker.serve(answerer);
        let busy = Asker::new(busy);
        assert!(matches!(busy.resolve(HOST_NAME).await, Err(BrokerError::Busy)));
        drop(taken);
        assert!(busy.resolve(HOST_NAME).await.is_ok());
        assert!(asker.resolve(HOST_NAME).await.is_ok());
    })
    .await;
}
