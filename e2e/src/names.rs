//! `mesh-echo names`: a resolver that has some names answered like others, and forwards all else as it is.
//!
//! With it, pods of a test know names of the world outside, and the cluster's own resolver is left alone. It speaks UDP alone.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use hickory_proto::op::Message;
use hickory_proto::rr::Name;
use mesh_core::engine::nameservers;
use tokio::net::UdpSocket;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;

use crate::client::print_line;

/// For the resolver that is asked; who asks here asks again then.
const PATIENCE: Duration = Duration::from_secs(2);
const LONGEST: usize = 4096;

/// Arguments of `names`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// UDP port to answer on.
    #[arg(long, default_value_t = 5353)]
    listen: u16,
    /// A name, and the one whose addresses it has.
    #[arg(required = true, value_parser = alias, value_name = "NAME=OTHER")]
    aliases: Vec<(Name, Name)>,
}

struct Resolver {
    aliases: BTreeMap<Name, Name>,
    upstream: SocketAddr,
    socket: UdpSocket,
}

/// Answers until it is ended.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let resolv_conf = std::fs::read_to_string("/etc/resolv.conf").context("cannot read /etc/resolv.conf")?;
    let upstream =
        nameservers(&resolv_conf).first().copied().context("/etc/resolv.conf names no resolver")?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, arguments.listen)).await?;
    print_line(&format!("names on port {}, all others from {upstream}", arguments.listen));
    let resolver = Rc::new(Resolver { aliases: arguments.aliases.into_iter().collect(), upstream, socket });
    LocalSet::new().run_until(resolver.serve()).await
}

fn alias(text: &str) -> anyhow::Result<(Name, Name)> {
    let (name, other) = text.split_once('=').context("not NAME=OTHER")?;
    let parse = |text: &str| Ok::<_, anyhow::Error>(Name::from_ascii(format!("{text}."))?.to_lowercase());
    Ok((parse(name)?, parse(other)?))
}

impl Resolver {
    async fn serve(self: Rc<Self>) -> anyhow::Result<()> {
        let mut buffer = [0; LONGEST];
        loop {
            let (length, client) = self.socket.recv_from(&mut buffer).await?;
            let (question, this) = (buffer[..length].to_vec(), Rc::clone(&self));
            spawn_local(async move {
                // Whoever gets no answer asks again.
                if let Ok(answer) = this.answer(&question).await {
                    let _ = this.socket.send_to(&answer, client).await;
                }
            });
        }
    }

    async fn answer(&self, question: &[u8]) -> anyhow::Result<Vec<u8>> {
        let mut message = Message::from_vec(question)?;
        let asked = message.queries.first().context("no question")?.name().clone();
        let Some(other) = self.aliases.get(&asked.to_lowercase()) else {
            return self.forward(question).await;
        };
        message.queries[0].set_name(other.clone());
        let mut answer = Message::from_vec(&self.forward(&message.to_vec()?).await?)?;
        for query in &mut answer.queries {
            query.set_name(asked.clone());
        }
        for record in answer.answers.iter_mut().filter(|record| record.name == *other) {
            record.name = asked.clone();
        }
        Ok(answer.to_vec()?)
    }

    async fn forward(&self, question: &[u8]) -> anyhow::Result<Vec<u8>> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        socket.connect(self.upstream).await?;
        socket.send(question).await?;
        let mut buffer = [0; LONGEST];
        let length = timeout(PATIENCE, socket.recv(&mut buffer)).await??;
        Ok(buffer[..length].to_vec())
    }
}
