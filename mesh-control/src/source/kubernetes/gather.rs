//! Makes one stream of changes out of what the followers tell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future;
use kube::api::Request;
use kube::{Client, Error};
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::Scope;
use super::backoff::Backoff;
use super::follow::{Event, Events, Follower, Name, name_of};
use super::pace::Pace;
use super::places::Places;
use super::resource::{Resource, What, object_path};
use super::trim;
use super::wanted::{Reference, Todo, Wanted, wishes};
use crate::api::{Key, Kind, Object, Origin};
use crate::problem::Problem;
use crate::source::change::{Change, Findings};
use crate::source::document::{Outcome, read_document};

/// Events that may wait; a follower whose event finds no room stops reading from the API server. Few, since an event of
/// one kind waits for all that others have in it.
const QUEUE: usize = 64;
/// Secrets and ConfigMaps fetched at a time, and how long one may take.
const FETCHES: usize = 8;
const FETCH: Duration = Duration::from_secs(30);
/// How often a refusal is not believed: an API server that has just started refuses everybody until it has read its roles.
const REFUSALS: u32 = 5;
/// ConfigMap with the mesh configuration.
const MESH_CONFIG: &str = "istio";

const NAMESPACES: usize = 0;
const NODES: usize = 1;

/// The one task that knows what has been told.
pub(super) struct Gatherer {
    client: Client,
    scope: Scope,
    resources: Vec<Resource>,
    /// Per resource: bumped to have it listed again.
    again: Vec<watch::Sender<u64>>,
    /// Per resource: what the world has of it.
    held: Vec<BTreeSet<Name>>,
    /// Per resource: namespaces of which objects were left out.
    left_out: Vec<BTreeSet<String>>,
    /// Resources that have not been listed yet.
    unlisted: BTreeSet<usize>,
    namespaces: BTreeSet<String>,
    places: Places,
    wanted: Wanted,
    fetches: Arc<Semaphore>,
    refused: BTreeMap<(usize, Name), (Key, Arc<Problem>)>,
    problems: BTreeMap<(usize, Name), Vec<Arc<Problem>>>,
    /// Both, as they were handed on last.
    findings: Arc<Findings>,
    pending: Pending,
    pace: Pace,
    /// Nothing has been handed on yet.
    is_first: bool,
}

/// The next change, as far as it is known.
#[derive(Default)]
struct Pending {
    upserted: BTreeMap<Key, Object>,
    removed: BTreeSet<Key>,
    news: Vec<Arc<Problem>>,
}

/// What ended, for the gatherer: what a follower told, or a fetch.
enum Heard {
    Event(usize, Event),
    Fetched(Reference, Option<Value>),
}

impl Gatherer {
    pub(super) fn new(client: Client, scope: Scope) -> Self {
        let mut resources = vec![Resource::namespaces(&scope.namespaces), Resource::nodes()];
        resources.extend(Resource::all());
        let count = resources.len();
        let mut wanted = Wanted::default();
        wanted.always(Kind::ConfigMap, MESH_CONFIG);
        Self {
            client,
            scope,
            again: resources.iter().map(|_| watch::Sender::new(0)).collect(),
            held: vec![BTreeSet::new(); count],
            left_out: vec![BTreeSet::new(); count],
            unlisted: (0..count).collect(),
            namespaces: BTreeSet::new(),
            places: Places::default(),
            wanted,
            fetches: Arc::new(Semaphore::new(FETCHES)),
            refused: BTreeMap::new(),
            problems: BTreeMap::new(),
            findings: Arc::default(),
            pending: Pending::default(),
            pace: Pace::default(),
            is_first: true,
            resources,
        }
    }

    pub(super) async fn run(mut self, changes: mpsc::Sender<Change>, stop: CancellationToken) {
        let (events, mut told) = mpsc::channel(QUEUE);
        let (brought, mut fetched) = mpsc::channel(FETCHES);
        // What is in a namespace or on a node can be judged only when those are known.
        self.start(NAMESPACES..NODES + 1, &events);
        let mut others_started = false;
        loop {
            let due = self.due();
            // What has waited long enough goes before what comes; more may come while the listener is busy.
            let handing_on = async {
                match due {
                    Some(at) => sleep_until(at).await,
                    None => future::pending().await,
                }
                changes.reserve().await
            };
            let heard = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                permit = handing_on => {
                    let Ok(permit) = permit else { return };
                    permit.send(self.change());
                    continue;
                }
                Some((number, event)) = told.recv() => Heard::Event(number, event),
                Some((reference, value)) = fetched.recv() => Heard::Fetched(reference, value),
                () = changes.closed() => return,
            };
            self.take(heard, &brought);
            if !others_started && !self.unlisted.contains(&NAMESPACES) && !self.unlisted.contains(&NODES) {
                others_started = true;
                self.start(NODES + 1..self.resources.len(), &events);
            }
        }
    }

    /// When a change is to be handed on. The first waits until everything has been read, and goes out even if it is empty.
    fn due(&self) -> Option<Instant> {
        if self.is_first {
            return (self.unlisted.is_empty() && self.wanted.is_settled()).then(Instant::now);
        }
        self.pace.due()
    }

    fn start(&self, numbers: std::ops::Range<usize>, events: &Events) {
        for number in numbers {
            let follower = Follower {
                client: self.client.clone(),
                resource: self.resources[number].clone(),
                number,
                events: events.clone(),
                again: self.again[number].subscribe(),
            };
            tokio::spawn(follower.run());
        }
    }

    fn list_again(&self, number: usize) {
        self.again[number].send_modify(|times| *times += 1);
    }

    fn take(&mut self, heard: Heard, brought: &mpsc::Sender<(Reference, Option<Value>)>) {
        let todo = match heard {
            Heard::Event(number, event) => self.event(number, event),
            Heard::Fetched(reference, value) => self.fetched(&reference, value),
        };
        for (kind, name) in todo.forget {
            self.remove(self.number_of(kind), kind, &name);
        }
        for reference in todo.fetch {
            let (client, fetches, brought) =
                (self.client.clone(), Arc::clone(&self.fetches), brought.clone());
            tokio::spawn(async move {
                let Ok(_place) = fetches.acquire_owned().await else { return };
                let value = fetch(&client, &reference, &brought).await;
                let _ = brought.send((reference, value)).await;
            });
        }
    }

    fn number_of(&self, kind: Kind) -> usize {
        let is =
            |resource: &Resource| matches!(resource.what, What::Names(k) | What::Objects(k) if k == kind);
        self.resources.iter().position(is).expect("what is wanted is also followed")
    }

    fn event(&mut self, number: usize, event: Event) -> Todo {
        match (self.resources[number].what, event) {
            (What::Nodes, event) => {
                self.node(number, event);
                Todo::default()
            }
            (What::Names(kind), Event::Item(_, item)) => match name_of(&item) {
                Some(name) if self.has_namespace(number, &name) && self.is_ours(kind, &name) => {
                    self.wanted.exists((kind, name))
                }
                _ => Todo::default(),
            },
            (What::Names(kind), Event::Gone(name)) => self.wanted.gone(&(kind, name)),
            (What::Names(kind), Event::Listed(names)) => {
                self.unlisted.remove(&number);
                let mut todo = Todo::default();
                for name in self.wanted.existing(kind).difference(&names) {
                    todo.forget.extend(self.wanted.gone(&(kind, name.clone())).forget);
                }
                todo
            }
            (What::Objects(kind), Event::Item(version, item)) => self.item(number, kind, version, item),
            (What::Objects(kind), Event::Gone(name)) => self.gone(number, kind, &name),
            (What::Objects(kind), Event::Listed(names)) => {
                let gone: Vec<_> = self.held[number].difference(&names).cloned().collect();
                let refused: Vec<_> = self.told_of(number).filter(|name| !names.contains(name)).collect();
                let mut todo = Todo::default();
                for name in gone.into_iter().chain(refused) {
                    todo.forget.extend(self.gone(number, kind, &name).forget);
                }
                self.unlisted.remove(&number);
                todo
            }
        }
    }

    /// Of ConfigMaps called like the mesh configuration, only the root namespace's is one.
    fn is_ours(&self, kind: Kind, (namespace, name): &Name) -> bool {
        kind != Kind::ConfigMap || name != MESH_CONFIG || *namespace == self.scope.root_namespace
    }

    /// Objects of a resource that have problems.
    fn told_of(&self, number: usize) -> impl Iterator<Item = Name> {
        let of = |(n, _): &&(usize, Name)| *n == number;
        let names: BTreeSet<_> = self
            .problems
            .keys()
            .chain(self.refused.keys())
            .filter(of)
            .map(|(_, name)| name.clone())
            .collect();
        names.into_iter()
    }

    /// Whether an object's namespace is one of the mesh's; if not, it is remembered that there is something in it.
    fn has_namespace(&mut self, number: usize, (namespace, _): &Name) -> bool {
        let known = namespace.is_empty() || self.namespaces.contains(namespace);
        if !known {
            self.left_out[number].insert(namespace.clone());
        }
        known
    }

    fn item(&mut self, number: usize, kind: Kind, version: &str, item: Value) -> Todo {
        let Some(name) = name_of(&item) else { return Todo::default() };
        if !self.has_namespace(number, &name) {
            return Todo::default();
        }
        let mut document = trim::object(item, version, kind.as_str());
        match kind {
            Kind::Pod => self.places.place_pod(&mut document),
            Kind::EndpointSlice => self.places.place_slice(&mut document),
            _ => {}
        }
        let todo = self.wanted.wish((number, name.clone()), wishes(kind, &document));
        self.read(number, name.clone(), &document);
        if kind == Kind::Namespace {
            self.namespace(&name.1);
        }
        todo
    }

    fn read(&mut self, number: usize, name: Name, document: &Value) {
        let now = time::OffsetDateTime::now_utc().unix_timestamp();
        let at = (number, name);
        let (refused, problems) = match read_document(document, Origin::default(), now) {
            Outcome::Object(object, problems) => {
                self.held[number].insert(at.1.clone());
                self.pace.note(&at.1.0, Instant::now());
                self.pending.upserted.insert(object.key.clone(), Arc::unwrap_or_clone(object));
                (None, problems)
            }
            Outcome::Refused(key, problem) => {
                // An older version that waits to be handed on is still the last good one.
                (Some(key), vec![problem])
            }
            Outcome::Skipped(problem) => (None, problem.into_iter().collect()),
            Outcome::Unreadable(problem) => (None, vec![problem]),
        };
        let problems: Vec<_> = problems.into_iter().map(Arc::new).collect();
        let before = match refused {
            Some(key) => self.refused.insert(at.clone(), (key, Arc::clone(&problems[0]))).is_some(),
            None => self.refused.remove(&at).is_some(),
        };
        let told = if problems.is_empty() {
            self.problems.remove(&at)
        } else {
            self.problems.insert(at, problems.clone())
        };
        let told = told.unwrap_or_default();
        if before || told != problems {
            self.pace.note_findings(Instant::now());
        }
        self.pending.news.extend(problems.into_iter().filter(|problem| !told.contains(problem)));
    }

    fn gone(&mut self, number: usize, kind: Kind, name: &Name) -> Todo {
        self.remove(number, kind, name);
        if kind == Kind::Namespace && self.namespaces.remove(&name.1) {
            self.leave(&name.1);
        }
        self.wanted.wish((number, name.clone()), BTreeSet::new())
    }

    fn remove(&mut self, number: usize, kind: Kind, name: &Name) {
        let at = (number, name.clone());
        let untold = self.problems.remove(&at).is_some() | self.refused.remove(&at).is_some();
        if untold {
            self.pace.note_findings(Instant::now());
        }
        if self.held[number].remove(name) {
            let key = Key::new(kind, &name.0, &name.1);
            self.pending.upserted.remove(&key);
            self.pending.removed.insert(key);
            self.pace.note(&name.0, Instant::now());
        }
    }

    /// A namespace is one of the mesh's; what was left out of it is read now.
    fn namespace(&mut self, name: &str) {
        if !self.namespaces.insert(name.to_owned()) {
            return;
        }
        for number in 0..self.resources.len() {
            if self.left_out[number].remove(name) {
                self.list_again(number);
            }
        }
    }

    /// A namespace is not one of the mesh's any more.
    fn leave(&mut self, namespace: &str) {
        for number in 0..self.resources.len() {
            let (What::Objects(kind) | What::Names(kind)) = self.resources[number].what else { continue };
            let by_name = matches!(self.resources[number].what, What::Names(_));
            let known = if by_name { self.wanted.existing(kind) } else { self.held[number].clone() };
            for name in known.into_iter().filter(|(within, _)| within == namespace) {
                self.left_out[number].insert(namespace.to_owned());
                if by_name {
                    self.wanted.gone(&(kind, name.clone()));
                }
                self.remove(number, kind, &name);
                self.wanted.wish((number, name), BTreeSet::new());
            }
        }
    }

    fn node(&mut self, number: usize, event: Event) {
        if matches!(event, Event::Listed(_)) {
            self.unlisted.remove(&number);
        }
        if self.places.node(event) {
            self.list_again(self.number_of(Kind::Pod));
            self.list_again(self.number_of(Kind::EndpointSlice));
        }
    }

    fn fetched(&mut self, reference: &Reference, value: Option<Value>) -> Todo {
        let (used, todo) = self.wanted.fetched(reference);
        let (kind, name) = reference;
        let number = self.number_of(*kind);
        match value {
            Some(value) if used => self.read(number, name.clone(), &trim::object(value, "v1", kind.as_str())),
            _ => self.remove(number, *kind, name),
        }
        todo
    }

    fn change(&mut self) -> Change {
        if std::mem::take(&mut self.is_first) {
            tracing::info!(objects = self.pending.upserted.len(), "the cluster has been read");
        }
        let retold = self.pace.hand_on(Instant::now());
        if retold {
            self.findings = Arc::new(Findings {
                refused: self.refused.values().cloned().collect(),
                problems: self.problems.values().flatten().cloned().collect(),
            });
        }
        let Pending { upserted, removed, news } = std::mem::take(&mut self.pending);
        Change {
            upserted: upserted.into_values().collect(),
            removed: removed.into_iter().collect(),
            findings: Arc::clone(&self.findings),
            retold,
            news,
            revision: 0,
        }
    }
}

/// Reads one object; `None` if it does not exist, or may not be read, which is said once.
async fn fetch(
    client: &Client,
    (kind, (namespace, name)): &Reference,
    brought: &mpsc::Sender<(Reference, Option<Value>)>,
) -> Option<Value> {
    let (mut backoff, mut refusals) = (Backoff::default(), 0);
    let path = object_path(*kind, namespace, name);
    while !brought.is_closed() {
        let request = Request::new(format!("/api/v1/namespaces/{namespace}/{}", kind.plural()))
            .get(name, &kube::api::GetParams::default())
            .ok()?;
        match timeout(FETCH, client.request_text(request)).await {
            Ok(Ok(text)) => match serde_json::from_str(&text) {
                Ok(value) => return Some(value),
                Err(_) => tracing::warn!(path, "the answer is not an object; trying again"),
            },
            Ok(Err(Error::Api(status))) if status.code == 404 => return None,
            Ok(Err(Error::Api(status))) if status.code == 403 => {
                refusals += 1;
                if refusals > REFUSALS {
                    tracing::warn!(path, message = status.message, "may not be read; going on without it");
                    return None;
                }
            }
            Ok(Err(error)) => tracing::warn!(path, %error, "cannot be read; trying again"),
            Err(_) => tracing::warn!(path, "no answer in 30 s; trying again"),
        }
        backoff.wait().await;
    }
    None
}
