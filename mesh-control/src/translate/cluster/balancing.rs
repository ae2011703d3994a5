//! How the endpoints of a cluster are balanced: hashing, nearness, slow start.

use mesh_core::model::{
    ConsistentHash, Distribute, HashKey, HashTable, LocalityPolicy, PriorityLabel, RegionFailover,
    SessionCookie, WarmUp,
};

use crate::api::networking::{self, LoadBalancerSettings, LocalityLoadBalancerSetting};
use crate::translate::destination_rule::Effective;
use crate::translate::scope::Scope;

/// Smallest hash ring when nobody says (Istio's `ringHash.minimumRingSize`).
const RING_SIZE: u32 = 1024;

pub(super) fn consistent_hash(hash: &networking::ConsistentHash) -> Option<ConsistentHash> {
    let key = if let Some(name) = &hash.http_header_name {
        HashKey::Header(name.to_ascii_lowercase())
    } else if let Some(cookie) = &hash.http_cookie {
        HashKey::Cookie(SessionCookie {
            name: cookie.name.clone(),
            path: Some(cookie.path.clone()).filter(|path| !path.is_empty()),
            ttl: cookie.ttl.map(|ttl| ttl.get().into()),
            attributes: cookie
                .attributes
                .iter()
                .map(|each| (each.name.clone(), each.value.clone()))
                .collect(),
            ..SessionCookie::default()
        })
    } else if hash.use_source_ip == Some(true) {
        HashKey::SourceAddress
    } else {
        HashKey::QueryParameter(hash.http_query_parameter_name.clone()?)
    };
    let number = |size: u64| u32::try_from(size).unwrap_or(u32::MAX);
    let ring = hash.ring_hash.and_then(|ring| ring.minimum_ring_size).or(hash.minimum_ring_size);
    let table = match &hash.maglev {
        Some(maglev) => {
            HashTable::Maglev { size: maglev.table_size.map(number).filter(|size| HashTable::takes(*size)) }
        }
        None => HashTable::Ring { minimum_size: ring.map_or(RING_SIZE, number) },
    };
    Some(ConsistentHash { key, table })
}

/// The rule's setting, or the mesh's. Failover comes with outlier detection (semantics.md 27).
pub(super) fn locality(scope: &Scope<'_>, policy: &Effective<'_>) -> Option<LocalityPolicy> {
    let own = policy.load_balancer.and_then(|settings| settings.locality_lb_setting.as_ref());
    let setting = own.or_else(|| scope.world.mesh_config().locality_lb_setting.as_ref());
    let none = LocalityLoadBalancerSetting::default();
    let setting = setting.unwrap_or(&none);
    let failover = policy.outlier_detection.is_some();
    if setting.enabled == Some(false) || (!failover && setting.distribute.is_empty()) {
        return None;
    }
    let distribute = |entry: &networking::LocalityDistribute| Distribute {
        from: entry.from.clone(),
        to: entry.to.clone(),
    };
    let region = |entry: &networking::LocalityFailover| RegionFailover {
        from: entry.from.clone(),
        to: entry.to.clone(),
    };
    Some(LocalityPolicy {
        distribute: setting.distribute.iter().map(distribute).collect(),
        failover,
        regions: setting.failover.iter().map(region).collect(),
        labels: setting.failover_priority.iter().map(|text| label(text)).collect(),
    })
}

/// `name`, or `name=value`.
fn label(text: &str) -> PriorityLabel {
    match text.split_once('=') {
        Some((name, value)) => PriorityLabel { name: name.to_owned(), value: Some(value.to_owned()) },
        None => PriorityLabel { name: text.to_owned(), value: None },
    }
}

/// `warmup`, or its older form; without a duration there is none.
pub(super) fn warm_up(settings: Option<&LoadBalancerSettings>) -> Option<WarmUp> {
    let settings = settings?;
    let (minimum, aggression) =
        settings.warmup.as_ref().map_or((None, None), |warmup| (warmup.minimum_percent, warmup.aggression));
    let duration = settings.warmup.as_ref().and_then(|warmup| warmup.duration);
    let duration = duration.or(settings.warmup_duration_secs)?.get();
    (!duration.is_zero()).then(|| WarmUp {
        duration: duration.into(),
        minimum: (minimum.unwrap_or(10.0) / 100.0).clamp(0.0, 1.0),
        aggression: aggression.unwrap_or(1.0).max(1.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_has_the_attributes_of_the_rule() {
        let text = r#"{"httpCookie": {"name": "s", "ttl": "0s", "attributes": [{"name": "SameSite", "value": "Lax"}, {"name": "Secure"}]}}"#;
        let hash: networking::ConsistentHash = serde_json::from_str(text).unwrap();
        let HashKey::Cookie(cookie) = consistent_hash(&hash).unwrap().key else { panic!("not by a cookie") };
        let pairs: Vec<_> = cookie.attributes.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(pairs, [("SameSite", "Lax"), ("Secure", "")]);
    }
}
