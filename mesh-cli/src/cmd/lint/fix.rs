//! `mesh lint --fix`: edits that need no thought, made in the lines that problems name.
//!
//! Everything else in a file stays as it is, comments and layout included. What cannot be mended in its line (flow style,
//! a service that nobody declares) is left, and stays a problem. A file that changed since it was read is refused.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, ensure};
use mesh_control::api::{Kind, Spec};
use mesh_control::problem::{Edit, Problem};
use mesh_control::source::{Change, files};

/// Port numbers of services by namespace and name, of those that have only one.
#[derive(Debug, Default)]
pub(super) struct OnlyPorts(BTreeMap<(String, String), u16>);

impl OnlyPorts {
    pub(super) fn of(change: &Change) -> Self {
        let ports = change.upserted.iter().filter_map(|object| match &object.spec {
            Spec::Service(service) if service.ports.len() == 1 => {
                let key = (object.key.namespace.to_string(), object.key.name.to_string());
                Some((key, service.ports[0].port))
            }
            _ => None,
        });
        Self(ports.collect())
    }
}

/// Lines that take the place of one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Patch {
    /// From 1.
    pub(super) line: usize,
    pub(super) old: String,
    pub(super) new: Vec<String>,
}

/// What mends a text, in the order of its lines.
pub(super) fn patches(file: &Path, text: &str, ports: &OnlyPorts) -> Vec<Patch> {
    let loaded = files::load_text(file, text);
    let versions = loaded.objects.iter().filter(|object| is_istio(object.key.kind)).map(|object| {
        let problem = Problem::info("apiVersion", "an older version").with_edit(Edit::Replace("v1"));
        object.blame(problem)
    });
    let lines: Vec<&str> = text.lines().collect();
    let mut patches: BTreeMap<usize, Patch> = BTreeMap::new();
    for problem in loaded.problems.iter().cloned().chain(versions) {
        let (Some(edit), Some(line)) = (&problem.edit, problem.line) else { continue };
        let Some(number) = usize::try_from(line).ok().filter(|line| (1..=lines.len()).contains(line)) else {
            continue;
        };
        let old = lines[number - 1];
        // Of two edits in one line the other waits for the next run.
        if let Some(new) = mended(old, lines.get(number).copied(), &problem, edit, ports)
            && !patches.contains_key(&number)
        {
            patches.insert(number, Patch { line: number, old: old.to_owned(), new });
        }
    }
    patches.into_values().collect()
}

/// Kinds of which every served version has the same fields.
const fn is_istio(kind: Kind) -> bool {
    use Kind::{
        AuthorizationPolicy, DestinationRule, Gateway, PeerAuthentication, RequestAuthentication,
        ServiceEntry, Sidecar, Telemetry, VirtualService, WorkloadEntry,
    };
    matches!(
        kind,
        AuthorizationPolicy
            | DestinationRule
            | Gateway
            | PeerAuthentication
            | RequestAuthentication
            | ServiceEntry
            | Sidecar
            | Telemetry
            | VirtualService
            | WorkloadEntry
    )
}

/// The text with its patches.
pub(super) fn patched(text: &str, patches: &[Patch]) -> String {
    let ending = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for patch in patches.iter().rev() {
        lines.splice(patch.line - 1..patch.line, patch.new.iter().cloned());
    }
    let end = if text.ends_with('\n') { ending } else { "" };
    lines.join(ending) + end
}

/// Writes the text of a file that must still be as it was read.
pub(super) fn write(file: &Path, old: &str, new: &str) -> anyhow::Result<()> {
    let name = file.display();
    let now = std::fs::read_to_string(file).with_context(|| format!("{name} cannot be read again"))?;
    ensure!(now == old, "{name} changed meanwhile and is left as it is; run mesh lint --fix again");
    std::fs::write(file, new).with_context(|| format!("{name} cannot be written"))
}

fn mended(
    line: &str,
    next: Option<&str>,
    problem: &Problem,
    edit: &Edit,
    ports: &OnlyPorts,
) -> Option<Vec<String>> {
    let field = last_name(&problem.field);
    match edit {
        Edit::Rename(new) => {
            let at = only_key(line, field)?;
            Some(vec![format!("{}{new}{}", &line[..at], &line[at + field.len()..])])
        }
        Edit::Wrap(new) => {
            let at = only_key(line, field)?;
            let after = &line[at + field.len()..];
            let digits = after.trim_start_matches(':').trim_start();
            let value: String = digits.chars().take_while(char::is_ascii_digit).collect();
            let rest = &digits[value.len()..];
            (!value.is_empty()).then(|| vec![format!("{}{new}: {{value: {value}}}{rest}", &line[..at])])
        }
        Edit::Join(new) => {
            let indent = line.len() - line.trim_start().len();
            let first = line[indent..].strip_prefix("- ")?;
            // A block's item only; `- {…}` is flow style.
            let starts_block = !first.starts_with(['{', '[', '&', '#', '-', ' ']) && first.contains(':');
            let own = format!("{}  {new}", " ".repeat(indent));
            let is_scalar = first.split_once(':').is_some_and(|(_, value)| !is_blank(value));
            starts_block.then(|| match is_scalar {
                true => vec![line.to_owned(), own],
                false => vec![
                    format!("{}- {new}", " ".repeat(indent)),
                    format!("{}  {}", " ".repeat(indent), first.trim_start()),
                ],
            })
        }
        Edit::OnlyPortOf(service) => {
            let namespace = problem.object.as_ref()?.namespace.clone();
            let port = ports.0.get(&(namespace, service.clone()))?;
            let next =
                next.filter(|_| line.split_once("service:").is_some_and(|(_, rest)| is_blank(rest)))?;
            let indent = next.len() - next.trim_start().len();
            Some(vec![line.to_owned(), format!("{}port: {{number: {port}}}", " ".repeat(indent))])
        }
        Edit::Replace(new) => {
            let at = only_key(line, field)?;
            let (group, version) = line[at..].split_once('/')?;
            let old: String = version.chars().take_while(char::is_ascii_alphanumeric).collect();
            let rest = &version[old.len()..];
            (old != *new).then(|| vec![format!("{}{group}/{new}{rest}", &line[..at])])
        }
    }
}

fn is_blank(value: &str) -> bool {
    let value = value.trim();
    value.is_empty() || value.starts_with('#')
}

/// The last name in a path, without its quotes.
fn last_name(field: &str) -> &str {
    match field.strip_suffix("\"]").and_then(|field| field.rsplit_once("[\"")) {
        Some((_, name)) => name,
        None => field.rsplit('.').next().unwrap_or(field),
    }
}

/// Where a line has a key, if it has it once.
fn only_key(line: &str, name: &str) -> Option<usize> {
    let mut places = line.match_indices(name).filter(|(at, _)| {
        let before = line[..*at].chars().next_back();
        let after = line[at + name.len()..].trim_start_matches(['"', '\'']);
        before.is_none_or(|c| matches!(c, ' ' | '{' | ',' | '"' | '\'')) && after.starts_with(':')
    });
    let (at, _) = places.next()?;
    places.next().is_none().then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INGRESS: &str = "\
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  ports: [{port: 8080}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: web # ours
  annotations:
    nginx.ingress.kubernetes.io/rate-limit: \"5\" # per second
spec:
  ingressClassName: nginx
  rules:
  - http:
      paths:
      - path: /   # all
        backend:
          service:
            name: web
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {name: web}
spec:
  host: web
  trafficPolicy:
    outlierDetection: {consecutiveErrors: 5} # was so
---
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web]
  http:
  - route: [{destination: {host: web}}]
    mirror: {host: web}
    mirrorPercent: 10 # of 100
";

    fn fix(text: &str) -> String {
        let file = Path::new("a.yaml");
        let ports = OnlyPorts::of(&Change::from(files::load_text(file, text)));
        patched(text, &patches(file, text, &ports))
    }

    #[test]
    fn what_is_mechanical_is_mended_in_its_line_and_only_once() {
        let fixed = fix(INGRESS);
        let expected = INGRESS
            .replace("io/rate-limit:", "io/limit-rps:")
            .replace("/   # all\n", "/   # all\n        pathType: Prefix\n")
            .replace("service:\n", "service:\n            port: {number: 8080}\n")
            .replace("v1alpha3", "v1")
            .replace("v1beta1", "v1")
            .replace("consecutiveErrors", "consecutive5xxErrors")
            .replace("mirrorPercent: 10 #", "mirrorPercentage: {value: 10} #");
        assert_eq!(fixed, expected);
        assert_eq!(fix(&fixed), fixed);
    }

    #[test]
    fn a_file_that_changed_meanwhile_is_left_alone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "new").unwrap();
        assert!(write(file.path(), "old", "fixed").is_err());
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "new");
    }
}
