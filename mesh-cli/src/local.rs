//! The one-machine runner behind `mesh up`: it plays scheduler, kubelet and controllers.
//!
//! ```text
//! mesh up              host namespaces: opens the ingress ports, the control socket and
//! │                    connections to the outside; prints progress
//! └ mesh supervise     enters new user, pid, mount, network, ipc and uts namespaces
//!   └ mesh supervisor  process 1 there: bridge, tokens, object folder, controllers, control socket
//!     ├ mesh-control
//!     └ mesh pod       one per pod, process 1 of its own pid namespace; own network, mounts, host name
//!       ├ mesh-proxy (or a gateway)
//!       └ the containers, each started through `mesh container`
//! ```
//!
//! Everything lives in anonymous namespaces that hang on the first process: when it dies, by any signal, the
//! kernel takes all of it away. Nothing is written to folders of the host, and no other program is needed.
//!
//! It does not isolate files: processes see the host's file system, with their own `/run`, `/tmp`, host name,
//! `resolv.conf` and `hosts`.

pub(crate) mod broker;
pub(crate) mod channel;
pub(crate) mod container;
pub(crate) mod controllers;
pub(crate) mod enter;
pub(crate) mod fetch;
pub(crate) mod launch;
pub(crate) mod manifest;
pub(crate) mod mounts;
pub(crate) mod network;
pub(crate) mod plan;
pub(crate) mod pod;
pub(crate) mod protocol;
pub(crate) mod reaper;
pub(crate) mod ring;
pub(crate) mod siblings;
pub(crate) mod store;
pub(crate) mod supervisor;
pub(crate) mod token;
