//! The engine between real sockets on loopback: scripted upstreams, raw clients, configuration as the control plane sends
//! it.

mod authorize;
mod gateway;
mod harness;
mod mirrors;
mod mutual_tls;
mod origination;
mod outbound;
mod retries;
mod streams;
