//! The life of one pod, seen from outside: its address, its process, what it says, its end.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::control_plane;
use super::mesh::Mesh;
use super::pod_object;
use crate::local::channel::{Channel, Sender};
use crate::local::controllers::{DesiredPod, PROXY_CONTAINER};
use crate::local::plan::{self, Inputs, Place, PodPlan, Role};
use crate::local::protocol::{FromPod, Phase, PodState, PodStatus, ToPod};
use crate::local::reaper::{Process, Reaper};
use crate::local::ring::Ring;
use crate::local::token::Subject;
use crate::sys;

/// Kubernetes' default for terminationGracePeriodSeconds is 30; nobody at a terminal wants to wait that long.
const LONGEST_GRACE: Duration = Duration::from_secs(10);
/// Before a pod that could not be set up is tried again.
const BACK_OFF: Duration = Duration::from_secs(3);
/// For the control plane to read that a pod is leaving, and for proxies to hear of it.
const FAREWELL: Duration = Duration::from_millis(300);
const SET_UP_DEADLINE: Duration = Duration::from_secs(30);
/// Where messages about a pod as a whole go.
const POD_LOG: &str = "pod";

/// A pod that runs, or is about to.
pub(super) struct Pod {
    pub(super) desired: DesiredPod,
    pub(super) place: Place,
    pub(super) created: SystemTime,
    pub(super) begun: Instant,
    pub(super) role: Cell<Role>,
    number: u16,
    state: RefCell<PodState>,
    message: RefCell<String>,
    rings: RefCell<BTreeMap<String, Rc<Ring>>>,
    sender: RefCell<Option<Sender>>,
    questions: RefCell<BTreeMap<u64, oneshot::Sender<FromPod>>>,
    stopping: CancellationToken,
}

/// Starts a pod; it is in the mesh's table from now on until it has ended.
pub(super) fn start(mesh: &Rc<Mesh>, desired: DesiredPod) {
    let (number, address) = mesh.new_address();
    let spec = &desired.template.spec;
    let place = Place {
        namespace: desired.namespace.clone(),
        name: desired.name.clone(),
        uid: new_uid(),
        service_account: spec.service_account_name.clone().unwrap_or_else(|| "default".to_owned()),
        address,
    };
    let pod = Rc::new(Pod {
        place,
        created: SystemTime::now(),
        begun: Instant::now(),
        role: Cell::new(Role::Plain),
        number,
        state: RefCell::default(),
        message: RefCell::default(),
        rings: RefCell::new(BTreeMap::from([(POD_LOG.to_owned(), Rc::default())])),
        sender: RefCell::default(),
        questions: RefCell::default(),
        stopping: CancellationToken::new(),
        desired,
    });
    mesh.pods.borrow_mut().insert((pod.place.namespace.clone(), pod.place.name.clone()), Rc::clone(&pod));
    tokio::task::spawn_local(live(Rc::clone(mesh), pod));
}

fn new_uid() -> String {
    // Every Linux has it; an empty uid would only weaken a token's binding to its pod.
    std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default().trim().to_owned()
}

async fn live(mesh: Rc<Mesh>, pod: Rc<Pod>) {
    publish(&mesh, &pod);
    if let Err(error) = run(&mesh, &pod).await {
        pod.note(format!("{error:#}"));
        publish(&mesh, &pod);
        tokio::select! {
            () = tokio::time::sleep(BACK_OFF) => {}
            () = pod.stopping.cancelled() => {}
        }
    }
    *pod.sender.borrow_mut() = None;
    if let Err(error) = mesh.store.borrow().remove_pod(&pod.place.namespace, &pod.place.name) {
        pod.note(format!("removing the Pod object: {error}"));
    }
    mesh.pods.borrow_mut().remove(&(pod.place.namespace.clone(), pod.place.name.clone()));
    mesh.changed.notify_waiters();
}

/// Writes the Pod object and wakes whoever waits for a change.
fn publish(mesh: &Mesh, pod: &Pod) {
    let written = mesh.store.borrow().write_pod(&pod.place.namespace, &pod.place.name, &pod_object::of(pod));
    if let Err(error) = written {
        pod.note(format!("writing the Pod object: {error}"));
    }
    mesh.changed.notify_waiters();
}

async fn run(mesh: &Rc<Mesh>, pod: &Rc<Pod>) -> anyhow::Result<()> {
    let plan = make_plan(mesh, pod)?;
    pod.role.set(plan.role);
    let (mut channel, mut process) = spawn(mesh, pod)?;
    let set_up = tokio::time::timeout(SET_UP_DEADLINE, set_up(mesh, pod, plan, &mut channel, &process));
    set_up.await.context("the pod could not be set up in time")??;
    *pod.sender.borrow_mut() = Some(channel.sender.clone());
    let mut asked = false;
    loop {
        tokio::select! {
            message = channel.receiver.receive::<FromPod>() => match message? {
                Some((message, _)) => handle(mesh, pod, message)?,
                None => break,
            },
            () = pod.stopping.cancelled(), if !asked => {
                asked = true;
                leave(mesh, pod).await;
                channel.sender.send(&ToPod::Stop { grace: pod.grace() }).await?;
            }
        }
    }
    let code = process.wait().await;
    if asked { Ok(()) } else { bail!("the pod's first process ended with exit code {code}") }
}

/// Takes the pod out of its services before anything in it ends, so that no request is sent to it in vain.
async fn leave(mesh: &Mesh, pod: &Pod) {
    publish(mesh, pod);
    tokio::select! {
        () = tokio::time::sleep(FAREWELL) => {}
        // Then there is nobody left to send any.
        () = mesh.stopping.cancelled() => {}
    }
}

fn make_plan(mesh: &Mesh, pod: &Pod) -> anyhow::Result<PodPlan> {
    plan::plan(Inputs {
        store: &mesh.store.borrow(),
        start: &mesh.start,
        pod: &pod.desired,
        place: &pod.place,
        control_root: &control_plane::root(mesh),
        token: sign(mesh, pod)?,
    })
}

fn sign(mesh: &Mesh, pod: &Pod) -> anyhow::Result<String> {
    let subject = Subject {
        namespace: &pod.place.namespace,
        service_account: &pod.place.service_account,
        pod: &pod.place.name,
        uid: &pod.place.uid,
    };
    mesh.issuer.sign(&subject, SystemTime::now())
}

/// Hands a pod a new token.
pub(super) async fn renew_token(mesh: &Mesh, pod: &Pod) {
    let sender = pod.sender.borrow().clone();
    let renewed = match (sender, sign(mesh, pod)) {
        (Some(sender), Ok(token)) => sender.send(&ToPod::Token(token)).await.map_err(Into::into),
        (_, Err(error)) => Err(error),
        (None, _) => Ok(()),
    };
    if let Err(error) = renewed {
        pod.note(format!("renewing the token: {error:#}"));
    }
}

fn spawn(mesh: &Mesh, pod: &Pod) -> anyhow::Result<(Channel, Process)> {
    let (ours, theirs) = UnixStream::pair().context("making a socket pair")?;
    let (log, writer) = std::io::pipe().context("making a pipe")?;
    pod.rings.borrow_mut().insert(POD_LOG.to_owned(), Ring::fed_by(log.into())?);
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("mesh")
        .arg("pod")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(writer);
    let process =
        spawn_in_pid_namespace(&mesh.reaper, &mut command).context("starting the pod's first process")?;
    Ok((Channel::new(ours.into())?, process))
}

/// The child is process 1 of a new pid namespace; this process's later children are not in it.
fn spawn_in_pid_namespace(reaper: &Reaper, command: &mut Command) -> anyhow::Result<Process> {
    let own = File::open("/proc/self/ns/pid").context("opening our pid namespace")?;
    sys::unshare(UnshareFlags::NEWPID).context("making a pid namespace")?;
    let process = reaper.spawn(command);
    rustix::thread::move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::ProcessID))
        .context("returning to our pid namespace")?;
    Ok(process?)
}

async fn set_up(
    mesh: &Mesh,
    pod: &Pod,
    plan: PodPlan,
    channel: &mut Channel,
    process: &Process,
) -> anyhow::Result<()> {
    let Some((FromPod::Unshared, _)) = channel.receiver.receive().await? else {
        bail!("the pod's first process ended early");
    };
    mesh.network.attach(u32::from(pod.number), process.pid).await?;
    let logs = open_logs(pod, &plan)?;
    let listeners = plan.proxy.iter().flat_map(|proxy| mesh.listeners.iter().take(proxy.listeners.len()));
    let way_out = if plan.proxy.is_some() { Some(mesh.way_out().await?) } else { None };
    let descriptors: Vec<BorrowedFd<'_>> =
        logs.iter().chain(listeners).chain(&way_out).map(OwnedFd::as_fd).collect();
    Ok(channel.sender.send_with(&ToPod::Start(Box::new(plan)), &descriptors).await?)
}

/// The write ends of a pipe per container; the read ends fill the pod's logs.
fn open_logs(pod: &Pod, plan: &PodPlan) -> anyhow::Result<Vec<OwnedFd>> {
    let mut writers = Vec::new();
    for name in plan.log_names() {
        let (reader, writer) = std::io::pipe().context("making a pipe")?;
        pod.rings.borrow_mut().insert(name, Ring::fed_by(reader.into())?);
        writers.push(writer.into());
    }
    Ok(writers)
}

fn handle(mesh: &Mesh, pod: &Pod, message: FromPod) -> anyhow::Result<()> {
    match message {
        FromPod::Unshared => {}
        FromPod::Failed { message } => bail!(message),
        FromPod::State(state) => {
            *pod.state.borrow_mut() = state;
            publish(mesh, pod);
        }
        FromPod::ExecDone { id, .. } | FromPod::AdminDone { id, .. } => {
            if let Some(asker) = pod.questions.borrow_mut().remove(&id) {
                // One who no longer waits needs no answer.
                let _ = asker.send(message);
            }
        }
    }
    Ok(())
}

impl Pod {
    /// Asks the pod's first process something it answers with the same number.
    pub(super) async fn ask(
        &self,
        id: u64,
        question: &ToPod,
        descriptors: &[BorrowedFd<'_>],
    ) -> anyhow::Result<FromPod> {
        let (sender, answer) = oneshot::channel();
        self.questions.borrow_mut().insert(id, sender);
        self.send(question, descriptors).await?;
        answer.await.context("the pod ended")
    }

    pub(super) async fn send(&self, message: &ToPod, descriptors: &[BorrowedFd<'_>]) -> anyhow::Result<()> {
        let sender = self.sender.borrow().clone().context("the pod has not started yet")?;
        Ok(sender.send_with(message, descriptors).await?)
    }

    /// Ends the pod; it leaves the table when it is gone.
    pub(super) fn stop(&self) {
        self.stopping.cancel();
    }

    pub(super) fn is_ready(&self) -> bool {
        let state = self.state.borrow();
        !self.stopping.is_cancelled()
            && !state.containers.is_empty()
            && state.containers.values().all(|container| container.ready)
            && (self.role.get() == Role::Plain || state.containers.contains_key(PROXY_CONTAINER))
    }

    pub(super) fn is_finished(&self) -> bool {
        self.state.borrow().finished.is_some()
    }

    pub(super) fn phase(&self) -> Phase {
        let state = self.state.borrow();
        match state.finished {
            Some(true) => Phase::Succeeded,
            Some(false) => Phase::Failed,
            None if state.containers.values().any(|container| container.message.is_empty()) => Phase::Running,
            None => Phase::Pending,
        }
    }

    pub(super) fn status(&self) -> PodStatus {
        PodStatus {
            namespace: self.place.namespace.clone(),
            name: self.place.name.clone(),
            address: self.place.address.to_string(),
            phase: self.phase(),
            ready: self.is_ready(),
            sidecar: self.role.get() == Role::Sidecar,
            restarts: self.state.borrow().containers.values().map(|container| container.restarts).sum(),
            message: if self.is_ready() || self.phase() == Phase::Succeeded {
                String::new()
            } else {
                self.trouble()
            },
        }
    }

    /// Why the pod is not ready.
    pub(super) fn trouble(&self) -> String {
        let message = self.message.borrow().clone();
        if !message.is_empty() {
            return message;
        }
        let state = self.state.borrow();
        let troubled = state.containers.iter().filter(|(_, container)| !container.ready);
        let troubles = troubled.map(|(name, container)| match container.message.as_str() {
            "" => format!("{name}: running, not ready"),
            message => format!("{name}: {message}"),
        });
        troubles.collect::<Vec<_>>().join("; ")
    }

    /// The last log lines of the containers that are not ready.
    pub(super) fn last_words(&self) -> Vec<String> {
        const LINES: usize = 10;
        let state = self.state.borrow();
        let unready = |name: &str| !state.containers.get(name).is_some_and(|container| container.ready);
        let rings = self.rings.borrow();
        let lines = rings.iter().filter(|(name, _)| unready(name)).flat_map(|(name, ring)| {
            ring.tail(LINES).0.into_iter().map(move |line| format!("{name} | {line}"))
        });
        lines.collect()
    }

    /// Logs by container name; of all but the proxy when none is named.
    pub(super) fn logs(&self, container: Option<&str>) -> Vec<(String, Rc<Ring>)> {
        let wanted = |name: &str| match container {
            Some(container) => name == container,
            None => self.role.get() == Role::Gateway || name != PROXY_CONTAINER,
        };
        let rings = self.rings.borrow();
        rings
            .iter()
            .filter(|(name, _)| wanted(name))
            .map(|(name, ring)| (name.clone(), Rc::clone(ring)))
            .collect()
    }

    /// Whether a user may mean this pod by that name.
    pub(super) fn answers_to(&self, name: &str) -> bool {
        let labels = &self.desired.template.metadata.labels;
        let app = labels.get("app").or_else(|| labels.get("app.kubernetes.io/name"));
        self.place.name == name
            || self.desired.owner.name == name
            || app.is_some_and(|app| app == name)
            || self.place.service_account == name
    }

    fn grace(&self) -> Duration {
        let asked = self.desired.template.spec.termination_grace_period_seconds.map(Duration::from_secs);
        asked.unwrap_or(LONGEST_GRACE).min(LONGEST_GRACE)
    }

    fn note(&self, message: String) {
        if let Some(ring) = self.rings.borrow().get(POD_LOG) {
            ring.push(message.clone());
        }
        *self.message.borrow_mut() = message;
    }
}
