//! Which VirtualService holds for a host, and how gateways put several together, against a naive reading of semantics.md
//! 1, 17, 18, 20 and 22: random VirtualServices, and every host that they can tell apart.

use mesh_core::model::{HostPattern, Rule};

use super::*;

/// Of callers, of VirtualServices and, the last, of the gateway.
const NAMESPACES: [&str; 3] = ["shop", "front", "gateways"];
/// Hosts that requests name; the first is a service's.
const ASKED: [&str; 5] =
    ["web.shop.svc.cluster.local", "a.example.com", "b.a.example.com", "example.com", "c.b.a.example.com"];
/// Hosts as VirtualServices write them; the first is short.
const WRITTEN: [&str; 9] = [
    "web",
    "web.shop.svc.cluster.local",
    "*.shop.svc.cluster.local",
    "a.example.com",
    "A.Example.com",
    "*.example.com",
    "*.a.example.com",
    "*.b.a.example.com",
    "*",
];
const EXPORTS: [&[&str]; 9] = [
    &[],
    &["*"],
    &["."],
    &["shop"],
    &["front"],
    &["shop", "gateways"],
    &[".", "front"],
    &["~"],
    &["nowhere"],
];
/// Hosts of the gateway's server.
const ADMITTED: [&str; 8] = [
    "*",
    "shop/*",
    "*/*.example.com",
    "./*.a.example.com",
    "a.example.com",
    "front/a.example.com",
    "*.a.example.com",
    "nobody/*",
];
/// Prefixes in rules: none, the one that all paths have, and two that tell paths apart.
const PREFIXES: [Option<&str>; 4] = [None, Some("/"), Some("/x"), Some("/x/y")];
const PATHS: [&str; 3] = ["/", "/x", "/x/y"];
const WORLDS: usize = 250;

#[derive(Debug)]
struct Written {
    namespace: usize,
    hosts: Vec<usize>,
    exports: usize,
    /// For sidecars, for the gateway.
    bound: [bool; 2],
    /// Prefixes of its rules.
    rules: Vec<usize>,
    /// The lower the older; no two are of one day.
    day: usize,
}

impl Written {
    /// With hosts out of a few, so that several have the same.
    fn random(random: &mut fastrand::Rng, hosts: &[usize], day: usize) -> Self {
        Self {
            namespace: random.usize(0..NAMESPACES.len()),
            hosts: (0..random.usize(1..=2)).map(|_| hosts[random.usize(0..hosts.len())]).collect(),
            exports: if random.u8(0..3) == 0 { 0 } else { random.usize(0..EXPORTS.len()) },
            bound: [[true, false], [false, true], [true, true], [true, true]][random.usize(0..4)],
            rules: (0..random.usize(1..=3)).map(|_| random.usize(0..PREFIXES.len())).collect(),
            day,
        }
    }

    /// Its rules answer with what they are called: its day and their place.
    fn yaml(&self) -> String {
        let hosts: Vec<_> = self.hosts.iter().map(|&at| format!("'{}'", WRITTEN[at])).collect();
        let exports: Vec<_> = EXPORTS[self.exports].iter().map(|entry| format!("'{entry}'")).collect();
        let gateways = match self.bound {
            [true, false] => "",
            [false, true] => "gateways: [gateways/g], ",
            _ => "gateways: [gateways/g, mesh], ",
        };
        let rules = self.rules.iter().enumerate().map(|(at, &prefix)| {
            let prefix = PREFIXES[prefix].map(|prefix| format!(", match: [{{uri: {{prefix: {prefix}}}}}]"));
            let name = self.rule(at);
            format!("{{name: {name}{}, directResponse: {{status: 204}}}}", prefix.unwrap_or_default())
        });
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v{}, namespace: {}, \
             creationTimestamp: '2026-01-{:02}T00:00:00Z'}}\n\
             spec: {{hosts: [{}], exportTo: [{}], {gateways}http: [{}]}}\n---\n",
            // Names are in no order of age.
            self.day * 7 % 10,
            NAMESPACES[self.namespace],
            self.day + 1,
            hosts.join(", "),
            exports.join(", "),
            rules.collect::<Vec<_>>().join(", "),
        )
    }

    fn rule(&self, at: usize) -> String {
        format!("{}-{at}", self.day)
    }

    /// Its hosts in full and in lower case.
    fn full(&self) -> Vec<String> {
        let full = |&at: &usize| match WRITTEN[at] {
            "web" => format!("web.{}.svc.cluster.local", NAMESPACES[self.namespace]),
            other => other.to_lowercase(),
        };
        self.hosts.iter().map(full).collect()
    }

    /// How it comes to be seen in a namespace: 0 as the namespace's own affair, 1 by name, 2 like everybody's.
    fn seen_from(&self, namespace: &str) -> Option<u8> {
        let own = NAMESPACES[self.namespace] == namespace;
        match EXPORTS[self.exports] {
            list if list.is_empty() || list.contains(&"*") => Some(2),
            list if own && (list.contains(&".") || list.contains(&namespace)) => Some(0),
            list => list.contains(&namespace).then_some(1),
        }
    }

    /// The first of its rules that takes a path.
    fn takes(&self, path: &str) -> Option<String> {
        let takes = |&prefix: &usize| PREFIXES[prefix].is_none_or(|prefix| path.starts_with(prefix));
        self.rules.iter().position(takes).map(|at| self.rule(at))
    }
}

/// How well a pattern serves a host, or another pattern, if it does: in full, then by the longer suffix.
fn serves(pattern: &str, host: &str) -> Option<(bool, usize)> {
    if pattern == host {
        return Some((!pattern.starts_with('*'), pattern.len()));
    }
    let suffix = pattern.strip_prefix('*')?;
    let below = host.strip_prefix('*').unwrap_or(host);
    let is_below = suffix.is_empty() || (below.ends_with(suffix) && host.len() > suffix.len());
    is_below.then_some((false, suffix.len()))
}

/// The VirtualService of sidecars of a namespace: of those that are seen the one with the most specific host, then the one
/// that is seen most narrowly, then the oldest.
fn chosen<'w>(all: &'w [Written], namespace: &str, asked: &str) -> Option<&'w Written> {
    let mut best: Option<(&Written, (bool, usize), u8)> = None;
    for each in all.iter().filter(|each| each.bound[0]) {
        let Some(seen) = each.seen_from(namespace) else { continue };
        let Some(serves) = each.full().iter().filter_map(|host| serves(host, asked)).max() else { continue };
        let is_better =
            best.is_none_or(|(other, best, narrow)| (serves, narrow, other.day) > (best, seen, each.day));
        if is_better {
            best = Some((each, serves, seen));
        }
    }
    best.map(|(each, ..)| each)
}

/// The rule at the gateway: of the most specific host that any VirtualService has there; theirs come in the order of age,
/// each up to its first that takes everything, and if there are several those that take everything come last.
fn merged(all: &[Written], admitted: &[usize], asked: &str, path: &str) -> Option<String> {
    let mut here: Vec<(String, &Written)> = Vec::new();
    let bound = all.iter().filter(|each| each.bound[1] && each.seen_from("gateways").is_some());
    for each in bound {
        for (host, admitted) in each.full().iter().flat_map(|host| admitted.iter().map(move |&at| (host, at)))
        {
            let (from, admitted) = ADMITTED[admitted].split_once('/').unwrap_or(("*", ADMITTED[admitted]));
            let from = if from == "." { "gateways" } else { from };
            if from != "*" && from != NAMESPACES[each.namespace] {
                continue;
            }
            let narrower = match (serves(admitted, host), serves(host, admitted)) {
                (Some(_), _) => host.clone(),
                (None, Some(_)) => admitted.to_owned(),
                (None, None) => continue,
            };
            if !here.iter().any(|(host, other)| *host == narrower && other.day == each.day) {
                here.push((narrower, each));
            }
        }
    }
    let best = here.iter().filter(|(host, _)| serves(host, asked).is_some());
    let best = &best.max_by_key(|(host, _)| serves(host, asked))?.0;
    let mut sharing: Vec<&Written> =
        here.iter().filter(|(host, _)| host == best).map(|(_, each)| *each).collect();
    sharing.sort_by_key(|each| each.day);
    let mut all_takers = Vec::new();
    for each in &sharing {
        for (at, &prefix) in each.rules.iter().enumerate() {
            match PREFIXES[prefix] {
                None | Some("/") => {
                    all_takers.push(each.rule(at));
                    break;
                }
                Some(prefix) if path.starts_with(prefix) => return Some(each.rule(at)),
                Some(_) => {}
            }
        }
    }
    all_takers.into_iter().next()
}

/// The rule that tables have for a request, without any index.
fn found(tables: &[&Routes], asked: &str, path: &str) -> Option<String> {
    let hosts = tables.iter().flat_map(|table| &table.virtual_hosts);
    let all = hosts.flat_map(|host| host.hosts.iter().map(move |pattern| (pattern, &host.rules)));
    let best = all
        .filter_map(|(pattern, rules)| Some((serves(&pattern.to_string(), asked)?, rules)))
        .max_by_key(|(best, _)| *best)?;
    let takes = |rule: &&Rule| {
        rule.matches.is_empty()
            || rule.matches.iter().any(|each| match &each.path {
                None => true,
                Some(mesh_core::model::PathMatch::Prefix(prefix)) => path.starts_with(prefix.as_str()),
                Some(other) => panic!("{other:?}"),
            })
    };
    best.1.iter().find(takes).map(|rule| rule.name.clone())
}

fn world(random: &mut fastrand::Rng) -> (Vec<Written>, String) {
    let hosts: Vec<usize> = (0..3).map(|_| random.usize(0..WRITTEN.len())).collect();
    let mut all: Vec<Written> =
        (0..random.usize(1..10)).map(|day| Written::random(random, &hosts, day)).collect();
    let service = service("web", 80, &["v1"]).replace("{name: web", "{namespace: shop, name: web");
    // Objects are written in no order of age either.
    random.shuffle(&mut all);
    let yaml = service + &all.iter().map(Written::yaml).collect::<String>();
    (all, yaml)
}

/// Also of the tables that come with a wildcard's: who holds it does not ask for the hosts below.
#[test]
fn s17_sidecars_take_the_oracles_virtual_service() {
    let mut random = fastrand::Rng::with_seed(17);
    let (mut taken, mut narrow, mut below) = (0, [0; 3], 0);
    for _ in 0..WORLDS {
        let (all, yaml) = world(&mut random);
        let view = view(&yaml);
        for (namespace, asked) in NAMESPACES.iter().flat_map(|each| ASKED.map(|asked| (*each, asked))) {
            let caller = proxy(Role::Sidecar, namespace, "x");
            let resources = closure(&view, &caller, &host_root(asked, 80));
            let tables = resources.as_deref().map(tables).unwrap_or_default();
            // The first table is the one that was asked for; its host holds for all that it covers.
            let held = tables.first().map(|table| table.virtual_hosts[0].hosts.clone()).unwrap_or_default();
            let covered = |host: &&&str| {
                ***host == *asked || held.iter().any(|pattern| serves(&pattern.to_string(), host).is_some())
            };
            for host in ASKED.iter().filter(covered) {
                let is_service = host.starts_with("web.");
                let rule = chosen(&all, namespace, host);
                for path in PATHS {
                    let expected = match rule {
                        Some(rule) => rule.takes(path),
                        None if is_service => Some("default".to_owned()),
                        None => None,
                    };
                    let found = found(&tables, host, path);
                    assert_eq!(found, expected, "{namespace} asks {asked}, then {host}{path}\n{yaml}");
                }
                taken += usize::from(rule.is_some());
                below += usize::from(rule.is_some() && *host != asked);
                if let Some(seen) = rule.and_then(|rule| rule.seen_from(namespace)) {
                    narrow[usize::from(seen)] += 1;
                }
            }
        }
    }
    // Every way to be chosen is met often.
    assert!(
        taken > 5 * WORLDS && below > WORLDS && narrow.iter().all(|&count| count > WORLDS / 4),
        "{taken} {below} {narrow:?}"
    );
}

#[test]
fn s17_gateways_put_rules_together_as_the_oracle_does() {
    let mut random = fastrand::Rng::with_seed(18);
    let (mut routed, mut shared) = ([0; 2], 0);
    for _ in 0..WORLDS {
        let (all, yaml) = world(&mut random);
        let admitted: Vec<usize> =
            (0..random.usize(1..=2)).map(|_| random.usize(0..ADMITTED.len())).collect();
        let hosts: Vec<_> = admitted.iter().map(|&at| format!("'{}'", ADMITTED[at])).collect();
        let gateway = format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: g, namespace: gateways}}\n\
             spec: {{selector: {{istio: ingressgateway}}, servers: [{{port: {{number: 80, name: h, \
             protocol: HTTP}}, hosts: [{}]}}]}}\n---\n",
            hosts.join(", ")
        );
        let yaml = yaml + &gateway + &gateway_pod("ingressgateway");
        let resources =
            closure(&view(&yaml), &proxy(Role::Ingress, "istio-system", "gw"), &Root::Own).expect("its own");
        let tables = tables(&resources);
        for (asked, path) in ASKED.iter().flat_map(|asked| PATHS.map(|path| (*asked, path))) {
            let expected = merged(&all, &admitted, asked, path);
            assert_eq!(found(&tables, asked, path), expected, "{asked}{path}\n{yaml}");
            routed[usize::from(expected.is_some())] += 1;
        }
        let sources = |rules: &[Rule]| {
            let mut days: Vec<_> = rules.iter().map(|rule| rule.name.split('-').next()).collect();
            days.dedup();
            days.len()
        };
        let hosts = tables.iter().flat_map(|table| &table.virtual_hosts);
        shared += hosts.filter(|host| sources(&host.rules) > 1).count();
    }
    assert!(routed.iter().all(|&count| count > WORLDS) && shared > WORLDS / 4, "{routed:?} {shared}");
}

/// What the oracle takes for "serves" is what the translation takes for it.
#[test]
fn s20_hosts_cover_as_the_oracle_says() {
    use crate::translate::scope::{covers, specificity};
    let patterns = WRITTEN.iter().chain(&ASKED).map(|text| text.to_lowercase());
    let patterns: Vec<(String, HostPattern)> =
        patterns.map(|text| (text.clone(), HostPattern::parse(&text).unwrap())).collect();
    for (outer_text, outer) in &patterns {
        for (inner_text, inner) in &patterns {
            let expected = serves(outer_text, inner_text);
            assert_eq!(covers(outer, inner), expected.is_some(), "{outer_text} over {inner_text}");
        }
    }
    for asked in ASKED {
        let serving = || patterns.iter().filter(|(text, _)| serves(text, asked).is_some());
        let expected = serving().max_by_key(|(text, _)| serves(text, asked));
        let best = serving().max_by_key(|(_, pattern)| specificity(pattern));
        assert_eq!(best, expected, "{asked}");
    }
}
