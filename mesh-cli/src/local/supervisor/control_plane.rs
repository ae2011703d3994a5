//! The control plane's process: started first, watched, started again when it ends.

use std::fs;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::process::Stdio;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::mesh::{FOLDER, Mesh};
use crate::local::container::{self, Launch, Privileges};
use crate::local::fetch;
use crate::local::network::GATEWAY;
use crate::local::protocol::Event;
use crate::local::reaper::Process;
use crate::local::ring::Ring;

/// gRPC for proxies.
pub(crate) const PORT: u16 = 15012;
const ADMIN_PORT: u16 = 15014;
pub(super) const TOKEN_KEYS: &str = "/run/mesh/token-keys.json";
const ROOT_FILE: &str = "/run/mesh/root.pem";
const POLL: Duration = Duration::from_millis(50);
const START_DEADLINE: Duration = Duration::from_secs(60);
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// How long it is waited for that objects are judged, which many or huge ones make long.
const JUDGED: Duration = Duration::from_secs(3);
const BACK_OFF: Duration = Duration::from_secs(1);
/// How it is called in logs.
pub(super) const NAME: &str = "mesh-control";

/// Starts the control plane and waits until it serves; afterwards it is kept running.
pub(super) async fn start(mesh: &Rc<Mesh>) -> anyhow::Result<()> {
    let begun = Instant::now();
    mesh.tell(Event::Starting { subject: "control plane".to_owned() }).await;
    let (log, writer) = std::io::pipe().context("making a pipe")?;
    *mesh.control_log.borrow_mut() = Ring::fed_by(log.into())?;
    let way_out = mesh.way_out().await?;
    let mut process = spawn(mesh, &writer, &way_out)?;
    tokio::select! {
        ready = tokio::time::timeout(START_DEADLINE, until_ready()) => {
            if ready.is_err() {
                bail!("the control plane is not ready after {START_DEADLINE:?}\n{}", last_words(mesh));
            }
        }
        code = process.wait() => {
            // Its last lines are still in the pipe.
            tokio::time::sleep(POLL).await;
            bail!("the control plane ended with exit code {code}\n{}", last_words(mesh));
        }
    }
    *mesh.control_root.borrow_mut() =
        fs::read_to_string(ROOT_FILE).with_context(|| format!("reading {ROOT_FILE}"))?;
    tokio::task::spawn_local(keep_running(Rc::clone(mesh), process, writer, way_out));
    mesh.tell(Event::Ready { subject: "control plane".to_owned(), after: begun.elapsed() }).await;
    Ok(())
}

/// Whom a new pod is to trust: the control plane writes it anew when its authority is replaced.
pub(super) fn root(mesh: &Mesh) -> String {
    if let Ok(root) = fs::read_to_string(ROOT_FILE) {
        *mesh.control_root.borrow_mut() = root;
    }
    mesh.control_root.borrow().clone()
}

/// What the control plane says of proxies and objects; null when it does not answer.
pub(super) async fn status() -> Value {
    match fetch::get(address(), "/status", ANSWER_DEADLINE).await {
        Ok((200, body)) => serde_json::from_str(&body).unwrap_or_default(),
        _ => Value::Null,
    }
}

/// The same once it tells the problems of what is in effect; after [`JUDGED`] those that it knew before.
pub(super) async fn judged() -> Value {
    let begun = Instant::now();
    loop {
        let status = status().await;
        let number = |name: &str| status.get(name).and_then(Value::as_u64);
        if status.is_null() || number("judged") >= number("generation") || begun.elapsed() > JUDGED {
            return status;
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn until_ready() {
    loop {
        let answer = fetch::get(address(), "/ready", ANSWER_DEADLINE).await;
        if answer.is_ok_and(|(status, _)| status == 200) && Path::new(ROOT_FILE).exists() {
            return;
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn keep_running(mesh: Rc<Mesh>, mut process: Process, log: std::io::PipeWriter, way_out: OwnedFd) {
    loop {
        tokio::select! {
            () = mesh.stopping.cancelled() => return,
            code = process.wait() => {
                mesh.control_log.borrow().push(format!("(the control plane ended with exit code {code})"));
            }
        }
        loop {
            tokio::time::sleep(BACK_OFF).await;
            match spawn(&mesh, &log, &way_out) {
                Ok(started) => break process = started,
                Err(error) => mesh.control_log.borrow().push(format!("({error:#})")),
            }
        }
    }
}

fn spawn(mesh: &Mesh, log: &std::io::PipeWriter, way_out: &OwnedFd) -> anyhow::Result<Process> {
    let command = [
        &mesh.start.binaries.join(NAME).display().to_string(),
        "--source",
        &format!("{FOLDER}/objects"),
        "--listen",
        &format!("{GATEWAY}:{PORT}"),
        "--admin",
        &address().to_string(),
        "--dns",
        &format!("{GATEWAY}:53"),
        "--token-keys",
        TOKEN_KEYS,
        "--state",
        &format!("{FOLDER}/control"),
        "--root-out",
        ROOT_FILE,
        // All proxies are on this machine: nobody has to wait long for a new authority.
        "--authority-introduce",
        "3",
        "--authority-renew",
        "5",
    ];
    fs::create_dir_all(format!("{FOLDER}/control")).context("making the control plane's folder")?;
    let launch = Launch {
        command: command.map(ToOwned::to_owned).to_vec(),
        environment: vec![
            ("PATH".to_owned(), mesh.start.search_path.clone()),
            ("MESH_BROKER_FD".to_owned(), way_out.as_raw_fd().to_string()),
        ],
        directory: "/".into(),
        mounts: Vec::new(),
        user: None,
        group: None,
        privileges: Privileges::Application,
        identity: mesh.start.identity,
        kept: vec![way_out.as_raw_fd()],
    };
    let (output, error) = (log.try_clone()?, log.try_clone()?);
    container::inheriting(std::slice::from_ref(way_out), || {
        container::spawn(&mesh.reaper, &launch, |command| {
            command.stdin(Stdio::null()).stdout(output).stderr(error);
        })
    })?
    .context("starting the control plane")
}

fn address() -> SocketAddr {
    SocketAddr::from((GATEWAY, ADMIN_PORT))
}

fn last_words(mesh: &Mesh) -> String {
    mesh.control_log.borrow().tail(20).0.join("\n")
}
