//! The client against a control plane over real TLS and gRPC on loopback.

use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use super::*;
use crate::model::{DnsName, Host, Resource};
use crate::snapshot::Lookup;
use crate::testing::{FakeControl, TestAuthority};

struct Client {
    handles: Handles,
    events: UnboundedReceiver<Event>,
    questions: mpsc::Sender<Root>,
    stop: CancellationToken,
}

impl Client {
    fn start(url: String, authority: &TestAuthority, folder: &Path) -> Self {
        std::fs::write(folder.join("root.pem"), authority.root()).unwrap();
        std::fs::write(folder.join("token"), "a.b.c\n").unwrap();
        let settings = Settings {
            control: url,
            anchors_file: folder.join("root.pem"),
            token_file: folder.join("token"),
            state: Some(folder.join("state")),
            role: Role::Sidecar,
            pod: "web-1".into(),
            namespace: "default".into(),
            pod_uid: "uid-1".into(),
            service_account: "web".into(),
            address: "10.244.0.2".into(),
        };
        let (notify, events) = mpsc::unbounded_channel();
        let handles = Handles {
            snapshot: Arc::default(),
            held: Arc::default(),
            tls: Arc::default(),
            notify: Arc::new(move |event| drop(notify.send(event))),
        };
        let (questions, asked) = mpsc::channel(16);
        let stop = CancellationToken::new();
        tokio::spawn(run(settings, handles.clone(), asked, stop.clone()));
        Self { handles, events, questions, stop }
    }

    async fn wait_for(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        timeout(Duration::from_secs(20), async {
            loop {
                let event = self.events.recv().await.expect("the client runs");
                if wanted(&event) {
                    return event;
                }
            }
        })
        .await
        .expect("the event comes within 20 s")
    }

    fn ttl(&self, name: &Host) -> Option<u32> {
        match self.handles.snapshot.load().dns(name) {
            Lookup::Found(found) => Some(found.ttl),
            _ => None,
        }
    }
}

fn name(ttl: u32) -> (Host, Root, Resource) {
    let host = Host::parse("reviews.default.svc.cluster.local").unwrap();
    let resource = DnsName { name: host.clone(), addresses: vec![[10, 96, 0, 1].into()], ttl };
    (host.clone(), Root::Name(host), Resource::Name(resource))
}

#[tokio::test]
async fn what_is_asked_for_comes_and_what_does_not_exist_is_said_so() {
    let (authority, folder) = (Arc::new(TestAuthority::default()), tempfile::tempdir().unwrap());
    let control = FakeControl::start(&authority, 0);
    let (host, root, resource) = name(30);
    control.deliver(root.clone(), vec![resource]);
    let mut client = Client::start(control.url(), &authority, folder.path());

    client.wait_for(|event| *event == Event::Certificate).await;
    assert_eq!(client.handles.tls.identity().unwrap().service_account(), "test");
    client.questions.send(root.clone()).await.unwrap();
    client.wait_for(|event| *event == Event::Swapped(vec![root.clone()])).await;
    assert_eq!(client.ttl(&host), Some(30));

    let missing = Root::Name(Host::parse("nobody").unwrap());
    client.questions.send(missing.clone()).await.unwrap();
    client.wait_for(|event| *event == Event::Swapped(vec![missing.clone()])).await;
    assert!(matches!(client.handles.snapshot.load().dns(&Host::parse("nobody").unwrap()), Lookup::NotFound));
    client.stop.cancel();
}

/// FT-01 and FT-03: neither the loss of the control plane nor a restart without it loses what is held; its return
/// brings the difference only.
#[tokio::test]
async fn what_is_held_outlives_control_plane_and_restart() {
    let (authority, folder) = (Arc::new(TestAuthority::default()), tempfile::tempdir().unwrap());
    let control = FakeControl::start(&authority, 0);
    let (host, root, resource) = name(30);
    control.deliver(root.clone(), vec![resource]);
    let mut client = Client::start(control.url(), &authority, folder.path());
    client.wait_for(|event| *event == Event::Certificate).await;
    client.questions.send(root.clone()).await.unwrap();
    client.wait_for(|event| *event == Event::Swapped(vec![root.clone()])).await;

    let (url, port) = (control.url(), control.port());
    drop(control);
    client.wait_for(|event| *event == Event::Disconnected).await;
    assert_eq!(client.ttl(&host), Some(30));
    client.stop.cancel();

    let mut client = Client::start(url, &authority, folder.path());
    // Told like any change, so that a gateway opens its listeners.
    client.wait_for(|event| *event == Event::Swapped(vec![root.clone()])).await;
    client.wait_for(|event| *event == Event::Certificate).await;
    assert_eq!(client.ttl(&host), Some(30));
    assert!(client.handles.tls.identity().is_some());

    let control = FakeControl::start(&authority, port);
    control.deliver(root.clone(), vec![name(60).2]);
    client.wait_for(|event| *event == Event::Swapped(vec![root.clone()])).await;
    assert_eq!(client.ttl(&host), Some(60));
    let held: Vec<_> = control.asked().into_iter().flat_map(|subscription| subscription.held).collect();
    assert_eq!(held.len(), 1, "the client says what it holds: {held:?}");
    client.stop.cancel();
}
