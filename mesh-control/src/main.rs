//! `mesh-control`: reads objects, signs certificates, and tells every proxy what concerns it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser as _;
use kube::Client;
use mesh_control::admin;
use mesh_control::admission;
use mesh_control::allotments::Allotments;
use mesh_control::api::Kind;
use mesh_control::ca::keeper::{Keeper, Standing};
use mesh_control::cluster;
use mesh_control::cluster::authority::Follower;
use mesh_control::dns;
use mesh_control::jwks;
use mesh_control::problem::Problem;
use mesh_control::serve::Plane;
use mesh_control::settings::{Cluster, Settings};
use mesh_control::source::{Change, kubernetes, watch};
use mesh_control::tokens::{Reviewer, Verifier};
use mesh_control::view::View;
use mesh_control::world::{Touched, World};
use mesh_core::broker::Broker;
use mesh_core::daemon::{logging, signals};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Problems of objects that one change has logged.
const MOST_TOLD: usize = 200;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let settings = Settings::parse();
    logging::init();
    // What libraries build for themselves must use our provider too; it fails only if they have installed it already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let stop = signals::stop().context("installing signal handlers")?;
    let cluster = match settings.kubernetes {
        true => Some(Client::try_default().await.context("finding the API server")?),
        false => None,
    };
    let Start { standing, keeper, follower, verifier, changes, allotments } = match &cluster {
        Some(client) => start_on_cluster(client, &settings, &stop).await?,
        None => start_on_files(&settings)?,
    };
    let plane = Plane::new(standing, verifier);
    let listener = bind(settings.listen).await?;
    let pages = bind(settings.admin).await?;
    let dns = match settings.dns {
        Some(address) => {
            let broker = settings.broker_fd.map(Broker::inherited).transpose();
            let broker = broker.context("taking over the socket of MESH_BROKER_FD")?;
            Some(
                dns::Server::bind(address, broker)
                    .await
                    .with_context(|| format!("taking DNS on {address}"))?,
            )
        }
        None => None,
    };
    if let Some(file) = &settings.root_out {
        publish_root(file, &plane.root()).with_context(|| format!("writing {}", file.display()))?;
        tokio::spawn(keep_root_published(file.clone(), Arc::clone(&plane)));
    }
    if let Some(keeper) = keeper {
        tokio::spawn(keeper.keep(Arc::clone(&plane), stop.clone()));
    }
    tracing::info!(address = %settings.listen, "serving proxies");
    if let (Some(client), Some(follower)) = (cluster, follower) {
        write_to_cluster(&client, &settings, follower, &plane, &stop);
    }
    let keys = Keys::start(vec![settings.listen, settings.admin], &stop);
    let mut world = allotments.as_ref().map_or_else(World::default, Allotments::world);
    if settings.kubernetes && !settings.cluster.claim_nginx {
        world.leave_nginx();
    }
    let following = tokio::spawn(follow(Arc::clone(&plane), world, changes, keys, allotments, stop.clone()));
    let admin = tokio::spawn(admin::pages(&plane).serve(pages, stop.clone()));
    let webhooks = match settings.admission.listen() {
        Some(address) => {
            let listener = bind(address).await?;
            let (authority, names) = (Arc::clone(&plane), settings.admission.names());
            let issue = move || Ok(authority.standing().authority.server_named(&names)?);
            let injection = settings.admission.injection();
            let server = admission::server::serve(listener, injection, Box::new(issue), stop.clone());
            Some(tokio::spawn(server))
        }
        None => None,
    };
    let names = dns.map(|server| tokio::spawn(server.serve(Arc::clone(&plane), stop.clone())));
    let served = plane.serve(listener, stop.clone()).await;
    stop.cancel();
    following.await?;
    admin.await?;
    if let Some(names) = names {
        names.await?;
    }
    if let Some(webhooks) = webhooks {
        webhooks.await??;
    }
    served
}

/// Where everything comes from.
struct Start {
    standing: Standing,
    /// Of an authority in files.
    keeper: Option<Keeper>,
    /// Of one in a cluster.
    follower: Option<Follower>,
    verifier: Verifier,
    changes: mpsc::Receiver<Change>,
    /// A cluster gives its services their addresses itself.
    allotments: Option<Allotments>,
}

fn start_on_files(settings: &Settings) -> anyhow::Result<Start> {
    let state = settings.state.as_deref().context("--state is missing")?;
    let keys = settings.token_keys.as_deref().context("--token-keys is missing")?;
    let pace = settings.pace.pace();
    let (keeper, standing) = Keeper::open(state, pace).context("opening the certificate authority")?;
    Ok(Start {
        standing,
        keeper: Some(keeper),
        follower: None,
        verifier: Verifier::new(keys),
        changes: watch(settings.source.clone()).context("following the objects")?,
        allotments: Some(Allotments::open(state)),
    })
}

async fn start_on_cluster(
    client: &Client,
    settings: &Settings,
    stop: &CancellationToken,
) -> anyhow::Result<Start> {
    let namespace = &settings.cluster.namespace;
    let opened = cluster::authority::open(client, namespace, settings.pace.pace()).await;
    let scope =
        kubernetes::Scope { namespaces: settings.cluster.namespaces.clone(), ..kubernetes::Scope::default() };
    let (follower, standing) =
        opened.with_context(|| format!("opening the certificate authority in namespace {namespace}"))?;
    Ok(Start {
        standing,
        keeper: None,
        follower: Some(follower),
        verifier: Verifier::Review(Reviewer::new(client.clone())),
        changes: kubernetes::watch(client.clone(), scope, stop.clone()),
        allotments: None,
    })
}

/// What only the leader among the replicas does, and the following of the authority's Secrets, which all do.
fn write_to_cluster(
    client: &Client,
    settings: &Settings,
    follower: Follower,
    plane: &Arc<Plane>,
    stop: &CancellationToken,
) {
    let Cluster { namespace, pod, .. } = &settings.cluster;
    let terms = cluster::leader::Terms::default();
    let leads = cluster::leader::run(client.clone(), namespace, pod.clone(), terms, stop.clone());
    tokio::spawn(follower.follow(Arc::clone(plane), pod.clone(), leads.clone(), stop.clone()));
    tokio::spawn(cluster::roots::publish(client.clone(), Arc::clone(plane), leads.clone(), stop.clone()));
    tokio::spawn(cluster::webhooks::keep(client.clone(), Arc::clone(plane), leads.clone(), stop.clone()));
    tokio::spawn(cluster::status::write(client.clone(), Arc::clone(plane), leads, stop.clone()));
}

async fn bind(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))
}

/// Written beside and renamed, so that nobody reads half a certificate.
fn publish_root(file: &Path, root: &str) -> std::io::Result<()> {
    let part = file.with_extension("part");
    std::fs::write(&part, root)?;
    std::fs::rename(part, file)
}

/// New proxies read it when they start.
async fn keep_root_published(file: PathBuf, plane: Arc<Plane>) {
    let mut standings = plane.standings();
    while standings.changed().await.is_ok() {
        let anchors = standings.borrow_and_update().anchors.clone();
        if let Err(error) = publish_root(&file, &anchors) {
            tracing::error!(%error, file = %file.display(), "the trust anchors are not published");
        }
    }
}

/// Keys of token issuers, fetched beside the following of objects.
struct Keys {
    wanted: watch::Sender<jwks::Wanted>,
    fetched: mpsc::Receiver<jwks::Fetched>,
}

impl Keys {
    fn start(own: Vec<std::net::SocketAddr>, stop: &CancellationToken) -> Self {
        let (wanted, wishes) = watch::channel(jwks::Wanted::new());
        let (sender, fetched) = mpsc::channel(16);
        tokio::spawn(jwks::follow(wishes, sender, own, stop.clone()));
        Self { wanted, fetched }
    }

    fn want(&self, world: &mut World) {
        let wanted = jwks::wanted(world);
        world.keep_keys(&wanted);
        self.wanted.send_if_modified(|before| {
            let differs = *before != wanted;
            *before = wanted;
            differs
        });
    }
}

/// Takes in every change and publishes a view of what came of it.
async fn follow(
    plane: Arc<Plane>,
    mut world: World,
    mut changes: mpsc::Receiver<Change>,
    mut keys: Keys,
    mut allotments: Option<Allotments>,
    stop: CancellationToken,
) {
    // Whether the view in place is of the world before the next change.
    let (mut generation, mut follows) = (0, false);
    // Whether allotted addresses are kept.
    let mut kept = false;
    loop {
        let change = tokio::select! {
            change = changes.recv() => change,
            Some((source, fetched)) = keys.fetched.recv() => {
                if let Err(error) = &fetched {
                    tracing::warn!(?source, error, "keys of a token issuer cannot be fetched");
                }
                if world.set_keys(source, fetched) {
                    generation += 1;
                    follows = publish(&plane, &world, generation, None).await;
                }
                continue;
            }
            () = stop.cancelled() => return,
        };
        let Some(change) = change else {
            tracing::error!("the objects are not followed any more; going on with what is known");
            return stop.cancelled().await;
        };
        tell(&change.news);
        let revision = change.revision;
        let retold = change.retold;
        let touched = world.apply(change);
        // Whoever counts revisions waits for his; what says nothing new concerns nobody.
        if touched.is_empty() && !retold && follows {
            plane.note_revision(revision);
            continue;
        }
        if let Some(allotments) = allotments.as_mut().filter(|_| !kept || touched.has(Kind::Service)) {
            let result = allotments.keep(&world);
            kept = result.is_ok();
            if let Err(error) = result {
                tracing::warn!(%error, "allotted addresses cannot be kept over a restart");
            }
        }
        keys.want(&mut world);
        generation += 1;
        tracing::info!(generation, objects = touched.keys.len(), "the world has changed");
        follows = publish(&plane, &world, generation, Some(touched).filter(|_| follows)).await;
        plane.note_revision(revision);
    }
}

/// Indexes the world beside the thread that serves, and puts it in place; false if that failed. Without what was touched
/// nothing is taken over.
async fn publish(plane: &Plane, world: &World, generation: u64, touched: Option<Touched>) -> bool {
    let (world, previous) = (world.clone(), plane.view());
    let index = move || match touched {
        Some(touched) => View::after(&previous, world, generation, &touched),
        None => View::new(world, generation),
    };
    match tokio::task::spawn_blocking(index).await {
        Ok(view) => {
            plane.publish(view);
            true
        }
        Err(error) => {
            tracing::error!(%error, generation, "the world cannot be indexed; the last one stays");
            false
        }
    }
}

/// Says in the log what is wrong and was not before, up to a bound: one object may be wrong in many ways, and many objects.
fn tell(news: &[Arc<Problem>]) {
    for problem in news.iter().take(MOST_TOLD) {
        tracing::warn!("{problem}");
    }
    if let Some(more) = news.len().checked_sub(MOST_TOLD).filter(|more| *more > 0) {
        tracing::warn!(more, "further problems of objects; `mesh status` shows all");
    }
}
