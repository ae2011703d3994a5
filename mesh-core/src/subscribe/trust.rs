//! Whom to trust, as the stream tells it: in use for the next handshake, before it is acknowledged.
//!
//! What the stream says outranks what comes with a certificate, which another replica of the control plane may have signed that
//! does not know of a new authority yet.

use tokio::sync::watch;

use super::channel::chain;
use super::{Event, Handles};
use crate::wire::v1::subscribe_response::Kind as Answer;
use crate::wire::v1::{SubscribeResponse, Trust, TrustTaken};

/// Takes the last of `messages` that says whom to trust into use, and hands it on; what is to be acknowledged. Anchors that
/// cannot be used change nothing and are not acknowledged.
pub(super) fn take(
    handles: &Handles,
    told: &watch::Sender<Option<Trust>>,
    messages: &mut Vec<SubscribeResponse>,
) -> Option<TrustTaken> {
    let mut last = None;
    messages.retain_mut(|message| match message.kind.take() {
        Some(Answer::Trust(trust)) => {
            last = Some(trust);
            false
        }
        kind => {
            message.kind = kind;
            true
        }
    });
    let trust = last?;
    match handles.tls.set_anchors(&trust.anchors) {
        Ok(changed) => {
            if changed {
                tracing::info!(id = trust.id, "the mesh's trust anchors have changed");
                (handles.notify)(Event::Trust);
            }
            let taken = TrustTaken { id: trust.id.clone() };
            told.send_replace(Some(trust));
            Some(taken)
        }
        Err(error) => {
            let error = chain(&error);
            tracing::warn!(id = trust.id, error, "trust anchors cannot be used; those that are held stay");
            None
        }
    }
}
