//! What is left to chance in traffic, settled: weights, and faults that are injected into a part of the requests.
//!
//! It is settled in what travels to the proxy, before it is compiled, so the code that decides stays the same for traffic
//! and for tests.

use mesh_core::model::{Action, Backend, Fault, PerMillion, Resource, Rule, Weight};

/// How chance falls. By default it is rolled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::cmd) struct Chance {
    /// The index of the destination that takes the request, where a rule has several.
    pub(in crate::cmd) backend: Option<usize>,
    /// Whether faults that are injected into some requests are injected into this one.
    pub(in crate::cmd) faults: Option<bool>,
}

impl Chance {
    pub(super) fn settle(self, resource: &mut Resource) {
        let Resource::Routes(routes) = resource else { return };
        let rules = routes.virtual_hosts.iter_mut().flat_map(|host| &mut host.rules);
        rules.for_each(|rule| self.settle_rule(rule));
    }

    fn settle_rule(self, rule: &mut Rule) {
        if let (Some(chosen), Action::Forward(backends)) = (self.backend, &mut rule.action) {
            choose(backends, chosen);
        }
        if let (Some(injected), Some(Fault { delay, abort })) = (self.faults, &mut rule.fault) {
            let shares = [delay.as_mut().map(|(_, share)| share), abort.as_mut().map(|(_, share)| share)];
            for share in shares.into_iter().flatten().filter(|share| is_chance(**share)) {
                *share = if injected { PerMillion::ALWAYS } else { PerMillion::NEVER };
            }
        }
    }
}

fn is_chance(share: PerMillion) -> bool {
    share != PerMillion::ALWAYS && share != PerMillion::NEVER
}

/// Leaves one destination its weight; a rule that has no such destination, or gives it nothing, stays as it is.
fn choose(backends: &mut [Backend], chosen: usize) {
    if backends.get(chosen).is_none_or(|backend| backend.weight == Weight(0)) {
        return;
    }
    for (_, backend) in backends.iter_mut().enumerate().filter(|(at, _)| *at != chosen) {
        backend.weight = Weight(0);
    }
}
