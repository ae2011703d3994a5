//! The gRPC echo service, and Envoy's authorization service, on the same ports as everything else: HTTP/2 with `content-type: application/grpc`.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use http::header::CONTENT_TYPE;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tonic::server::{Grpc, ServerStreamingService, StreamingService, UnaryService};
use tonic::{Code, Status, Streaming};
use tonic_prost::ProstCodec;

use super::App;
use super::body::{Body, Error};
use crate::authorizer::{Authorizer, CHECK, CheckRequest, CheckResponse};
use crate::grpc::{BIDIRECTIONAL, EchoReply, EchoRequest, SERVER_STREAM, UNARY};
use crate::report::caller;

type ReplyStream = Pin<Box<dyn Stream<Item = Result<EchoReply, Status>> + Send>>;
type Answer<T> = Pin<Box<dyn Future<Output = Result<tonic::Response<T>, Status>> + Send>>;

/// Whether a request is a gRPC call.
pub(super) fn is_grpc(request: &Request<Incoming>) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// Answers one call; a method nobody knows is `UNIMPLEMENTED`.
pub(super) async fn answer(app: &App, request: Request<Incoming>) -> Response<Body> {
    let echo = Echo { template: template(app, &request) };
    let mut grpc = Grpc::new(ProstCodec::<EchoReply, EchoRequest>::default());
    let response = match request.uri().path() {
        UNARY => grpc.unary(echo, request).await,
        SERVER_STREAM => grpc.server_streaming(echo, request).await,
        BIDIRECTIONAL => grpc.streaming(echo, request).await,
        CHECK => {
            let mut grpc = Grpc::new(ProstCodec::<CheckResponse, CheckRequest>::default());
            grpc.unary(Authorizer { pod: app.pod.pod.clone() }, request).await
        }
        path => Status::unimplemented(format!("no method {path}")).into_http(),
    };
    response.map(|body| body.map_err(Error::from).boxed_unsync())
}

/// The reply with all that does not depend on the message.
fn template(app: &App, request: &Request<Incoming>) -> EchoReply {
    EchoReply {
        message: String::new(),
        pod: app.pod.pod.clone(),
        workload: app.pod.workload.clone(),
        version: app.pod.version.clone(),
        caller: caller(request.headers()).unwrap_or_default(),
        sequence: 0,
    }
}

struct Echo {
    template: EchoReply,
}

impl UnaryService<EchoRequest> for Echo {
    type Response = EchoReply;
    type Future = Answer<EchoReply>;

    fn call(&mut self, request: tonic::Request<EchoRequest>) -> Self::Future {
        let reply = reply(&self.template, request.get_ref(), 0);
        Box::pin(async move { reply.await.map(tonic::Response::new) })
    }
}

impl ServerStreamingService<EchoRequest> for Echo {
    type Response = EchoReply;
    type ResponseStream = ReplyStream;
    type Future = Answer<ReplyStream>;

    fn call(&mut self, request: tonic::Request<EchoRequest>) -> Self::Future {
        let (request, template) = (request.into_inner(), self.template.clone());
        let end = stream::iter(status_of(&request).err().map(Err));
        let interval = Duration::from_millis(request.interval_ms.into());
        let replies = stream::iter(0..request.count).then(move |sequence| {
            let reply = EchoReply { message: request.message.clone(), sequence, ..template.clone() };
            async move {
                if sequence > 0 {
                    tokio::time::sleep(interval).await;
                }
                Ok(reply)
            }
        });
        let all: ReplyStream = Box::pin(replies.chain(end));
        Box::pin(async move { Ok(tonic::Response::new(all)) })
    }
}

impl StreamingService<EchoRequest> for Echo {
    type Response = EchoReply;
    type ResponseStream = ReplyStream;
    type Future = Answer<ReplyStream>;

    fn call(&mut self, request: tonic::Request<Streaming<EchoRequest>>) -> Self::Future {
        let template = self.template.clone();
        let numbered = request.into_inner().zip(stream::iter(0..));
        let replies = numbered.then(move |(request, sequence)| {
            let reply = request.map(|request| reply(&template, &request, sequence));
            async move { reply?.await }
        });
        let all: ReplyStream = Box::pin(replies);
        Box::pin(async move { Ok(tonic::Response::new(all)) })
    }
}

fn reply(
    template: &EchoReply,
    request: &EchoRequest,
    sequence: u32,
) -> impl Future<Output = Result<EchoReply, Status>> + Send + use<> {
    let reply = EchoReply { message: request.message.clone(), sequence, ..template.clone() };
    let delay = Duration::from_millis(request.delay_ms.into());
    let status = status_of(request);
    async move {
        tokio::time::sleep(delay).await;
        status.map(|()| reply)
    }
}

fn status_of(request: &EchoRequest) -> Result<(), Status> {
    match Code::from_i32(request.status) {
        Code::Ok => Ok(()),
        code => Err(Status::new(code, format!("asked for {code:?}"))),
    }
}
