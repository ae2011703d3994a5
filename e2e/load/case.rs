//! What is asked of every subject.

/// One kind of traffic.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Connections, all kept alive.
    pub(crate) connections: usize,
    /// Requests per second over all connections: far enough below what two cores can do that nothing queues.
    pub(crate) rate: f64,
    /// Bytes of the request's body; zero is a GET.
    pub(crate) request: usize,
    /// Bytes of the response's body.
    pub(crate) response: usize,
}

/// HTTP/1.1 with keep-alive.
pub(crate) const CASES: &[Case] = &[
    Case { name: "h1-small-1", connections: 1, rate: 1_500.0, request: 0, response: 64 },
    Case { name: "h1-small-32", connections: 32, rate: 4_000.0, request: 0, response: 64 },
    Case { name: "h1-small-256", connections: 256, rate: 4_000.0, request: 0, response: 64 },
    Case { name: "h1-64k-32", connections: 32, rate: 1_500.0, request: 0, response: 64 * 1024 },
    Case { name: "h1-1m-8", connections: 8, rate: 150.0, request: 0, response: 1024 * 1024 },
    Case { name: "h1-post-4k-32", connections: 32, rate: 2_500.0, request: 4 * 1024, response: 64 },
];
