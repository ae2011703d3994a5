//! The core that every binary of the mesh links: one model of routes and policy, one decision core, one engine.
//!
//! Without features this is the pure half: [`model`] (what the operator means), [`snapshot`] (compiled for lookup),
//! [`decide`] (what becomes of a request), [`balance`] and [`guard`]. It takes time and randomness as arguments and does
//! no I/O, so that the same code serves traffic, explains a decision offline and runs in exact tests.
//!
//! Features add the rest, whole modules at a time: `wire` (the protocol's encoding), `tls`, `telemetry`, `broker`
//! (connections that another process opens), `engine` (the data plane), `subscribe` (the control plane's client), `daemon` (what a long-running binary needs),
//! `memory` (what is free goes back to the system), `testing`.
//!
//! A layer may name only layers below it:
//! `proxy` → `engine | subscribe | daemon` → `tls | wire | telemetry | broker` → `decide` → `snapshot` → `balance | guard` → `model` →
//! `message, identity, failure, name`.

#![warn(missing_docs)]

pub mod balance;
#[cfg(feature = "broker")]
pub mod broker;
pub mod canonical;
#[cfg(feature = "daemon")]
pub mod daemon;
pub mod decide;
pub mod dice;
#[cfg(feature = "telemetry")]
mod digits;
#[cfg(feature = "engine")]
pub mod engine;
pub mod failure;
pub mod guard;
pub mod identity;
#[cfg(feature = "memory")]
pub mod memory;
pub mod message;
pub mod model;
pub mod name;
#[cfg(feature = "proxy")]
pub mod proxy;
pub mod snapshot;
#[cfg(feature = "subscribe")]
pub mod subscribe;
#[cfg(feature = "telemetry")]
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(feature = "wire")]
pub mod wire;
