//! What is said of every bad manifest of `e2e/fixtures/bad`, and of the users' documents; `UPDATE=1` rewrites it.

use std::fmt::Write as _;
use std::path::Path;

use super::*;

const BAD: &str = "e2e/fixtures/bad";

/// One golden per kind: what is wrong, where, and what to write instead.
#[test]
fn every_bad_manifest_is_told_about_with_file_and_line() {
    let (mut silent, mut stale) = (Vec::new(), Vec::new());
    for folder in entries(&checkout(BAD)).iter().filter(|path| path.is_dir()) {
        let mut text = String::new();
        for file in entries(folder).iter().filter(|path| path.extension().is_some_and(|end| end == "yaml")) {
            let report = report(offline::read(&[checkout(BAD).join("world.yaml"), file.clone()]).unwrap());
            if report.errors + report.warnings == 0 {
                silent.push(file.display().to_string());
            }
            report.problems.iter().for_each(|problem| writeln!(text, "{}", shown(problem)).unwrap());
        }
        stale.extend(compare(&folder.join("messages.golden"), &text));
    }
    assert!(silent.is_empty(), "accepted in silence:\n{}", silent.join("\n"));
    assert!(stale.is_empty(), "{}", stale.join("\n"));
}

#[test]
fn there_are_three_bad_manifests_of_each_sort_for_each_kind() {
    for folder in entries(&checkout(BAD)).iter().filter(|path| path.is_dir()) {
        let kind = folder.file_name().unwrap().to_str().unwrap().to_owned();
        for sort in ["syntax", "type", "reference", "range", "conflict"] {
            let start = format!("{sort}-");
            let named = |path: &&PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(&start);
            let count = entries(folder).iter().filter(named).count();
            assert!(count >= 3, "{kind} {sort}: {count}");
        }
    }
}

#[test]
fn the_twelve_documents_load_each_alone_and_all_together() {
    let documents = entries(&checkout("e2e/fixtures/documents"));
    let documents: Vec<_> =
        documents.into_iter().filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect();
    assert_eq!(documents.len(), 12);
    let mut text = String::new();
    for set in documents.iter().map(std::slice::from_ref).chain([&documents[..]]) {
        let change = offline::read(set).unwrap();
        assert!(change.findings.refused.is_empty(), "{set:?}");
        let name =
            if set.len() == 1 { set[0].file_name().unwrap().to_str().unwrap() } else { "all together" };
        writeln!(text, "# {name}").unwrap();
        let report = report(change);
        report.problems.iter().for_each(|problem| writeln!(text, "{}", shown(problem)).unwrap());
    }
    assert_eq!(compare(&checkout("e2e/fixtures/documents/messages.golden"), &text), None);
}

/// As on the terminal, with paths from the checkout.
fn shown(problem: &Problem) -> String {
    let text = format!("{}: {problem}", problem.severity);
    text.replace(concat!(env!("CARGO_MANIFEST_DIR"), "/../"), "")
}

fn compare(golden: &Path, text: &str) -> Option<String> {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(golden, text).unwrap();
    }
    let known = std::fs::read_to_string(golden).unwrap_or_default();
    let difference = known.lines().zip(text.lines()).find(|(known, new)| known != new);
    let line = difference.map_or_else(String::new, |(known, new)| format!("\n- {known}\n+ {new}"));
    (known != text).then(|| format!("{} differs; UPDATE=1 rewrites it{line}", golden.display()))
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}
