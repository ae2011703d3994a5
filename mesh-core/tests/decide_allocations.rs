//! A decision on a request allocates its plan and nothing else.

#![expect(unsafe_code, reason = "a global allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Instant;

use mesh_core::decide::{Decide, Decision, Entry, Peer, Request, Trail};
use mesh_core::dice::Dice;
use mesh_core::message::{Headers, Method, RequestHead, Scheme, Version};
use mesh_core::model::Resource;
use mesh_core::name::Host;
use mesh_core::snapshot::{Config, compile};
use serde_json::{Value, json};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is handed to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn config() -> Config {
    let origin = json!({"kind": "VirtualService", "namespace": "default", "name": "reviews", "field": ""});
    let backends = json!([{"cluster": "v1", "weight": 90}, {"cluster": "v2", "weight": 10}]);
    let header = json!({"name": "end-user", "value": {"regex": "j.*"}});
    let rules = json!([
        {"matches": [{"path": {"exact": "/other"}}], "action": {"forward": backends}, "origin": origin},
        {"matches": [{"path": {"prefix": "/"}, "headers": [header]}], "action": {"forward": backends},
         "timeout": 5000, "origin": origin}]);
    let hosts = [json!("reviews"), json!("*.default.svc.cluster.local")];
    let cluster = |name: &str| {
        json!({"cluster": {"name": name, "service": "reviews", "serviceName": "reviews",
            "serviceNamespace": "default", "port": 9080, "protocol": "http"}})
    };
    let table = json!({"routes": {"name": "reviews:9080",
        "virtualHosts": [{"name": "reviews", "hosts": hosts, "rules": rules}]}});
    let resource = |json: Value| serde_json::from_value::<Resource>(json).expect("a resource");
    [table, cluster("v1"), cluster("v2")].map(resource).into_iter().collect()
}

#[test]
fn a_plan_is_all_that_is_allocated() {
    let (snapshot, _) = compile(None, &config());
    let mut headers = Headers::default();
    headers.append("End-User", "jason");
    let head = RequestHead {
        method: Method::GET,
        scheme: Scheme::Http,
        host: Host::parse("reviews.default.svc.cluster.local").unwrap(),
        authority: "reviews.default.svc.cluster.local:9080".into(),
        path: "/reviews/0".into(),
        query: None,
        version: Version::Http11,
        upgrade: None,
        headers,
    };
    let local = "10.96.0.7:9080".parse().unwrap();
    let peer = Peer { address: local, local, identity: None, workload: None, tls: None };
    let entry = Entry::Outbound { destination: local };
    let request = Request { snapshot: &snapshot, entry, peer: &peer, head: &head, now: Instant::now() };
    let mut dice = Dice::seeded(1);
    let mut allocations = || {
        let before = ALLOCATIONS.get();
        let decision = Decide::new().step(&request, &mut dice, &mut Trail::off());
        let after = ALLOCATIONS.get();
        assert!(matches!(decision, Decision::Forward(_)));
        after - before
    };
    // The expression builds its cache when it is first used.
    allocations();
    assert_eq!([(); 20].map(|()| allocations()), [1; 20]);
}
