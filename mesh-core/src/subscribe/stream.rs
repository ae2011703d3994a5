//! The configuration stream: ask, take, compile, swap, acknowledge; reconnect with what is held.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::channel::{authorized, chain, connect};
use super::held::Held;
use super::state::Store;
use super::{Backoff, Event, Handles, Settings, trust};
use crate::model::{Role, Root};
use crate::snapshot::compile;
use crate::wire::v1::config_client::ConfigClient;
use crate::wire::v1::subscribe_request::Kind as Ask;
use crate::wire::v1::subscribe_response::Kind as Answer;
use crate::wire::v1::{
    Acknowledgement, Hello, Interest, SubscribeRequest, SubscribeResponse, Subscription, Trust, TrustTaken,
    Update,
};
use crate::wire::{MAX_MESSAGE, encode_key, encode_root};

/// What this build can do; a resource that requires something else is refused.
pub(super) const CAPABILITIES: &[&str] = &["model/1", crate::wire::TRUST];

/// Messages on their way to the control plane.
const OUTGOING: usize = 256;
/// Deadline for the stream to begin, and for a message to leave.
const DEADLINE: Duration = Duration::from_secs(10);

/// Follows the stream; never returns.
pub(super) async fn follow(
    settings: &Settings,
    handles: &Handles,
    store: Option<&Store>,
    held: &mut Held,
    mut questions: mpsc::Receiver<Root>,
    told: watch::Sender<Option<Trust>>,
) {
    let mut backoff = Backoff::new();
    loop {
        let mut session = match Session::open(settings, handles, held).await {
            Ok(session) => session,
            Err(error) => {
                tracing::warn!(%error, "no stream to the control plane; trying again");
                note_questions(held, &mut questions);
                backoff.wait().await;
                continue;
            }
        };
        (handles.notify)(Event::Connected);
        let ended = session.serve(handles, store, held, &mut questions, &told).await;
        // Until there is a stream again, what comes with a certificate is the latest that is known.
        told.send_replace(None);
        (handles.notify)(Event::Disconnected);
        tracing::warn!(reason = %ended, "the stream to the control plane is lost; going on with what is held");
        // One that has delivered was a good one: whoever waits for a name should not wait for old failures as well.
        if session.delivered {
            backoff.reset();
        }
        backoff.wait().await;
    }
}

/// Questions asked while there is no stream are part of the next one's beginning.
fn note_questions(held: &mut Held, questions: &mut mpsc::Receiver<Root>) {
    while let Ok(root) = questions.try_recv() {
        held.ask(&root);
    }
}

struct Session {
    outgoing: mpsc::Sender<SubscribeRequest>,
    incoming: Streaming<SubscribeResponse>,
    /// Whether anything but the welcome has come.
    delivered: bool,
}

impl Session {
    async fn open(settings: &Settings, handles: &Handles, held: &Held) -> Result<Self, String> {
        let channel = connect(settings, &handles.tls).await.map_err(|error| chain(&error))?;
        let (outgoing, queued) = mpsc::channel(OUTGOING);
        let first = [
            Ask::Hello(hello(settings)),
            Ask::Interest(Interest { begin: held.subscriptions(), end: Vec::new() }),
        ];
        for kind in first {
            outgoing.try_send(SubscribeRequest { kind: Some(kind) }).map_err(|error| error.to_string())?;
        }
        let request =
            authorized(settings, ReceiverStream::new(queued)).await.map_err(|error| chain(&error))?;
        let mut client = ConfigClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
        let incoming = timeout(DEADLINE, client.subscribe(request))
            .await
            .map_err(|_| "the control plane did not begin the stream in 10 s".to_owned())?
            .map_err(|status| status.message().to_owned())?
            .into_inner();
        Ok(Self { outgoing, incoming, delivered: false })
    }

    /// Runs until the stream ends; says why it did.
    async fn serve(
        &mut self,
        handles: &Handles,
        store: Option<&Store>,
        held: &mut Held,
        questions: &mut mpsc::Receiver<Root>,
        told: &watch::Sender<Option<Trust>>,
    ) -> String {
        loop {
            tokio::select! {
                message = self.incoming.message() => match message {
                    Ok(Some(message)) => {
                        let mut messages = vec![message];
                        messages.extend(self.drain());
                        let taken = trust::take(handles, told, &mut messages);
                        if let Err(reason) = self.tell_taken(taken).await {
                            return reason;
                        }
                        let answered = take(held, handles, messages);
                        save(store, held);
                        self.delivered |= !answered.is_empty();
                        if let Err(reason) = self.acknowledge(answered).await {
                            return reason;
                        }
                    }
                    Ok(None) => return "the control plane ended it".to_owned(),
                    Err(status) => return status.message().to_owned(),
                },
                Some(root) = questions.recv() => if let Err(reason) = self.ask(held, root, questions).await {
                    return reason;
                },
            }
        }
    }

    /// Messages that are here already: taken together, compiled once.
    fn drain(&mut self) -> Vec<SubscribeResponse> {
        let mut messages = Vec::new();
        while messages.len() < OUTGOING
            && let Some(Ok(Some(message))) = self.incoming.message().now_or_never()
        {
            messages.push(message);
        }
        messages
    }

    async fn ask(
        &self,
        held: &mut Held,
        root: Root,
        questions: &mut mpsc::Receiver<Root>,
    ) -> Result<(), String> {
        let mut interest = Interest::default();
        let mut next = Some(root);
        while let Some(root) = next {
            let subscription = Subscription { root: encode_root(&root), held: Vec::new() };
            interest.end.extend(held.ask(&root).flatten().map(|evicted| encode_root(&evicted)));
            // Also when it was noted before: whoever asks again has not got an answer.
            interest.begin.push(subscription);
            next = questions.try_recv().ok();
        }
        self.send(Ask::Interest(interest)).await
    }

    async fn tell_taken(&self, taken: Option<TrustTaken>) -> Result<(), String> {
        match taken {
            Some(taken) => self.send(Ask::TrustTaken(taken)).await,
            None => Ok(()),
        }
    }

    async fn acknowledge(&self, acknowledgements: Vec<Acknowledgement>) -> Result<(), String> {
        for acknowledgement in acknowledgements {
            self.send(Ask::Acknowledgement(acknowledgement)).await?;
        }
        Ok(())
    }

    async fn send(&self, kind: Ask) -> Result<(), String> {
        let message = SubscribeRequest { kind: Some(kind) };
        match self.outgoing.send_timeout(message, DEADLINE).await {
            Ok(()) => Ok(()),
            Err(_) => Err("a message could not be sent in 10 s".to_owned()),
        }
    }
}

/// Applies messages, compiles once, swaps, and says what to acknowledge.
fn take(held: &mut Held, handles: &Handles, messages: Vec<SubscribeResponse>) -> Vec<Acknowledgement> {
    let mut answered = Vec::new();
    let mut acknowledgements = Vec::new();
    for message in messages {
        match message.kind {
            Some(Answer::Update(update)) => {
                acknowledgements.push(apply(held, handles, &update, &mut answered))
            }
            Some(Answer::NotFound(missing)) => answered.extend(held.not_found(&missing)),
            Some(Answer::Welcome(welcome)) => {
                tracing::info!(control = welcome.control_version, "configuration stream is up")
            }
            // Taken before.
            Some(Answer::Trust(_)) => {}
            None => tracing::warn!("a message of an unknown kind was skipped"),
        }
    }
    if answered.is_empty() {
        return acknowledgements;
    }
    let before = handles.snapshot.load_full();
    let (snapshot, problems) = compile(Some(&before), &held.config);
    handles.snapshot.store(Arc::new(snapshot));
    super::certificate::follow_aliases(handles);
    handles.held.store(Arc::new(held.config.clone()));
    for problem in problems {
        let key = encode_key(&problem.key);
        (handles.notify)(Event::Refused(problem.key, problem.reason.clone()));
        if let Some(last) = acknowledgements.last_mut() {
            last.refused.push(crate::wire::v1::Refusal { key, reason: problem.reason });
        }
    }
    (handles.notify)(Event::Swapped(answered));
    acknowledgements
}

fn apply(held: &mut Held, handles: &Handles, update: &Update, answered: &mut Vec<Root>) -> Acknowledgement {
    let applied = held.apply(update);
    for refusal in &applied.refused {
        match crate::wire::decode_key(&refusal.key) {
            // Whoever is told logs it.
            Ok(key) => (handles.notify)(Event::Refused(key, refusal.reason.clone())),
            Err(_) => tracing::warn!(
                key = refusal.key,
                reason = refusal.reason,
                "refused, under a name we cannot read"
            ),
        }
    }
    answered.extend(applied.root);
    Acknowledgement { sequence: update.sequence, refused: applied.refused }
}

fn save(store: Option<&Store>, held: &Held) {
    if let Some(store) = store
        && let Err(error) = store.save_config(held)
    {
        tracing::warn!(%error, "the configuration was not saved; a restart without control plane would not be ready");
    }
}

fn hello(settings: &Settings) -> Hello {
    let role = match settings.role {
        Role::Sidecar => "sidecar",
        Role::Ingress => "ingress",
        Role::Egress => "egress",
    };
    Hello {
        proxy: format!("{}.{}", settings.pod, settings.namespace),
        pod: settings.pod.clone(),
        namespace: settings.namespace.clone(),
        service_account: settings.service_account.clone(),
        pod_uid: settings.pod_uid.clone(),
        address: settings.address.clone(),
        role: role.to_owned(),
        capabilities: CAPABILITIES.iter().map(|&capability| capability.to_owned()).collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}
