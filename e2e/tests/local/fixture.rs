//! References to manifests: `mesh/workloads.yaml` is a file of `e2e/fixtures`, `documents/11….yaml#Gateway` the objects
//! of one kind in it, `examples/bookinfo/gateway.yaml` a file of `deploy/examples`, and `secret/NAME/HOST,HOST` a Secret
//! with a certificate for these hosts, the same one each time, and `authority/CERTIFICATE/NAME/NAMESPACE` a Secret with the
//! CA of that certificate alone. `credential/NAME/NAMESPACE` is a Secret with a certificate that a client shows,
//! and `mesh-authority` one with a certificate authority for the mesh. `@KEYS@` in a file stands for the keys that this run signs tokens with.

use std::path::{Path, PathBuf};

use crate::certificates::{authority_secret, certificate, mesh_authority};
use crate::token::{self, PLACE_OF_KEYS};

/// The text of a reference.
pub(crate) fn manifest(reference: &str) -> String {
    if reference == "mesh-authority" {
        return mesh_authority();
    }
    if let Some((name, hosts)) = reference.strip_prefix("secret/").and_then(|rest| rest.split_once('/')) {
        return certificate(name, &hosts.split(',').collect::<Vec<_>>()).secret(name, "default");
    }
    if let Some(rest) = reference.strip_prefix("authority/") {
        let parts: Vec<_> = rest.split('/').collect();
        return authority_secret(parts[0], parts[1], parts[2]);
    }
    if let Some((name, namespace)) =
        reference.strip_prefix("credential/").and_then(|rest| rest.split_once('/'))
    {
        return certificate(name, &[]).secret(name, namespace);
    }
    let (path, kind) = reference.split_once('#').map_or((reference, None), |(path, kind)| (path, Some(kind)));
    let file = locate(path);
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let text = text.replace(PLACE_OF_KEYS, &token::keys());
    let Some(kind) = kind else { return text };
    let chosen: Vec<_> = documents(&text).filter(|document| is_kind(document, kind)).collect();
    assert!(!chosen.is_empty(), "{reference}: no such object");
    chosen.join("\n---\n")
}

fn locate(path: &str) -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    match path.strip_prefix("examples/") {
        Some(example) => package.join("../deploy/examples").join(example),
        None => package.join("fixtures").join(path),
    }
}

fn documents(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n---\n").filter(|document| !document.trim().is_empty())
}

fn is_kind(document: &str, kind: &str) -> bool {
    document.lines().any(|line| line.strip_prefix("kind:").is_some_and(|found| found.trim() == kind))
}
