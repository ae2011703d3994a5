//! What a container may read of its own resources (`resourceFieldRef`). Nobody enforces them on one machine.

use anyhow::{Context as _, bail};

use crate::local::manifest::{Container, PodSpec, Quantity, ResourceFieldRef};

/// The amount that a field names, in units of its divisor, rounded up. A limit that is not set is the machine's.
pub(super) fn value(spec: &PodSpec, own: &Container, field: &ResourceFieldRef) -> anyhow::Result<String> {
    let container = match field.container_name.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => spec
            .init_containers
            .iter()
            .chain(&spec.containers)
            .find(|container| container.name == name)
            .with_context(|| {
                format!("resourceFieldRef names the container `{name}`, which the pod does not have")
            })?,
        None => own,
    };
    let Some((kind, resource)) = field.resource.split_once('.') else {
        bail!("unknown resource `{}`", field.resource)
    };
    let (limits, requests) = (&container.resources.limits, &container.resources.requests);
    let amount = match kind {
        "limits" => limits.get(resource).map_or_else(|| whole_machine(resource), amount),
        // Kubernetes takes a limit for the request where that is not set.
        "requests" => requests.get(resource).or_else(|| limits.get(resource)).map_or(Ok(0.0), amount),
        _ => bail!("unknown resource `{}`", field.resource),
    }?;
    let divisor = field.divisor.as_ref().map_or(Ok(1.0), amount_of_divisor)?;
    Ok(format!("{:.0}", (amount / divisor).ceil()))
}

fn amount_of_divisor(divisor: &Quantity) -> anyhow::Result<f64> {
    // Zero is how an unset divisor is written out.
    amount(divisor).map(|divisor| if divisor > 0.0 { divisor } else { 1.0 })
}

fn whole_machine(resource: &str) -> anyhow::Result<f64> {
    match resource {
        "cpu" => Ok(std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64)),
        "memory" => Ok(rustix::system::sysinfo().totalram as f64),
        _ => bail!("the container has no limit of `{resource}`"),
    }
}

/// A quantity as Kubernetes writes them: `250m`, `1.5`, `64Mi`, `2G`, `1e3`.
fn amount(quantity: &Quantity) -> anyhow::Result<f64> {
    const SUFFIXES: [(&str, f64); 13] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
    ];
    let text = match quantity {
        Quantity::Number(number) => return Ok(*number),
        Quantity::Text(text) => text.trim(),
    };
    let suffix = SUFFIXES.iter().find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, factor)));
    let (number, factor) = suffix.unwrap_or((text, &1.0));
    let number: f64 = number
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite() && *number >= 0.0)
        .with_context(|| format!("`{text}` is not a quantity"))?;
    Ok(number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(resource: &str, divisor: Option<&str>) -> anyhow::Result<String> {
        let container: Container = serde_json::from_value(serde_json::json!({
            "name": "web",
            "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}, "requests": {"cpu": 0.25}}
        }))?;
        let spec = serde_json::from_value(serde_json::json!({"containers": [container]}))?;
        let divisor = divisor.map(|text| Quantity::Text(text.to_owned()));
        value(
            &spec,
            &container,
            &ResourceFieldRef { container_name: None, resource: resource.to_owned(), divisor },
        )
    }

    #[test]
    fn amounts_are_in_units_of_the_divisor_and_rounded_up() {
        for (resource, divisor, expected) in [
            ("limits.cpu", None, "2"),
            ("limits.cpu", Some("1m"), "1500"),
            ("limits.memory", None, "67108864"),
            ("limits.memory", Some("1Mi"), "64"),
            ("requests.cpu", Some("1m"), "250"),
            ("requests.memory", Some("0"), "67108864"),
        ] {
            assert_eq!(read(resource, divisor).unwrap(), expected, "{resource} {divisor:?}");
        }
        assert!(read("limits.gpu", None).is_err());
        assert!(read("cpu", None).is_err());
        assert!(read("limits.cpu", Some("many")).is_err());
    }
}
