//! `mesh pod`: the first process of a pod. It makes the pod's namespaces and plays the container runtime in them.
//!
//! It is process 1 of the pod's pid namespace, so that ending it ends the pod. It knows no object: a [`PodPlan`] says
//! what to run.

mod containers;
mod probe;
mod setup;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal};
use rustix::thread::UnshareFlags;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::channel::{Channel, Receiver, Sender};
use super::container::{self, Launch, Privileges};
use super::enter;
use super::fetch;
use super::plan::{ContainerPlan, PodPlan};
use super::protocol::{FromPod, PodState, ToPod};
use super::reaper::Reaper;
use crate::sys;

const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 15000);
const ADMIN_DEADLINE: Duration = Duration::from_secs(10);

/// What the tasks of a pod share.
struct Pod {
    plan: PodPlan,
    reaper: Rc<Reaper>,
    sender: Sender,
    logs: BTreeMap<String, OwnedFd>,
    /// Listeners of a gateway, then the socket on which the proxy asks for connections to the outside.
    inherited: Vec<OwnedFd>,
    state: RefCell<PodState>,
    /// Wakes the task that tells the supervisor of a new state, and those who wait for one.
    state_changed: Notify,
    /// No container is to be started again.
    stopping: CancellationToken,
    /// The proxy outlives the containers.
    proxy_stopping: CancellationToken,
    commands: RefCell<BTreeMap<u64, Pid>>,
    running: Cell<usize>,
}

/// Runs until the supervisor says stop or goes away.
pub(crate) fn run() -> anyhow::Result<()> {
    enter::die_with_parent()?;
    let socket = enter::take_stdin()?;
    sys::unshare(UnshareFlags::NEWNET | UnshareFlags::NEWNS | UnshareFlags::NEWUTS)
        .context("making namespaces")?;
    super::supervisor::run_local(serve(socket))
}

async fn serve(socket: OwnedFd) -> anyhow::Result<()> {
    let mut channel = Channel::new(socket)?;
    let reaper = Reaper::start()?;
    channel.sender.send(&FromPod::Unshared).await?;
    let Some((ToPod::Start(plan), descriptors)) = channel.receiver.receive().await? else {
        bail!("the supervisor sent no plan");
    };
    let sender = channel.sender.clone();
    match begin(*plan, descriptors, channel.sender, reaper).await {
        Ok(pod) => listen(pod, channel.receiver).await,
        Err(error) => Ok(sender.send(&FromPod::Failed { message: format!("{error:#}") }).await?),
    }
}

async fn begin(
    plan: PodPlan,
    descriptors: Vec<OwnedFd>,
    sender: Sender,
    reaper: Rc<Reaper>,
) -> anyhow::Result<Rc<Pod>> {
    setup::prepare(&plan).await?;
    let mut descriptors = descriptors.into_iter();
    let logs = plan.log_names().into_iter().zip(&mut descriptors).collect();
    let pod = Rc::new(Pod {
        logs,
        inherited: descriptors.collect(),
        plan,
        reaper,
        sender,
        state: RefCell::default(),
        state_changed: Notify::new(),
        stopping: CancellationToken::new(),
        proxy_stopping: CancellationToken::new(),
        commands: RefCell::default(),
        running: Cell::new(0),
    });
    tokio::task::spawn_local(publish(Rc::clone(&pod)));
    tokio::task::spawn_local(containers::run_all(Rc::clone(&pod)));
    Ok(pod)
}

/// Tells the supervisor of the newest state; intermediate ones may be skipped.
async fn publish(pod: Rc<Pod>) {
    let mut told = None;
    loop {
        let changed = pod.state_changed.notified();
        let state = pod.state.borrow().clone();
        if told.as_ref() != Some(&state) {
            if pod.sender.send(&FromPod::State(state.clone())).await.is_err() {
                return;
            }
            told = Some(state);
        } else {
            changed.await;
        }
    }
}

async fn listen(pod: Rc<Pod>, mut receiver: Receiver) -> anyhow::Result<()> {
    while let Some((message, descriptors)) = receiver.receive().await? {
        match message {
            ToPod::Start(_) => bail!("a second plan"),
            ToPod::Token(token) => setup::write_token(&pod.plan, &token)?,
            ToPod::Exec { id, container, command } => {
                tokio::task::spawn_local(execute(Rc::clone(&pod), id, container, command, descriptors));
            }
            ToPod::EndExec { id } => pod.end_command(id),
            ToPod::ProxyAdmin { id, path } => {
                tokio::task::spawn_local(ask_proxy(Rc::clone(&pod), id, path));
            }
            ToPod::Stop { grace } => {
                containers::stop(&pod, grace).await;
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn ask_proxy(pod: Rc<Pod>, id: u64, path: String) {
    let (status, body) = match fetch::get(ADMIN, &path, ADMIN_DEADLINE).await {
        Ok(answer) => answer,
        Err(error) => (0, format!("{error:#}")),
    };
    // If the supervisor is gone, so is this pod in a moment.
    let _ = pod.sender.send(&FromPod::AdminDone { id, status, body }).await;
}

async fn execute(
    pod: Rc<Pod>,
    id: u64,
    container: Option<String>,
    command: Vec<String>,
    streams: Vec<OwnedFd>,
) {
    let code = match pod.start_command(container.as_deref(), command, streams) {
        Ok(mut process) => {
            pod.commands.borrow_mut().insert(id, process.pid);
            let code = process.wait().await;
            pod.commands.borrow_mut().remove(&id);
            code
        }
        Err(_) => 126,
    };
    let _ = pod.sender.send(&FromPod::ExecDone { id, code }).await;
}

impl Pod {
    fn start_command(
        &self,
        container: Option<&str>,
        command: Vec<String>,
        streams: Vec<OwnedFd>,
    ) -> anyhow::Result<super::reaper::Process> {
        let launch = match self.container(container) {
            Some(plan) => Launch { command, ..self.launch(plan) },
            None => bail!("no such container"),
        };
        let mut streams = streams.into_iter().map(Stdio::from);
        let (Some(input), Some(output), Some(error)) = (streams.next(), streams.next(), streams.next())
        else {
            bail!("exec without standard streams");
        };
        Ok(container::spawn(&self.reaper, &launch, |command| {
            command.stdin(input).stdout(output).stderr(error);
        })?)
    }

    /// The named container, or the first; the proxy's container stands in where there is no other.
    fn container(&self, name: Option<&str>) -> Option<&ContainerPlan> {
        match name {
            Some(name) => self.plan.containers.iter().find(|container| container.name == name),
            None => self.plan.containers.first(),
        }
    }

    fn launch(&self, container: &ContainerPlan) -> Launch {
        Launch {
            command: container.command.clone(),
            environment: container.environment.clone(),
            directory: container.directory.clone(),
            mounts: container.mounts.clone(),
            user: container.user,
            group: container.group,
            privileges: Privileges::Application,
            identity: self.plan.identity,
            kept: Vec::new(),
        }
    }

    fn end_command(&self, id: u64) {
        if let Some(pid) = self.commands.borrow().get(&id) {
            let _ = rustix::process::kill_process_group(*pid, Signal::KILL);
        }
    }

    fn update(&self, change: impl FnOnce(&mut PodState)) {
        change(&mut self.state.borrow_mut());
        self.state_changed.notify_waiters();
    }

    /// Waits until the state fulfils a condition.
    async fn until(&self, mut condition: impl FnMut(&PodState) -> bool) {
        loop {
            let changed = self.state_changed.notified();
            if condition(&self.state.borrow()) {
                return;
            }
            changed.await;
        }
    }
}
