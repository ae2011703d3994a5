//! Which Ingresses are ours.

use crate::api::Item;
use crate::api::ingress::{Ingress, IngressClass};
use crate::world::World;

/// What a class of ours names as its controller.
const CONTROLLER: &str = "minimesh.io/gateway";
/// Classes that are ours without an IngressClass object. From files there is no other controller, so `nginx` is too; in a
/// cluster only on demand.
const NAMES: [&str; 3] = ["mesh", "istio", "nginx"];

/// Whether an Ingress is ours: its class names our controller or is one of ours by name; or it has none, and no class
/// of another controller is the default.
pub fn is_ours(world: &World, ingress: &Item<'_, Ingress>) -> bool {
    let annotated = ingress.object.meta.annotation("kubernetes.io/ingress.class");
    let class = ingress.spec.ingress_class_name.as_deref().or(annotated).filter(|class| !class.is_empty());
    match class {
        Some(name) => match world.get::<IngressClass>("", name) {
            Some(class) if class.spec.controller == CONTROLLER => true,
            _ => NAMES.contains(&name) && (name != "nginx" || world.claims_nginx()),
        },
        None => !world
            .all::<IngressClass>()
            .any(|class| is_default(&class) && class.spec.controller != CONTROLLER),
    }
}

fn is_default(class: &Item<'_, IngressClass>) -> bool {
    class.object.meta.annotation("ingressclass.kubernetes.io/is-default-class") == Some("true")
}
