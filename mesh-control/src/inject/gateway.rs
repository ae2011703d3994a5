//! Completing the pod of a gateway: its author writes a container `istio-proxy` with `image: auto`, we fill it in.

use serde_json::Value;

use super::annotations::Wishes;
use super::{PROXY_CONTAINER, Refusal, Settings, containers, items, take_named};

pub(super) fn complete(pod: &mut Value, wishes: &Wishes, settings: &Settings) -> Result<(), Refusal> {
    let mut all = items(pod, "containers");
    let written = take_named(&mut all, PROXY_CONTAINER).ok_or(Refusal::NotAPod)?;
    let egress = pod["metadata"]["labels"]["istio"] == "egressgateway";
    let program = if egress { "mesh-egress" } else { "mesh-ingress" };
    let mut container = containers::gateway(program, wishes, settings);
    containers::override_with(&mut container, Some(written));
    all.insert(0, container);
    pod["spec"]["containers"] = all.into();
    Ok(())
}
