//! `mesh-echo get`: requests, one or many, and their answers.

use std::collections::VecDeque;
use std::time::Duration;

use clap::ValueEnum;
use futures_util::{StreamExt, stream};
use serde::Serialize;

use super::connect::{HttpOptions, http_client};
use super::request::{Answer, RequestOptions};
use super::tally::{COUNT_BY, Tally};
use super::{print_json, print_line};
use crate::units::parse_duration;

/// Answers kept for the output; the counts are over all.
const KEPT: usize = 100;

/// Arguments of `get`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: RequestOptions,
    #[command(flatten)]
    http: HttpOptions,
    /// How many requests to send.
    #[arg(long, default_value_t = 1)]
    repeat: u64,
    /// How many of them may be under way at once.
    #[arg(long, default_value_t = 1)]
    concurrency: usize,
    /// Pause before each request but the first, per connection.
    #[arg(long, value_parser = parse_duration, default_value = "0s")]
    interval: Duration,
    /// Count answers by this response header, or by a place in the JSON body (`/calls/0/answer/version`).
    #[arg(long, default_value = COUNT_BY)]
    count_by: String,
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Serialize)]
struct Summary {
    #[serde(flatten)]
    tally: Tally,
    /// The last answers, oldest first.
    answers: VecDeque<Answer>,
}

/// Sends the requests; fails if any of them got no answer at all.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let summary = send_all(&arguments).await?;
    match arguments.output {
        Output::Json => print_json(&summary)?,
        Output::Text => print_text(&summary),
    }
    let unanswered = summary.tally.sent - summary.tally.statuses.values().sum::<u64>();
    anyhow::ensure!(unanswered == 0, "{unanswered} of {} requests got no answer", summary.tally.sent);
    Ok(())
}

async fn send_all(arguments: &Arguments) -> anyhow::Result<Summary> {
    let client = http_client(&arguments.http)?;
    let mut answers = stream::iter(0..arguments.repeat)
        .map(|number| {
            let client = &client;
            async move {
                if number > 0 {
                    tokio::time::sleep(arguments.interval).await;
                }
                arguments.request.send(client).await
            }
        })
        .buffer_unordered(arguments.concurrency.max(1));
    let mut summary = Summary { tally: Tally::default(), answers: VecDeque::new() };
    while let Some(answer) = answers.next().await {
        summary.tally.add(&answer, &arguments.count_by);
        if summary.answers.len() == KEPT {
            summary.answers.pop_front();
        }
        summary.answers.push_back(answer);
    }
    Ok(summary)
}

fn print_text(summary: &Summary) {
    if let ([answer], []) = summary.answers.as_slices() {
        let status = answer.error.clone().unwrap_or_else(|| format!("{} {}", answer.protocol, answer.status));
        print_line(&status);
        match &answer.body {
            serde_json::Value::String(text) => print_line(text.trim_end()),
            serde_json::Value::Null => {}
            body => print_line(&format!("{body:#}")),
        }
        return;
    }
    for (status, count) in &summary.tally.statuses {
        print_line(&format!("{count:8}  status {status}"));
    }
    for (reason, count) in summary.tally.failed.iter().filter(|(reason, _)| !reason.starts_with("status ")) {
        print_line(&format!("{count:8}  {reason}"));
    }
    for (who, count) in &summary.tally.counts {
        print_line(&format!("{count:8}  {who}"));
    }
}
