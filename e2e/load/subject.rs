//! What is measured: our gateway, the reference, and the peers that a TOML file describes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::case::Entrance;
use crate::certificate::Certificate;
use crate::process::{Launch, Running, free_address};
use crate::{Measurement, mesh};

const BUILT_IN: &str = include_str!("subjects/subjects.toml");

/// A subject that serves.
pub(crate) struct Subject {
    pub(crate) name: String,
    /// Where it takes HTTP/1.1.
    http1: SocketAddr,
    /// Where it takes HTTP/2 in the clear, and TLS, if it does.
    http2: Option<SocketAddr>,
    tls: Option<SocketAddr>,
    /// The processes that are measured.
    pub(crate) process: Running,
    /// Those that must run as well.
    _beside: Vec<Running>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    subject: Vec<Peer>,
}

/// A peer, by a few lines of TOML.
#[derive(Deserialize)]
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
    /// The configuration file's text; `{listen_port}`, `{backend_port}`, `{folder}`, `{chain}`, `{key}` and `{both}` are
    /// replaced. One that names `{http2_port}` or `{tls_port}` is also measured there.
    config: String,
}

impl Subject {
    /// Where it takes such traffic; none when it does not.
    pub(crate) const fn address(&self, entrance: Entrance) -> Option<SocketAddr> {
        match entrance {
            Entrance::Http1 => Some(self.http1),
            Entrance::Http2 => self.http2,
            Entrance::Tls | Entrance::Handshakes => self.tls,
        }
    }
}

/// Starts every subject that is wanted and there, and says which are not.
pub(crate) async fn start_all(
    measurement: &Measurement,
    backend: SocketAddr,
    folder: &Path,
    certificate: &Certificate,
) -> anyhow::Result<Vec<Subject>> {
    let wanted = |name: &str| measurement.subject.is_empty() || measurement.subject.iter().any(|n| n == name);
    let mut subjects = Vec::new();
    if wanted("mesh") {
        let started = mesh::start(backend, folder, certificate, Launch::Plain).await.context("mesh")?;
        subjects.push(Subject {
            name: "mesh".to_owned(),
            http1: started.clear,
            http2: Some(started.clear),
            tls: Some(started.tls),
            process: started.gateway,
            _beside: vec![started.control],
        });
    }
    if wanted("hyper") {
        subjects.push(reference(backend, folder, Launch::Plain).await.context("hyper")?);
    }
    for peer in peers(measurement)?.into_iter().filter(|peer| wanted(&peer.name)) {
        match find(&peer.program) {
            Some(program) => {
                let name = peer.name.clone();
                subjects.push(peer.start(&program, backend, folder, certificate).await.context(name)?);
            }
            None => eprintln!("{} is not measured: no {} here; {}", peer.name, peer.program, peer.install),
        }
    }
    if subjects.is_empty() {
        bail!("no subject is left to measure");
    }
    Ok(subjects)
}

fn peers(measurement: &Measurement) -> anyhow::Result<Vec<Peer>> {
    let mut peers = parse(BUILT_IN).context("the built-in subjects")?;
    if let Some(file) = &measurement.subjects {
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        peers.extend(parse(&text).with_context(|| file.display().to_string())?);
    }
    Ok(peers)
}

fn parse(text: &str) -> anyhow::Result<Vec<Peer>> {
    Ok(toml::from_str::<File>(text)?.subject)
}

/// The plainest forwarder on hyper.
pub(crate) async fn reference(
    backend: SocketAddr,
    folder: &Path,
    launch: Launch<'_>,
) -> anyhow::Result<Subject> {
    let address = free_address()?;
    let log = folder.join("hyper.log");
    let mut command = launch.command(&std::env::current_exe()?);
    command.args(["forwarder", "--listen", &address.to_string(), "--backend", &backend.to_string()]);
    let mut process = Running::start(&mut command, &log)?;
    process.listening(address, &log).await?;
    Ok(Subject {
        name: "hyper".to_owned(),
        http1: address,
        http2: None,
        tls: None,
        process,
        _beside: Vec::new(),
    })
}

impl Peer {
    async fn start(
        self,
        program: &Path,
        backend: SocketAddr,
        folder: &Path,
        certificate: &Certificate,
    ) -> anyhow::Result<Subject> {
        let (address, http2, tls) = (free_address()?, free_address()?, free_address()?);
        let own = folder.join(&self.name);
        std::fs::create_dir_all(&own)?;
        let fill = |text: &str| {
            text.replace("{listen_port}", &address.port().to_string())
                .replace("{backend_port}", &backend.port().to_string())
                .replace("{http2_port}", &http2.port().to_string())
                .replace("{tls_port}", &tls.port().to_string())
                .replace("{folder}", &own.display().to_string())
                .replace("{chain}", &certificate.files[0].display().to_string())
                .replace("{key}", &certificate.files[1].display().to_string())
                .replace("{both}", &certificate.files[2].display().to_string())
        };
        let config = own.join(&self.file);
        std::fs::write(&config, fill(&self.config))?;
        let config_path = config.display().to_string();
        let arguments = self.arguments.iter().map(|text| fill(text).replace("{config}", &config_path));
        let log = own.join("log");
        let mut process = Running::start(Command::new(program).args(arguments), &log)?;
        process.listening(address, &log).await?;
        Ok(Subject {
            name: self.name,
            http1: address,
            http2: self.config.contains("{http2_port}").then_some(http2),
            tls: self.config.contains("{tls_port}").then_some(tls),
            process,
            _beside: Vec::new(),
        })
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
