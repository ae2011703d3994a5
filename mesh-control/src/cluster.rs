//! What the control plane writes to a Kubernetes cluster, and the little it reads beside the objects.
//!
//! The certificate authority lives in a Secret ([`authority`]); of several replicas one leads ([`leader`]), and only that one
//! moves a replacement of the authority on, and writes: the trust anchors into every namespace ([`roots`]) and into our webhooks'
//! configurations ([`webhooks`]), and what became of objects ([`status`]). Everything is written only when it differs, with
//! deadlines, and a failure is tried again later: nothing of the traffic depends on it.
//!
//! Not the control plane's but the command line's: [`install`], [`uninstall`] and [`remote`].

pub mod authority;
mod event;
pub mod install;
pub mod leader;
mod objects;
pub mod remote;
mod request;
pub mod roots;
pub mod status;
pub mod uninstall;
pub mod way_out;
pub mod webhooks;
