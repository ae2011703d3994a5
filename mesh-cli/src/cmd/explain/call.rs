//! The request that is asked about, from the command line.

use std::net::IpAddr;

use http::Uri;
use mesh_core::canonical;
use mesh_core::message::{Headers, Method, RequestHead, Scheme, Version};
use mesh_core::model::Host;

use crate::cmd::Failure;

/// A request as its sender makes it.
#[derive(Debug, Clone)]
pub(in crate::cmd) struct Call {
    pub(super) head: RequestHead,
    /// The name that the sender resolves and dials; the request's host may be another.
    pub(super) dialled: Host,
    pub(super) port: u16,
    /// Whether the sender speaks TLS of its own.
    pub(super) tls: bool,
    /// The address of a sender outside the mesh.
    pub(in crate::cmd) client: Option<IpAddr>,
}

impl Call {
    /// Reads method, URL and `name: value` headers.
    pub(in crate::cmd) fn parse(method: &str, url: &str, headers: &[String]) -> Result<Self, Failure> {
        let method = Method::parse(method.as_bytes().to_vec().into()).ok_or_else(|| {
            Failure::Usage(format!("{method:?} is not a method; methods are upper case, as GET"))
        })?;
        let not_a_url = || Failure::Usage(format!("{url:?} is not a URL; write http://HOST[:PORT]/PATH"));
        let uri: Uri = url.parse().map_err(|_| not_a_url())?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(not_a_url()),
        };
        let authority = uri.authority().ok_or_else(not_a_url)?.as_str();
        let (dialled, port) = Host::parse_authority(authority).map_err(|_| not_a_url())?;
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let (path, query) = canonical::split_target(&target.to_owned().into());
        let mut head = RequestHead {
            method,
            scheme: if tls { Scheme::Https } else { Scheme::Http },
            host: dialled.clone(),
            authority: authority.to_owned().into(),
            path,
            query,
            version: Version::Http11,
            headers: Headers::default(),
            upgrade: None,
        };
        headers.iter().try_for_each(|header| add(&mut head, header))?;
        Ok(Self { head, dialled, port: port.unwrap_or(if tls { 443 } else { 80 }), tls, client: None })
    }
}

fn add(head: &mut RequestHead, header: &str) -> Result<(), Failure> {
    let Some((name, value)) = header.split_once(':') else {
        return Err(Failure::Usage(format!("{header:?} is not a header; write 'name: value'")));
    };
    let (name, value) = (name.trim(), value.trim().to_owned());
    if !name.eq_ignore_ascii_case("host") {
        head.headers.append(name.to_owned(), value);
        return Ok(());
    }
    let host = Host::parse_authority(&value).map_err(|error| Failure::Usage(error.to_string()))?;
    (head.host, head.authority) = (host.0, value.into());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_header_changes_the_host_but_not_whom_the_caller_dials() {
        let call =
            Call::parse("GET", "http://10.0.0.1:8080/a?b=c", &["Host: shop.example".to_owned()]).unwrap();
        assert_eq!(
            (call.head.host.as_str(), call.dialled.as_str(), call.port),
            ("shop.example", "10.0.0.1", 8080)
        );
        assert_eq!((&call.head.path[..], call.head.query.as_deref()), (&b"/a"[..], Some(&b"b=c"[..])));
    }

    #[test]
    fn what_is_not_a_request_is_refused_with_what_would_be_one() {
        let message = |method: &str, url: &str, headers: &[String]| {
            Call::parse(method, url, headers).unwrap_err().to_string()
        };
        assert!(message("get", "http://a/", &[]).contains("upper case"));
        assert!(message("GET", "a/b", &[]).contains("http://HOST"));
        assert!(message("GET", "http://a/", &["x".to_owned()]).contains("name: value"));
    }
}
