//! What a serving `mesh-echo` is told at start, by flag or environment.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;

use crate::units::{parse_duration, parse_share};

/// Settings of the server.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServeSettings {
    /// Ports to listen on: `PORT` or `PORT:http|grpc|ws|https|tcp`. HTTP ports speak HTTP/1.1, HTTP/2, gRPC and WebSocket alike.
    #[arg(
        long,
        env = "ECHO_LISTEN",
        value_delimiter = ',',
        default_value = "9080",
        value_name = "PORT[:KIND]"
    )]
    pub listen: Vec<Listen>,
    /// Address to listen on.
    #[arg(long, env = "ECHO_BIND", default_value = "0.0.0.0", value_name = "ADDRESS")]
    pub bind: IpAddr,
    /// Name of the application (the label `app`).
    #[arg(long, env = "ECHO_NAME", default_value = "echo")]
    pub name: String,
    /// Version of the application (the label `version`).
    #[arg(long, env = "ECHO_VERSION", default_value = "")]
    pub version: String,
    /// Name of the workload; NAME-VERSION if not given.
    #[arg(long, env = "ECHO_WORKLOAD")]
    pub workload: Option<String>,
    /// Name of the pod.
    #[arg(long, env = "POD_NAME")]
    pub pod: Option<String>,
    /// Namespace of the pod.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pub namespace: String,
    /// Services to call for each request, in order: `URL` or `NAME=URL`.
    #[arg(long, env = "ECHO_CALL", value_delimiter = ',', value_name = "[NAME=]URL")]
    pub call: Vec<Call>,
    /// Call only these services for this path, and none for paths without such a rule: `/productpage=details,reviews`.
    #[arg(long, env = "ECHO_ROUTE", value_delimiter = ';', value_name = "PATH=NAME,…")]
    pub route: Vec<Route>,
    /// Deadline of one call to another service.
    #[arg(long, env = "ECHO_CALL_TIMEOUT", value_parser = parse_duration, default_value = "30s")]
    pub call_timeout: Duration,
    /// Wait this long before each answer.
    #[arg(long, env = "ECHO_DELAY", value_parser = parse_duration, default_value = "0s")]
    pub delay: Duration,
    /// Answer this share of requests with status 500.
    #[arg(long, env = "ECHO_FAIL_RATE", value_parser = parse_share, default_value = "0")]
    pub fail_rate: f64,
    /// Answer this path with this text instead of the report: `/keys={"keys": []}`.
    #[arg(long, env = "ECHO_PAGE", value_name = "PATH=TEXT")]
    pub page: Option<Page>,
    /// Write a line for each HTTP request: method, host and path.
    #[arg(long, env = "ECHO_LOG")]
    pub log: bool,
    /// Speak first on TCP ports: send this line when a connection opens.
    #[arg(long, env = "ECHO_GREETING")]
    pub greeting: Option<String>,
    /// Certificate chain (PEM) of the https ports.
    #[arg(long, env = "ECHO_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Private key (PEM) of the https ports.
    #[arg(long, env = "ECHO_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Authorities (PEM) one of which must have signed a client's certificate on the https ports.
    #[arg(long, env = "ECHO_TLS_CLIENT_CA", value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
    /// How long requests in flight may take to finish after SIGTERM.
    #[arg(long, env = "ECHO_GRACE", value_parser = parse_duration, default_value = "10s")]
    pub grace: Duration,
}

impl ServeSettings {
    /// Checks what one flag alone cannot know.
    pub(crate) fn validate(&self) -> anyhow::Result<()> {
        for route in &self.route {
            for name in &route.calls {
                let known = self.call.iter().any(|call| &call.name == name);
                ensure!(known, "--route {}: no --call is named {name:?}", route.path);
            }
        }
        let has_tls = self.listen.iter().any(|listen| listen.kind == Kind::Https);
        let has_files = self.tls_cert.is_some() && self.tls_key.is_some();
        ensure!(!has_tls || has_files, "an https port needs --tls-cert and --tls-key");
        Ok(())
    }

    /// The calls a request for `path` causes.
    pub(crate) fn calls_for<'a>(&'a self, path: &str) -> Vec<&'a Call> {
        if self.route.is_empty() {
            return self.call.iter().collect();
        }
        let route = self.route.iter().find(|route| route.path == path);
        let names = route.map(|route| route.calls.as_slice()).unwrap_or_default();
        names.iter().filter_map(|name| self.call.iter().find(|call| &call.name == name)).collect()
    }
}

/// One listening port.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Listen {
    pub port: u16,
    pub kind: Kind,
}

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Http,
    Https,
    Tcp,
}

impl FromStr for Listen {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (port, kind) = text.split_once(':').unwrap_or((text, "http"));
        let port = port.parse().with_context(|| format!("{port:?} is not a port"))?;
        let kind = match kind {
            "http" | "grpc" | "ws" => Kind::Http,
            "https" => Kind::Https,
            "tcp" => Kind::Tcp,
            _ => anyhow::bail!("{kind:?} is none of http, grpc, ws, https, tcp"),
        };
        Ok(Self { port, kind })
    }
}

/// A service to call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    pub name: String,
    pub url: http::Uri,
}

impl FromStr for Call {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, url) = match text.split_once('=') {
            // `http://host/?a=b` has its first `=` in the query.
            Some((name, url)) if !name.contains(':') => (Some(name), url),
            _ => (None, text),
        };
        let url: http::Uri = url.parse().with_context(|| format!("{url:?} is not a URL"))?;
        ensure!(url.scheme_str() == Some("http"), "{url}: write it like http://details:9080/details");
        let host = url.host().with_context(|| format!("{url} names no host"))?;
        let name = name.unwrap_or_else(|| host.split('.').next().unwrap_or(host)).to_owned();
        Ok(Self { name, url })
    }
}

/// A fixed answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Page {
    pub path: String,
    pub text: String,
}

impl FromStr for Page {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (path, text) = text.split_once('=').context("write it like /path=text")?;
        ensure!(path.starts_with('/'), "{path:?} must start with /");
        Ok(Self { path: path.to_owned(), text: text.to_owned() })
    }
}

/// Which calls a path causes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Route {
    pub path: String,
    pub calls: Vec<String>,
}

impl FromStr for Route {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (path, calls) = text.split_once('=').context("write it like /productpage=details,reviews")?;
        ensure!(path.starts_with('/'), "{path:?} must start with /");
        let calls = calls.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        Ok(Self { path: path.to_owned(), calls })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_named_after_its_host_unless_told() {
        let plain: Call = "http://details.shop:9080/details?a=b".parse().unwrap();
        assert_eq!(plain.name, "details");
        let named: Call = "reviews=http://10.0.0.1:9080/".parse().unwrap();
        assert_eq!((named.name.as_str(), named.url.host()), ("reviews", Some("10.0.0.1")));
        assert!("details:9080".parse::<Call>().is_err());
    }

    #[test]
    fn ports_have_a_kind() {
        assert_eq!("9080".parse::<Listen>().unwrap(), Listen { port: 9080, kind: Kind::Http });
        assert_eq!("9000:tcp".parse::<Listen>().unwrap(), Listen { port: 9000, kind: Kind::Tcp });
        assert!("9000:udp".parse::<Listen>().is_err());
        assert!("90000".parse::<Listen>().is_err());
    }

    #[test]
    fn a_route_names_its_calls() {
        let route: Route = "/productpage=details,reviews".parse().unwrap();
        assert_eq!(route.calls, ["details", "reviews"]);
        assert!("productpage=details".parse::<Route>().is_err());
    }
}
