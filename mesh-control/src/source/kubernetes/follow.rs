//! Follows one collection: a paged list, then a watch from there; a new list only where the watch cannot go on.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use kube::api::{ListParams, Request, WatchEvent, WatchParams};
use kube::{Client, Error};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::backoff::Backoff;
use super::resource::Resource;

/// Items of one page. Small enough that a page of large objects is some MiB.
const PAGE: u32 = 500;
/// For one page, and for the head of a watch's answer.
const DEADLINE: Duration = Duration::from_secs(60);
/// The server ends a watch after this long, in seconds.
const WATCH: u32 = 290;
/// A watch in which nothing came for this long (not even its end) is a dead connection.
const SILENCE: Duration = Duration::from_secs(WATCH as u64 + 15);
/// How often a kind that the cluster does not have is looked for.
const RECHECK: Duration = Duration::from_millis(if cfg!(test) { 1_000 } else { 20_000 });
/// Looks at a kind that the cluster had and now has not, before its objects count as gone.
const DOUBTS: u32 = 3;
/// Streams that break off without an event before everything is listed again.
const BROKEN: u32 = 3;

/// Namespace (empty if the kind has none) and name.
pub(super) type Name = (String, String);

/// What a follower tells.
#[derive(Debug)]
pub(super) enum Event {
    /// New, or another version; with the `apiVersion` it was read in.
    Item(&'static str, Value),
    /// Gone.
    Gone(Name),
    /// Everything there is has been told; what is not among these names is gone.
    Listed(BTreeSet<Name>),
}

/// Where a follower tells: the number of its resource, and what happened.
pub(super) type Events = mpsc::Sender<(usize, Event)>;

/// Follows one resource; ends when nobody listens.
pub(super) struct Follower {
    pub(super) client: Client,
    pub(super) resource: Resource,
    pub(super) number: usize,
    pub(super) events: Events,
    /// Changes when everything is to be listed again.
    pub(super) again: watch::Receiver<u64>,
}

/// What the API server answers to a list.
#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    metadata: PageMetadata,
    items: Option<Vec<Value>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PageMetadata {
    resource_version: String,
    r#continue: String,
}

/// A complete list: in which API version it was read, and as of when.
struct Listed {
    version: &'static str,
    as_of: String,
}

/// Nobody listens any more.
struct Unheard;

/// How a list or a watch can fail.
enum Failure {
    /// The cluster has no such kind.
    Missing,
    /// The history that the watch wants is gone.
    Expired,
    /// Anything else; it may work the next time.
    Passing(String),
    Unheard,
}

impl From<Unheard> for Failure {
    fn from(_: Unheard) -> Self {
        Self::Unheard
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match &error {
            Error::Api(status) if status.code == 404 => Self::Missing,
            Error::Api(status) if status.code == 410 => Self::Expired,
            Error::Api(status) => Self::Passing(format!("{} ({})", status.message, status.code)),
            _ => Self::Passing(with_causes(&error)),
        }
    }
}

impl Follower {
    pub(super) async fn run(mut self) {
        let (mut backoff, mut missing, mut known) = (Backoff::default(), 0, false);
        loop {
            self.again.mark_unchanged();
            match self.list().await {
                Ok(listed) => {
                    (missing, known) = (0, true);
                    match self.follow(listed, &mut backoff).await {
                        Ok(()) => {}
                        Err(Unheard) => return,
                    }
                }
                Err(Failure::Missing) => {
                    missing += 1;
                    if (!known || missing == DOUBTS)
                        && self.tell(Event::Listed(BTreeSet::new())).await.is_err()
                    {
                        return;
                    }
                    let _ = timeout(RECHECK, self.again.changed()).await;
                }
                Err(Failure::Unheard) => return,
                Err(Failure::Expired) => backoff.wait().await,
                Err(Failure::Passing(error)) => {
                    tracing::warn!(resource = self.resource.plural, error, "cannot be listed; trying again");
                    backoff.wait().await;
                }
            }
            if self.events.is_closed() {
                return;
            }
        }
    }

    /// Lists all pages in the first version that the cluster serves.
    async fn list(&self) -> Result<Listed, Failure> {
        for version in &self.resource.versions {
            match self.list_in(version).await {
                Err(Failure::Missing) => {}
                Err(failure) => return Err(failure),
                Ok(as_of) => return Ok(Listed { version, as_of }),
            }
        }
        Err(Failure::Missing)
    }

    async fn list_in(&self, version: &'static str) -> Result<String, Failure> {
        let mut names = BTreeSet::new();
        let mut next = None;
        loop {
            let page = self.page(version, next).await?;
            for item in page.items.unwrap_or_default() {
                if let Some(name) = name_of(&item) {
                    names.insert(name);
                    self.tell(Event::Item(version, item)).await?;
                }
            }
            if page.metadata.r#continue.is_empty() {
                self.tell(Event::Listed(names)).await?;
                return Ok(page.metadata.resource_version);
            }
            next = Some(page.metadata.r#continue);
        }
    }

    async fn page(&self, version: &str, next: Option<String>) -> Result<Page, Failure> {
        let parameters = ListParams {
            limit: Some(PAGE),
            continue_token: next,
            label_selector: self.resource.label_selector.clone(),
            ..ListParams::default()
        };
        let request = Request::new(self.resource.path(version));
        let request = if self.resource.metadata_only() {
            request.list_metadata(&parameters)
        } else {
            request.list(&parameters)
        };
        let request = request.map_err(|error| Failure::Passing(error.to_string()))?;
        // Not `request`: that logs what it cannot read.
        let text = timeout(DEADLINE, self.client.request_text(request)).await;
        let text = text.map_err(|_| Failure::Passing("no answer in 60 s".to_owned()))??;
        serde_json::from_str(&text)
            .map_err(|error| Failure::Passing(format!("the answer is not a list: {error}")))
    }

    /// Watches until everything has to be listed again. A lost stream goes on where it was, however long that takes.
    async fn follow(&mut self, listed: Listed, backoff: &mut Backoff) -> Result<(), Unheard> {
        let Listed { version, mut as_of } = listed;
        let mut broken = 0;
        loop {
            let before = as_of.clone();
            let ended = self.watch(version, &mut as_of).await;
            if as_of != before {
                backoff.reset();
                broken = 0;
            }
            match ended {
                Ok(Ended::Again) => return Ok(()),
                Ok(Ended::Closed) if as_of != before => continue,
                Ok(Ended::Closed) => {}
                Ok(Ended::Broken(error)) => {
                    broken += 1;
                    tracing::warn!(
                        resource = self.resource.plural,
                        error,
                        "the watch broke off; going on where it was"
                    );
                }
                Err(Failure::Unheard) => return Err(Unheard),
                Err(Failure::Expired | Failure::Missing) => {
                    tracing::info!(resource = self.resource.plural, "the watch cannot go on; listing again");
                    backoff.wait().await;
                    return Ok(());
                }
                Err(Failure::Passing(error)) => {
                    tracing::warn!(resource = self.resource.plural, error, "cannot be watched; trying again");
                }
            }
            backoff.wait().await;
            if broken >= BROKEN {
                return Ok(());
            }
        }
    }

    async fn watch(&mut self, version: &'static str, as_of: &mut String) -> Result<Ended, Failure> {
        let parameters = WatchParams {
            label_selector: self.resource.label_selector.clone(),
            timeout: Some(WATCH),
            bookmarks: true,
            ..WatchParams::default()
        };
        let request = Request::new(self.resource.path(version));
        let request = if self.resource.metadata_only() {
            request.watch_metadata(&parameters, as_of)
        } else {
            request.watch(&parameters, as_of)
        };
        let request = request.map_err(|error| Failure::Passing(error.to_string()))?;
        let stream = timeout(DEADLINE, self.client.request_events::<Value>(request)).await;
        let mut stream = pin!(stream.map_err(|_| Failure::Passing("no answer in 60 s".to_owned()))??);
        loop {
            let event = tokio::select! {
                event = timeout(SILENCE, stream.try_next()) => event,
                _ = self.again.changed() => return Ok(Ended::Again),
                () = self.events.closed() => return Err(Failure::Unheard),
            };
            match event {
                Err(_) => return Ok(Ended::Broken("nothing came for 5 minutes".to_owned())),
                Ok(Err(error)) => match Failure::from(error) {
                    Failure::Passing(error) => return Ok(Ended::Broken(error)),
                    failure => return Err(failure),
                },
                Ok(Ok(None)) => return Ok(Ended::Closed),
                Ok(Ok(Some(event))) => self.take(version, event, as_of).await?,
            }
        }
    }

    async fn take(
        &self,
        version: &'static str,
        event: WatchEvent<Value>,
        as_of: &mut String,
    ) -> Result<(), Failure> {
        let (item, gone) = match event {
            WatchEvent::Added(item) | WatchEvent::Modified(item) => (item, false),
            WatchEvent::Deleted(item) => (item, true),
            WatchEvent::Bookmark(bookmark) => {
                *as_of = bookmark.metadata.resource_version;
                return Ok(());
            }
            WatchEvent::Error(status) => return Err(Error::Api(status).into()),
        };
        let reached = item["metadata"]["resourceVersion"].as_str().map(str::to_owned);
        match name_of(&item) {
            Some(name) if gone => self.tell(Event::Gone(name)).await?,
            Some(_) => self.tell(Event::Item(version, item)).await?,
            None => return Err(Failure::Passing("an event is about nothing".to_owned())),
        }
        if let Some(reached) = reached {
            *as_of = reached;
        }
        Ok(())
    }

    async fn tell(&self, event: Event) -> Result<(), Unheard> {
        self.events.send((self.number, event)).await.map_err(|_| Unheard)
    }
}

/// How a watch ended that may be taken up again.
enum Ended {
    /// Everything is to be listed again.
    Again,
    /// By the server, as it does every few minutes.
    Closed,
    /// By an error.
    Broken(String),
}

pub(super) fn name_of(item: &Value) -> Option<Name> {
    let text = |name: &str| item["metadata"][name].as_str().map(str::to_owned);
    Some((text("namespace").unwrap_or_default(), text("name").filter(|name| !name.is_empty())?))
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
