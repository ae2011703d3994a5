//! Expected against found, field by field.

mod render;

use mesh_core::message;
use mesh_core::model::{AbortStatus, PerMillion};

use self::render::{joined, list, name, or, percent, share, show, time, word};
use super::file::{self, Expect};
use crate::cmd::explain::facts::{Destination, Facts};
use crate::cmd::explain::report;

/// One field that is not as expected.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(super) struct Difference {
    pub(super) field: String,
    pub(super) expected: String,
    pub(super) found: String,
}

/// One way that a request can take.
pub(super) struct Found<'a> {
    pub(super) facts: &'a Facts,
    pub(super) outcome: &'a report::Outcome,
    /// The caller's, in which short names are read.
    pub(super) namespace: &'a str,
}

/// All that is not as expected.
pub(super) fn differences(expect: &Expect, found: &Found<'_>) -> Vec<Difference> {
    let mut judge = Judge { differences: Vec::new(), namespace: found.namespace };
    judge.outcome(expect, found);
    judge.destinations(expect, found.facts);
    judge.request(expect, found.facts);
    judge.response(expect, found.facts);
    judge.policy(expect, found.facts);
    judge.differences
}

struct Judge<'a> {
    differences: Vec<Difference>,
    namespace: &'a str,
}

impl Judge<'_> {
    fn outcome(&mut self, expect: &Expect, found: &Found<'_>) {
        let Found { facts, outcome, .. } = found;
        if let Some(result) = expect.result {
            self.same("result", word(result), word(outcome.result.into()));
        }
        if let Some(status) = expect.status {
            self.same("status", &status.to_string(), &or(outcome.status, "the application's"));
        }
        if let Some(flag) = &expect.flag {
            self.same("flag", flag, outcome.flag.unwrap_or("-"));
        }
        if let Some(policy) = &expect.denied_by {
            let denied = facts.denial.as_ref().map(|denial| match denial.policy() {
                Some((origin, _)) => format!("{}/{}", origin.namespace, origin.name),
                None => "none".to_owned(),
            });
            let found = denied.unwrap_or_else(|| "(not denied)".to_owned());
            let is_same = *policy == found || found.split_once('/').is_some_and(|(_, name)| name == policy);
            self.check(is_same, "deniedBy", policy, &found);
        }
        if let Some(workload) = &expect.workload {
            let found = facts.pod.as_deref().unwrap_or("(no workload)");
            self.check(is_workload(workload, found), "workload", workload, found);
        }
        if let Some(wanted) = expect.mutual_tls {
            self.same("mutualTls", &wanted.to_string(), &or(facts.mutual_tls, "(nothing is called)"));
        }
    }

    fn destinations(&mut self, expect: &Expect, facts: &Facts) {
        let found = shares(facts);
        if let Some(wanted) = &expect.destination {
            let is_same = matches!(&found[..], [(one, ..)] if self.is_destination(wanted, one));
            self.check(is_same, "destination", &name(wanted), &list(&found));
        }
        if !expect.destinations.is_empty() {
            let total: u64 = expect.destinations.iter().map(|each| each.weight).sum();
            let fits = |wanted: &file::WeightedDestination| {
                let destination = wanted.destination();
                found.iter().any(|(each, weight, of)| {
                    self.is_destination(&destination, each)
                        && u128::from(*weight) * u128::from(total)
                            == u128::from(wanted.weight) * u128::from(*of)
                })
            };
            let is_same = found.len() == expect.destinations.len() && expect.destinations.iter().all(fits);
            let wanted = expect
                .destinations
                .iter()
                .map(|each| format!("{} {}", share(each.weight, total), name(&each.destination())));
            let wanted = wanted.collect::<Vec<_>>().join(", ");
            self.check(is_same, "destinations", &wanted, &list(&found));
        }
    }

    fn request(&mut self, expect: &Expect, facts: &Facts) {
        let sent = facts.request.as_ref();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let path = |head: &message::RequestHead| match &head.query {
            Some(query) => format!("{}?{}", text(&head.path), text(query)),
            None => text(&head.path),
        };
        if let Some(wanted) = &expect.path {
            self.same("path", wanted, &or(sent.map(path), NOT_SENT));
        }
        if let Some(wanted) = &expect.authority {
            self.same("authority", wanted, &or(sent.map(|head| text(&head.authority)), NOT_SENT));
        }
        if expect.request_headers != file::Headers::default() {
            match sent {
                Some(head) => self.headers("requestHeaders", &expect.request_headers, &head.headers),
                None => self.check(false, "requestHeaders", "those listed", NOT_SENT),
            }
        }
    }

    fn response(&mut self, expect: &Expect, facts: &Facts) {
        self.headers("responseHeaders", &expect.response_headers, &facts.response);
        if let Some(wanted) = &expect.redirect {
            self.same("redirect", wanted, &or(facts.response.get_str("location"), "(no redirect)"));
        }
        if let Some(wanted) = &expect.body {
            let body = facts.answer.as_ref().map(|answer| String::from_utf8_lossy(&answer.body).into_owned());
            self.same("body", wanted, &or(body, "the application's"));
        }
    }

    fn policy(&mut self, expect: &Expect, facts: &Facts) {
        if let Some(wanted) = expect.timeout {
            self.same("timeout", &time(Some(wanted.get())), &time(facts.timeout));
        }
        if let Some(wanted) = &expect.retries {
            if let Some(attempts) = wanted.attempts {
                let found = facts.retry.as_ref().map(|retry| retry.attempts);
                self.same("retries.attempts", &attempts.to_string(), &or(found, NOT_SENT));
            }
            if let Some(wanted) = wanted.per_try_timeout {
                let found = facts.retry.as_ref().and_then(|retry| retry.per_try_timeout);
                self.same("retries.perTryTimeout", &time(Some(wanted.get())), &time(found));
            }
        }
        if let Some(wanted) = &expect.mirrors {
            self.mirrors(wanted, facts);
        }
        if let Some(wanted) = &expect.fault {
            self.fault(wanted, facts);
        }
    }

    fn mirrors(&mut self, wanted: &[file::Mirror], facts: &Facts) {
        let fits = |wanted: &file::Mirror| {
            let share = PerMillion::percent(wanted.percentage.unwrap_or(100.0));
            facts.mirrors.iter().any(|(found, found_share)| {
                *found_share == share && self.is_destination(&wanted.destination(), found)
            })
        };
        let is_same = wanted.len() == facts.mirrors.len() && wanted.iter().all(fits);
        let expected = wanted
            .iter()
            .map(|each| format!("{} % {}", each.percentage.unwrap_or(100.0), name(&each.destination())));
        let found = facts.mirrors.iter().map(|(each, share)| format!("{} {}", percent(*share), show(each)));
        let (expected, found) = (joined(expected), joined(found));
        self.check(is_same, "mirrors", &expected, &found);
    }

    fn fault(&mut self, wanted: &file::Fault, facts: &Facts) {
        let found = facts.fault.clone().unwrap_or_default();
        if let Some(delay) = wanted.delay {
            let delayed = found.delay.map(|(delay, _)| delay.duration());
            self.same("fault.delay", &time(Some(delay.get())), &time(delayed));
        }
        if let Some(wanted) = wanted.delay_percentage {
            let found = found.delay.map_or(PerMillion::NEVER, |(_, share)| share);
            self.same("fault.delayPercentage", &percent(PerMillion::percent(wanted)), &percent(found));
        }
        if let Some(status) = wanted.abort {
            let aborted = match found.abort {
                Some((AbortStatus::Http(status), _)) => status.to_string(),
                Some((AbortStatus::Grpc(code), _)) => format!("gRPC {code}"),
                None => "none".to_owned(),
            };
            self.same("fault.abort", &status.to_string(), &aborted);
        }
        if let Some(wanted) = wanted.abort_percentage {
            let found = found.abort.map_or(PerMillion::NEVER, |(_, share)| share);
            self.same("fault.abortPercentage", &percent(PerMillion::percent(wanted)), &percent(found));
        }
    }

    fn headers(&mut self, field: &str, wanted: &file::Headers, found: &message::Headers) {
        for (name, value) in &wanted.set {
            let values: Vec<_> = found.get_all(name).map(String::from_utf8_lossy).collect();
            let is_same = values.iter().any(|found| found == value);
            let found = if values.is_empty() { "(absent)".to_owned() } else { values.join(", ") };
            self.check(is_same, &format!("{field}.set[{name:?}]"), value, &found);
        }
        for name in &wanted.absent {
            let found = found.get_str(name);
            self.check(
                found.is_none(),
                &format!("{field}.absent"),
                &format!("no {name}"),
                &or(found, "(binary)"),
            );
        }
    }

    fn is_destination(&self, wanted: &file::Destination, found: &Destination) -> bool {
        is_host(&wanted.host, &found.host, self.namespace)
            && wanted.subset == found.subset
            && wanted.port.is_none_or(|port| port == found.port)
    }

    fn same(&mut self, field: &str, expected: &str, found: &str) {
        self.check(expected == found, field, expected, found);
    }

    fn check(&mut self, is_same: bool, field: &str, expected: &str, found: &str) {
        if !is_same {
            let (field, expected, found) = (field.to_owned(), expected.to_owned(), found.to_owned());
            self.differences.push(Difference { field, expected, found });
        }
    }
}

const NOT_SENT: &str = "(not sent on)";

/// All destinations that get anything.
fn shares(facts: &Facts) -> Vec<(Destination, u64, u64)> {
    if facts.shares.is_empty() {
        return facts.destination.iter().map(|one| (one.clone(), 1, 1)).collect();
    }
    facts.shares.iter().filter(|(_, weight, _)| *weight > 0).cloned().collect()
}

/// Whether a host as users write it is that service.
fn is_host(wanted: &str, found: &str, namespace: &str) -> bool {
    let Some(rest) = found.strip_prefix(wanted) else { return false };
    let short = rest.strip_prefix('.').and_then(|rest| rest.strip_prefix(namespace));
    rest.is_empty() || rest.starts_with(".svc.") || short.is_some_and(|rest| rest.starts_with(".svc."))
}

/// Whether a pod is of a workload; pods are named for it.
fn is_workload(wanted: &str, pod: &str) -> bool {
    let pod_name = pod.split_once('/').map_or(pod, |(_, name)| name);
    let of = |pod: &str| {
        pod.strip_prefix(wanted).is_some_and(|rest| {
            rest.is_empty()
                || rest.strip_prefix('-').is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
        })
    };
    of(pod) || of(pod_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_of_the_callers_namespace() {
        let full = "reviews.shop.svc.cluster.local";
        assert!(is_host("reviews", full, "shop") && is_host("reviews.shop", full, "other"));
        assert!(!is_host("reviews", full, "other") && !is_host("review", full, "shop"));
    }

    #[test]
    fn a_workload_is_known_by_its_pods() {
        assert!(
            is_workload("reviews-v1", "shop/reviews-v1-0")
                && is_workload("shop/reviews-v1", "shop/reviews-v1-0")
        );
        assert!(!is_workload("reviews", "shop/reviews-v1-0"));
    }
}
