//! Where Pods and other endpoints are, by the labels of the Nodes.
//!
//! A Pod is where its Node is. An endpoint of a slice says its zone and not its region, without which a zone cannot be compared
//! with another; it is the region of the Nodes in that zone.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::follow::{Event, name_of};

const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
/// Node labels that say where a pod is.
const TOPOLOGY: &[&str] = &[REGION, ZONE, "topology.istio.io/subzone"];
type Topology = BTreeMap<String, Value>;

/// What is known of the cluster's Nodes.
#[derive(Debug, Default)]
pub(super) struct Places {
    nodes: BTreeMap<String, Topology>,
    /// Something came before the node that it is on.
    homeless: bool,
}

impl Places {
    /// Takes in what became of a node; true if something is elsewhere now than was thought.
    pub(super) fn node(&mut self, event: Event) -> bool {
        let moved = match event {
            Event::Item(_, item) => name_of(&item).is_some_and(|(_, name)| {
                let topology = topology(&item);
                let before = self.nodes.insert(name, topology.clone());
                before.map_or(self.homeless, |before| before != topology)
            }),
            // Its pods go too, each with an event of its own.
            Event::Gone((_, name)) => {
                self.nodes.remove(&name);
                false
            }
            Event::Listed(names) => {
                self.nodes.retain(|name, _| names.contains(&(String::new(), name.clone())));
                false
            }
        };
        self.homeless &= !moved;
        moved
    }

    /// A pod is where its node is, unless it says otherwise itself.
    pub(super) fn place_pod(&mut self, pod: &mut Value) {
        let Some(node) = pod["spec"]["nodeName"].as_str().map(str::to_owned) else { return };
        let Some(topology) = self.nodes.get(&node) else {
            self.homeless = true;
            return;
        };
        if !pod["metadata"]["labels"].is_object() {
            pod["metadata"]["labels"] = Value::Object(Map::new());
        }
        let labels = pod["metadata"]["labels"].as_object_mut().expect("made one above");
        for (name, value) in topology {
            labels.entry(name.as_str()).or_insert_with(|| value.clone());
        }
    }

    /// Adds to endpoints that give their zone alone the region which that zone is in.
    pub(super) fn place_slice(&mut self, slice: &mut Value) {
        for endpoint in slice["endpoints"].as_array_mut().into_iter().flatten() {
            if !endpoint["zone"].is_string() || endpoint["deprecatedTopology"][REGION].is_string() {
                continue;
            }
            match self.region_of(&endpoint["zone"]) {
                Some(region) => endpoint["deprecatedTopology"] = json!({REGION: region}),
                None => self.homeless = true,
            }
        }
    }

    /// None if no node is in the zone, or nodes in it disagree.
    fn region_of(&self, zone: &Value) -> Option<Value> {
        let there = self.nodes.values().filter(|topology| topology.get(ZONE) == Some(zone));
        let regions: BTreeSet<&str> = there.filter_map(|topology| topology.get(REGION)?.as_str()).collect();
        let mut regions = regions.into_iter();
        let first = regions.next()?;
        regions.next().is_none().then(|| first.into())
    }
}

fn topology(node: &Value) -> Topology {
    let labels = &node["metadata"]["labels"];
    let present = |name: &str| labels.get(name).cloned().map(|value| (name.to_owned(), value));
    TOPOLOGY.iter().filter_map(|name| present(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, region: &str, zone: &str) -> Event {
        let labels = json!({REGION: region, ZONE: zone, "other": "x"});
        Event::Item("v1", json!({"metadata": {"name": name, "labels": labels}}))
    }

    fn region(places: &mut Places, endpoint: Value) -> Value {
        let mut slice = json!({"endpoints": [endpoint]});
        places.place_slice(&mut slice);
        slice["endpoints"][0]["deprecatedTopology"][REGION].clone()
    }

    #[test]
    fn an_endpoints_region_is_that_of_the_nodes_in_its_zone() {
        let mut places = Places::default();
        assert_eq!(region(&mut places, json!({"zone": "z1"})), Value::Null);
        assert!(places.node(node("n1", "r1", "z1")), "an endpoint waits for its zone");
        assert_eq!(region(&mut places, json!({"zone": "z1"})), "r1");
        let own = json!({"zone": "z1", "deprecatedTopology": {REGION: "mine"}});
        assert_eq!(region(&mut places, own), "mine");
        assert_eq!(region(&mut places, json!({})), Value::Null);
        places.node(node("n2", "r2", "z1"));
        assert_eq!(region(&mut places, json!({"zone": "z1"})), Value::Null, "two regions claim the zone");
    }
}
