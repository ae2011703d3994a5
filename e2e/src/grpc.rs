//! The messages and methods of `proto/echo.proto`, shared by server and client.

/// Path of the method with one reply.
pub(crate) const UNARY: &str = "/mesh.echo.v1.Echo/Unary";
/// Path of the method with a stream of replies.
pub(crate) const SERVER_STREAM: &str = "/mesh.echo.v1.Echo/ServerStream";
/// Path of the method with streams both ways.
pub(crate) const BIDIRECTIONAL: &str = "/mesh.echo.v1.Echo/Bidirectional";

/// What to echo, and how to end.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct EchoRequest {
    #[prost(string, tag = "1")]
    pub message: String,
    #[prost(int32, tag = "2")]
    pub status: i32,
    #[prost(uint32, tag = "3")]
    pub count: u32,
    #[prost(uint32, tag = "4")]
    pub interval_ms: u32,
    #[prost(uint32, tag = "5")]
    pub delay_ms: u32,
}

/// The echo, and who sent it.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize)]
pub(crate) struct EchoReply {
    #[prost(string, tag = "1")]
    pub message: String,
    #[prost(string, tag = "2")]
    pub pod: String,
    #[prost(string, tag = "3")]
    pub workload: String,
    #[prost(string, tag = "4")]
    pub version: String,
    #[prost(string, tag = "5")]
    pub caller: String,
    #[prost(uint32, tag = "6")]
    pub sequence: u32,
}
