//! Addresses that were allotted to services, kept in the state folder: applications go on dialling what they resolved
//! before a restart.
//!
//! A file that cannot be read is no reason not to start: addresses follow from names, and differ only where two met.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use crate::api::{Key, Kind};
use crate::world::World;

/// The file, and what it says.
#[derive(Debug)]
pub struct Allotments {
    file: PathBuf,
    /// By `namespace/name`.
    known: BTreeMap<String, Ipv4Addr>,
}

impl Allotments {
    /// Reads what was kept in `folder`.
    pub fn open(folder: &Path) -> Self {
        let file = folder.join("allotments.json");
        let known = read(&file).unwrap_or_else(|error| {
            tracing::warn!(file = %file.display(), %error, "allotted addresses cannot be read; allotting anew");
            BTreeMap::new()
        });
        Self { file, known }
    }

    /// A world without objects in which services will have their addresses.
    pub fn world(&self) -> World {
        let service = |(name, address): (&String, &Ipv4Addr)| {
            let (namespace, name) = name.split_once('/')?;
            Some((Key::new(Kind::Service, namespace, name), *address))
        };
        World::with_allotments(self.known.iter().filter_map(service))
    }

    /// Keeps the addresses of a world's services if they are not what is kept already.
    ///
    /// # Errors
    /// When the file cannot be written; what it said before stays.
    pub fn keep(&mut self, world: &World) -> io::Result<()> {
        let exists = |(key, _): &(&Key, Ipv4Addr)| world.object(key).is_some();
        let allotted = world.allotments().filter(exists);
        let now =
            allotted.map(|(key, address)| (format!("{}/{}", key.namespace, key.name), address)).collect();
        if self.known == now {
            return Ok(());
        }
        let part = self.file.with_extension("part");
        std::fs::write(&part, serde_json::to_vec(&now)?)?;
        std::fs::rename(part, &self.file)?;
        self.known = now;
        Ok(())
    }
}

fn read(file: &Path) -> io::Result<BTreeMap<String, Ipv4Addr>> {
    match std::fs::read(file) {
        Ok(text) => Ok(serde_json::from_slice(&text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Change;
    use crate::source::files::load_text;

    #[test]
    fn services_keep_their_addresses_over_a_restart_whatever_the_order() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("allotments.json"),
            r#"{"default/web":"10.96.7.7","x/gone":"10.96.7.8"}"#,
        )
        .unwrap();
        let mut allotments = Allotments::open(folder.path());
        let mut world = allotments.world();
        let service = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n";
        world.apply(Change::from(load_text(Path::new("t.yaml"), service)));
        allotments.keep(&world).unwrap();
        let kept = BTreeMap::from([("default/web".to_owned(), Ipv4Addr::new(10, 96, 7, 7))]);
        assert_eq!(Allotments::open(folder.path()).known, kept);
    }

    #[test]
    fn a_broken_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("allotments.json"), "{").unwrap();
        assert_eq!(Allotments::open(folder.path()).known, BTreeMap::new());
    }
}
