//! What is asked of every subject.

/// How a client comes to a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entrance {
    /// HTTP/1.1 in the clear, on connections that are kept.
    Http1,
    /// HTTP/2 in the clear, by prior knowledge; each connection carries several requests at once.
    Http2,
    /// HTTP/1.1 under TLS, on connections that are kept.
    Tls,
    /// As `Tls`, with a new connection and a full handshake for each request.
    Handshakes,
    /// Bytes that nobody on the way looks into: HTTP/1.1 between generator and backend alone.
    Tcp,
    /// gRPC in the clear, unary; the backend speaks HTTP/2 then.
    Grpc,
    /// HTTP/1.1 in the clear to the first of two proxies, which are joined by mutual TLS.
    Chain,
}

/// One kind of traffic.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) entrance: Entrance,
    /// Requests at once: connections, or streams of HTTP/2.
    pub(crate) connections: usize,
    /// Requests per second over all connections: far enough below what two cores can do that nothing queues.
    pub(crate) rate: f64,
    /// Bytes of the request's body; zero is a GET.
    pub(crate) request: usize,
    /// Bytes of the response's body.
    pub(crate) response: usize,
}

impl Case {
    /// The smallest request, at no rate in particular.
    pub(crate) const SMALL: Self = Self::http1("small", 1, 1_000.0);

    const fn http1(name: &'static str, connections: usize, rate: f64) -> Self {
        Self { name, entrance: Entrance::Http1, connections, rate, request: 0, response: 64 }
    }
}

/// All cases; the backend speaks HTTP/1.1 in the clear, but for gRPC.
pub(crate) const CASES: &[Case] = &[
    Case::http1("h1-small-1", 1, 1_500.0),
    Case::http1("h1-small-32", 32, 4_000.0),
    Case::http1("h1-small-256", 256, 4_000.0),
    Case { response: 64 * 1024, ..Case::http1("h1-64k-32", 32, 1_500.0) },
    Case { response: 1024 * 1024, ..Case::http1("h1-1m-8", 8, 150.0) },
    Case { request: 4 * 1024, ..Case::http1("h1-post-4k-32", 32, 2_500.0) },
    Case { entrance: Entrance::Http2, ..Case::http1("h2-small-32", 32, 3_000.0) },
    Case { entrance: Entrance::Grpc, request: 64, ..Case::http1("grpc-unary-32", 32, 3_000.0) },
    Case { entrance: Entrance::Tls, ..Case::http1("tls-small-32", 32, 3_000.0) },
    Case { entrance: Entrance::Handshakes, ..Case::http1("tls-handshakes", 8, 150.0) },
    Case { entrance: Entrance::Tcp, ..Case::http1("tcp-small-32", 32, 4_000.0) },
    Case { entrance: Entrance::Tcp, response: 1024 * 1024, ..Case::http1("tcp-1m-8", 8, 150.0) },
    Case { entrance: Entrance::Chain, ..Case::http1("chain-small-1", 1, 1_000.0) },
    Case { entrance: Entrance::Chain, ..Case::http1("chain-small-32", 32, 3_000.0) },
];
