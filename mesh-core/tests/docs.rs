//! Tables in `docs/` say what the code says.
//!
//! `UPDATE=1 cargo test -p mesh-core --test docs` rewrites the table of failures, all but what is written by hand.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use mesh_core::failure::{Blame, Failure, Replay};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn document(name: &str) -> String {
    let path = repository().join("docs").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The cells of every row of every table, headings included.
fn rows(page: &str) -> Vec<Vec<&str>> {
    let lines = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
    lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// The parts of a cell that are set as code.
fn code(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn every_failure_has_its_row() {
    let page = document("failures.md");
    let table: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    let expected: Vec<String> =
        Failure::ALL.iter().map(|&failure| failure_row(failure, &meaning(&page, failure))).collect();
    if std::env::var_os("UPDATE").is_some() {
        let updated = page.replace(&table.join("\n"), &expected.join("\n"));
        fs::write(repository().join("docs/failures.md"), updated).expect("the page can be written");
    } else {
        assert_eq!(table, expected, "UPDATE=1 cargo test -p mesh-core --test docs rewrites the table");
    }
    for &failure in Failure::ALL {
        assert_ne!(meaning(&page, failure), "", "{failure:?}: say in docs/failures.md what it means");
    }
}

fn failure_row(failure: Failure, meaning: &str) -> String {
    let consequence = failure.consequence();
    let whose = match consequence.blame {
        Blame::Downstream => "client",
        Blame::Upstream => "upstream",
        Blame::Configuration => "configuration",
        Blame::Policy => "policy",
        Blame::Proxy => "proxy",
    };
    let again = match consequence.replay {
        Replay::NeverSeen => "yes",
        Replay::MayHaveBeenSeen => "maybe",
        Replay::Never => "no",
    };
    format!(
        "| `{failure:?}` | {} | {} | `{}` | `{}` | {whose} | {again} | {meaning} |",
        consequence.status, consequence.grpc, consequence.flag, consequence.details,
    )
}

/// The meaning that the page gives for a failure, empty if it has none yet.
fn meaning(page: &str, failure: Failure) -> String {
    let name = format!("`{failure:?}`");
    let row = rows(page).into_iter().find(|row| row[0] == name);
    row.and_then(|row| row.last().map(|cell| (*cell).to_owned())).unwrap_or_default()
}

#[test]
fn every_requirement_has_one_row_and_names_only_tests_that_exist() {
    let page = document("requirements.md");
    let rows: Vec<Vec<&str>> = rows(&page).into_iter().filter(|row| row[0] != "id").collect();
    let described: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    let ids = (1..=36).map(|id| format!("S{id:02}")).chain((1..=17).map(|id| format!("Y{id}")));
    assert_eq!(described, ids.collect::<Vec<_>>());

    let sources = sources(&repository());
    for row in &rows {
        let shown_by = row.last().expect("a row has cells");
        assert!(shown_by.contains("not yet") || code(shown_by).next().is_some(), "{}: {shown_by}", row[0]);
        for test in code(shown_by) {
            assert!(sources.contains(&format!("fn {test}(")), "{}: there is no test {test}", row[0]);
        }
    }
}

/// Comments name attacks as `SM-04` and rules as "semantics.md 14".
#[test]
fn what_comments_refer_to_is_in_the_documentation() {
    let pages = document("attacks.md") + &document("security.md");
    let explained: BTreeSet<&str> = references(&pages).collect();
    let sources = sources(&repository());
    let missing: BTreeSet<&str> = references(&sources).filter(|id| !explained.contains(id)).collect();
    assert!(missing.is_empty(), "no page of docs/ explains {missing:?}");

    let semantics = document("semantics.md");
    for rest in sources.split("semantics.md ").skip(1) {
        let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
        let explained = number.is_empty() || semantics.contains(&format!("\n{number}. "));
        assert!(explained, "docs/semantics.md has no item {number}");
    }
}

/// Numbers of rules that have no item in `docs/semantics.md`: they are of the Gateway API, which is not read yet.
const NOT_READ: [u32; 8] = [41, 42, 43, 46, 47, 48, 49, 50];

/// Tests are named for the rule that they show: `s14_…`.
#[test]
fn every_rule_has_a_test_that_names_it() {
    let (semantics, sources) = (document("semantics.md"), sources(&repository()));
    for number in 1..=51 {
        let is_read = semantics.contains(&format!("\n{number}. "));
        assert_eq!(is_read, !NOT_READ.contains(&number), "item {number} of docs/semantics.md");
        let is_shown = sources.contains(&format!("fn s{number}_"));
        assert_eq!(is_read, is_shown, "a test named s{number}_…");
    }
}

fn references(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    words.filter(|word| {
        let (family, number) = word.split_once('-').unwrap_or_default();
        let attack = ["SM", "HB", "H2", "HD", "DS", "UP", "SV", "PN"].contains(&family);
        attack && number.len() == 2 && number.bytes().all(|b| b.is_ascii_digit())
    })
}

#[test]
fn links_lead_to_files_of_the_repository() {
    let root = repository();
    for page in
        ["README.md", "CHANGELOG.md", "docs", "docs/adr"].iter().flat_map(|place| markdown(&root.join(place)))
    {
        let text = fs::read_to_string(&page).expect("the page was just found");
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://") && !link.starts_with('#')) {
            let file = link.split('#').next().unwrap_or(link);
            let target = page.parent().expect("a page is in a folder").join(file);
            assert!(target.exists(), "{}: {link} leads nowhere", page.display());
        }
    }
}

/// A page, or the pages of a folder.
fn markdown(place: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(place) else { return vec![place.to_owned()] };
    let pages = entries.filter_map(|entry| Some(entry.ok()?.path()));
    pages.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

/// The text of every Rust file of the workspace's packages.
fn sources(repository: &Path) -> String {
    let entries = fs::read_dir(repository).expect("the repository can be read");
    let packages = entries.filter_map(|entry| Some(entry.ok()?.path()));
    packages
        .filter(|path| path.join("Cargo.toml").is_file())
        .flat_map(|package| ["src", "tests"].map(|folder| rust_text(&package.join(folder))))
        .collect()
}

fn rust_text(path: &Path) -> String {
    if path.extension().is_some_and(|extension| extension == "rs") {
        return fs::read_to_string(path).unwrap_or_default();
    }
    let Ok(entries) = fs::read_dir(path) else { return String::new() };
    entries.filter_map(Result::ok).map(|entry| rust_text(&entry.path())).collect()
}

#[cfg(feature = "telemetry")]
mod metrics {
    use std::collections::BTreeSet;

    use mesh_core::telemetry::{Record, Reporter, Sinks};

    use super::{code, document, rows};

    #[test]
    fn every_metric_is_described_and_nothing_else() {
        let exposition = exposition();
        let types = exposition.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        let exposed: BTreeSet<String> = types
            .map(|(name, kind)| format!("{name}{} {kind}", if kind == "counter" { "_total" } else { "" }))
            .collect();

        let page = document("metrics.md");
        let described: BTreeSet<String> = rows(&page)
            .iter()
            .filter(|row| row.len() == 3)
            .flat_map(|row| code(row[0]).map(|name| format!("{name} {}", row[1])))
            .collect();
        assert_eq!(described, exposed);
    }

    #[test]
    fn every_label_is_described_and_nothing_else() {
        let exposition = exposition();
        let sample = exposition.lines().find(|line| line.starts_with("istio_requests_total{"));
        let (_, labels) = sample.and_then(|line| line.split_once('{')).expect("one request was counted");
        let exposed: BTreeSet<&str> =
            labels.split(',').filter_map(|label| Some(label.split_once('=')?.0)).collect();

        let page = document("metrics.md");
        let rows = rows(&page);
        let described: BTreeSet<&str> =
            rows.iter().filter(|row| row.len() == 2).flat_map(|row| code(row[0])).collect();
        assert_eq!(described, exposed);
    }

    /// Everything a proxy can expose, once each.
    fn exposition() -> String {
        let sinks = Sinks::default();
        let reporter = Reporter::new(&sinks);
        reporter.close(&Record::default());
        reporter.open_connection(&Record::default());
        sinks.metrics.count_blocked("example.com");
        sinks.metrics.expose().expect("a text buffer takes everything")
    }
}
