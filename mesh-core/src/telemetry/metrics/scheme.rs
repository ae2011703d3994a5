//! Which labels metrics have: Istio's standard ones, or what settings make of them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::model::{Expression, Metric, MetricChange, Side};
use crate::telemetry::evaluate;
use crate::telemetry::labels::NAMES;
use crate::telemetry::record::Record;

/// The longest value of a label that an expression gives, in bytes; the rest is cut.
const LONGEST: usize = 256;

/// Metrics that have the same labels, on one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scheme {
    side: Side,
    metrics: Vec<Metric>,
    names: Vec<Box<str>>,
    /// Where each value comes from; `None` stands for the standard.
    columns: Option<Vec<Column>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Column {
    Standard(usize),
    Computed(Expression),
}

type Labels = BTreeMap<String, Option<Expression>>;

impl Scheme {
    /// The schemes of some metrics on a side. Those that are disabled have none.
    pub(super) fn all(metrics: &[Metric], labels: usize, side: Side, changes: &[MetricChange]) -> Vec<Self> {
        let standard = Labels::new();
        let mut groups: Vec<(&Labels, Vec<Metric>)> = Vec::new();
        for &metric in metrics {
            let change = changes.iter().find(|change| change.metric == metric && change.side == side);
            if change.is_some_and(|change| change.disabled) {
                continue;
            }
            let labels = change.map_or(&standard, |change| &change.labels);
            match groups.iter_mut().find(|(known, _)| *known == labels) {
                Some((_, group)) => group.push(metric),
                None => groups.push((labels, vec![metric])),
            }
        }
        groups.into_iter().map(|(changed, metrics)| Self::new(side, metrics, labels, changed)).collect()
    }

    fn new(side: Side, metrics: Vec<Metric>, labels: usize, changed: &Labels) -> Self {
        let standard = &NAMES[..labels];
        if changed.is_empty() {
            let names = standard.iter().map(|&name| name.into()).collect();
            return Self { side, metrics, names, columns: None };
        }
        let kept = standard.iter().enumerate().filter_map(|(at, &name)| match changed.get(name) {
            None => Some((name, Column::Standard(at))),
            Some(None) => None,
            Some(Some(expression)) => Some((name, Column::Computed(expression.clone()))),
        });
        // A label of requests alone is none of connections, but also no new one.
        let added = changed.iter().filter(|(name, _)| !NAMES.contains(&name.as_str()));
        let added = added.filter_map(|(name, change)| {
            change.as_ref().map(|expression| (name.as_str(), Column::Computed(expression.clone())))
        });
        let (names, columns) = kept.chain(added).map(|(name, column)| (Box::from(name), column)).unzip();
        Self { side, metrics, names, columns: Some(columns) }
    }

    /// Whether labels differ from the standard.
    pub(super) const fn is_changed(&self) -> bool {
        self.columns.is_some()
    }

    /// The labels' names.
    pub(super) fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// The metrics that have these labels.
    pub(super) fn metrics(&self) -> &[Metric] {
        &self.metrics
    }

    /// A record's values, made of its standard ones.
    pub(super) fn values<'a>(&'a self, standard: &[&'a str], record: &'a Record) -> Vec<Cow<'a, str>> {
        let value = |column: &'a Column| match column {
            Column::Standard(at) => standard[*at].into(),
            Column::Computed(expression) => computed(expression, record),
        };
        self.columns.iter().flatten().map(value).collect()
    }
}

fn computed<'a>(expression: &'a Expression, record: &'a Record) -> Cow<'a, str> {
    match evaluate::text(expression, record).unwrap_or(Cow::Borrowed("unknown")) {
        long if long.len() > LONGEST => long[..long.floor_char_boundary(LONGEST)].to_owned().into(),
        value => value,
    }
}
