//! Copies of requests.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::harness::*;
use crate::model::{Mirror, MirrorPath, PerMillion, Protocol, Resource, Rewrite, Rule};

const COPY: &str = "outbound|9080|copy|reviews.default.svc.cluster.local";

/// A sidecar that copies all requests, and what the mirror gets.
async fn mirrored(answers: &'static str) -> (Mesh, mpsc::UnboundedReceiver<String>) {
    mirrored_by(Mirror::of_all(COPY, PerMillion::ALWAYS), answers).await
}

async fn mirrored_by(mirror: Mirror, answers: &'static str) -> (Mesh, mpsc::UnboundedReceiver<String>) {
    let (got, requests) = mpsc::unbounded_channel();
    let got = Arc::new(got);
    let copies = Upstream::start(move |request| {
        let _ = got.send(request.to_owned());
        answers.to_owned()
    })
    .await;
    let upstream = Upstream::start(ok).await;
    let change = |rule: &mut Rule| {
        rule.mirrors = vec![mirror];
        rule.rewrite = Some(Rewrite { full_path: Some("/rewritten".into()), ..Rewrite::default() });
    };
    let mut resources = service(|rule, _| change(rule), &[upstream.address]);
    resources.push(Resource::Cluster(Box::new(cluster(COPY, Protocol::Http))));
    resources.push(endpoints(COPY, &[copies.address]));
    (Mesh::outbound(resources), requests)
}

/// semantics.md 12: the copy has the body too, and does not show in the trace.
#[tokio::test]
async fn s12_a_copy_is_the_whole_request_and_its_answer_is_thrown_away() {
    let (mesh, mut copies) = mirrored("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n").await;
    let trace = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    let request =
        format!("POST /r HTTP/1.1\r\nHost: {SERVICE}:9080\r\n{trace}Content-Length: 11\r\n\r\nhello mesh!");
    let answer = ask(mesh.connect().await, &request).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("hello mesh!"), "{answer}");
    let copy = copies.recv().await.unwrap();
    assert!(
        copy.starts_with("POST /rewritten HTTP/1.1\r\n") && copy.ends_with("\r\n\r\nhello mesh!"),
        "{copy}"
    );
    let sampled = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("traceparent: ")).map(str::to_owned);
        line.is_some_and(|line| line.ends_with("-01"))
    };
    assert!(sampled(&answer) && !sampled(&copy), "{answer}\n{copy}");
}

#[tokio::test]
async fn a_mirror_that_never_answers_holds_nothing_up() {
    let (mesh, mut copies) = mirrored("hang").await;
    for _ in 0..3 {
        assert!(mesh.get("/").await.starts_with("HTTP/1.1 200 "));
        assert!(copies.recv().await.unwrap().starts_with("GET /rewritten "));
    }
}

#[tokio::test]
async fn a_copy_may_have_its_own_authority_and_path_and_no_body() {
    let mirror = |path| Mirror {
        authority: Some("copies.example.com".into()),
        path: Some(path),
        without_body: true,
        ..Mirror::of_all(COPY, PerMillion::ALWAYS)
    };
    let request = format!("POST /r?q=1 HTTP/1.1\r\nHost: {SERVICE}:9080\r\nContent-Length: 5\r\n\r\nhello");
    for (path, line) in [
        (MirrorPath::Original, "POST /r?q=1 HTTP/1.1\r\n"),
        (MirrorPath::Fixed("/collect?all".into()), "POST /collect?all HTTP/1.1\r\n"),
    ] {
        let (mesh, mut copies) =
            mirrored_by(mirror(path), "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        assert!(ask(mesh.connect().await, &request).await.ends_with("hello"));
        let copy = copies.recv().await.unwrap().to_lowercase();
        assert!(copy.starts_with(&line.to_lowercase()), "{copy}");
        assert!(copy.contains("\r\nhost: copies.example.com\r\n") && copy.ends_with("\r\n\r\n"), "{copy}");
    }
}
