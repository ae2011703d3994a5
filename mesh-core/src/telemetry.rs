//! What operators see of traffic: Istio's standard metrics, the access log and spans.
//!
//! The engine fills one [`Record`] per request or connection and closes it once, through the worker's own
//! [`Reporter`]: a plain add on counters that only this worker writes, a line in its own buffer, and a span only when
//! the trace is sampled. Everything is summed, written and sent elsewhere: on the thread that scrapes, the log's writer
//! thread and the exporter's thread. A sink that is slow or dead costs lost lines and spans, which are counted, never a
//! request's time.

pub mod access_log;
mod evaluate;
pub mod export;
pub mod labels;
pub mod metrics;
pub mod record;
pub mod shown;
pub mod trace;

use std::cell::RefCell;
use std::sync::Arc;

use arc_swap::ArcSwap;

pub use access_log::LogWriter;
pub use export::SpanSender;
pub use metrics::{Counter, Metrics};
pub use record::{Record, Reporting, RequestProtocol, Security};
pub use shown::Shown;
pub use trace::TraceContext;

use crate::model::{AccessLog, MetricChange, Side};
use access_log::LogBuffer;
use metrics::SeriesCache;

/// Where the records of all workers go. Shared; cheap to clone.
#[derive(Clone, Default)]
pub struct Sinks {
    /// Counters and histograms.
    pub metrics: Arc<Metrics>,
    outputs: Arc<ArcSwap<Outputs>>,
}

/// The sinks that settings choose.
#[derive(Clone, Default)]
pub struct Outputs {
    /// Access logs.
    pub logs: Vec<(LogWriter, AccessLog)>,
    /// Spans of the sides that export them.
    pub spans: Vec<(Side, SpanSender)>,
    /// How metrics differ from the standard.
    pub metrics: Vec<MetricChange>,
}

impl Sinks {
    /// Takes other outputs into use; every worker follows with its next record. Counters stay.
    pub fn redirect(&self, outputs: Outputs) {
        self.outputs.store(Arc::new(outputs));
    }
}

/// One worker's way to report; not shared between threads.
pub struct Reporter {
    outputs: Arc<ArcSwap<Outputs>>,
    in_use: RefCell<Arc<Outputs>>,
    series: RefCell<SeriesCache>,
    logs: RefCell<Vec<LogBuffer>>,
}

impl Reporter {
    /// A reporter into these sinks.
    pub fn new(sinks: &Sinks) -> Self {
        Self {
            outputs: Arc::clone(&sinks.outputs),
            in_use: RefCell::default(),
            series: RefCell::new(SeriesCache::new(&sinks.metrics)),
            logs: RefCell::default(),
        }
    }

    fn follow(&self) {
        let current = self.outputs.load();
        if Arc::ptr_eq(&current, &self.in_use.borrow()) {
            return;
        }
        let logs = current.logs.iter().map(|(writer, log)| LogBuffer::new(writer.clone(), log)).collect();
        self.logs.replace(logs).iter_mut().for_each(LogBuffer::flush);
        self.series.borrow_mut().follow(&current.metrics);
        self.in_use.replace(Arc::clone(&current));
    }

    /// Reports a request that has ended.
    pub fn close(&self, record: &Record) {
        self.follow();
        self.series.borrow_mut().record_request(record);
        self.write_line(record);
        if record.trace.sampled {
            let outputs = self.in_use.borrow();
            let spans = outputs.spans.iter().filter(|(side, _)| side.covers(record.side()));
            spans.for_each(|(_, spans)| spans.send(record));
        }
    }

    /// Counts a connection that is not HTTP when it opens.
    pub fn open_connection(&self, record: &Record) {
        self.follow();
        self.series.borrow_mut().record_open(record);
    }

    /// Reports a connection that is not HTTP and has ended.
    pub fn close_connection(&self, record: &Record) {
        self.follow();
        self.series.borrow_mut().record_close(record);
        self.write_line(record);
    }

    /// Hands buffered lines to the log's writer; call it a few times a second.
    pub fn flush(&self) {
        self.logs.borrow_mut().iter_mut().for_each(LogBuffer::flush);
    }

    fn write_line(&self, record: &Record) {
        self.logs.borrow_mut().iter_mut().for_each(|log| log.append(record));
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests;
