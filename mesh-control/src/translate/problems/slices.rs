//! EndpointSlices that add nothing to any service, and addresses in them to which nobody is sent.

use super::blame;
use crate::api::Item;
use crate::api::core::{Pod, Service, ServicePort};
use crate::api::discovery::{AddressType, EndpointSlice, SERVICE_NAME};
use crate::problem::Problem;
use crate::world::{World, named, service_of};

/// All of them.
pub(super) fn all(world: &World, problems: &mut Vec<Problem>) {
    for slice in world.all::<EndpointSlice>() {
        blame(slice.object, problems, |report| {
            service(world, &slice, report);
            endpoints(world, &slice, report);
        });
    }
}

fn service(world: &World, slice: &Item<'_, EndpointSlice>, report: &mut Vec<Problem>) {
    let message = match service_of(slice) {
        None => format!("has no label {SERVICE_NAME}; it belongs to no Service and has no effect"),
        Some(name) if world.get::<Service>(slice.namespace(), name).is_none() => {
            format!("Service {}/{name} does not exist; the slice has no effect", slice.namespace())
        }
        Some(name) => {
            if let Some(service) = world.get::<Service>(slice.namespace(), name) {
                ports(&service, slice, report);
            }
            return;
        }
    };
    report.push(Problem::warning("metadata.labels", message));
}

fn ports(service: &Item<'_, Service>, slice: &Item<'_, EndpointSlice>, report: &mut Vec<Problem>) {
    for (at, port) in slice.ports.iter().enumerate() {
        let is_known = |known: &ServicePort| known.name == port.name && known.protocol == port.protocol;
        if !service.spec.ports.iter().any(is_known) {
            let message =
                format!("{} has no port of the name {:?}; no effect", service.object.key, port.name);
            report.push(Problem::warning(format!("ports[{at}].name"), message));
        }
    }
}

fn endpoints(world: &World, slice: &Item<'_, EndpointSlice>, report: &mut Vec<Problem>) {
    if slice.address_type == AddressType::Fqdn {
        let message = "FQDN is not supported; use a ServiceEntry with resolution DNS";
        report.push(Problem::warning("addressType", message));
        return;
    }
    for (at, endpoint) in slice.endpoints.iter().enumerate() {
        for (index, address) in endpoint.addresses.iter().enumerate() {
            if let Err(reason) = slice.spec.address(address) {
                let field = format!("endpoints[{at}].addresses[{index}]");
                report.push(Problem::error(field, format!("{address:?}: {reason}; it is left out")));
            }
        }
        if let Some((namespace, name)) = named(slice, endpoint)
            && world.get::<Pod>(namespace, name).is_none()
        {
            let message =
                format!("Pod {namespace}/{name} is not known; the endpoint is left out until it is");
            report.push(Problem::warning(format!("endpoints[{at}].targetRef"), message));
        }
    }
}
