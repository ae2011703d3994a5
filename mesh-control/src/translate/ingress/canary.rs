//! Canary Ingresses, as ingress-nginx has them: by header, then by cookie, then by weight.

use mesh_core::model::{Action, HeaderMatch, RouteMatch, Rule, StringMatch};

use super::affinity;
use super::annotations::{get, literal};
use super::paths::Path;
use super::rules::backend;
use super::upstream::{self, Part};
use crate::api::Item;
use crate::api::ingress::Ingress;

/// A canary of one path.
#[derive(Debug, Clone)]
pub(super) struct Canary<'w> {
    ingress: Item<'w, Ingress>,
    cluster: String,
}

impl<'w> Canary<'w> {
    /// Whether an Ingress says that it is one.
    pub(super) fn is_one(ingress: &Item<'_, Ingress>) -> bool {
        get(ingress, "canary") == Some("true")
    }

    pub(super) const fn new(ingress: Item<'w, Ingress>, cluster: String) -> Self {
        Self { ingress, cluster }
    }

    /// The rules of a path with this canary beside its backend. `rule` makes one of the path's rules.
    pub(super) fn rules(&self, path: &Path<'_>, rule: impl Fn(Action) -> Rule) -> Vec<Rule> {
        let main = upstream::backend(&path.ingress, &path.service, Part::Backend);
        let canary = self.backend(&path.ingress);
        let to = |cluster: &str| Action::Forward(vec![backend(cluster, 1)]);
        let mut rules = Vec::new();
        let tests = self.session_tests(&path.ingress).into_iter().chain(self.header_tests());
        for (test, to_canary) in tests.chain(self.cookie_tests()) {
            let mut chosen = rule(to(if to_canary { &canary } else { &main }));
            if chosen.matches.is_empty() {
                chosen.matches.push(RouteMatch::default());
            }
            chosen.matches.iter_mut().for_each(|m| m.headers.push(test.clone()));
            rules.push(chosen);
        }
        rules.push(rule(self.split(&main, &canary)));
        rules
    }

    /// As the Ingress that it is a canary of says; without its sessions where the canary leaves them alone.
    fn backend(&self, main: &Item<'_, Ingress>) -> String {
        upstream::backend(main, &self.cluster, if self.is_sticky(main) { Part::Canary } else { Part::Plain })
    }

    fn is_sticky(&self, main: &Item<'_, Ingress>) -> bool {
        affinity::cookie_name(main).is_some() && !affinity::is_legacy(&self.ingress)
    }

    /// A session that has begun goes on where it began, before anything else is asked (docs/ingress.md, "Sessions").
    fn session_tests(&self, main: &Item<'_, Ingress>) -> Vec<(HeaderMatch, bool)> {
        let name = affinity::cookie_name(main).filter(|_| self.is_sticky(main));
        let tests = name.map(affinity::session_tests);
        tests.into_iter().flat_map(|[canary, any]| [(canary, true), (any, false)]).collect()
    }

    fn split(&self, main: &str, canary: &str) -> Action {
        let total = self.number("canary-weight-total").filter(|total| *total > 0).unwrap_or(100);
        let weight = self.number("canary-weight").unwrap_or(0).min(total);
        let backends = [(main, total - weight), (canary, weight)];
        Action::Forward(backends.iter().filter(|(_, w)| *w > 0).map(|(name, w)| backend(name, *w)).collect())
    }

    fn number(&self, name: &str) -> Option<u32> {
        get(&self.ingress, name)?.trim().parse().ok()
    }

    /// A value, if one is given; else a pattern; else the words `always` and `never`.
    fn header_tests(&self) -> Vec<(HeaderMatch, bool)> {
        let Some(name) = get(&self.ingress, "canary-by-header") else { return Vec::new() };
        let test = |value| HeaderMatch { name: name.to_ascii_lowercase(), value };
        if let Some(value) = get(&self.ingress, "canary-by-header-value") {
            return vec![(test(StringMatch::Exact(value.to_owned())), true)];
        }
        if let Some(pattern) = get(&self.ingress, "canary-by-header-pattern") {
            return vec![(test(StringMatch::Regex(format!(".*(?:{pattern}).*"))), true)];
        }
        let word = |word: &str| test(StringMatch::Exact(word.to_owned()));
        vec![(word("always"), true), (word("never"), false)]
    }

    fn cookie_tests(&self) -> Vec<(HeaderMatch, bool)> {
        let Some(name) = get(&self.ingress, "canary-by-cookie") else { return Vec::new() };
        let literal = literal(name);
        let word = |word: &str| HeaderMatch {
            name: "cookie".to_owned(),
            value: StringMatch::Regex(format!("(?:.*[;,] *)?{literal}={word}(?: *[;,].*)?")),
        };
        vec![(word("always"), true), (word("never"), false)]
    }
}
