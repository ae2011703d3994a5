use super::*;
use crate::model::{Millis, RetryPolicy};

const GET: Replayable = Replayable { harmless: true, body_kept: true, sent: true };
const POST: Replayable = Replayable { harmless: false, body_kept: true, sent: true };

fn policy(on: &[RetryOn]) -> Retry {
    let model = RetryPolicy { attempts: 2, on: on.to_vec(), statuses: vec![418], ..RetryPolicy::default() };
    Retry::new(&model, None)
}

fn retries(policy: &Retry, result: &AttemptResult<'_>, request: Replayable) -> bool {
    judge(policy, result, request, 1, &mut Dice::seeded(1)) != Verdict::Done
}

fn on_status(policy: &Retry, status: u16, field: Option<(&'static str, &'static str)>) -> bool {
    let mut head = ResponseHead::new(status);
    field.into_iter().for_each(|(name, value)| head.headers.append(name, value));
    retries(policy, &AttemptResult::Answered(&head), POST)
}

fn on_failure(policy: &Retry, failure: Failure, request: Replayable) -> bool {
    retries(policy, &AttemptResult::Failed(failure), request)
}

#[test]
fn s14_by_default_only_what_was_not_worked_on_is_tried_again() {
    let standard = Retry::standard();
    assert!(on_failure(&standard, Failure::ConnectFailed, POST));
    assert!(on_failure(&standard, Failure::StreamRefused, POST));
    assert!(on_status(&standard, 200, Some(("grpc-status", "14"))));
    assert!(!on_status(&standard, 503, None), "a plain 503 stands");
    assert!(!on_failure(&standard, Failure::AttemptTimeout, GET));
    assert!(!on_failure(&standard, Failure::UpstreamReset, POST));
    assert!(!on_failure(&Retry::never(), Failure::ConnectFailed, GET));
}

#[test]
fn s14_inbound_only_what_was_not_sent_is_tried_again() {
    let inbound = Retry::inbound();
    assert!(on_failure(&inbound, Failure::UpstreamClosed, Replayable { sent: false, ..POST }));
    assert!(!on_failure(&inbound, Failure::UpstreamClosed, POST));
}

#[test]
fn s15_the_vocabulary_of_statuses() {
    for (on, hits, misses) in [
        (RetryOn::Any5xx, &[500, 503, 599][..], &[418, 409][..]),
        (RetryOn::GatewayError, &[502, 503, 504], &[500, 501]),
        (RetryOn::Retriable4xx, &[409], &[404, 503]),
        (RetryOn::RetriableStatus, &[418], &[503]),
    ] {
        let policy = policy(&[on]);
        assert!(hits.iter().all(|&status| on_status(&policy, status, None)), "{on:?}");
        assert!(!misses.iter().any(|&status| on_status(&policy, status, None)), "{on:?}");
    }
    let limited = Some(("x-envoy-ratelimited", "true"));
    assert!(!on_status(&policy(&[RetryOn::Any5xx]), 503, limited));
    assert!(on_status(&policy(&[RetryOn::EnvoyRatelimited]), 429, limited));
}

#[test]
fn s15_5xx_takes_in_every_way_of_not_answering_but_the_routes_own_deadline() {
    let policy = policy(&[RetryOn::Any5xx]);
    for failure in
        [Failure::ConnectFailed, Failure::AttemptTimeout, Failure::UpstreamReset, Failure::StreamRefused]
    {
        assert!(on_failure(&policy, failure, POST), "{failure}");
    }
    for failure in
        [Failure::UpstreamTimeout, Failure::Overflow, Failure::NoHealthyUpstream, Failure::ResponseCut]
    {
        assert!(!on_failure(&policy, failure, GET), "{failure}");
    }
}

#[test]
fn d12_a_harmless_request_outlives_its_connection() {
    assert!(on_failure(&Retry::standard(), Failure::UpstreamClosed, GET));
    assert!(!on_failure(&Retry::standard(), Failure::UpstreamClosed, POST));
}

/// D3: three retries mean four tries, of which a deadline leaves as many as fit.
#[test]
fn attempts_are_counted_after_the_first() {
    let policy = policy(&[RetryOn::Any5xx]);
    let failed = AttemptResult::Failed(Failure::AttemptTimeout);
    let tries = |attempt| judge(&policy, &failed, GET, attempt, &mut Dice::seeded(1)) != Verdict::Done;
    assert_eq!([1, 2, 3].map(tries), [true, true, false]);
}

#[test]
fn a_body_that_is_gone_is_not_sent_again() {
    let gone = Replayable { body_kept: false, ..POST };
    assert!(!on_failure(&policy(&[RetryOn::Any5xx]), Failure::ConnectFailed, gone));
}

#[test]
fn s15_back_off_is_jittered_doubles_and_is_capped() {
    let base = Millis::new(25).duration();
    let mut dice = Dice::seeded(1);
    for (attempt, longest) in [(1, 25), (2, 75), (3, 175), (4, 250), (40, 250)] {
        let waits: Vec<_> = (0..2000).map(|_| backoff(base, attempt, &mut dice).as_millis()).collect();
        let most = *waits.iter().max().unwrap();
        assert!(most < longest && most > longest * 9 / 10, "try {attempt}: {most} ms");
        assert!(*waits.iter().min().unwrap() <= longest / 20);
    }
}
