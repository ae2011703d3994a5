//! A small API server that says what a test tells it to: lists in pages, watches, and every way in which they fail.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::StreamExt as _;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::api::Kind;

/// Smaller than any list worth testing, so that there are pages.
const PAGE: usize = 2;

type Body = BoxBody<Bytes, Infallible>;
type Name = (String, String);

/// The server; gone when dropped.
pub(super) struct Server {
    state: Arc<Mutex<State>>,
    address: std::net::SocketAddr,
    _stop: DropGuard,
}

#[derive(Default)]
struct State {
    version: u64,
    collections: BTreeMap<String, Collection>,
    /// Connections are dropped unanswered.
    down: bool,
    /// Lists of these paths, and objects of them, answer that.
    failing: HashMap<String, StatusCode>,
    requests: Vec<String>,
}

#[derive(Default)]
struct Collection {
    items: BTreeMap<Name, Value>,
    log: Vec<(u64, String)>,
    /// Watches from before this are expired.
    oldest: u64,
    watchers: Vec<mpsc::UnboundedSender<String>>,
}

impl Server {
    /// Serves every kind, without objects but one node and the namespaces `default` and `istio-system`.
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let state = Arc::new(Mutex::new(State::default()));
        for kind in Kind::all() {
            state.lock().unwrap().collections.insert(path(kind), Collection::default());
        }
        state.lock().unwrap().collections.insert("/api/v1/nodes".to_owned(), Collection::default());
        tokio::spawn(accept(listener, Arc::clone(&state), stop.clone()));
        let server = Self { state, address, _stop: stop.drop_guard() };
        server.put("apiVersion: v1\nkind: Namespace\nmetadata: {name: default}");
        server.put("apiVersion: v1\nkind: Namespace\nmetadata: {name: istio-system}");
        server
    }

    pub(super) fn client(&self) -> Client {
        let url = format!("http://{}", self.address).parse().unwrap();
        Client::try_from(Config::new(url)).unwrap()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Creates or changes an object.
    pub(super) fn put(&self, yaml: &str) {
        let mut object: Value = serde_saphyr::from_str(yaml).unwrap();
        let mut state = self.lock();
        state.version += 1;
        let version = state.version;
        object["metadata"]["resourceVersion"] = version.to_string().into();
        let collection = state.collections.get_mut(&path_of(&object)).unwrap();
        let before = collection.items.insert(name(&object), object.clone());
        collection.tell(version, if before.is_some() { "MODIFIED" } else { "ADDED" }, &object);
    }

    pub(super) fn delete(&self, kind: Kind, namespace: &str, name: &str) {
        let mut state = self.lock();
        state.version += 1;
        let version = state.version;
        let collection = state.collections.get_mut(&path(kind)).unwrap();
        let mut object = collection.items.remove(&(namespace.to_owned(), name.to_owned())).unwrap();
        object["metadata"]["resourceVersion"] = version.to_string().into();
        collection.tell(version, "DELETED", &object);
    }

    /// Ends every watch of a kind and forgets its history.
    pub(super) fn expire(&self, kind: Kind) {
        let mut state = self.lock();
        let oldest = state.version + 1;
        state.version += 1;
        let collection = state.collections.get_mut(&path(kind)).unwrap();
        (collection.oldest, collection.log) = (oldest, Vec::new());
        collection.watchers.clear();
    }

    /// Sends a line to every watcher of a kind, whatever it is, and cuts them off.
    pub(super) fn break_off(&self, kind: Kind, line: &str) {
        let mut state = self.lock();
        let collection = state.collections.get_mut(&path(kind)).unwrap();
        for watcher in collection.watchers.drain(..) {
            let _ = watcher.send(format!("{line}\n"));
        }
    }

    /// Away: nothing is answered and every watch is cut. Back: it knows what it knew.
    pub(super) fn set_down(&self, down: bool) {
        let mut state = self.lock();
        state.down = down;
        state.collections.values_mut().for_each(|collection| collection.watchers.clear());
    }

    /// Lists and objects of a kind answer this instead; `None` ends it.
    pub(super) fn fail(&self, kind: Kind, status: Option<StatusCode>) {
        let mut state = self.lock();
        match status {
            Some(status) => state.failing.insert(path(kind), status),
            None => state.failing.remove(&path(kind)),
        };
    }

    /// The paths that were asked for, with their queries.
    pub(super) fn requests(&self) -> Vec<String> {
        self.lock().requests.clone()
    }
}

impl Collection {
    fn tell(&mut self, version: u64, event: &str, object: &Value) {
        let line = format!("{}\n", json!({"type": event, "object": object}));
        self.watchers.retain(|watcher| watcher.send(line.clone()).is_ok());
        self.log.push((version, line));
    }
}

fn path(kind: Kind) -> String {
    let version = kind.versions()[0];
    let root = if version.contains('/') { "apis" } else { "api" };
    format!("/{root}/{version}/{}", kind.plural())
}

fn path_of(object: &Value) -> String {
    if object["kind"] == "Node" {
        return "/api/v1/nodes".to_owned();
    }
    path(Kind::all().find(|kind| kind.as_str() == object["kind"]).unwrap())
}

fn name(object: &Value) -> Name {
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>, stop: CancellationToken) {
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            () = stop.cancelled() => return,
        };
        let (state, stop) = (Arc::clone(&state), stop.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = answer(&mut state.lock().unwrap(), &request);
            async move { answer }
        });
        tokio::spawn(async move {
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                _ = connection => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

fn answer(state: &mut State, request: &Request<Incoming>) -> Result<Response<Body>, std::io::Error> {
    if state.down {
        return Err(std::io::Error::other("down"));
    }
    let uri = request.uri();
    state.requests.push(uri.to_string());
    let query: HashMap<_, _> =
        uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('=')).collect();
    let accepted = request.headers().get("accept").and_then(|value| value.to_str().ok());
    let metadata_only = accepted.is_some_and(|accepted| accepted.contains("PartialObjectMetadata"));
    let selector = query.get("labelSelector").copied();
    let path = uri.path().to_owned();
    Ok(if query.get("watch") == Some(&"true") {
        watch(state, &path, query["resourceVersion"].parse().unwrap(), metadata_only)
    } else if state.collections.contains_key(&path) {
        list(
            state,
            &path,
            query.get("continue").map_or(0, |next| next.parse().unwrap()),
            selector,
            metadata_only,
        )
    } else {
        get(state, &path)
    })
}

fn list(
    state: &State,
    path: &str,
    from: usize,
    selector: Option<&str>,
    metadata_only: bool,
) -> Response<Body> {
    if let Some(code) = state.failing.get(path) {
        return status(*code);
    }
    let shown = |item: &&Value| {
        selector.is_none() || item["metadata"]["labels"]["minimesh.io/discovery"] != "disabled"
    };
    let all: Vec<_> = state.collections[path].items.values().filter(shown).collect();
    let page: Vec<_> = all.iter().skip(from).take(PAGE).map(|item| view(item, metadata_only)).collect();
    let next = if from + PAGE < all.len() { (from + PAGE).to_string() } else { String::new() };
    let list = json!({
        "kind": "List", "apiVersion": "v1",
        "metadata": {"resourceVersion": state.version.to_string(), "continue": next},
        "items": page,
    });
    whole(StatusCode::OK, &list)
}

/// As in a real list, items do not say what they are.
fn view(item: &Value, metadata_only: bool) -> Value {
    if metadata_only {
        json!({"metadata": item["metadata"]})
    } else {
        let mut item = item.clone();
        item.as_object_mut().unwrap().retain(|name, _| name != "apiVersion" && name != "kind");
        item
    }
}

fn watch(state: &mut State, path: &str, from: u64, metadata_only: bool) -> Response<Body> {
    let Some(collection) = state.collections.get_mut(path) else { return status(StatusCode::NOT_FOUND) };
    let (sender, receiver) = mpsc::unbounded_channel();
    if from < collection.oldest {
        let expired = json!({"type": "ERROR", "object": {"kind": "Status", "status": "Failure", "code": 410,
            "reason": "Expired", "message": "too old resource version"}});
        let _ = sender.send(format!("{expired}\n"));
    } else {
        for (_, line) in collection.log.iter().filter(|(version, _)| *version > from) {
            let _ = sender.send(line.clone());
        }
        collection.watchers.push(sender);
    }
    let frames = UnboundedReceiverStream::new(receiver).map(move |line: String| {
        let mut line = line;
        if metadata_only && let Ok(mut event) = serde_json::from_str::<Value>(&line) {
            event["object"] = json!({"metadata": event["object"]["metadata"]});
            line = format!("{event}\n");
        }
        Ok(Frame::data(Bytes::from(line)))
    });
    Response::new(BodyExt::boxed(StreamBody::new(frames)))
}

fn get(state: &State, path: &str) -> Response<Body> {
    let parts: Vec<_> = path.split('/').collect();
    let ["", "api", "v1", "namespaces", namespace, plural, name] = parts[..] else {
        return status(StatusCode::NOT_FOUND);
    };
    let all = format!("/api/v1/{plural}");
    if let Some(code) = state.failing.get(&all) {
        return status(*code);
    }
    let collection = state.collections.get(&all);
    match collection.and_then(|all| all.items.get(&(namespace.to_owned(), name.to_owned()))) {
        Some(object) => whole(StatusCode::OK, object),
        None => status(StatusCode::NOT_FOUND),
    }
}

fn status(code: StatusCode) -> Response<Body> {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "as scripted", "reason": "Scripted", "code": code.as_u16()});
    whole(code, &status)
}

fn whole(code: StatusCode, body: &Value) -> Response<Body> {
    let body = BodyExt::boxed(Full::new(Bytes::from(body.to_string())));
    Response::builder().status(code).header("content-type", "application/json").body(body).unwrap()
}
