//! `mesh-echo` on its own: scenarios rely on every one of these behaviours.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A serving `mesh-echo`, killed when dropped.
struct Server {
    child: Child,
    addresses: Vec<String>,
}

impl Server {
    /// Starts it on as many ephemeral ports as `listen` names.
    fn start(listen: &[&str], arguments: &[&str]) -> Self {
        let mut command = echo(&["--bind", "127.0.0.1", "--version", "v1"]);
        listen.iter().for_each(|kind| _ = command.args(["--listen", &format!("0:{kind}")]));
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().take(listen.len());
        let address = |line: String| line.split_whitespace().nth(3).unwrap().to_owned();
        Self { child, addresses: lines.map(|line| address(line.unwrap())).collect() }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addresses[0])
    }

    fn get(&self, path: &str, arguments: &[&str]) -> Value {
        json(&[&["get", &self.url(path), "--output", "json"], arguments].concat())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn echo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mesh-echo"));
    command.args(arguments).env_remove("POD_NAME");
    command
}

fn run(arguments: &[&str]) -> Output {
    echo(arguments).output().unwrap()
}

fn json(arguments: &[&str]) -> Value {
    let output = run(arguments);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn one_port_speaks_http1_http2_grpc_and_websocket() {
    let server = Server::start(&["http"], &["--pod", "a-1"]);
    for (arguments, protocol) in [(&[][..], "HTTP/1.1"), (&["--http2"], "HTTP/2.0")] {
        let summary = server.get("/path?x=1", &[arguments, &["-H", "End-User: jason"]].concat());
        let body = &summary["answers"][0]["body"];
        assert_eq!(
            (&body["protocol"], &body["path"], &body["pod"]),
            (&protocol.into(), &"/path?x=1".into(), &"a-1".into())
        );
        assert!(body["headers"].as_array().unwrap().contains(&serde_json::json!(["end-user", "jason"])));
    }
    for (method, replies) in [("unary", 1), ("stream", 3), ("bidi", 3)] {
        let outcome = json(&["grpc", &server.url(""), "--method", method]);
        assert_eq!(
            (outcome["status"].as_str(), outcome["replies"].as_array().unwrap().len()),
            (Some("Ok"), replies)
        );
    }
    let output = run(&["ws", &server.url("/").replace("http", "ws"), "whoami", "--repeat", "2"]);
    assert_eq!(output.stdout, b"a-1\na-1\n");
}

#[test]
fn it_misbehaves_on_request() {
    let server = Server::start(&["http"], &[]);
    let answer = |path: &str| server.get(path, &["--timeout", "500ms"])["answers"][0].clone();
    assert_eq!(answer("/?status=503")["status"], 503);
    assert_eq!(answer("/?size=70000")["body_bytes"], 70_000);
    assert_eq!(answer("/?fail-rate=1")["status"], 500);
    assert_eq!(answer("/?stream=3")["body"].as_str().unwrap().lines().count(), 3);
    assert_eq!(answer("/?close=1")["status"], 0);
    assert!(answer("/?hold")["error"].as_str().unwrap().starts_with("timeout"));
    assert!(answer("/?delay=100ms")["elapsed_ms"].as_f64().unwrap() >= 100.0);
    let trailers = &server.get("/?trailers=1", &["--http2"])["answers"][0]["trailers"];
    assert_eq!(trailers[0][0], "x-echo-trailer");
    let outcome = json(&["grpc", &server.url(""), "--status", "14"]);
    assert_eq!(outcome["status"], "Unavailable");
}

#[test]
fn it_calls_others_and_hands_the_trace_on() {
    let leaf = Server::start(&["http"], &["--name", "leaf"]);
    let call = format!("leaf={}", leaf.url("/leaf"));
    let server = Server::start(&["http"], &["--call", &call, "--route", "/page=leaf"]);
    let page = server.get("/page", &["-H", "x-b3-traceid: 7"]);
    let nested = &page["answers"][0]["body"]["calls"][0]["answer"];
    assert_eq!((&nested["app"], &nested["path"]), (&"leaf".into(), &"/leaf".into()));
    assert!(nested["headers"].as_array().unwrap().contains(&serde_json::json!(["x-b3-traceid", "7"])));
    assert_eq!(server.get("/other", &[])["answers"][0]["body"]["calls"], serde_json::json!([]));

    drop(leaf);
    assert_eq!(server.get("/page", &[])["answers"][0]["status"], 502, "a failed call makes the caller fail");
}

#[test]
fn tcp_comes_back_and_the_server_may_speak_first() {
    let server = Server::start(&["tcp"], &["--greeting", "hello from", "--pod", "a-1"]);
    let output = run(&["tcp", &server.addresses[0], "some text", "--server-first"]);
    assert_eq!(output.stdout, b"hello from a-1\nsome text\n");
}

#[test]
fn load_keeps_its_rate_and_counts_from_the_schedule() {
    let server = Server::start(&["http"], &["--delay", "50ms"]);
    let output = run(&["load", &server.url("/"), "--rate", "100", "--connections", "2", "--duration", "1s"]);
    let report = String::from_utf8(output.stdout).unwrap();
    let report: Value = serde_json::from_str(report.lines().last().unwrap()).unwrap();
    assert_eq!((&report["sent"], &report["ok"]), (&100.into(), &100.into()));
    // Two connections serve 40 of 100 requests per second: the rest is late, and that must show.
    assert!(report["latency_ms"]["p99"].as_f64().unwrap() > 1000.0, "{report}");
}

#[test]
fn sigterm_lets_requests_in_flight_finish() {
    let mut server = Server::start(&["http"], &[]);
    let request = ["get", &server.url("/?delay=500ms"), "--output", "json"].map(str::to_owned);
    let request = std::thread::spawn(move || json(&request.each_ref().map(String::as_str)));
    // Nothing tells from outside that the request has arrived; half its delay is ample.
    std::thread::sleep(Duration::from_millis(200));
    let id = rustix::process::Pid::from_child(&server.child);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    let started = Instant::now();
    assert!(server.child.wait().unwrap().success());
    assert!(started.elapsed() < Duration::from_secs(5), "it waits for nothing but the request");
    assert_eq!(request.join().unwrap()["answers"][0]["status"], 200);
}
