//! External authorizers of the mesh configuration: `extensionProviders` of kind `envoyExtAuthzHttp` and `envoyExtAuthzGrpc`.

use mesh_core::model::{Authorizer, CheckBody, CheckProtocol, HttpCheck, Millis, StringMatch};

use super::scope::{Scope, qualify};
use super::{cluster, destination};
use crate::api::Duration;
use crate::api::mesh_config::{ExtAuthzHttp, RequestBodyInCheck};
use crate::problem::Problem;

/// How long a check may take when nobody says (Istio's).
const TIMEOUT: Millis = Millis::new(600);
/// The status when a check fails and nobody says which.
const STATUS_ON_ERROR: u16 = 403;

/// The provider of this name. One that nobody defines is told about and has no cluster: proxies deny for it.
pub(super) fn authorizer(scope: &Scope<'_>, name: &str, report: &mut Vec<Problem>) -> Authorizer {
    let providers = &scope.world.mesh_config().extension_providers;
    let provider = providers.iter().find(|provider| provider.name == name);
    let mut reader = Reader { scope, name, report };
    let http = provider.and_then(|provider| provider.envoy_ext_authz_http.as_ref());
    let grpc = provider.and_then(|provider| provider.envoy_ext_authz_grpc.as_ref());
    match (http, grpc) {
        (Some(http), _) => Authorizer {
            name: name.to_owned(),
            cluster: Some(reader.cluster(&http.service, http.port)),
            protocol: CheckProtocol::Http(Box::new(check(http))),
            timeout: timeout(http.timeout),
            fail_open: http.fail_open,
            status_on_error: reader.status(&http.status_on_error),
            body: http.include_request_body_in_check.as_ref().map(body),
        },
        (None, Some(grpc)) => Authorizer {
            name: name.to_owned(),
            cluster: Some(reader.cluster(&grpc.service, grpc.port)),
            protocol: CheckProtocol::Grpc(format!("{}:{}", host(&grpc.service), grpc.port)),
            timeout: timeout(grpc.timeout),
            fail_open: grpc.fail_open,
            status_on_error: reader.status(&grpc.status_on_error),
            body: grpc.include_request_body_in_check.as_ref().map(body),
        },
        (None, None) => {
            let message = format!(
                "the mesh configuration has no envoyExtAuthzHttp or envoyExtAuthzGrpc named {name:?}; what the policy matches is denied"
            );
            reader.report.push(Problem::error("spec.provider.name", message));
            Authorizer {
                name: name.to_owned(),
                cluster: None,
                protocol: CheckProtocol::Http(Box::default()),
                timeout: TIMEOUT,
                fail_open: false,
                status_on_error: STATUS_ON_ERROR,
                body: None,
            }
        }
    }
}

struct Reader<'a, 'w> {
    scope: &'a Scope<'w>,
    name: &'a str,
    report: &'a mut Vec<Problem>,
}

impl Reader<'_, '_> {
    fn cluster(&mut self, service: &str, port: u16) -> String {
        let namespace = self.scope.root_namespace();
        let found = destination::service(self.scope, host(service), namespace);
        let name = match found {
            Some(found) => cluster::name(port, "", &found.host.to_string()),
            None => cluster::name(port, "", &qualify(host(service), namespace)),
        };
        if cluster::by_name(self.scope, &name).is_none() {
            let message = format!(
                "no service {service:?} with port {port} for provider {:?}; its checks fail",
                self.name
            );
            self.report.push(Problem::error("spec.provider.name", message));
        }
        name
    }

    fn status(&mut self, text: &str) -> u16 {
        if text.is_empty() {
            return STATUS_ON_ERROR;
        }
        text.parse().ok().filter(|status| (200..600).contains(status)).unwrap_or_else(|| {
            let message = format!("statusOnError {text:?} of {:?} is no status; 403 is used", self.name);
            self.report.push(Problem::error("spec.provider.name", message));
            STATUS_ON_ERROR
        })
    }
}

/// A service may be written with its namespace: `my-ns/ext-authz.my-ns.svc.cluster.local`.
pub(super) fn host(service: &str) -> &str {
    service.split_once('/').map_or(service, |(_, host)| host)
}

fn timeout(timeout: Option<Duration>) -> Millis {
    timeout.filter(|timeout| !timeout.is_zero()).map_or(TIMEOUT, |timeout| timeout.get().into())
}

fn check(http: &ExtAuthzHttp) -> HttpCheck {
    let mut request_headers = names(&http.include_request_headers_in_check);
    request_headers.extend(names(&http.include_headers_in_check));
    HttpCheck {
        path_prefix: http.path_prefix.clone(),
        request_headers,
        added_headers: http.include_additional_headers_in_check.clone().into_iter().collect(),
        upstream_on_allow: names(&http.headers_to_upstream_on_allow),
        downstream_on_allow: names(&http.headers_to_downstream_on_allow),
        downstream_on_deny: names(&http.headers_to_downstream_on_deny),
        subrequest: None,
    }
}

/// `abc`, `abc*`, `*abc`, `*`; names of headers have no case.
pub(super) fn names(names: &[String]) -> Vec<StringMatch> {
    let read = |name: &String| {
        let name = name.to_ascii_lowercase();
        match (name.strip_prefix('*'), name.strip_suffix('*')) {
            (Some(suffix), _) => StringMatch::Suffix(suffix.to_owned()),
            (None, Some(prefix)) => StringMatch::Prefix(prefix.to_owned()),
            (None, None) => StringMatch::Exact(name),
        }
    };
    names.iter().map(read).collect()
}

fn body(body: &RequestBodyInCheck) -> CheckBody {
    CheckBody {
        max_bytes: body.max_request_bytes,
        partial: body.allow_partial_message,
        as_bytes: body.pack_as_bytes,
    }
}
