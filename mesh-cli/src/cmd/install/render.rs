//! The part of Helm's template language that our chart keeps to: values, `toJson`, and conditions on lines of their own.
//!
//! What is beyond that is an error, so that the chart cannot grow into something that only Helm understands.

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::values::Values;

/// Renders a template.
pub(super) fn render(template: &str, values: &Values) -> anyhow::Result<String> {
    let mut text = String::new();
    // Whether each condition around the line holds.
    let mut conditions: Vec<bool> = Vec::new();
    for line in template.lines() {
        if let Some(directive) = directive(line) {
            match directive.split_once(' ') {
                Some(("if", condition)) => conditions.push(holds(condition, values)?),
                None if directive == "end" => {
                    conditions.pop().context("an end without an if")?;
                }
                _ => bail!("`{directive}` is not understood"),
            }
        } else if conditions.iter().all(|holds| *holds) {
            text.push_str(&fill(line, values)?);
            text.push('\n');
        }
    }
    if !conditions.is_empty() {
        bail!("an if without an end");
    }
    Ok(text)
}

/// What a line says that is nothing but a directive.
fn directive(line: &str) -> Option<&str> {
    line.trim().strip_prefix("{{- ")?.strip_suffix(" }}")
}

fn holds(condition: &str, values: &Values) -> anyhow::Result<bool> {
    if let Some(rest) = condition.strip_prefix("ne ") {
        let (name, text) = rest.split_once(' ').context("ne takes a value and a text")?;
        return Ok(value(name, values)? != &Value::String(text.trim_matches('"').to_owned()));
    }
    match condition.strip_prefix("not ") {
        Some(name) => Ok(!truth(value(name, values)?)),
        None => Ok(truth(value(condition, values)?)),
    }
}

fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

fn fill(line: &str, values: &Values) -> anyhow::Result<String> {
    let mut filled = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("{{ ") {
        let (expression, after) = after.split_once(" }}").context("braces that do not close")?;
        filled.push_str(before);
        filled.push_str(&expand(expression, values)?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

fn expand(expression: &str, values: &Values) -> anyhow::Result<String> {
    if let Some(name) = expression.strip_suffix(" | toJson") {
        return Ok(value(name, values)?.to_string());
    }
    match value(expression, values)? {
        Value::String(text) => Ok(text.clone()),
        scalar @ (Value::Bool(_) | Value::Number(_)) => Ok(scalar.to_string()),
        _ => bail!("`{expression}` is no single value; write toJson"),
    }
}

fn value<'v>(name: &str, values: &'v Values) -> anyhow::Result<&'v Value> {
    let path = name.strip_prefix(".Values.").with_context(|| format!("`{name}` is not understood"))?;
    values.get(path).with_context(|| format!("`{path}` is not in values.yaml"))
}
