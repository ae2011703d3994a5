//! One HTTP request of a client and all that is worth knowing of its answer.

use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout;

use super::connect::{HttpClient, describe};
use crate::report::header_list;
use crate::units::parse_duration;

/// What to send.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct RequestOptions {
    pub url: Uri,
    /// Method of the request.
    #[arg(short = 'X', long, default_value = "GET")]
    pub method: Method,
    /// A header to add: `NAME: VALUE`.
    #[arg(short = 'H', long, value_name = "NAME: VALUE")]
    pub header: Vec<Header>,
    /// Body of the request.
    #[arg(short, long, default_value = "")]
    pub data: String,
    /// Deadline of one request.
    #[arg(long, value_parser = parse_duration, default_value = "10s")]
    pub timeout: Duration,
}

/// A header given on the command line.
#[derive(Clone, Debug)]
pub(super) struct Header(HeaderName, HeaderValue);

impl FromStr for Header {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once(':').context("write it like `name: value`")?;
        Ok(Self(name.trim().parse()?, value.trim().parse()?))
    }
}

/// The answer to one request, or why there is none.
#[derive(Debug, Default, Serialize)]
pub(super) struct Answer {
    /// 0 if there was no answer.
    pub status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub protocol: String,
    pub headers: Vec<(String, String)>,
    pub trailers: Vec<(String, String)>,
    /// JSON as it is, anything else as text.
    pub body: Value,
    pub body_bytes: usize,
    pub first_byte_ms: f64,
    pub elapsed_ms: f64,
}

impl RequestOptions {
    /// Sends the request and reads the whole answer.
    pub(super) async fn send(&self, client: &HttpClient) -> Answer {
        let started = Instant::now();
        let mut answer = match timeout(self.timeout, self.exchange(client, started)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Answer { error: Some(error), ..Answer::default() },
            Err(_) => Answer {
                error: Some(format!("timeout: no answer within {:?}", self.timeout)),
                ..Answer::default()
            },
        };
        answer.elapsed_ms = milliseconds(started.elapsed());
        answer
    }

    async fn exchange(&self, client: &HttpClient, started: Instant) -> Result<Answer, String> {
        let response = client.request(self.request()).await.map_err(|error| describe(&error))?;
        let (parts, body) = response.into_parts();
        let mut answer = Answer {
            status: parts.status.as_u16(),
            protocol: format!("{:?}", parts.version),
            headers: header_list(&parts.headers),
            ..Answer::default()
        };
        let (bytes, trailers) = read(body, started, &mut answer.first_byte_ms).await?;
        answer.trailers = header_list(&trailers);
        answer.body_bytes = bytes.len();
        answer.body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Ok(answer)
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(Bytes::from(self.data.clone())));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.url.clone();
        for Header(name, value) in &self.header {
            request.headers_mut().append(name.clone(), value.clone());
        }
        request
    }
}

async fn read(
    mut body: Incoming,
    started: Instant,
    first_byte_ms: &mut f64,
) -> Result<(Vec<u8>, HeaderMap), String> {
    let (mut bytes, mut trailers) = (Vec::new(), HeaderMap::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("answer cut off: {}", describe(&error)))?;
        if bytes.is_empty() {
            *first_byte_ms = milliseconds(started.elapsed());
        }
        match frame.into_data() {
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    Ok((bytes, trailers))
}

/// A duration as a number for reports.
pub(super) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
