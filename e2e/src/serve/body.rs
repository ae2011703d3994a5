//! Bodies of answers: the report, filler of a given size, a slow stream; each with or without trailers.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::HeaderMap;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;

use crate::report::Pod;

pub(super) type Error = Box<dyn std::error::Error + Send + Sync>;
pub(super) type Body = UnsyncBoxBody<Bytes, Error>;

/// A body known as a whole.
pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(never).boxed_unsync()
}

/// `size` bytes of filler.
pub(super) fn filler(size: usize) -> Body {
    const CHUNK: usize = 16 << 10;
    let sizes = std::iter::successors(Some(size), |left| left.checked_sub(CHUNK))
        .map(|left| left.min(CHUNK))
        .filter(|size| *size > 0);
    let frames = sizes.map(|size| Ok(Frame::data(Bytes::from(vec![b'x'; size]))));
    StreamBody::new(stream::iter(frames)).boxed_unsync()
}

/// `count` lines, `interval` apart, each a chunk of its own.
pub(super) fn lines(pod: &Pod, count: usize, interval: Duration) -> Body {
    let name = pod.pod.clone();
    let frames = stream::iter(1..=count).then(move |number| {
        let line = format!("chunk {number} of {count} from {name}\n");
        async move {
            if number > 1 {
                tokio::time::sleep(interval).await;
            }
            Ok(Frame::data(Bytes::from(line)))
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

/// The same body, followed by trailers that name the pod.
pub(super) fn with_trailers(body: Body, pod: &Pod) -> Body {
    let mut trailers = HeaderMap::new();
    if let Ok(value) = pod.pod.parse() {
        trailers.insert("x-echo-trailer", value);
    }
    body.with_trailers(async move { Some(Ok(trailers)) }).boxed_unsync()
}

fn never(impossible: Infallible) -> Error {
    match impossible {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn filler_has_exactly_the_size_asked_for() {
        for size in [0, 1, 16 << 10, (16 << 10) + 1, 100_000] {
            assert_eq!(filler(size).collect().await.unwrap().to_bytes().len(), size);
        }
    }
}
