//! The objects of the mesh, and their copies in the folder that the control plane watches.
//!
//! One file per object, so that applying or deleting one touches one file. Files are written under a name the
//! control plane ignores and renamed, so it never reads half of one; the number in the name keeps the order of
//! first application, which decides between objects of equal age.

use std::cell::Cell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use mesh_control::source::REVISION_FILE;
use serde_json::Value;

use super::manifest::{Object, ObjectKey};

/// All objects that were applied, oldest first.
pub(crate) struct Store {
    folder: PathBuf,
    objects: IndexMap<ObjectKey, Stored>,
    applied: u64,
    /// Writes so far; the control plane tells up to which it has read.
    revision: Cell<u64>,
}

struct Stored {
    object: Object,
    /// None for a user's Pod: the runner writes it itself, with its status.
    file: Option<PathBuf>,
}

/// What applying an object did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applied {
    Created,
    Changed,
    Unchanged,
}

impl Store {
    pub(crate) fn new(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { folder, objects: IndexMap::new(), applied: 0, revision: Cell::new(0) })
    }

    /// Adds or replaces an object.
    pub(crate) fn apply(&mut self, object: Object) -> io::Result<Applied> {
        let key = object.key();
        if let Some(stored) = self.objects.get_mut(&key) {
            if stored.object.value == object.value {
                return Ok(Applied::Unchanged);
            }
            if let Some(file) = &stored.file {
                write_object(file, &object.value)?;
            }
            stored.object = object;
            self.revise()?;
            return Ok(Applied::Changed);
        }
        self.applied += 1;
        let is_pod = key.kind == "Pod" && key.group.is_empty();
        let file = (!is_pod).then(|| self.folder.join(format!("{:06}-{}", self.applied, file_name(&key))));
        if let Some(file) = &file {
            write_object(file, &object.value)?;
        }
        self.objects.insert(key, Stored { object, file });
        self.revise()?;
        Ok(Applied::Created)
    }

    /// Removes an object; says whether there was one.
    pub(crate) fn delete(&mut self, key: &ObjectKey) -> io::Result<bool> {
        let Some(stored) = self.objects.shift_remove(key) else { return Ok(false) };
        stored.file.map_or(Ok(()), fs::remove_file)?;
        self.revise()?;
        Ok(true)
    }

    /// Keys matching a kind (any case, plural allowed), a namespace and a name.
    pub(crate) fn find(&self, kind: &str, namespace: &str, name: &str) -> Vec<ObjectKey> {
        let matches = |key: &&ObjectKey| {
            key.name == name
                && (key.namespace == namespace || key.namespace.is_empty())
                && same_kind(&key.kind, kind)
        };
        self.objects.keys().filter(matches).cloned().collect()
    }

    pub(crate) fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<&Object> {
        let key = self
            .objects
            .keys()
            .find(|key| key.kind == kind && key.namespace == namespace && key.name == name)?;
        self.objects.get(key).map(|stored| &stored.object)
    }

    pub(crate) fn contains(&self, key: &ObjectKey) -> bool {
        self.objects.contains_key(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Object> {
        self.objects.values().map(|stored| &stored.object)
    }

    /// Everything the control plane reads, as one text of many documents: objects in order of application, then pods.
    pub(crate) fn manifest(&self) -> io::Result<String> {
        let entries: Vec<PathBuf> =
            fs::read_dir(&self.folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
        let mut files: Vec<PathBuf> =
            entries.into_iter().filter(|file| file.extension().is_some_and(|end| end == "yaml")).collect();
        files.sort();
        let documents: Vec<String> = files.iter().map(fs::read_to_string).collect::<io::Result<_>>()?;
        Ok(documents.join("\n---\n"))
    }

    /// Writes a Pod, which the runner makes itself.
    pub(crate) fn write_pod(&self, namespace: &str, name: &str, value: &Value) -> io::Result<()> {
        write_object(&self.pod_file(namespace, name), value)?;
        self.revise()
    }

    pub(crate) fn remove_pod(&self, namespace: &str, name: &str) -> io::Result<()> {
        match fs::remove_file(self.pod_file(namespace, name)) {
            // A pod that failed before it was first written has none.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => self.revise(),
        }
    }

    /// The number of the last write, by which the control plane says what it has read.
    pub(crate) const fn revision(&self) -> u64 {
        self.revision.get()
    }

    fn revise(&self) -> io::Result<()> {
        self.revision.set(self.revision.get() + 1);
        let file = self.folder.join(REVISION_FILE);
        let partial = file.with_extension("partial");
        fs::write(&partial, self.revision.get().to_string())?;
        fs::rename(partial, file)
    }

    fn pod_file(&self, namespace: &str, name: &str) -> PathBuf {
        self.folder.join(format!("pod.{namespace}.{name}.yaml"))
    }
}

fn same_kind(kind: &str, asked: &str) -> bool {
    let (kind, asked) = (kind.to_lowercase(), asked.to_lowercase());
    asked == kind
        || asked == format!("{kind}s")
        || asked == format!("{kind}es")
        || asked == kind.replace('y', "ies")
}

fn file_name(key: &ObjectKey) -> String {
    let name = format!("{}.{}.{}.yaml", key.kind, key.namespace, key.name);
    name.replace(|character: char| !character.is_ascii_alphanumeric() && !"-.".contains(character), "_")
}

fn write_object(file: &Path, value: &Value) -> io::Result<()> {
    // JSON is YAML.
    let partial = file.with_extension("partial");
    fs::write(&partial, serde_json::to_vec_pretty(value)?)?;
    fs::rename(partial, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(port: u16) -> Object {
        let value = serde_json::json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "cart"}, "spec": {"port": port}
        });
        Object { file: "test.yaml".into(), value }
    }

    #[test]
    fn an_object_keeps_its_file_when_it_changes_and_loses_it_when_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::new(folder.path().to_owned()).unwrap();
        assert_eq!(store.apply(service(1)).unwrap(), Applied::Created);
        assert_eq!(store.apply(service(1)).unwrap(), Applied::Unchanged);
        assert_eq!(store.apply(service(2)).unwrap(), Applied::Changed);
        let file = folder.path().join("000001-Service.default.cart.yaml");
        assert!(fs::read_to_string(&file).unwrap().contains('2'));

        let keys = store.find("services", "default", "cart");
        assert!(store.delete(&keys[0]).unwrap());
        assert!(!file.exists());
    }

    #[test]
    fn the_revision_counts_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::new(folder.path().to_owned()).unwrap();
        store.apply(service(1)).unwrap();
        store.apply(service(1)).unwrap();
        store.write_pod("default", "cart-0", &serde_json::json!({})).unwrap();
        store.remove_pod("default", "cart-0").unwrap();
        store.remove_pod("default", "cart-0").unwrap();
        assert_eq!(store.revision(), 3);
        assert_eq!(fs::read_to_string(folder.path().join(REVISION_FILE)).unwrap(), "3");
    }
}
