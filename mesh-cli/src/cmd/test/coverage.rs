//! Which routes and policies no test came by.

use std::collections::BTreeSet;

use mesh_control::api::Item;
use mesh_control::api::networking::VirtualService;
use mesh_control::api::security::AuthorizationPolicy;
use mesh_control::world::World;
use mesh_core::model::Origin;

/// Every route of the VirtualServices and every rule of the policies, as [`Origin`] shows it.
pub(super) fn all(world: &World) -> BTreeSet<String> {
    let services = world.all::<VirtualService>().flat_map(|service| {
        let (http, tls, tcp) = (service.spec.http.len(), service.spec.tls.len(), service.spec.tcp.len());
        [("http", http), ("tls", tls), ("tcp", tcp)].into_iter().flat_map(move |(field, count)| {
            (0..count).map(move |at| part(&service, &format!("spec.{field}[{at}]")))
        })
    });
    let policies = world.all::<AuthorizationPolicy>().map(|policy| part(&policy, ""));
    services.chain(policies).collect()
}

/// What an origin stands for in [`all`]: a route as it is, a policy as a whole.
pub(super) fn name(origin: &Origin) -> String {
    let field = if origin.kind == "AuthorizationPolicy" { "" } else { &origin.field };
    Origin { field: field.to_owned(), ..origin.clone() }.to_string()
}

fn part<T: mesh_control::api::Content>(item: &Item<'_, T>, field: &str) -> String {
    let key = &item.object.key;
    Origin {
        kind: key.kind.as_str().to_owned(),
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
        field: field.to_owned(),
    }
    .to_string()
}
