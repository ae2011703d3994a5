//! What of DestinationRules has no effect here.

use mesh_core::model::HashTable;

use crate::api::networking::{
    ClientTlsMode, ClientTlsSettings, ConnectionPoolSettings, DestinationRule, LoadBalancerSettings,
    OutlierDetection, TrafficPolicy,
};
use crate::problem::Problem;

/// Tells about every field of a rule that has no effect.
pub fn unsupported(rule: &DestinationRule, report: &mut Vec<Problem>) {
    policy(rule.traffic_policy.as_ref(), "spec.trafficPolicy", report);
    for (at, subset) in rule.subsets.iter().enumerate() {
        policy(subset.traffic_policy.as_ref(), &format!("spec.subsets[{at}].trafficPolicy"), report);
    }
}

fn policy(policy: Option<&TrafficPolicy>, field: &str, report: &mut Vec<Problem>) {
    let Some(policy) = policy else { return };
    let mut teller = Teller { field, report };
    teller.tell("tunnel", policy.tunnel.is_some());
    teller.tell("proxyProtocol", policy.proxy_protocol.is_some());
    teller.tell("retryBudget", policy.retry_budget.is_some());
    teller.load_balancer(policy.load_balancer.as_ref());
    teller.connection_pool(policy.connection_pool.as_ref());
    teller.outlier_detection(policy.outlier_detection.as_ref());
    teller.tls(policy.tls.as_ref());
    for (at, level) in policy.port_level_settings.iter().enumerate() {
        let field = format!("{field}.portLevelSettings[{at}]");
        let mut teller = Teller { field: &field, report };
        teller.load_balancer(level.load_balancer.as_ref());
        teller.connection_pool(level.connection_pool.as_ref());
        teller.outlier_detection(level.outlier_detection.as_ref());
        teller.tls(level.tls.as_ref());
    }
}

struct Teller<'r> {
    field: &'r str,
    report: &'r mut Vec<Problem>,
}

impl Teller<'_> {
    fn tell(&mut self, name: &str, is_set: bool) {
        if is_set {
            let field = format!("{}.{name}", self.field);
            self.report.push(Problem::warning(field, "not supported; has no effect"));
        }
    }

    fn load_balancer(&mut self, settings: Option<&LoadBalancerSettings>) {
        let Some(settings) = settings else { return };
        let hash = settings.consistent_hash.as_ref();
        let size = hash.and_then(|hash| hash.maglev?.table_size);
        if let Some(size) = size
            && !u32::try_from(size).is_ok_and(HashTable::takes)
        {
            let field = format!("{}.loadBalancer.consistentHash.maglev.tableSize", self.field);
            let message = format!(
                "{size} is not used: a table's size is a prime, at most {}; one that fits is chosen",
                HashTable::LARGEST
            );
            self.report.push(Problem::warning(field, message));
        }
        self.tell("loadBalancer.zoneAwareLbSetting", settings.zone_aware_lb_setting.is_some());
    }

    fn connection_pool(&mut self, settings: Option<&ConnectionPoolSettings>) {
        let Some(settings) = settings else { return };
        if let Some(http) = &settings.http {
            self.tell("connectionPool.http.http2KeepAlive", http.http2_keep_alive.is_some());
        }
    }

    fn tls(&mut self, settings: Option<&ClientTlsSettings>) {
        let is_mesh = |settings: &&ClientTlsSettings| settings.mode == ClientTlsMode::IstioMutual;
        let Some(settings) = settings.filter(is_mesh) else { return };
        if !settings.subject_alt_names.is_empty() {
            let message =
                "has no effect with ISTIO_MUTUAL: the identity must be that of the pod which is dialled";
            self.report.push(Problem::warning(format!("{}.tls.subjectAltNames", self.field), message));
        }
    }

    fn outlier_detection(&mut self, settings: Option<&OutlierDetection>) {
        let Some(settings) = settings else { return };
        let codes = settings.outlier_detection_http_error_codes.is_some();
        self.tell("outlierDetection.outlierDetectionHttpErrorCodes", codes);
    }
}
