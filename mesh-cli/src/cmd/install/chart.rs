//! The chart's files, built in.

macro_rules! templates {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../../../deploy/charts/mesh/templates/", $name)))),*]
    };
}

/// The templates, in the order in which they are applied.
pub(super) const TEMPLATES: &[(&str, &str)] = templates! {
    "00-namespaces.yaml"
    "10-control-rights.yaml"
    "20-control.yaml"
    "30-webhooks.yaml"
    "35-classes.yaml"
    "40-ingress.yaml"
    "50-egress.yaml"
    "60-network-policies.yaml"
    "70-monitors.yaml"
    "ratelimits.minimesh.io.yaml"
};

/// The values that a user may change, with their defaults.
pub(super) const VALUES: &str = include_str!("../../../../deploy/charts/mesh/values.yaml");
