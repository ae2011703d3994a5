//! `mirror-target` and its companions in ingress-nginx's words: a copy of every request for another server.

use mesh_core::model::{HostPattern, Mirror, MirrorPath, PerMillion};

use super::annotations::{alone, field, get};
use super::upstream::{Part, own};
use crate::api::Item;
use crate::api::ingress::Ingress;
use crate::problem::Problem;
use crate::translate::scope::{CLUSTER_DOMAIN, Scope};
use crate::translate::{cluster, destination};

/// The variable of nginx that stands for path and query as the client wrote them.
const REQUEST_URI: &str = "$request_uri";

/// Where copies go. A target that cannot be reached is told about, and nothing is copied.
pub(super) fn of(
    scope: &Scope<'_>,
    ingress: &Item<'_, Ingress>,
    tell: &mut dyn FnMut(Problem),
) -> Option<Mirror> {
    let Some(text) = get(ingress, "mirror-target").map(str::trim).filter(|text| !text.is_empty()) else {
        alone(ingress, "mirror-", "mirror-target", tell);
        return None;
    };
    let found = Target::parse(text).and_then(|target| Ok((target.cluster(scope, ingress)?, target)));
    let (cluster, target) = match found {
        Ok(found) => found,
        Err(why) => {
            tell(Problem::error(field("mirror-target"), format!("{why}; nothing is mirrored")));
            return None;
        }
    };
    let host = get(ingress, "mirror-host").map(str::trim).filter(|host| !host.is_empty());
    let usable = host.filter(|host| is_plain(host));
    if let (Some(host), None) = (host, usable) {
        let message = format!("{host:?} is not a host; copies have the target's");
        tell(Problem::error(field("mirror-host"), message));
    }
    Some(Mirror {
        authority: Some(usable.unwrap_or(target.authority).to_owned()),
        path: Some(target.path),
        without_body: get(ingress, "mirror-request-body").is_some_and(|word| word.trim() == "off"),
        ..Mirror::of_all(cluster, PerMillion::ALWAYS)
    })
}

struct Target<'t> {
    tls: bool,
    authority: &'t str,
    host: &'t str,
    port: u16,
    path: MirrorPath,
}

impl<'t> Target<'t> {
    fn parse(text: &'t str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{text:?} {why}");
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| wrong("has no scheme, such as https://"))?;
        let (tls, default) = match scheme {
            "http" => (false, 80),
            "https" => (true, 443),
            _ => return Err(wrong("is neither http nor https")),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '$']).unwrap_or(rest.len()));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| wrong("has no valid port"))?),
            None => (authority, default),
        };
        if !is_plain(host) {
            return Err(wrong("has no host"));
        }
        let path = match path {
            "" | REQUEST_URI => MirrorPath::Original,
            path if path.starts_with('/') && is_plain(path) => MirrorPath::Fixed(path.to_owned()),
            _ => return Err(wrong("has a path that is not supported: a fixed one, or $request_uri alone")),
        };
        Ok(Self { tls, authority, host, port, path })
    }

    /// The cluster of a service that the mesh knows: a gateway dials nobody else.
    fn cluster(&self, scope: &Scope<'_>, ingress: &Item<'_, Ingress>) -> Result<String, String> {
        let host = match self.host.strip_suffix(".svc") {
            Some(_) => format!("{}.{CLUSTER_DOMAIN}", self.host),
            None => self.host.to_owned(),
        };
        let service = destination::service(scope, &host, ingress.namespace())
            .filter(|service| matches!(service.host, HostPattern::Exact(_)))
            .ok_or_else(|| format!("no Service or ServiceEntry has the host {:?}", self.host))?;
        if service.port(self.port).is_none() {
            return Err(format!("{} has no port {}", service.host, self.port));
        }
        let plain = cluster::name(self.port, "", &service.host_text());
        Ok(if self.tls { own(ingress, &plain, Part::Mirror) } else { plain })
    }
}

/// Without variables, blanks, and what is not ASCII.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'$')
}
