//! `backend-protocol` and the `proxy-ssl` annotations in ingress-nginx's words: TLS that the gateway originates to the
//! application's own port, as a DestinationRule's `tls` of mode SIMPLE or MUTUAL does.

use mesh_core::model::{ClusterTls, Host, Protocol};

use super::annotations::{alone, field, get};
use crate::api::Item;
use crate::api::ingress::Ingress;
use crate::problem::Problem;
use crate::world::World;

/// What a backend is spoken to in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spoken {
    pub(super) protocol: Protocol,
    pub(super) tls: bool,
}

/// What the backend is spoken to in, where that is not left to the service's port.
pub(super) fn protocol(ingress: &Item<'_, Ingress>) -> Option<Spoken> {
    let (protocol, tls) = match get(ingress, "backend-protocol")?.trim().to_ascii_uppercase().as_str() {
        "HTTPS" => (Protocol::Http, true),
        "GRPCS" => (Protocol::Grpc, true),
        "GRPC" => (Protocol::Grpc, false),
        _ => return None,
    };
    Some(Spoken { protocol, tls })
}

/// A protocol that is not spoken.
fn unknown_protocol(ingress: &Item<'_, Ingress>) -> Option<Problem> {
    let named = get(ingress, "backend-protocol")?.trim();
    let known = ["HTTP", "HTTPS", "AUTO_HTTP", "GRPC", "GRPCS"];
    let is_known = named.is_empty() || known.iter().any(|known| known.eq_ignore_ascii_case(named));
    let message = || format!("{named} is not supported; the backend is called as its port declares");
    (!is_known).then(|| Problem::error(field("backend-protocol"), message()))
}

/// TLS to the backends of an Ingress. A DestinationRule that originates TLS stays where no `proxy-ssl` annotation speaks:
/// it may verify, which ingress-nginx does not do unless told to.
///
/// # Errors
/// When the Secret is another namespace's or does not hold what is needed, or the name cannot be one of a server.
pub(super) fn of_backend(
    world: &World,
    ingress: &Item<'_, Ingress>,
    rule: ClusterTls,
) -> Result<ClusterTls, Problem> {
    let is_said = ["proxy-ssl-secret", "proxy-ssl-verify", "proxy-ssl-name"];
    let is_said = is_said.iter().any(|name| get(ingress, name).is_some());
    if matches!(rule, ClusterTls::Originate { .. }) && !is_said {
        return Ok(rule);
    }
    originate(ingress, secret(world, ingress)?.as_ref())
}

/// TLS as the annotations say, with what their Secret holds.
fn originate(ingress: &Item<'_, Ingress>, secret: Option<&TlsSecret>) -> Result<ClusterTls, Problem> {
    let verified = is_verified(ingress);
    let trusted = secret.filter(|secret| secret.has_anchors && verified);
    let shown = secret.filter(|secret| secret.has_certificate);
    Ok(ClusterTls::Originate {
        sni: server_name(ingress)?,
        subject_alt_names: Vec::new(),
        trust_anchors: trusted.map(|secret| secret.name.clone()),
        client_certificate: shown.map(|secret| secret.name.clone()),
        private_key: None,
        insecure_skip_verify: !verified,
    })
}

/// TLS to the target of copies: verified, unless a DestinationRule says otherwise. Copies hold what clients entrusted to
/// the backend alone, so that ingress-nginx's default, no verification, is not ours.
pub(super) fn of_mirror(rule: ClusterTls) -> ClusterTls {
    if matches!(rule, ClusterTls::Originate { .. }) { rule } else { plain_origination() }
}

/// TLS with everything at its default: the destination's own name, the system's roots.
const fn plain_origination() -> ClusterTls {
    ClusterTls::Originate {
        sni: None,
        subject_alt_names: Vec::new(),
        trust_anchors: None,
        client_certificate: None,
        private_key: None,
        insecure_skip_verify: false,
    }
}

fn is_verified(ingress: &Item<'_, Ingress>) -> bool {
    get(ingress, "proxy-ssl-verify").is_some_and(|word| word.trim() == "on")
}

fn server_name(ingress: &Item<'_, Ingress>) -> Result<Option<String>, Problem> {
    let Some(name) = get(ingress, "proxy-ssl-name").map(str::trim).filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let wrong = || {
        let message = format!("{name:?} is not the name of a server; requests are answered with 503");
        Problem::error(field("proxy-ssl-name"), message)
    };
    Host::parse(name).map(|host| Some(host.as_str().to_owned())).map_err(|_| wrong())
}

/// A Secret that TLS is made with.
struct TlsSecret {
    /// `namespace/name`
    name: String,
    has_certificate: bool,
    has_anchors: bool,
}

/// Only Secrets of the Ingress's own namespace, as ingress-nginx has it unless its administrator allows others.
fn secret(world: &World, ingress: &Item<'_, Ingress>) -> Result<Option<TlsSecret>, Problem> {
    let Some(named) = get(ingress, "proxy-ssl-secret").map(str::trim).filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let wrong = |message: String| {
        Problem::error(field("proxy-ssl-secret"), format!("{message}; requests are answered with 503"))
    };
    let own = ingress.namespace();
    let (namespace, name) = named.split_once('/').unwrap_or((own, named));
    if namespace != own {
        return Err(wrong(format!("{named} is in another namespace; only Secrets of {own} can be named")));
    }
    let certificate = world.tls_secret(namespace, name);
    let has_anchors = world.trust_secret(namespace, name).is_ok();
    match certificate {
        Err(error) if !has_anchors => Err(wrong(error.to_string())),
        certificate => Ok(Some(TlsSecret {
            name: format!("{namespace}/{name}"),
            has_certificate: certificate.is_ok(),
            has_anchors,
        })),
    }
}

/// Tells of what is wrong with the annotations, or has less effect than it says.
pub(super) fn problems(world: &World, ingress: &Item<'_, Ingress>, tell: &mut dyn FnMut(Problem)) {
    unknown_protocol(ingress).into_iter().for_each(&mut *tell);
    if !protocol(ingress).is_some_and(|spoken| spoken.tls) {
        alone(ingress, "proxy-ssl-", "backend-protocol HTTPS or GRPCS", tell);
        return;
    }
    let secret = match secret(world, ingress) {
        Ok(secret) => secret,
        Err(problem) => return tell(problem),
    };
    if let Err(problem) = originate(ingress, secret.as_ref()) {
        return tell(problem);
    }
    let has_anchors = secret.is_some_and(|secret| secret.has_anchors);
    if is_verified(ingress) && !has_anchors {
        let message = "there is no proxy-ssl-secret with a ca.crt; the backend's certificate must be of an authority that \
                       the gateway's system trusts";
        tell(Problem::warning(field("proxy-ssl-verify"), message));
    }
}
