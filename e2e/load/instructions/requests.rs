//! Instructions of whole programs per request: our gateway, and the plain forwarder that it is compared with.
//!
//! Each runs under valgrind as it runs in production, in front of the same backend. Only what the program does itself is
//! counted, not the kernel: it is the part that is ours to change, and the same on a busy machine as on an idle one.

use std::path::Path;

use anyhow::Context as _;

use super::collected;
use crate::case::{Case, Entrance};
use crate::certificate::Certificate;
use crate::features::Feature;
use crate::generator::Generator;
use crate::process::Launch;
use crate::round;
use crate::subject::{self, Subject};

/// Before it counts, so that nothing is new.
const WARM_UP: u64 = 300;
const COUNTED: u64 = 2_000;
const CONNECTIONS: usize = 4;

/// A program and how clients come to it.
#[derive(Clone, Copy)]
pub(super) enum Program {
    Forwarder,
    /// Our engine alone, within this program.
    Engine,
    /// Our gateway, with a control plane.
    Gateway(Entrance),
    /// The gateway with a feature, on HTTP/1.1.
    With(&'static str),
}

/// What is counted, by name. The forwarder is the reference of all others.
pub(super) const ALL: &[(&str, Program)] = &[
    ("forwarder-h1", Program::Forwarder),
    ("engine-h1", Program::Engine),
    ("gateway-h1", Program::Gateway(Entrance::Http1)),
    ("gateway-h2", Program::Gateway(Entrance::Http2)),
    ("gateway-tls", Program::Gateway(Entrance::Tls)),
    ("access-log", Program::With("access-log")),
    ("tracing-1", Program::With("tracing-1")),
    ("tracing-100", Program::With("tracing-100")),
    ("authorization-100", Program::With("authorization-100")),
    ("authorization-1000", Program::With("authorization-1000")),
    ("jwt", Program::With("jwt")),
    ("rate-limit", Program::With("rate-limit")),
    ("routes-5000", Program::With("routes-5000")),
    ("routes-10000", Program::With("routes-10000")),
];

impl Program {
    /// What must lie beside this program.
    pub(super) const fn needs(self) -> &'static [&'static str] {
        match self {
            Self::Forwarder | Self::Engine => &[],
            Self::Gateway(_) | Self::With(_) => &["mesh-control", "mesh-ingress", "mesh-echo"],
        }
    }
}

/// Instructions per request. Where they went is left in `profiles`, for `callgrind_annotate`.
pub(super) async fn count(name: &str, program: Program, profiles: &Path) -> anyhow::Result<u64> {
    let launch = Launch::Counted(&profiles.join(name));
    let folder = tempfile::tempdir()?;
    let certificate = Certificate::generate(folder.path())?;
    let (address, _backend) = round::start_backend()?;
    let feature = if let Program::With(name) = program { Feature::named(name)? } else { Feature::default() };
    let (subject, log) = match program {
        Program::Forwarder => {
            (subject::reference(address, folder.path(), launch).await?, "hyper.log".to_owned())
        }
        Program::Engine => (subject::engine(address, folder.path(), launch).await?, "engine.log".to_owned()),
        Program::Gateway(_) | Program::With(_) => (
            subject::gateway(name, address, folder.path(), &certificate, launch, &feature).await?,
            format!("mesh{}/mesh-ingress.log", feature.name),
        ),
    };
    let entrance = if let Program::Gateway(entrance) = program { entrance } else { Entrance::Http1 };
    drive(subject, entrance, &certificate).await?;
    Ok(collected(&folder.path().join(log))? / COUNTED)
}

/// Sends requests, then ends the program: valgrind tells its count then. What a start takes is not counted, as it differs
/// from one to the next: keys are made, and the randomness for them is measured jitter.
async fn drive(mut subject: Subject, entrance: Entrance, certificate: &Certificate) -> anyhow::Result<()> {
    let case = Case { entrance, connections: CONNECTIONS, ..Case::SMALL };
    let address = subject.address(entrance).context("the program does not take it")?;
    let mut generator = Generator::open(address, case, &certificate.der, &subject.headers).await?;
    generator.send(WARM_UP).await?;
    let process = subject.processes.pop().context("a subject has a process")?;
    process.quiet().await?;
    process.count("on")?;
    generator.send(COUNTED).await?;
    process.count("off")?;
    drop(generator);
    process.finish().await
}
