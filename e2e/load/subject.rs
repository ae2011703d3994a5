//! What is measured: our gateway, the reference, and the peers that a TOML file describes.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::case::Entrance;
use crate::certificate::{Certificate, Identities};
use crate::features::{Feature, TELEMETRY};
use crate::process::{Launch, Running, free_address};
use crate::{Chosen, mesh};

/// How names of our gateway with a feature begin.
const WITH_FEATURE: &str = "mesh+";
const BUILT_IN: &str = include_str!("subjects/subjects.toml");

/// A subject that serves.
pub(crate) struct Subject {
    pub(crate) name: String,
    /// Where it takes what.
    entrances: Vec<(Entrance, SocketAddr)>,
    /// The processes that are measured; at least one.
    pub(crate) processes: Vec<Running>,
    /// What requests of HTTP/1.1 bring for it, as lines of a head.
    pub(crate) headers: String,
    /// Those that must run as well.
    _beside: Vec<Running>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    subject: Vec<Peer>,
}

/// A peer, by a few lines of TOML.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Peer {
    name: String,
    /// The program; a path, or a name that is looked for in `PATH`.
    program: String,
    /// How to get it.
    install: String,
    /// `{config}` and `{folder}` are replaced.
    arguments: Vec<String>,
    /// The configuration file's name: some programs go by what it ends in.
    file: String,
    /// The configuration file's text; `{backend_port}`, `{folder}`, `{chain}`, `{key}`, `{both}` and `{identities}` are
    /// replaced, and each of [`PORTS`], where it is measured then.
    config: String,
    /// What stands for `{telemetry}` in the configuration when the peer is measured as `NAME+telemetry`, too: an access log as
    /// JSON and, where the peer can, spans of 1 % of requests, to `{collector_port}`. Nothing stands for it otherwise.
    telemetry: Option<String>,
    /// The configuration of a second process of the program, behind the first, which reaches it at `{called_port}`: the
    /// second hop of a chain.
    behind: Option<String>,
}

impl Subject {
    /// Where it takes such traffic; none when it does not.
    pub(crate) fn address(&self, entrance: Entrance) -> Option<SocketAddr> {
        let asked = if entrance == Entrance::Handshakes { Entrance::Tls } else { entrance };
        self.entrances.iter().find(|(its, _)| *its == asked).map(|(_, address)| *address)
    }

    /// Processor time that it has used.
    pub(crate) fn processor_time(&self) -> Duration {
        self.processes.iter().map(Running::processor_time).sum()
    }

    /// Memory that it holds, shared pages by share (PSS), in bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.processes.iter().map(Running::memory).sum()
    }
}

/// Starts every subject that is wanted and there, and says which are not.
pub(crate) async fn start_all(
    chosen: &Chosen,
    backend: SocketAddr,
    folder: &Path,
    certificate: &Certificate,
) -> anyhow::Result<Vec<Subject>> {
    let identities = Identities::generate(folder)?;
    let wanted = |name: &str| chosen.subject.is_empty() || chosen.subject.iter().any(|n| n == name);
    let mut subjects = Vec::new();
    if wanted("mesh") {
        subjects.push(ours("mesh", backend, folder, certificate).await?);
    }
    for name in chosen.subject.iter().filter(|name| name.starts_with(WITH_FEATURE)) {
        subjects.push(ours(name, backend, folder, certificate).await?);
    }
    if chosen.subject.iter().any(|name| name == "engine") {
        subjects.push(engine(backend, folder, Launch::Plain).await?);
    }
    if wanted("mesh-chain") {
        subjects.push(chain(backend, folder, &identities).await?);
    }
    if wanted("hyper") {
        subjects.push(reference(backend, folder, Launch::Plain).await?);
    }
    let told = |peer: &Peer| chosen.subject.iter().any(|name| *name == with_telemetry(&peer.name));
    for peer in peers(chosen)?.into_iter().flat_map(|peer| peer.variants(&wanted, &told)) {
        match find(&peer.program) {
            Some(program) => {
                let name = peer.name.clone();
                subjects.push(
                    peer.start(&program, backend, folder, (certificate, &identities)).await.context(name)?,
                );
            }
            None => eprintln!("{} is not measured: no {} here; {}", peer.name, peer.program, peer.install),
        }
    }
    if subjects.is_empty() {
        bail!("no subject is left to measure");
    }
    Ok(subjects)
}

fn with_telemetry(name: &str) -> String {
    format!("{name}+{TELEMETRY}")
}

fn peers(chosen: &Chosen) -> anyhow::Result<Vec<Peer>> {
    let mut peers = parse(BUILT_IN).context("the built-in subjects")?;
    if let Some(file) = &chosen.subjects {
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        peers.extend(parse(&text).with_context(|| file.display().to_string())?);
    }
    Ok(peers)
}

fn parse(text: &str) -> anyhow::Result<Vec<Peer>> {
    Ok(toml::from_str::<File>(text)?.subject)
}

/// Our gateway, as it is or with the feature that the name tells.
async fn ours(
    name: &str,
    backend: SocketAddr,
    folder: &Path,
    certificate: &Certificate,
) -> anyhow::Result<Subject> {
    let feature = name.strip_prefix(WITH_FEATURE).map(Feature::named).transpose()?.unwrap_or_default();
    gateway(name, backend, folder, certificate, Launch::Plain, &feature).await
}

/// Our gateway with a feature, and its control plane.
pub(crate) async fn gateway(
    name: &str,
    backend: SocketAddr,
    folder: &Path,
    certificate: &Certificate,
    launch: Launch<'_>,
    feature: &Feature,
) -> anyhow::Result<Subject> {
    let started = mesh::start(backend, folder, certificate, launch, feature).await;
    let started = started.with_context(|| name.to_owned())?;
    Ok(Subject {
        name: name.to_owned(),
        entrances: vec![
            (Entrance::Http1, started.clear),
            (Entrance::Http2, started.clear),
            (Entrance::Tls, started.tls),
            (Entrance::Tcp, started.tcp),
        ],
        processes: vec![started.gateway],
        headers: feature.headers.clone(),
        _beside: started.beside,
    })
}

/// The plainest forwarder on hyper.
pub(crate) async fn reference(
    backend: SocketAddr,
    folder: &Path,
    launch: Launch<'_>,
) -> anyhow::Result<Subject> {
    let role = ["forwarder"].map(OsStr::new);
    let (address, process) = within("hyper", role, backend, folder, launch).await?;
    Ok(Subject::of("hyper", Entrance::Http1, address, vec![process]))
}

/// Our engine without a control plane.
pub(crate) async fn engine(
    backend: SocketAddr,
    folder: &Path,
    launch: Launch<'_>,
) -> anyhow::Result<Subject> {
    let (grpc, tcp) = (free_address()?, free_address()?);
    let (grpc_port, tcp_port) = (grpc.port().to_string(), tcp.port().to_string());
    let role = ["engine", "--place", "gateway", "--grpc-port", &grpc_port, "--tcp-port", &tcp_port];
    let (address, process) = within("engine", role.map(OsStr::new), backend, folder, launch).await?;
    let mut subject = Subject::of("engine", Entrance::Http1, address, vec![process]);
    subject.entrances.extend([(Entrance::Grpc, grpc), (Entrance::Tcp, tcp)]);
    Ok(subject)
}

/// Two of our engines as sidecars, the caller's and the called one's, and mutual TLS between them.
async fn chain(backend: SocketAddr, folder: &Path, identities: &Identities) -> anyhow::Result<Subject> {
    let at = identities.folder.as_os_str();
    let role = |place| ["engine", "--identities", "", "--place", place].map(OsStr::new);
    let place = |place| {
        let mut role = role(place);
        role[2] = at;
        role
    };
    let (middle, called) = within("mesh-inbound", place("inbound"), backend, folder, Launch::Plain).await?;
    let (address, caller) = within("mesh-outbound", place("outbound"), middle, folder, Launch::Plain).await?;
    Ok(Subject::of("mesh-chain", Entrance::Chain, address, vec![caller, called]))
}

/// What this program is itself, in a process of its own, and where it listens.
async fn within<const COUNT: usize>(
    name: &str,
    role: [&OsStr; COUNT],
    backend: SocketAddr,
    folder: &Path,
    launch: Launch<'_>,
) -> anyhow::Result<(SocketAddr, Running)> {
    let address = free_address()?;
    let log = folder.join(format!("{name}.log"));
    let mut command = launch.command(&std::env::current_exe()?);
    command.args(role).args(["--listen", &address.to_string(), "--backend", &backend.to_string()]);
    let mut process = Running::start(&mut command, &log)?;
    process.listening(address, &log).await.with_context(|| name.to_owned())?;
    Ok((address, process))
}

impl Subject {
    fn of(name: &str, entrance: Entrance, address: SocketAddr, processes: Vec<Running>) -> Self {
        let (name, entrances) = (name.to_owned(), vec![(entrance, address)]);
        Self { name, entrances, processes, headers: String::new(), _beside: Vec::new() }
    }
}

/// What stands in a configuration for the port to which spans are sent.
const COLLECTOR_PORT: &str = "{collector_port}";

/// What stands in a configuration for a port where such traffic is taken.
const PORTS: [(&str, Entrance); 6] = [
    ("{listen_port}", Entrance::Http1),
    ("{http2_port}", Entrance::Http2),
    ("{grpc_port}", Entrance::Grpc),
    ("{tls_port}", Entrance::Tls),
    ("{tcp_port}", Entrance::Tcp),
    ("{caller_port}", Entrance::Chain),
];

impl Peer {
    /// The peer as it is, and with telemetry, as far as each is wanted.
    fn variants(self, wanted: &impl Fn(&str) -> bool, told: &impl Fn(&Self) -> bool) -> Vec<Self> {
        let mut variants = Vec::new();
        if told(&self) && self.telemetry.is_some() {
            variants.push(Self { name: with_telemetry(&self.name), ..self.clone() });
        }
        if wanted(&self.name) {
            variants.push(Self { telemetry: None, ..self });
        }
        variants
    }

    async fn start(
        self,
        program: &Path,
        backend: SocketAddr,
        folder: &Path,
        (certificate, identities): (&Certificate, &Identities),
    ) -> anyhow::Result<Subject> {
        let own = folder.join(&self.name);
        std::fs::create_dir_all(&own)?;
        let called = free_address()?;
        let (mut beside, mut spans) = (Vec::new(), backend);
        if self.telemetry.as_ref().is_some_and(|text| text.contains(COLLECTOR_PORT)) {
            let (address, process) = mesh::collector(&own).await?;
            spans = address;
            beside.push(process);
        }
        let mut replaced = vec![
            ("{telemetry}", self.telemetry.clone().unwrap_or_default()),
            (COLLECTOR_PORT, spans.port().to_string()),
            ("{backend_port}", backend.port().to_string()),
            ("{called_port}", called.port().to_string()),
            ("{folder}", own.display().to_string()),
            ("{identities}", identities.folder.display().to_string()),
            ("{chain}", certificate.files[0].display().to_string()),
            ("{key}", certificate.files[1].display().to_string()),
            ("{both}", certificate.files[2].display().to_string()),
        ];
        let mut entrances = Vec::new();
        for (stands, entrance) in PORTS.into_iter().filter(|(stands, _)| self.config.contains(stands)) {
            let address = free_address()?;
            entrances.push((entrance, address));
            replaced.push((stands, address.port().to_string()));
        }
        let (_, first) = *entrances.first().context("its configuration names no port to listen on")?;
        let mut processes = Vec::new();
        if let Some(behind) = &self.behind {
            processes.push(self.process(program, &own.join("behind"), behind, &replaced, called).await?);
        }
        processes.push(self.process(program, &own, &self.config, &replaced, first).await?);
        Ok(Subject { name: self.name, entrances, processes, headers: String::new(), _beside: beside })
    }

    /// One process with a configuration, from when it listens.
    async fn process(
        &self,
        program: &Path,
        folder: &Path,
        config: &str,
        replaced: &[(&str, String)],
        address: SocketAddr,
    ) -> anyhow::Result<Running> {
        std::fs::create_dir_all(folder)?;
        let (file, log) = (folder.join(&self.file), folder.join("log"));
        let fill = |text: &str| {
            let with = |text: String, (stands, value): &(&str, String)| text.replace(stands, value);
            replaced.iter().fold(text.replace("{config}", &file.display().to_string()), with)
        };
        std::fs::write(&file, fill(config))?;
        let arguments = self.arguments.iter().map(|text| fill(text));
        let mut process = Running::start(Command::new(program).args(arguments), &log)?;
        process.listening(address, &log).await?;
        Ok(process)
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let path = Path::new(program);
    if path.is_absolute() {
        return path.is_file().then(|| path.to_owned());
    }
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|file| file.is_file())
}
