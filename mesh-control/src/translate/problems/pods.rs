//! Pods by their labels, for as long as one world is judged.
//!
//! A large cluster has thousands of selectors. Compared with every pod, each would cost as much as there are pods; here only
//! those are compared that have one of the wanted labels, the rarest.

use std::collections::{BTreeMap, HashMap};

use crate::api::Item;
use crate::api::core::Pod;
use crate::api::meta::{StringMap, selects};
use crate::world::World;

/// In the order of namespaces and names.
type Places<'w> = BTreeMap<&'w str, Vec<Item<'w, Pod>>>;

pub(super) struct Pods<'w> {
    all: Places<'w>,
    labelled: HashMap<(&'w str, &'w str), Places<'w>>,
}

impl<'w> Pods<'w> {
    pub(super) fn of(world: &'w World) -> Self {
        let mut pods = Self { all: Places::new(), labelled: HashMap::new() };
        for pod in world.all::<Pod>() {
            let object = pod.object;
            let namespace: &str = &object.key.namespace;
            pods.all.entry(namespace).or_default().push(pod);
            for (name, value) in &object.meta.labels {
                let places = pods.labelled.entry((name, value)).or_default();
                places.entry(namespace).or_default().push(pod);
            }
        }
        pods
    }

    /// Those that have all of these labels, in one namespace or in every one.
    pub(super) fn selected<'s>(
        &'s self,
        namespace: Option<&'s str>,
        wanted: &'s StringMap,
    ) -> impl Iterator<Item = Item<'w, Pod>> + use<'s, 'w> {
        let of_label = |(name, value): (&'s String, &'s String)| {
            self.labelled.get(&(name.as_str(), value.as_str())).map(|places| here(places, namespace))
        };
        let candidates = if wanted.is_empty() {
            here(&self.all, namespace)
        } else {
            let lists = wanted.iter().map(|label| of_label(label).unwrap_or_default());
            lists.min_by_key(|lists| lists.iter().map(|list| list.len()).sum::<usize>()).unwrap_or_default()
        };
        let pods = candidates.into_iter().flatten().copied();
        pods.filter(|pod| selects(wanted, &pod.object.meta.labels))
    }
}

fn here<'s, 'w>(places: &'s Places<'w>, namespace: Option<&str>) -> Vec<&'s [Item<'w, Pod>]> {
    match namespace {
        Some(namespace) => places.get(namespace).map(Vec::as_slice).into_iter().collect(),
        None => places.values().map(Vec::as_slice).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::path::Path;

    use crate::source::Change;
    use crate::source::files::load_text;

    use super::*;

    fn labels(random: &mut fastrand::Rng, most: usize) -> StringMap {
        let label = |random: &mut fastrand::Rng| {
            (
                random.choice(["app", "tier", "version"]).unwrap_or_default().to_owned(),
                random.u8(0..3).to_string(),
            )
        };
        (0..random.usize(0..=most)).map(|_| label(random)).collect()
    }

    #[test]
    fn they_are_those_that_a_look_at_all_finds() {
        let (mut random, mut found) = (fastrand::Rng::with_seed(11), 0);
        let mut yaml = String::new();
        for pod in 0..40 {
            let labels = labels(&mut random, 3);
            let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}: '{value}'")).collect();
            let _ = writeln!(
                yaml,
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: p{pod}, namespace: n{}, labels: {{{}}}}}\n\
                 spec: {{containers: [{{name: c}}]}}\n---",
                random.u8(0..3),
                labels.join(", ")
            );
        }
        let mut world = World::default();
        world.apply(Change::from(load_text(Path::new("t.yaml"), &yaml)));
        let pods = Pods::of(&world);
        for _ in 0..500 {
            let wanted = labels(&mut random, 2);
            let namespace = random.bool().then(|| format!("n{}", random.u8(0..4)));
            let here = |pod: &Item<'_, Pod>| namespace.as_ref().is_none_or(|name| pod.namespace() == name);
            let all = world.all::<Pod>().filter(here);
            let expected: Vec<_> = all.filter(|pod| selects(&wanted, &pod.object.meta.labels)).collect();
            let selected: Vec<_> = pods.selected(namespace.as_deref(), &wanted).collect();
            assert!(
                selected.iter().map(Item::name).eq(expected.iter().map(Item::name)),
                "{namespace:?} {wanted:?}"
            );
            found += selected.len();
        }
        assert!(found > 500, "{found}");
    }
}
