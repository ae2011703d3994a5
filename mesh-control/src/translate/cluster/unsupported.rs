//! What of DestinationRules has no effect here.

use crate::api::networking::{
    ConnectionPoolSettings, DestinationRule, H2UpgradePolicy, LoadBalancerSettings, OutlierDetection,
    TrafficPolicy,
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
    for (at, level) in policy.port_level_settings.iter().enumerate() {
        let field = format!("{field}.portLevelSettings[{at}]");
        let mut teller = Teller { field: &field, report };
        teller.load_balancer(level.load_balancer.as_ref());
        teller.connection_pool(level.connection_pool.as_ref());
        teller.outlier_detection(level.outlier_detection.as_ref());
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
        self.tell("loadBalancer.localityLbSetting", settings.locality_lb_setting.is_some());
        self.tell("loadBalancer.warmup", settings.warmup.is_some());
        self.tell("loadBalancer.warmupDurationSecs", settings.warmup_duration_secs.is_some());
        self.tell("loadBalancer.zoneAwareLbSetting", settings.zone_aware_lb_setting.is_some());
    }

    fn connection_pool(&mut self, settings: Option<&ConnectionPoolSettings>) {
        let Some(settings) = settings else { return };
        if let Some(tcp) = &settings.tcp {
            self.tell("connectionPool.tcp.tcpKeepalive", tcp.tcp_keepalive.is_some());
            self.tell("connectionPool.tcp.maxConnectionDuration", tcp.max_connection_duration.is_some());
        }
        if let Some(http) = &settings.http {
            let upgrades = http.h2_upgrade_policy == Some(H2UpgradePolicy::Upgrade);
            self.tell("connectionPool.http.h2UpgradePolicy", upgrades);
            self.tell("connectionPool.http.useClientProtocol", http.use_client_protocol == Some(true));
            self.tell("connectionPool.http.maxConcurrentStreams", http.max_concurrent_streams.is_some());
            self.tell("connectionPool.http.http2KeepAlive", http.http2_keep_alive.is_some());
        }
    }

    fn outlier_detection(&mut self, settings: Option<&OutlierDetection>) {
        let Some(settings) = settings else { return };
        let split = settings.split_external_local_origin_errors == Some(true);
        self.tell("outlierDetection.splitExternalLocalOriginErrors", split);
        let codes = settings.outlier_detection_http_error_codes.is_some();
        self.tell("outlierDetection.outlierDetectionHttpErrorCodes", codes);
    }
}
