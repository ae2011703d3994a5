//! Instructions of whole programs per request: our gateway, and the plain forwarder that it is compared with.
//!
//! Each runs under valgrind as it runs in production, in front of the same backend. Only what the program does itself is
//! counted, not the kernel: it is the part that is ours to change, and the same on a busy machine as on an idle one.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;

use super::collected;
use crate::case::{Case, Entrance};
use crate::certificate::Certificate;
use crate::generator::Generator;
use crate::process::{Launch, Running};
use crate::{mesh, round, subject};

const FEW: u64 = 500;
const MANY: u64 = 3_500;
const CONNECTIONS: usize = 4;

/// A program and how clients come to it.
#[derive(Clone, Copy)]
pub(super) enum Program {
    Forwarder,
    Gateway(Entrance),
}

/// What is counted, by name. The forwarder is the reference of all others.
pub(super) const ALL: &[(&str, Program)] = &[
    ("forwarder-h1", Program::Forwarder),
    ("gateway-h1", Program::Gateway(Entrance::Http1)),
    ("gateway-h2", Program::Gateway(Entrance::Http2)),
    ("gateway-tls", Program::Gateway(Entrance::Tls)),
];

/// Instructions per request. Where they went is left in `profiles`, for `callgrind_annotate`.
pub(super) async fn count(name: &str, program: Program, profiles: &Path) -> anyhow::Result<u64> {
    let few = total(program, FEW, &profiles.join(format!("{name}-few"))).await?;
    let many = total(program, MANY, &profiles.join(format!("{name}-many"))).await?;
    many.checked_sub(few).map(|more| more / (MANY - FEW)).context("more requests took fewer instructions")
}

/// All instructions of a program from its start to its end.
async fn total(program: Program, requests: u64, profile: &Path) -> anyhow::Result<u64> {
    let folder = tempfile::tempdir()?;
    let certificate = Certificate::generate(folder.path())?;
    let (address, _backend) = round::start_backend()?;
    let launch = Launch::Counted(profile);
    match program {
        Program::Forwarder => {
            let started = subject::reference(address, folder.path(), launch).await?;
            let entrance = Entrance::Http1;
            let at = started.address(entrance).context("the forwarder takes HTTP/1.1")?;
            drive(at, entrance, &certificate, requests, started.process).await?;
            collected(&folder.path().join("hyper.log"))
        }
        Program::Gateway(entrance) => {
            let started = mesh::start(address, folder.path(), &certificate, launch).await?;
            let at = if entrance == Entrance::Tls { started.tls } else { started.clear };
            drive(at, entrance, &certificate, requests, started.gateway).await?;
            collected(&folder.path().join("mesh/mesh-ingress.log"))
        }
    }
}

/// Sends so many requests, then ends the program: valgrind tells its count then.
async fn drive(
    address: SocketAddr,
    entrance: Entrance,
    certificate: &Certificate,
    requests: u64,
    process: Running,
) -> anyhow::Result<()> {
    let case = Case { entrance, connections: CONNECTIONS, ..Case::SMALL };
    let mut generator = Generator::open(address, case, &certificate.der).await?;
    generator.send(requests).await?;
    drop(generator);
    process.finish().await
}
