//! The parent's side of the way out: opens connections to the outside, and looks up names, for the proxies of the mesh.
//!
//! Each proxy, and the control plane, has a socket of its own to ask on; applications have none. What may be reached is
//! decided here and by address, after names have become addresses, so that no name leads around it.
//!
//! Bounds: places for connections and look-ups at once, per asker and for all, and a deadline for each. What finds no place is
//! refused at once, except that look-ups wait for one of the few threads that the host's resolver may block.

mod policy;

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::broker::{Answer, HOST_ADDRESS, HOST_NAME, Question, Questions, Request};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

pub(crate) use policy::HostAccess;

/// Questions of one asker, and of all, that are being worked on. Each costs up to two descriptors.
const PLACES_OF_ONE: usize = 64;
const PLACES: usize = 256;
/// Threads that may wait for the host's resolver.
const RESOLVERS: usize = 16;
/// Longer than Istio's connect timeout (10 s): whoever asks gives up first and says why.
const CONNECT_DEADLINE: Duration = Duration::from_secs(15);
/// As long as resolvers wait before they ask again.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);

/// Answers whoever may ask.
#[derive(Clone)]
pub(crate) struct Broker {
    host: HostAccess,
    places: Arc<Semaphore>,
    resolvers: Arc<Semaphore>,
}

impl Broker {
    pub(crate) fn new(host: HostAccess) -> Self {
        Self {
            host,
            places: Arc::new(Semaphore::new(PLACES)),
            resolvers: Arc::new(Semaphore::new(RESOLVERS)),
        }
    }

    /// Answers the questions of one asker until it has gone. Must be called inside a `LocalSet`.
    pub(crate) fn serve(&self, socket: OwnedFd) {
        // One that cannot be watched has nobody behind it who would get an answer.
        let Ok(questions) = Questions::new(socket) else { return };
        tokio::task::spawn_local(self.clone().answer_all(questions));
    }

    async fn answer_all(self, questions: Questions) {
        let own_places = Arc::new(Semaphore::new(PLACES_OF_ONE));
        while let Ok(question) = questions.next().await {
            let (Ok(own), Ok(common)) =
                (Arc::clone(&own_places).try_acquire_owned(), Arc::clone(&self.places).try_acquire_owned())
            else {
                question.answer(&Answer::Busy, None);
                continue;
            };
            let broker = self.clone();
            tokio::task::spawn_local(async move {
                broker.work(question).await;
                drop((own, common));
            });
        }
    }

    async fn work(&self, question: Question) {
        let (answer, connection) = tokio::select! {
            answered = self.answer(&question.request) => answered,
            () = question.given_up() => return,
        };
        question.answer(&answer, connection.as_ref());
    }

    async fn answer(&self, request: &Request) -> (Answer, Option<OwnedFd>) {
        match request {
            Request::Connect(address) => match self.connect(*address).await {
                Ok(connection) => (Answer::Connected, Some(connection)),
                Err(answer) => (answer, None),
            },
            Request::Resolve(name) => (self.resolve(name).await.unwrap_or_else(|answer| answer), None),
        }
    }

    async fn connect(&self, address: SocketAddr) -> Result<OwnedFd, Answer> {
        let target = policy::target(address, self.host).map_err(|why| Answer::Forbidden(why.to_owned()))?;
        let connected =
            timeout(CONNECT_DEADLINE, TcpStream::connect(target)).await.map_err(|_| Answer::Late)?;
        let stream = connected.and_then(TcpStream::into_std).map_err(|error| failed(&error))?;
        Ok(stream.into())
    }

    async fn resolve(&self, name: &str) -> Result<Answer, Answer> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if name == HOST_NAME {
            return match self.host {
                HostAccess::Allowed => Ok(Answer::Addresses(vec![HOST_ADDRESS.into()])),
                HostAccess::Refused => Err(Answer::NoSuchName),
            };
        }
        let looking_up = async {
            let place = Arc::clone(&self.resolvers).acquire_owned().await.map_err(|_| Answer::Busy)?;
            let look_up = move || {
                // Kept by the thread: it may go on when nobody waits any more.
                let _place = place;
                look_up(&name)
            };
            tokio::task::spawn_blocking(look_up).await.map_err(|_| Answer::Busy)?
        };
        timeout(RESOLVE_DEADLINE, looking_up).await.unwrap_or(Err(Answer::Late))
    }
}

/// Asks the host's resolver, so that its hosts file and name services count.
fn look_up(name: &str) -> Result<Answer, Answer> {
    match (name, 0).to_socket_addrs() {
        Ok(found) => {
            let mut addresses: Vec<IpAddr> = Vec::new();
            for address in found.map(|address| address.ip().to_canonical()) {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            Ok(Answer::Addresses(addresses))
        }
        Err(error) if is_temporary(&error) => Err(Answer::Late),
        Err(_) => Err(Answer::NoSuchName),
    }
}

/// Whether the resolver could not say (EAI_AGAIN). The standard library tells it by its words only: those of glibc and
/// musl, which are not translated because nothing here sets a locale.
fn is_temporary(error: &io::Error) -> bool {
    let text = error.to_string();
    text.contains("Temporary failure") || text.contains("Try again")
}

fn failed(error: &io::Error) -> Answer {
    match error.raw_os_error() {
        Some(number) => Answer::System(number),
        None => Answer::Late,
    }
}

#[cfg(test)]
mod tests;
