//! Which pods the objects ask for: what the Deployment, StatefulSet, DaemonSet and Job controllers would make.
//!
//! Pure: it looks at objects and returns pods; starting and replacing them is the supervisor's work.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use anyhow::{Context as _, bail};

use super::manifest::{Container, Object, ObjectKey, PodTemplate, Workload};

/// The name of the sidecar's container, as users' tools know it.
pub(crate) const PROXY_CONTAINER: &str = "istio-proxy";

/// A pod that should run.
#[derive(Debug, Clone)]
pub(crate) struct DesiredPod {
    pub(crate) owner: ObjectKey,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Changes whenever the template does.
    pub(crate) generation: String,
    pub(crate) template: PodTemplate,
    pub(crate) replacement: Replacement,
}

/// How a pod of an older generation gives way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replacement {
    /// After its successors are ready.
    Surge,
    /// Before its successor, which has the same name, starts.
    Recreate,
}

/// All pods that `objects` ask for. An object that cannot be understood is an error that names it.
pub(crate) fn desired<'a>(objects: impl Iterator<Item = &'a Object>) -> anyhow::Result<Vec<DesiredPod>> {
    let mut pods = Vec::new();
    for object in objects {
        pods.extend(pods_of(object)?);
    }
    Ok(pods)
}

/// The pods of one object; none for kinds that run nothing.
pub(crate) fn pods_of(object: &Object) -> anyhow::Result<Vec<DesiredPod>> {
    let key = object.key();
    let (template, count) = match (key.group.as_str(), key.kind.as_str()) {
        ("", "Pod") => (object.view::<PodTemplate>()?, 1),
        ("apps", "Deployment" | "StatefulSet" | "ReplicaSet") => {
            let mut workload = object.view::<Workload>()?.spec;
            workload.template.spec.subdomain = workload.template.spec.subdomain.or(workload.service_name);
            (workload.template, workload.replicas.unwrap_or(1))
        }
        // There is one node.
        ("apps", "DaemonSet") => (object.view::<Workload>()?.spec.template, 1),
        ("batch", "Job") => {
            let workload = object.view::<Workload>()?.spec;
            (workload.template, workload.completions.unwrap_or(1))
        }
        _ => return Ok(Vec::new()),
    };
    check(&template).with_context(|| format!("{}: {key}", object.file))?;
    let generation = generation(&template)?;
    Ok((0..count).map(|ordinal| desired_pod(&key, &template, &generation, ordinal)).collect())
}

fn desired_pod(owner: &ObjectKey, template: &PodTemplate, generation: &str, ordinal: u16) -> DesiredPod {
    let mut template = template.clone();
    let labels = &mut template.metadata.labels;
    let (name, replacement) = match owner.kind.as_str() {
        "Pod" => (owner.name.clone(), Replacement::Recreate),
        "StatefulSet" => {
            let name = format!("{}-{ordinal}", owner.name);
            template.spec.hostname = Some(name.clone());
            labels.insert("statefulset.kubernetes.io/pod-name".to_owned(), name.clone());
            labels.insert("apps.kubernetes.io/pod-index".to_owned(), ordinal.to_string());
            (name, Replacement::Recreate)
        }
        "Job" => {
            labels.insert("job-name".to_owned(), owner.name.clone());
            labels.insert("batch.kubernetes.io/job-name".to_owned(), owner.name.clone());
            (format!("{}-{}", owner.name, suffix(generation, ordinal)), Replacement::Recreate)
        }
        _ => {
            labels.insert("pod-template-hash".to_owned(), generation.to_owned());
            (format!("{}-{generation}-{}", owner.name, suffix(generation, ordinal)), Replacement::Surge)
        }
    };
    DesiredPod {
        owner: owner.clone(),
        namespace: owner.namespace.clone(),
        name,
        generation: generation.to_owned(),
        template,
        replacement,
    }
}

fn check(template: &PodTemplate) -> anyhow::Result<()> {
    if template.spec.containers.is_empty() {
        bail!("a pod without containers");
    }
    let mut seen = BTreeMap::new();
    for container in template.spec.init_containers.iter().chain(&template.spec.containers) {
        if seen.insert(container.name.as_str(), ()).is_some() {
            bail!("two containers named `{}`", container.name);
        }
        check_command(container)?;
    }
    Ok(())
}

fn check_command(container: &Container) -> anyhow::Result<()> {
    // The proxy's command is ours wherever the image is left to the injector.
    if !container.command.is_empty() || container.name == PROXY_CONTAINER {
        return Ok(());
    }
    let image = container.image.as_deref().unwrap_or("none");
    bail!(
        "container `{}` has no command (image: {image}). There are no images on one machine: \
         give the program to run as `command`, for example [mesh-echo]",
        container.name
    )
}

/// Ten characters, as a Deployment's pod-template-hash.
fn generation(template: &PodTemplate) -> anyhow::Result<String> {
    let mut hasher = DefaultHasher::new();
    serde_json::to_vec(template)?.hash(&mut hasher);
    Ok(readable(hasher.finish(), 10))
}

fn suffix(generation: &str, ordinal: u16) -> String {
    let mut hasher = DefaultHasher::new();
    (generation, ordinal).hash(&mut hasher);
    readable(hasher.finish(), 5)
}

/// Kubernetes' alphabet for generated names: no vowels, so no words.
fn readable(mut bits: u64, length: usize) -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let letters = (0..length).map(|_| {
        let letter = ALPHABET[(bits % 27) as usize];
        bits /= 27;
        char::from(letter)
    });
    letters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::manifest::parse;

    fn deployment(command: &str, replicas: u16) -> Object {
        let text = format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n  replicas: {replicas}\n  template:\n    \
             metadata: {{labels: {{app: web}}}}\n    spec: {{containers: [{{name: web, image: nginx, {command}}}]}}\n"
        );
        parse("web.yaml", &text).unwrap().remove(0)
    }

    #[test]
    fn a_deployment_becomes_as_many_pods_as_replicas_with_stable_names() {
        let pods = pods_of(&deployment("command: [web]", 3)).unwrap();
        assert_eq!(pods.len(), 3);
        assert_ne!(pods[0].name, pods[1].name);
        let again = pods_of(&deployment("command: [web]", 3)).unwrap();
        assert_eq!(pods[2].name, again[2].name);
        let changed = pods_of(&deployment("command: [other]", 3)).unwrap();
        assert_ne!(pods[0].generation, changed[0].generation);
    }

    #[test]
    fn a_container_without_command_is_named_with_its_file_and_object() {
        let error = format!("{:#}", pods_of(&deployment("args: [x]", 1)).unwrap_err());
        assert!(
            error.starts_with(
                "web.yaml: Deployment default/web: container `web` has no command (image: nginx)"
            ),
            "{error}"
        );
    }

    #[test]
    fn the_system_objects_are_two_gateways() {
        let objects = parse("system.yaml", include_str!("system.yaml")).unwrap();
        let pods = desired(objects.iter()).unwrap();
        let owners: Vec<&str> = pods.iter().map(|pod| pod.owner.name.as_str()).collect();
        assert_eq!(owners, ["istio-ingressgateway", "istio-egressgateway"]);
    }
}
