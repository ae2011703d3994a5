//! `mesh inject`: manifests as the cluster's webhook would let them in, for clusters without it and for whoever wants to see.
//!
//! Standard output has every document of the files, those with a pod injected; what was left alone and why goes to standard
//! error. A pod that cannot be injected is an error, and nothing is printed then.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use mesh_control::api::meta::StringMap;
use mesh_control::inject::{Namespace, Outcome, inject_object};
use serde_json::Value;

use super::Failure;
use crate::cli::Inject;
use crate::output::Output;

/// Runs the command; exit code 1 if a pod cannot be injected.
pub(crate) fn run(flags: &Inject, output: &Output) -> anyhow::Result<ExitCode> {
    let documents = read(&flags.files)?;
    let namespaces = namespaces(&documents);
    let mut injected = Vec::with_capacity(documents.len());
    for document in &documents {
        injected.push(one(document, &namespaces, flags, output)?);
    }
    if output.is_json() {
        output.json(&injected)?;
    } else {
        for document in &injected {
            output.line(format!("---\n{}", serde_saphyr::to_string(document)?.trim_end()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn read(files: &[std::path::PathBuf]) -> anyhow::Result<Vec<Value>> {
    let mut documents = Vec::new();
    for file in files {
        let text = text(file).map_err(|error| Failure::Usage(format!("{}: {error}", file.display())))?;
        let all: Vec<Value> =
            serde_saphyr::from_multiple(&text).with_context(|| file.display().to_string())?;
        for document in all {
            match document.get("items").and_then(Value::as_array).filter(|_| document["kind"] == "List") {
                Some(items) => documents.extend(items.iter().cloned()),
                None if document.is_null() => {}
                None => documents.push(document),
            }
        }
    }
    Ok(documents)
}

fn text(file: &Path) -> std::io::Result<String> {
    if file.as_os_str() != "-" {
        return std::fs::read_to_string(file);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

/// Labels of the Namespaces among the files.
fn namespaces(documents: &[Value]) -> BTreeMap<String, StringMap> {
    let all = documents.iter().filter(|document| document["kind"] == "Namespace");
    let labels =
        |document: &Value| serde_json::from_value(document["metadata"]["labels"].clone()).unwrap_or_default();
    all.filter_map(|document| Some((document["metadata"]["name"].as_str()?.to_owned(), labels(document))))
        .collect()
}

fn one(
    document: &Value,
    namespaces: &BTreeMap<String, StringMap>,
    flags: &Inject,
    output: &Output,
) -> anyhow::Result<Value> {
    let meta = &document["metadata"];
    let name = meta["namespace"].as_str().unwrap_or(&flags.namespace).to_owned();
    let about = format!(
        "{} {name}/{}",
        document["kind"].as_str().unwrap_or_default(),
        meta["name"].as_str().unwrap_or_default()
    );
    // Whoever runs the command asks for injection; only an explicit no in the files counts.
    let labels =
        namespaces.get(&name).filter(|labels| labels.get("istio-injection").is_some_and(|v| v == "disabled"));
    let namespace = Namespace { labels: labels.cloned(), name };
    match inject_object(document, &namespace, &flags.settings.settings()) {
        None => Ok(document.clone()),
        Some(Ok(Outcome::Injected(injected))) => {
            for warning in &injected.warnings {
                output.problem(false, format!("{about}: {warning}"));
            }
            Ok(injected.pod)
        }
        Some(Ok(Outcome::Skipped(reason))) => {
            output.note(format!("{about} is left as it is: {reason}"));
            Ok(document.clone())
        }
        Some(Err(refusal)) => Err(Failure::Finding(format!("{about}: {refusal}")).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_namespace_that_says_no_counts() {
        let documents: Vec<Value> = serde_saphyr::from_multiple(
            "kind: Namespace\nmetadata: {name: a, labels: {istio-injection: disabled}}\n---\nkind: Service\n",
        )
        .unwrap();
        assert_eq!(namespaces(&documents)["a"]["istio-injection"], "disabled");
    }
}
