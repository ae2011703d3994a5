//! Forwards a request by its plan: try after try, within one deadline.
//!
//! The route's timeout spans all tries: a caller who allowed 2 s does not wait 6. When it runs is [`Clock`]'s to say. Which failure may be tried again is
//! `decide::retry`'s to say; the budget and the endpoints are the cluster's.

mod attempt;
mod mirror;

use std::rc::Rc;
use std::time::Duration;

use tokio::time::sleep;

use super::account::Account;
use super::bounded::bounded;
use super::clock::Clock;
use super::meter::metered;
use super::replay::Replay;
use super::{Reply, Switched, headers, serve};
use crate::decide::retry::{self, AttemptResult, Replayable, Verdict};
use crate::decide::{Answer, Plan, Target};
use crate::engine::body::Body;
use crate::engine::connection::Downstream;
use crate::engine::stream::Ahead;
use crate::engine::worker::Worker;
use crate::failure::Failure;
use crate::guard::RetryPermit;
use crate::message::{ORIGINAL_PATH, RequestHead};
use crate::snapshot::{Cluster, RequestPermit};
use crate::telemetry::Counter;
use attempt::{Answered, Attempt, Failed};

/// Forwards a request; whatever happens is an answer.
pub(super) async fn forward(
    worker: &Rc<Worker>,
    downstream: &Downstream,
    mut plan: Plan,
    mut head: RequestHead,
    body: Body,
    mut account: Account,
) -> Reply {
    account.hold(std::mem::take(&mut plan.permits));
    let tells_path = account.headers().is_none_or(|headers| !headers.omits_debug);
    let record = account.record();
    record.route = Some(plan.route_name.clone());
    let written = mirror::written(&plan, &head);
    plan.edit_request(&mut head);
    let trace = record.trace;
    let external = plan.cluster.as_ref().is_some_and(|cluster| cluster.model.external);
    headers::depart(&mut head, &trace, external);
    if !tells_path {
        head.headers.remove(ORIGINAL_PATH);
    }
    let permit = match plan.cluster.as_deref().map(Cluster::admit).transpose() {
        Ok(permit) => permit,
        Err(failure) => return serve::respond(downstream, Answer::failure(failure, &head), account),
    };
    let most = plan.rule.as_ref().and_then(|rule| rule.admission.as_ref()?.max_body);
    let body = mirror::send(worker, downstream, &plan, &head, &written, &trace, bounded(body, most));
    let (clock, body) = Clock::start(body);
    let mut tries = Tries::new(worker, downstream, &plan, head, body, &account, &clock);
    let outcome = tokio::select! {
        biased;
        outcome = tries.run(&mut account) => outcome,
        failure = overdue(&clock, plan.timeout, worker.limits().stream_idle) => {
            tries.abandon();
            Err(Failed::because(failure))
        }
    };
    match outcome {
        Ok(answered) => pass_on(downstream, &plan, answered, account, permit, clock),
        Err(failed) => {
            account.record().cause = failed.cause;
            let mut answer = Answer::failure(failed.failure, &tries.head);
            headers::mark_unserved(&mut answer.headers, downstream, failed.failure);
            serve::respond(downstream, answer, account)
        }
    }
}

/// Ends when the route's time, or the time that a stream may be silent, has passed.
async fn overdue(clock: &Clock, timeout: Option<Duration>, idle: Duration) -> Failure {
    let Some(timeout) = timeout else {
        clock.clone().idle(idle).await;
        return Failure::StreamIdle;
    };
    tokio::select! {
        () = clock.clone().passed(timeout) => Failure::UpstreamTimeout,
        () = clock.clone().idle(idle), if clock.has_body() => Failure::StreamIdle,
    }
}

/// What the tries of one request share.
struct Tries<'a> {
    worker: &'a Rc<Worker>,
    downstream: &'a Downstream,
    plan: &'a Plan,
    head: RequestHead,
    replay: Replay,
    clock: &'a Clock,
    /// Endpoints that have been tried.
    attempt: Attempt,
}

impl<'a> Tries<'a> {
    fn new(
        worker: &'a Rc<Worker>,
        downstream: &'a Downstream,
        plan: &'a Plan,
        head: RequestHead,
        body: Body,
        account: &Account,
        clock: &'a Clock,
    ) -> Self {
        let room = worker.limits().replay;
        let replay = Replay::new(body, room, account.received());
        Self { worker, downstream, plan, head, replay, clock, attempt: Attempt::default() }
    }

    /// Tries until there is an answer to pass on, or no point in another try.
    async fn run(&mut self, account: &mut Account) -> Result<Answered, Failed> {
        let mut number = 1;
        let mut permit: Option<RetryPermit> = None;
        loop {
            if account.headers().is_none_or(|headers| !headers.omits_attempt_count) {
                headers::attempt(&mut self.head.headers, number);
            }
            account.record().attempts = number;
            let result = self.attempt_once(account).await;
            let Some((backoff, next)) = self.another(&result, number) else {
                self.replay.settle();
                return result;
            };
            self.worker.count(Counter::Retries);
            // The connection of an answer that is not wanted closes here, and the permit of the try that gave it.
            drop((result, permit.replace(next)));
            sleep(backoff).await;
            number += 1;
        }
    }

    async fn attempt_once(&mut self, account: &mut Account) -> Result<Answered, Failed> {
        let Some(limit) = self.plan.retry.per_try_timeout else { return self.send(account).await };
        let clock = self.clock.again();
        tokio::select! {
            biased;
            sent = self.send(account) => return sent,
            () = clock.passed(limit) => {}
        }
        self.attempt.report_timeout(self.worker, self.plan);
        Err(Failed { sent: true, ..Failed::because(Failure::AttemptTimeout) })
    }

    /// Whether there is to be another try, after which time, and the permit for it.
    fn another(&self, result: &Result<Answered, Failed>, number: u32) -> Option<(Duration, RetryPermit)> {
        let (result, sent) = match result {
            Ok(answered) => (AttemptResult::Answered(&answered.head), true),
            Err(failed) => (AttemptResult::Failed(failed.failure), failed.sent),
        };
        let harmless = self.head.method.is_safe() && self.replay.is_empty();
        let request = Replayable { harmless, body_kept: self.replay.is_possible(), sent };
        let verdict = self.worker.dice(|dice| retry::judge(&self.plan.retry, &result, request, number, dice));
        let Verdict::Retry { backoff } = verdict else { return None };
        let permit = match &self.plan.target {
            Target::Cluster(cluster) if sent => cluster.admit_retry(),
            Target::Cluster(cluster) => cluster.admit_unseen_retry(),
            Target::Original(_) => attempt::unlimited_retry(),
        };
        if permit.is_none() {
            self.worker.count(Counter::RetriesOverBudget);
        }
        permit.map(|permit| (backoff, permit))
    }

    /// The whole exchange has run out of time.
    fn abandon(&mut self) {
        self.attempt.report_timeout(self.worker, self.plan);
    }
}

/// Passes an upstream's answer on to the client.
fn pass_on(
    downstream: &Downstream,
    plan: &Plan,
    answered: Answered,
    mut account: Account,
    permit: Option<RequestPermit>,
    clock: Clock,
) -> Reply {
    let Answered { mut head, body, lease, active, time } = answered;
    account.record().upstream_duration = Some(time);
    account.grpc_status(&head.headers);
    plan.edit_response(&mut head);
    headers::answer(&mut head, downstream, account.headers(), Some(time));
    account.response(&head);
    if head.status == 101 {
        let switched = lease.into_stream().map(|(transport, received)| {
            Box::new(Switched { upstream: Ahead::with_seen(transport, received), account })
        });
        return Reply { head, body: Body::empty(), switched };
    }
    let deadline = plan.timeout.map(|timeout| clock.passed(timeout));
    let body = metered(body, account, (lease, active, permit), deadline);
    Reply { head, body, switched: None }
}
