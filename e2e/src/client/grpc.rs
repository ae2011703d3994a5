//! `mesh-echo grpc`: one call of the gRPC echo service.

use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use futures_util::{StreamExt, stream};
use http::Uri;
use http::uri::PathAndQuery;
use serde::Serialize;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::print_json;
use crate::grpc::{BIDIRECTIONAL, EchoReply, EchoRequest, SERVER_STREAM, UNARY};
use crate::report::header_list;
use crate::units::parse_duration;

/// Arguments of `grpc`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where the service is: `http://HOST:PORT`.
    url: Uri,
    /// Connects there (`HOST:PORT`), whatever the URL says.
    #[arg(long, value_name = "HOST:PORT")]
    connect: Option<String>,
    #[arg(long, value_enum, default_value_t = Method::Unary)]
    method: Method,
    #[arg(long, default_value = "hello")]
    message: String,
    /// gRPC status the server shall end with.
    #[arg(long, default_value_t = 0)]
    status: i32,
    /// Replies of a server stream; requests of a bidirectional one.
    #[arg(long, default_value_t = 3)]
    count: u32,
    /// Pause between the replies of a server stream.
    #[arg(long, value_parser = parse_duration, default_value = "0s")]
    interval: Duration,
    /// How long the server shall wait before each reply.
    #[arg(long, value_parser = parse_duration, default_value = "0s")]
    delay: Duration,
    /// Deadline of the whole call.
    #[arg(long, value_parser = parse_duration, default_value = "10s")]
    timeout: Duration,
}

#[derive(Clone, Copy, ValueEnum)]
enum Method {
    Unary,
    Stream,
    Bidi,
}

#[derive(Serialize, Default)]
struct Outcome {
    /// Name of the gRPC status, for example `Ok` or `Unavailable`.
    status: String,
    message: String,
    replies: Vec<EchoReply>,
    trailers: Vec<(String, String)>,
}

/// Calls, and prints replies and status; a status other than OK is a result, not an error.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut outcome = Outcome { status: "Ok".to_owned(), ..Outcome::default() };
    let called = tokio::time::timeout(arguments.timeout, call(&arguments, &mut outcome)).await;
    if let Err(status) = called.context("no end of the call in time")? {
        outcome.status = format!("{:?}", status.code());
        outcome.message = status.message().to_owned();
        outcome.trailers = list(status.metadata().clone());
    }
    print_json(&outcome)
}

async fn call(arguments: &Arguments, outcome: &mut Outcome) -> Result<(), Status> {
    let endpoint = match &arguments.connect {
        Some(address) => Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| Status::invalid_argument(error.to_string()))?
            .origin(arguments.url.clone()),
        None => Endpoint::from(arguments.url.clone()),
    };
    let endpoint = endpoint.connect_timeout(arguments.timeout);
    let channel = endpoint.connect().await.map_err(|error| Status::from_error(error.into()))?;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let replies = match arguments.method {
        Method::Unary => return unary(client, arguments, outcome).await,
        Method::Stream => {
            let path = PathAndQuery::from_static(SERVER_STREAM);
            client.server_streaming(Request::new(arguments.request()), path, codec()).await?
        }
        Method::Bidi => {
            let requests = stream::iter(vec![arguments.request(); arguments.count as usize]);
            client
                .streaming(Request::new(requests), PathAndQuery::from_static(BIDIRECTIONAL), codec())
                .await?
        }
    };
    collect(replies.into_inner(), outcome).await
}

async fn unary(
    mut client: tonic::client::Grpc<Channel>,
    arguments: &Arguments,
    outcome: &mut Outcome,
) -> Result<(), Status> {
    let request = Request::new(arguments.request());
    let response = client.unary(request, PathAndQuery::from_static(UNARY), codec()).await?;
    let (metadata, reply, _) = response.into_parts();
    outcome.trailers = list(metadata);
    outcome.replies.push(reply);
    Ok(())
}

async fn collect(mut replies: Streaming<EchoReply>, outcome: &mut Outcome) -> Result<(), Status> {
    while let Some(reply) = replies.next().await {
        outcome.replies.push(reply?);
    }
    outcome.trailers = list(replies.trailers().await?.unwrap_or_default());
    Ok(())
}

impl Arguments {
    fn request(&self) -> EchoRequest {
        let milliseconds = |duration: Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        EchoRequest {
            message: self.message.clone(),
            status: self.status,
            count: self.count,
            interval_ms: milliseconds(self.interval),
            delay_ms: milliseconds(self.delay),
        }
    }
}

fn codec() -> ProstCodec<EchoRequest, EchoReply> {
    ProstCodec::default()
}

fn list(metadata: MetadataMap) -> Vec<(String, String)> {
    header_list(&metadata.into_headers())
}
