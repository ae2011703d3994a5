//! Rate limits of Ingresses (nginx's `limit_req` with `nodelay`, and `limit_conn`): by client address, counted once for
//! all paths of an Ingress, answered with 503.

use ipnet::IpNet;
use mesh_core::model::{Amount, LimitKey, LimitScope, Millis, RateLimit};

use super::annotations::{field, get};
use crate::api::Item;
use crate::api::ingress::Ingress;
use crate::problem::Problem;
use crate::translate::origin;

/// nginx's `limit_req_status`.
const STATUS: u16 = 503;
const BURST_MULTIPLIER: u32 = 5;

/// The limits of an Ingress.
pub(super) fn of(ingress: &Item<'_, Ingress>, tell: &mut dyn FnMut(Problem)) -> Vec<RateLimit> {
    let mut number = |name: &str| number(ingress, name, tell);
    let multiplier = number("limit-burst-multiplier").unwrap_or(BURST_MULTIPLIER);
    // D2: a name that many write and ingress-nginx does not know.
    let by_second = number("limit-rps").map(|n| ("limit-rps", n));
    let by_second = by_second.or_else(|| number("rate-limit").map(|n| ("rate-limit", n)));
    let rates = [
        by_second.map(|(name, requests)| (name, requests, 1)),
        number("limit-rpm").map(|requests| ("limit-rpm", requests, 60)),
    ];
    let rate = |(name, requests, seconds): (&'static str, u32, u32)| {
        // One, and the burst that nginx lets through beyond it.
        let burst = requests.saturating_mul(multiplier).saturating_add(1);
        (name, Amount::Rate { requests, per: Millis::seconds(seconds), burst })
    };
    let connections = number("limit-connections").map(|most| ("limit-connections", Amount::Concurrent(most)));
    let amounts: Vec<_> = rates.into_iter().flatten().map(rate).chain(connections).collect();
    let exempt = if amounts.is_empty() { Vec::new() } else { blocks(ingress, "limit-whitelist", tell) };
    let limit = |(name, amount): (&str, Amount)| RateLimit {
        name: format!("Ingress/{}/{}/{name}", ingress.namespace(), ingress.name()),
        scope: LimitScope::Rule,
        matches: Vec::new(),
        amount,
        key: LimitKey::SourceAddress,
        exempt: exempt.clone(),
        status: STATUS,
        origin: origin(ingress.object, field(name)),
    };
    amounts.into_iter().map(limit).collect()
}

/// A number above zero; nginx takes zero, and what is none, as not set.
fn number(ingress: &Item<'_, Ingress>, name: &str, tell: &mut dyn FnMut(Problem)) -> Option<u32> {
    let text = get(ingress, name)?;
    let number = text.trim().parse::<u32>().ok();
    if number.is_none() {
        tell(Problem::error(field(name), format!("{text:?} is not a whole number; has no effect")));
    }
    number.filter(|number| *number > 0)
}

/// Address ranges in a list.
pub(super) fn blocks(ingress: &Item<'_, Ingress>, name: &str, tell: &mut dyn FnMut(Problem)) -> Vec<IpNet> {
    let texts = get(ingress, name).into_iter().flat_map(|list| list.split(','));
    let mut blocks = Vec::new();
    for text in texts.map(str::trim).filter(|text| !text.is_empty()) {
        let address = || text.parse::<std::net::IpAddr>().ok().map(IpNet::from);
        match text.parse().ok().or_else(address) {
            Some(block) => blocks.push(block),
            None => {
                let message = format!("{text:?} is not an address or a range; it is left out");
                tell(Problem::error(field(name), message));
            }
        }
    }
    blocks
}
