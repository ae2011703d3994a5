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

/// Before it counts, so that nothing is new.
const WARM_UP: u64 = 300;
const COUNTED: u64 = 2_000;
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
    let profile = &profiles.join(name);
    let folder = tempfile::tempdir()?;
    let certificate = Certificate::generate(folder.path())?;
    let (address, _backend) = round::start_backend()?;
    let launch = Launch::Counted(profile);
    let total = match program {
        Program::Forwarder => {
            let started = subject::reference(address, folder.path(), launch).await?;
            let entrance = Entrance::Http1;
            let at = started.address(entrance).context("the forwarder takes HTTP/1.1")?;
            drive(at, entrance, &certificate, started.process).await?;
            collected(&folder.path().join("hyper.log"))
        }
        Program::Gateway(entrance) => {
            let started = mesh::start(address, folder.path(), &certificate, launch).await?;
            let at = if entrance == Entrance::Tls { started.tls } else { started.clear };
            drive(at, entrance, &certificate, started.gateway).await?;
            collected(&folder.path().join("mesh/mesh-ingress.log"))
        }
    };
    Ok(total? / COUNTED)
}

/// Sends requests, then ends the program: valgrind tells its count then. What a start takes is not counted, as it differs
/// from one to the next: keys are made, and the randomness for them is measured jitter.
async fn drive(
    address: SocketAddr,
    entrance: Entrance,
    certificate: &Certificate,
    process: Running,
) -> anyhow::Result<()> {
    let case = Case { entrance, connections: CONNECTIONS, ..Case::SMALL };
    let mut generator = Generator::open(address, case, &certificate.der).await?;
    generator.send(WARM_UP).await?;
    process.count("on")?;
    generator.send(COUNTED).await?;
    process.count("off")?;
    drop(generator);
    process.finish().await
}
