//! The authority in a folder: opened at the start, looked at while we run, replaced as [`super::succession`] says.
//!
//! What the user gives is a Secret among the objects, as on a cluster, or `ca-cert.pem`, `ca-key.pem` and, for an intermediate,
//! `ca-roots.pem` in the folder; without them we make a root there.
//! `authority.json` is where a replacement stands; it outlives a restart. All are readable by their owner only. A pair that cannot
//! be used is told, and changes nothing.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::succession::{Known, Pace, Pair, Phase, Seconds, Succession, anchors_id};
use super::{Authority, AuthorityError};
use crate::api::core::Secret;
use crate::cluster::authority::SECRET;
use crate::cluster::remote::SYSTEM_NAMESPACE;
use crate::serve::Plane;
use crate::world::World;

/// How often the folder is looked at. What has changed must look the same twice before it counts: it may be half written.
const LOOK: Duration = Duration::from_secs(1);
const CERTIFICATES: &str = "ca-cert.pem";
const KEY: &str = "ca-key.pem";
const ROOTS: &str = "ca-roots.pem";
const STATE: &str = "authority.json";

/// Who signs now, and whom proxies are to trust.
pub struct Standing {
    /// Signs.
    pub authority: Authority,
    /// Everyone to trust, PEM.
    pub anchors: String,
    /// Tells these anchors from others.
    pub id: String,
    /// Where a replacement stands.
    pub phase: Phase,
    /// Proxies whose certificate another has signed renew within this time.
    pub renew: Duration,
}

impl Standing {
    /// One authority that trusts its own roots.
    #[cfg(test)]
    pub(crate) fn alone(authority: Authority) -> Self {
        let (anchors, renew) = (authority.root().to_owned(), Pace::default().renew);
        Self { authority, id: anchors_id(&anchors), anchors, phase: Phase::Settled, renew }
    }

    /// Where a succession stands.
    ///
    /// # Errors
    /// When what signs cannot sign any more.
    pub(crate) fn of(succession: &Succession, pace: &Pace) -> Result<Self, AuthorityError> {
        let anchors = succession.anchors();
        Ok(Self {
            authority: opened(succession.signer())?,
            id: anchors_id(&anchors),
            anchors,
            phase: succession.phase(),
            renew: pace.renew,
        })
    }
}

fn opened(pair: &Pair) -> Result<Authority, AuthorityError> {
    Authority::from_pem(&pair.certificates, &pair.key, Some(&pair.anchors))
}

/// What the user gives, as it is in files or in a Secret.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Given {
    /// PEM, the signing one first.
    pub(crate) certificates: String,
    /// PEM.
    pub(crate) key: String,
    /// Whom to trust, PEM, unless the signing certificate signed itself.
    pub(crate) roots: Option<String>,
}

impl Given {
    fn read(folder: &Path) -> Result<Self, AuthorityError> {
        let roots = folder.join(ROOTS);
        Ok(Self {
            certificates: read(&folder.join(CERTIFICATES))?,
            key: read(&folder.join(KEY))?,
            roots: if roots.exists() { Some(read(&roots)?) } else { None },
        })
    }

    /// As a Secret among the objects, in the same form as on a cluster.
    fn applied(world: &World) -> Option<Result<Self, AuthorityError>> {
        world.get::<Secret>(SYSTEM_NAMESPACE, SECRET)?;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap_or_default();
        let found = world.tls_secret(SYSTEM_NAMESPACE, SECRET);
        Some(found.map_err(|error| AuthorityError::Secret(error.to_string())).map(|found| Self {
            certificates: text(found.certificates),
            key: text(found.key),
            roots: found.roots.map(text),
        }))
    }

    /// What is offered to a succession, and the same ready to sign.
    pub(crate) fn check(self) -> Result<(Pair, Authority), AuthorityError> {
        let authority = Authority::from_pem(&self.certificates, &self.key, self.roots.as_deref())?;
        let anchors = authority.root().to_owned();
        Ok((Pair { certificates: self.certificates, key: self.key, anchors }, authority))
    }
}

/// Keeps the authority of one folder.
pub struct Keeper {
    folder: PathBuf,
    pace: Pace,
    succession: Succession,
    /// What has been judged.
    judged: Option<Given>,
    /// What the last look has found.
    found: Option<Given>,
    started: Instant,
}

impl Keeper {
    /// Opens the authority kept in `folder`, or makes a new one there.
    ///
    /// # Errors
    /// When the folder cannot be read or written, or holds nothing that can sign.
    pub fn open(folder: &Path, pace: Pace) -> Result<(Self, Standing), AuthorityError> {
        if !folder.join(KEY).exists() {
            let (root, key) = Authority::make()?;
            fs::create_dir_all(folder).map_err(|source| AuthorityError::file(folder, source))?;
            write_private(&folder.join(KEY), &key)?;
            write_private(&folder.join(CERTIFICATES), &root)?;
        }
        let kept = kept(folder).filter(|kept| match opened(kept.signer()) {
            Ok(_) => true,
            Err(error) => {
                tracing::error!(%error, "the authority that signed last cannot be used any more");
                false
            }
        });
        let succession = match kept {
            Some(kept) => kept,
            None => Succession::settled(Given::read(folder)?.check()?.0),
        };
        let standing = Standing::of(&succession, &pace)?;
        let (folder, started) = (folder.to_owned(), Instant::now());
        let keeper = Self { folder, pace, succession, judged: None, found: None, started };
        keeper.save()?;
        Ok((keeper, standing))
    }

    /// Looks at the folder and goes on with a replacement, until `stop`.
    pub async fn keep(mut self, plane: Arc<Plane>, stop: CancellationToken) {
        let look = LOOK.min(self.pace.introduce.max(Duration::from_millis(50)));
        loop {
            tokio::select! {
                () = tokio::time::sleep(look) => {}
                () = stop.cancelled() => return,
            }
            let before = self.succession.clone();
            self.look(&plane);
            self.go_on(&plane);
            if before == self.succession {
                continue;
            }
            let put = self.save().and_then(|()| Standing::of(&self.succession, &self.pace));
            match put {
                Ok(standing) => {
                    tracing::info!(phase = ?standing.phase, signer = standing.authority.id(), "the certificate authority has changed");
                    plane.stand(standing);
                }
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "the authority is not replaced; trying again"
                    );
                    (self.succession, self.judged) = (before, None);
                }
            }
        }
    }

    /// Takes in what the user has put there.
    fn look(&mut self, plane: &Plane) {
        let view = plane.view();
        // What users have given is not known before the objects are.
        if view.generation() == 0 {
            return;
        }
        let given = match Given::applied(view.world()).unwrap_or_else(|| Given::read(&self.folder)) {
            Ok(given) => given,
            Err(error) => {
                plane.refuse_authority(Some(error.to_string()));
                return;
            }
        };
        if self.judged.as_ref() == Some(&given) {
            return;
        }
        if self.found.as_ref() != Some(&given) {
            self.found = Some(given);
            return;
        }
        self.judged = Some(given.clone());
        match given.check() {
            Ok((pair, authority)) => {
                plane.refuse_authority(None);
                let believed = authority.is_believed_by(&self.succession.known_anchors());
                self.succession.offer(pair, believed, now(), &self.pace);
            }
            Err(error) => {
                plane.refuse_authority(Some(error.to_string()));
            }
        }
    }

    fn go_on(&mut self, plane: &Plane) {
        let standing = plane.standing();
        // After a start of ours proxies need a moment to come back.
        let settled_in = self.started.elapsed() >= self.pace.introduce;
        let known = Known {
            all_trust: settled_in && plane.registry().all_trust(&standing.id),
            expired: standing.authority.expires() <= OffsetDateTime::now_utc(),
        };
        self.succession.step(known, now(), &self.pace);
    }

    /// Written beside and renamed, so that nobody reads half of it.
    fn save(&self) -> Result<(), AuthorityError> {
        let (path, part) = (self.folder.join(STATE), self.folder.join("authority.json.part"));
        let text = serde_json::to_string(&self.succession).expect("a succession is plain text");
        let _ = fs::remove_file(&part);
        write_private(&part, &text)?;
        fs::rename(&part, &path).map_err(|source| AuthorityError::file(&path, source))
    }
}

fn kept(folder: &Path) -> Option<Succession> {
    let text = fs::read_to_string(folder.join(STATE)).ok()?;
    serde_json::from_str(&text)
        .inspect_err(
            |error| tracing::error!(%error, "{STATE} cannot be read; beginning with the pair beside it"),
        )
        .ok()
}

fn read(path: &Path) -> Result<String, AuthorityError> {
    fs::read_to_string(path).map_err(|source| AuthorityError::file(path, source))
}

fn write_private(path: &Path, text: &str) -> Result<(), AuthorityError> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| AuthorityError::file(path, source))
}

/// What a succession goes by.
pub(crate) fn now() -> Seconds {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_is_the_same_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let (_, first) = Keeper::open(folder.path(), Pace::default()).unwrap();
        let (_, again) = Keeper::open(folder.path(), Pace::default()).unwrap();
        assert_eq!((again.anchors, again.authority.id()), (first.anchors, first.authority.id()));
    }

    /// A pair that was replaced while we were down is not taken at once: nobody trusts it yet.
    #[test]
    fn a_pair_that_is_new_after_a_restart_does_not_sign_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (_, first) = Keeper::open(folder.path(), Pace::default()).unwrap();
        let (root, key) = Authority::make().unwrap();
        fs::write(folder.path().join(CERTIFICATES), root).unwrap();
        fs::write(folder.path().join(KEY), key).unwrap();
        let (_, again) = Keeper::open(folder.path(), Pace::default()).unwrap();
        assert_eq!(again.authority.id(), first.authority.id());
    }
}
