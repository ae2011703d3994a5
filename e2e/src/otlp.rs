//! `mesh-echo otlp`: receives spans by OTLP over gRPC, as a collector would, and shows them by HTTP.
//!
//! It stores nothing on disk and forwards nothing; when it is full the oldest spans go.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use serde::Serialize;
use tokio::net::TcpListener;

use crate::client::print_line;

/// Spans kept.
const KEPT: usize = 10_000;

/// Arguments of `otlp`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Port for OTLP over gRPC.
    #[arg(long, default_value_t = 4317)]
    listen: u16,
    /// Port for `GET /spans`: all spans received, oldest first, as JSON.
    #[arg(long, default_value_t = 4318)]
    http: u16,
}

/// What is shown of a span; ids in hexadecimal.
#[derive(Clone, Debug, Serialize)]
struct Received {
    service: String,
    trace: String,
    span: String,
    /// Empty for the first span of a trace.
    parent: String,
    kind: &'static str,
    name: String,
    /// When it began, in nanoseconds since 1970.
    start: u64,
}

#[derive(Clone, Default)]
struct Store(Arc<Mutex<VecDeque<Received>>>);

/// Receives until it is ended.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let store = Store::default();
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, arguments.http))
        .await
        .with_context(|| format!("cannot listen on port {}", arguments.http))?;
    tokio::spawn(show(listener, store.clone()));
    print_line(&format!("OTLP on port {}, /spans on port {}", arguments.listen, arguments.http));
    tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(store))
        .serve(SocketAddr::from((Ipv4Addr::UNSPECIFIED, arguments.listen)))
        .await
        .with_context(|| format!("cannot serve OTLP on port {}", arguments.listen))
}

#[tonic::async_trait]
impl TraceService for Store {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        for group in request.into_inner().resource_spans {
            let service = service_name(group.resource.as_ref());
            let spans = group.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.keep(spans.map(|span| Received::new(&service, span)));
        }
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Store {
    fn keep(&self, spans: impl Iterator<Item = Received>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(spans);
        let excess = kept.len().saturating_sub(KEPT);
        kept.drain(..excess);
    }

    fn json(&self) -> Vec<u8> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        serde_json::to_vec(&*kept).expect("texts are always JSON")
    }
}

impl Received {
    fn new(service: &str, span: Span) -> Self {
        Self {
            service: service.to_owned(),
            trace: hexadecimal(&span.trace_id),
            span: hexadecimal(&span.span_id),
            parent: hexadecimal(&span.parent_span_id),
            kind: span.kind().as_str_name(),
            name: span.name,
            start: span.start_time_unix_nano,
        }
    }
}

fn service_name(resource: Option<&Resource>) -> String {
    let attributes = resource.map(|resource| resource.attributes.as_slice()).unwrap_or_default();
    let name = attributes.iter().find(|attribute| attribute.key == "service.name");
    match name.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(name)) => name.clone(),
        _ => String::new(),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn show(listener: TcpListener, store: Store) {
    // Only tests ask, one at a time: a failed accept ends nothing that was received.
    while let Ok((stream, _)) = listener.accept().await {
        let service = service_fn(|request| {
            let answer = answer(&request, &store);
            async { Ok::<_, Infallible>(answer) }
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(TokioTimer::new()).keep_alive(false);
        // A client that leaves early is no business of this one.
        let _ = builder.serve_connection(TokioIo::new(stream), service).await;
    }
}

fn answer(request: &Request<Incoming>, store: &Store) -> Response<Full<Bytes>> {
    let mut response = Response::default();
    if request.uri().path() == "/spans" {
        *response.body_mut() = store.json().into();
    } else {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    response
}
