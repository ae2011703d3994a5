//! Startup, readiness and liveness of a container, as kubelet sees them.
//!
//! Probes go to the pod's address with the mark that capture exempts: they ask the container, not the proxy.
//! Until a container is first ready it is asked more often than its period says, so that a mesh starts quickly.

use std::net::SocketAddr;
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use super::Pod;
use crate::local::container::{self, Launch};
use crate::local::fetch;
use crate::local::plan::{Check, ContainerPlan, Hook, ProbePlan};

const EAGER_PERIOD: Duration = Duration::from_millis(100);
/// A hook that takes longer has failed.
const LONGEST_HOOK: Duration = Duration::from_secs(30);

/// The readiness of every proxy and gateway.
pub(super) fn of_proxy() -> ProbePlan {
    ProbePlan {
        check: Check::Http { port: 15021, path: "/healthz/ready".to_owned(), headers: Vec::new() },
        initial_delay: Duration::ZERO,
        period: Duration::from_secs(2),
        timeout: Duration::from_secs(3),
        success_threshold: 1,
        failure_threshold: 4,
    }
}

/// Keeps the container's readiness up to date; returns when its liveness probe has failed too often.
pub(super) async fn until_unhealthy(pod: &Rc<Pod>, container: &ContainerPlan) {
    if let Some(hook) = &container.post_start
        && !carry_out(pod, container, hook).await
    {
        return;
    }
    if let Some(startup) = &container.startup
        && !has_started(pod, container, startup).await
    {
        return;
    }
    tokio::select! {
        () = watch_readiness(pod, container) => {}
        () = watch_liveness(pod, container) => {}
    }
}

async fn has_started(pod: &Rc<Pod>, container: &ContainerPlan, probe: &ProbePlan) -> bool {
    tokio::time::sleep(probe.initial_delay).await;
    let deadline = tokio::time::Instant::now() + probe.period * probe.failure_threshold;
    while !succeeds(pod, container, probe).await {
        if tokio::time::Instant::now() > deadline {
            return false;
        }
        tokio::time::sleep(EAGER_PERIOD.min(probe.period)).await;
    }
    true
}

/// Never returns while the container is to live.
async fn watch_readiness(pod: &Rc<Pod>, container: &ContainerPlan) {
    let set = |ready: bool| {
        if pod.state.borrow().containers.get(&container.name).is_some_and(|state| state.ready != ready) {
            pod.update(|state| state.containers.entry(container.name.clone()).or_default().ready = ready);
        }
    };
    let Some(probe) = &container.readiness else {
        set(true);
        return std::future::pending().await;
    };
    tokio::time::sleep(probe.initial_delay).await;
    let (mut successes, mut failures, mut ready) = (0, 0, false);
    loop {
        if succeeds(pod, container, probe).await {
            (successes, failures) = (successes + 1, 0);
            ready |= successes >= probe.success_threshold;
        } else {
            (successes, failures) = (0, failures + 1);
            ready &= failures < probe.failure_threshold;
        }
        set(ready);
        tokio::time::sleep(if ready { probe.period } else { EAGER_PERIOD.min(probe.period) }).await;
    }
}

/// Returns when the probe has failed too often in a row.
async fn watch_liveness(pod: &Rc<Pod>, container: &ContainerPlan) {
    let Some(probe) = &container.liveness else { return std::future::pending().await };
    tokio::time::sleep(probe.initial_delay).await;
    let mut failures = 0;
    while failures < probe.failure_threshold {
        tokio::time::sleep(probe.period).await;
        failures = if succeeds(pod, container, probe).await { 0 } else { failures + 1 };
    }
}

/// Carries out a hook; the pod's grace bounds the time, as for kubelet.
pub(super) async fn carry_out(pod: &Rc<Pod>, container: &ContainerPlan, hook: &Hook) -> bool {
    match hook {
        Hook::Sleep(time) => {
            tokio::time::sleep(*time).await;
            true
        }
        Hook::Do(check) => passes(pod, container, check, LONGEST_HOOK).await,
    }
}

async fn succeeds(pod: &Rc<Pod>, container: &ContainerPlan, probe: &ProbePlan) -> bool {
    passes(pod, container, &probe.check, probe.timeout).await
}

async fn passes(pod: &Rc<Pod>, container: &ContainerPlan, check: &Check, limit: Duration) -> bool {
    let address = |port| SocketAddr::from((pod.plan.place.address, port));
    match check {
        Check::Http { port, path, headers } => {
            let answer = fetch::get_with(address(*port), path, headers, limit).await;
            answer.is_ok_and(|(status, _)| (200..400).contains(&status))
        }
        Check::Tcp { port } => {
            tokio::time::timeout(limit, fetch::connect(address(*port))).await.is_ok_and(|it| it.is_ok())
        }
        Check::Exec { command } => {
            let launch = Launch { command: command.clone(), ..pod.launch(container) };
            let quiet = |command: &mut std::process::Command| {
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            };
            let Ok(mut process) = container::spawn(&pod.reaper, &launch, quiet) else { return false };
            match tokio::time::timeout(limit, process.wait()).await {
                Ok(code) => code == 0,
                Err(_) => {
                    process.signal_group(rustix::process::Signal::KILL);
                    false
                }
            }
        }
    }
}
