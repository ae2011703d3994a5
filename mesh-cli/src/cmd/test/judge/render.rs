//! How values are written in differences, and what the file's forms of them are in explain's words.

use mesh_core::model::PerMillion;

use crate::cmd::explain::facts::Destination;
use crate::cmd::explain::report;
use crate::cmd::test::file::{self, Fate};

pub(super) fn list(shares: &[(Destination, u64, u64)]) -> String {
    match shares {
        [(one, ..)] => show(one),
        _ => joined(
            shares.iter().map(|(each, weight, total)| format!("{} {}", share(*weight, *total), show(each))),
        ),
    }
}

pub(super) fn joined(items: impl Iterator<Item = String>) -> String {
    let items: Vec<_> = items.collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

pub(super) fn show(destination: &Destination) -> String {
    let Destination { host, subset, port } = destination;
    let port = if *port == 0 { String::new() } else { format!(":{port}") };
    let subset = subset.as_ref().map_or_else(String::new, |subset| format!(" subset {subset}"));
    format!("{host}{port}{subset}")
}

pub(super) fn name(wanted: &file::Destination) -> String {
    let (host, subset) = (wanted.host.clone(), wanted.subset.clone());
    show(&Destination { host, subset, port: wanted.port.unwrap_or_default() })
}

pub(super) fn share(weight: u64, total: u64) -> String {
    format!("{weight} of {total} to")
}

pub(super) fn percent(share: PerMillion) -> String {
    format!("{} %", f64::from(share.parts()) / 10_000.0)
}

pub(super) fn time(time: Option<std::time::Duration>) -> String {
    time.filter(|time| !time.is_zero()).map_or_else(|| "none".to_owned(), |time| format!("{time:?}"))
}

pub(super) fn or(value: Option<impl ToString>, otherwise: &str) -> String {
    value.map_or_else(|| otherwise.to_owned(), |value| value.to_string())
}

pub(super) const fn word(fate: Fate) -> &'static str {
    match fate {
        Fate::Served => "served",
        Fate::Answered => "answered",
        Fate::Refused => "refused",
        Fate::PassedThrough => "passedThrough",
    }
}

impl From<report::Fate> for Fate {
    fn from(fate: report::Fate) -> Self {
        match fate {
            report::Fate::Served => Self::Served,
            report::Fate::Answered => Self::Answered,
            report::Fate::Refused => Self::Refused,
            report::Fate::PassedThrough => Self::PassedThrough,
        }
    }
}

impl file::WeightedDestination {
    pub(super) fn destination(&self) -> file::Destination {
        file::Destination { host: self.host.clone(), subset: self.subset.clone(), port: self.port }
    }
}

impl file::Mirror {
    pub(super) fn destination(&self) -> file::Destination {
        file::Destination { host: self.host.clone(), subset: self.subset.clone(), port: self.port }
    }
}
