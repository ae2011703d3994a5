//! Access logs: Istio's text format unchanged, JSON with the same keys plus `source`, `destination` and `trace_id`, or
//! what a user has written.
//!
//! A worker formats into its own buffer; full buffers go over a bounded queue to one writer thread. When the writer is
//! behind, lines are dropped and counted: a slow disk never slows a request.

mod command;
mod json;
mod layout;
mod time;

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use super::evaluate;
use super::metrics::{Counter, Metrics};
use super::record::Record;
use crate::model::{AccessLog, Expression, Side};
use layout::Layout;

pub(super) use layout::Text;

/// Buffers under way to the writer.
const QUEUE: usize = 256;
/// A worker hands its buffer over at this size, in bytes.
const BATCH: usize = 16 * 1024;

/// The way to the writer thread.
#[derive(Clone)]
pub struct LogWriter {
    sender: SyncSender<String>,
    metrics: Arc<Metrics>,
}

impl LogWriter {
    /// Opens `path` (`/dev/stdout` for standard output) and starts the thread that writes to it.
    ///
    /// # Errors
    /// When the file cannot be opened or the thread not be started.
    pub fn open(path: &str, metrics: Arc<Metrics>) -> io::Result<Self> {
        let sink: Box<dyn io::Write + Send> = match path {
            "/dev/stdout" => Box::new(io::stdout()),
            "/dev/stderr" => Box::new(io::stderr()),
            path => Box::new(OpenOptions::new().append(true).create(true).open(path)?),
        };
        Self::to(sink, metrics)
    }

    /// Writes to `sink`.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn to(sink: Box<dyn io::Write + Send>, metrics: Arc<Metrics>) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(QUEUE);
        let counts = Arc::clone(&metrics);
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_all(&receiver, sink, &counts))?;
        Ok(Self { sender, metrics })
    }
}

fn write_all(receiver: &Receiver<String>, mut sink: Box<dyn io::Write + Send>, metrics: &Metrics) {
    while let Ok(lines) = receiver.recv() {
        if sink.write_all(lines.as_bytes()).and_then(|()| sink.flush()).is_err() {
            metrics.count(Counter::LogDropped);
        }
    }
}

/// A worker's unwritten lines of one log.
pub(super) struct LogBuffer {
    writer: LogWriter,
    layout: Layout,
    side: Side,
    filter: Option<Expression>,
    lines: String,
}

impl LogBuffer {
    pub(super) fn new(writer: LogWriter, log: &AccessLog) -> Self {
        let (side, filter) = (log.side, log.filter.clone());
        Self { writer, layout: Layout::new(&log.format), side, filter, lines: String::new() }
    }

    pub(super) fn append(&mut self, record: &Record) {
        let filtered = self.filter.as_ref().is_some_and(|filter| !evaluate::holds(filter, record));
        if filtered || !self.side.covers(record.side()) {
            return;
        }
        let written = self.layout.write(&mut self.lines, record);
        debug_assert!(written.is_ok(), "a String takes everything");
        if self.lines.len() >= BATCH {
            self.flush();
        }
    }

    pub(super) fn flush(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.writer.sender.try_send(std::mem::take(&mut self.lines))
        {
            self.writer.metrics.count(Counter::LogDropped);
        }
    }
}

#[cfg(test)]
pub(super) fn line(format: &crate::model::AccessLogFormat, record: &Record) -> String {
    let mut out = String::new();
    Layout::new(format).write(&mut out, record).expect("a String takes everything");
    out
}
