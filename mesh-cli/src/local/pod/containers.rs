//! Starting, watching, restarting and stopping the proxy and the containers of a pod.
//!
//! The proxy comes first and the containers only when it is ready, so that no connection of theirs goes around it or
//! fails because of it; on the way down it is the last.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::Signal;
use tokio_util::sync::CancellationToken;

use super::{Pod, probe};
use crate::local::container::{self, Launch, Privileges};
use crate::local::controllers::PROXY_CONTAINER;
use crate::local::manifest::RestartPolicy;
use crate::local::plan::sidecar::{PROXY_USER, RESOLVER_FILE};
use crate::local::plan::{ContainerPlan, MountPlan, ProxyPlan};
use crate::local::protocol::FromPod;
use crate::local::reaper::{ExitCode, Process};

/// Wait before the first restart; doubled for each further one.
const FIRST_BACK_OFF: Duration = Duration::from_millis(500);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(30);
/// After running this long a container has a clean record again.
const PROVEN: Duration = Duration::from_secs(60);
/// For the proxy to drain when everything else has ended.
const PROXY_GRACE: Duration = Duration::from_secs(5);

/// Runs the whole pod; returns when no container will run again.
pub(super) async fn run_all(pod: Rc<Pod>) {
    if let Err(error) = start_in_order(&pod).await {
        let _ = pod.sender.send(&FromPod::Failed { message: format!("{error:#}") }).await;
    }
}

async fn start_in_order(pod: &Rc<Pod>) -> anyhow::Result<()> {
    for container in &pod.plan.containers {
        pod.update(|state| {
            state.containers.entry(container.name.clone()).or_default().message =
                "waiting for its turn".to_owned();
        });
    }
    if let Some(proxy) = &pod.plan.proxy {
        start_proxy(pod, proxy).await?;
    }
    for container in &pod.plan.init {
        if container.stays {
            run_beside(pod, container).await;
        } else {
            run_init(pod, container).await?;
        }
    }
    let tasks: Vec<_> = pod
        .plan
        .containers
        .iter()
        .map(|container| {
            let job = Job { container: container.clone(), kind: Kind::Application };
            tokio::task::spawn_local(keep_running(
                Rc::clone(pod),
                job,
                pod.plan.restart,
                pod.stopping.clone(),
            ))
        })
        .collect();
    if tasks.is_empty() {
        return Ok(());
    }
    let mut succeeded = true;
    for task in tasks {
        succeeded &= task.await.is_ok_and(|code| code == 0);
    }
    if !pod.stopping.is_cancelled() {
        pod.update(|state| state.finished = Some(succeeded));
    }
    Ok(())
}

async fn start_proxy(pod: &Rc<Pod>, proxy: &ProxyPlan) -> anyhow::Result<()> {
    if !proxy.redirect.is_empty() {
        capture(pod, proxy).await?;
    }
    let mut environment = proxy.environment.clone();
    environment.extend(inherited_variables(proxy, &pod.inherited));
    let container = ContainerPlan {
        name: PROXY_CONTAINER.to_owned(),
        command: proxy.command.clone(),
        environment,
        directory: "/".into(),
        // The pod's own names the address at which the proxy answers itself.
        mounts: vec![MountPlan {
            source: RESOLVER_FILE.into(),
            target: "/etc/resolv.conf".into(),
            read_only: true,
        }],
        user: Some(PROXY_USER),
        group: None,
        readiness: Some(probe::of_proxy()),
        startup: None,
        liveness: None,
        post_start: None,
        pre_stop: None,
        stays: false,
    };
    let job = Job { container, kind: Kind::Proxy };
    let stopping = pod.proxy_stopping.clone();
    tokio::task::spawn_local(keep_running(Rc::clone(pod), job, RestartPolicy::Always, stopping));
    if !pod.plan.containers.is_empty() || !pod.plan.init.is_empty() {
        let proxy_ready =
            |state: &super::PodState| state.containers.get(PROXY_CONTAINER).is_some_and(|it| it.ready);
        pod.until(proxy_ready).await;
    }
    Ok(())
}

/// Tells the proxy under which numbers it finds what it inherits.
fn inherited_variables(proxy: &ProxyPlan, inherited: &[OwnedFd]) -> Vec<(String, String)> {
    let (listeners, rest) = inherited.split_at(proxy.listeners.len().min(inherited.len()));
    let mut variables = Vec::new();
    if !listeners.is_empty() {
        let pairs = proxy.listeners.iter().zip(listeners);
        let pairs: Vec<String> =
            pairs.map(|(port, listener)| format!("{port}={}", listener.as_raw_fd())).collect();
        variables.push(("MESH_LISTEN_FDS".to_owned(), pairs.join(",")));
    }
    if let Some(way_out) = rest.first() {
        variables.push(("MESH_BROKER_FD".to_owned(), way_out.as_raw_fd().to_string()));
    }
    variables
}

/// Programs the capture rules; needs the privileges that the proxy itself does not get.
async fn capture(pod: &Pod, proxy: &ProxyPlan) -> anyhow::Result<()> {
    let mut command = proxy.redirect.clone();
    if pod.plan.identity == crate::local::protocol::IdentityMap::Full {
        command.push(format!("--uid={PROXY_USER}"));
    }
    let launch = Launch {
        command,
        environment: proxy.environment.clone(),
        directory: "/".into(),
        mounts: Vec::new(),
        user: None,
        group: None,
        privileges: Privileges::Full,
        identity: pod.plan.identity,
        kept: Vec::new(),
    };
    let log = pod.log(PROXY_CONTAINER)?;
    let mut process = container::spawn(&pod.reaper, &launch, |command| to_log(command, log))?;
    match process.wait().await {
        0 => Ok(()),
        code => bail!("capturing the pod's traffic failed with exit code {code}"),
    }
}

async fn run_init(pod: &Rc<Pod>, container: &ContainerPlan) -> anyhow::Result<()> {
    let policy = if pod.plan.restart == RestartPolicy::Never {
        RestartPolicy::Never
    } else {
        RestartPolicy::OnFailure
    };
    let job = Job { container: container.clone(), kind: Kind::Application };
    let code = keep_running(Rc::clone(pod), job, policy, pod.stopping.clone()).await;
    pod.update(|state| {
        state.containers.remove(&container.name);
    });
    if code == 0 { Ok(()) } else { bail!("init container `{}` ended with exit code {code}", container.name) }
}

/// An init container that goes on: the next begins when it has started, and it ends after the others.
async fn run_beside(pod: &Rc<Pod>, container: &ContainerPlan) {
    let job = Job { container: container.clone(), kind: Kind::Application };
    let stopping = pod.proxy_stopping.clone();
    tokio::task::spawn_local(keep_running(Rc::clone(pod), job, RestartPolicy::Always, stopping));
    pod.until(|state| {
        let state = state.containers.get(&container.name);
        state.is_some_and(|state| state.message.is_empty() && (state.ready || container.startup.is_none()))
    })
    .await;
}

struct Job {
    container: ContainerPlan,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Application,
    Proxy,
}

/// Runs a container again and again as the policy says; returns its last exit code.
async fn keep_running(
    pod: Rc<Pod>,
    job: Job,
    policy: RestartPolicy,
    stopping: CancellationToken,
) -> ExitCode {
    let mut back_off = FIRST_BACK_OFF;
    loop {
        let started = Instant::now();
        let code = run_once(&pod, &job, &stopping).await;
        let again = match policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => code != 0,
            RestartPolicy::Never => false,
        };
        pod.update(|state| {
            let state = state.containers.entry(job.container.name.clone()).or_default();
            state.ready = false;
            state.message =
                if code == 0 && !again { "completed".to_owned() } else { format!("exit code {code}") };
            state.restarts += u32::from(again && !stopping.is_cancelled());
        });
        if !again || stopping.is_cancelled() {
            return code;
        }
        if started.elapsed() > PROVEN {
            back_off = FIRST_BACK_OFF;
        }
        tokio::select! {
            () = tokio::time::sleep(back_off) => {}
            () = stopping.cancelled() => return code,
        }
        back_off = (back_off * 2).min(LONGEST_BACK_OFF);
    }
}

async fn run_once(pod: &Rc<Pod>, job: &Job, stopping: &CancellationToken) -> ExitCode {
    let container = &job.container;
    let mut process = match start(pod, job) {
        Ok(process) => process,
        Err(error) => {
            pod.update(|state| {
                state.containers.entry(container.name.clone()).or_default().message = format!("{error:#}");
            });
            return 126;
        }
    };
    pod.update(|state| {
        let state = state.containers.entry(container.name.clone()).or_default();
        state.message = String::new();
        state.ready = container.readiness.is_none() && container.startup.is_none();
    });
    pod.running.set(pod.running.get() + 1);
    let code = tokio::select! {
        code = process.wait() => code,
        () = stopping.cancelled() => end(pod, container, &mut process).await,
        () = probe::until_unhealthy(pod, container) => {
            process.signal_group(Signal::KILL);
            process.wait().await
        }
    };
    // What the container left in its group ends with it.
    process.signal_group(Signal::KILL);
    pod.running.set(pod.running.get() - 1);
    pod.state_changed.notify_waiters();
    code
}

/// Ends a container in order; whoever stops the pod bounds the time.
async fn end(pod: &Rc<Pod>, container: &ContainerPlan, process: &mut Process) -> ExitCode {
    if let Some(hook) = &container.pre_stop {
        tokio::select! {
            // It may fail: the container ends all the same.
            _ = probe::carry_out(pod, container, hook) => {}
            code = process.wait() => return code,
        }
    }
    process.signal_group(Signal::TERM);
    process.wait().await
}

fn start(pod: &Pod, job: &Job) -> anyhow::Result<Process> {
    let log = pod.log(&job.container.name)?;
    let mut launch = pod.launch(&job.container);
    if job.kind == Kind::Application {
        return container::spawn(&pod.reaper, &launch, |command| to_log(command, log))
            .context("starting a process");
    }
    launch.privileges = Privileges::Proxy;
    launch.kept = pod.inherited.iter().map(std::os::fd::AsRawFd::as_raw_fd).collect();
    container::inheriting(&pod.inherited, || {
        container::spawn(&pod.reaper, &launch, |command| to_log(command, log))
    })?
    .context("starting a process")
}

fn to_log(command: &mut Command, log: (OwnedFd, OwnedFd)) {
    command.stdin(Stdio::null()).stdout(log.0).stderr(log.1);
}

/// Ends the containers within `grace`, then the proxy.
pub(super) async fn stop(pod: &Rc<Pod>, grace: Duration) {
    pod.stopping.cancel();
    // Those that end last.
    let beside = pod.plan.init.iter().filter(|container| container.stays).count();
    let last = usize::from(pod.plan.proxy.is_some()) + beside;
    let _ = tokio::time::timeout(grace, wait_for_running(pod, last)).await;
    pod.proxy_stopping.cancel();
    let _ = tokio::time::timeout(PROXY_GRACE, wait_for_running(pod, 0)).await;
    // Leaving process 1 kills whatever is left.
}

async fn wait_for_running(pod: &Pod, at_most: usize) {
    pod.until(|_| pod.running.get() <= at_most).await;
}

impl Pod {
    /// Standard output and error of a container.
    fn log(&self, container: &str) -> anyhow::Result<(OwnedFd, OwnedFd)> {
        let log = self.logs.get(container).context("a container without a log")?;
        Ok((log.try_clone().context("sharing a log")?, log.try_clone().context("sharing a log")?))
    }
}
