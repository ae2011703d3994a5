//! Where the binaries under test are.
//!
//! `MESH_BIN_DIR` names a folder of ready ones. Without it they are built, all at once: `cargo test` alone builds only
//! this package's, and with the features that tests ask for; what is tested is what is shipped.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of one binary.
pub(crate) fn binary(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| std::env::var_os("MESH_BIN_DIR").map_or_else(build, PathBuf::from)).join(name)
}

/// Builds into the target folder and profile that this test was built with.
fn build() -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    // target/PROFILE/deps/local-HASH
    let folder = test.parent().and_then(Path::parent).expect("tests lie in target/PROFILE/deps");
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--workspace", "--bins", "--target-dir"])
        .arg(folder.parent().expect("target/PROFILE"));
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo can be started");
    assert!(status.success(), "the binaries under test cannot be built");
    folder.to_owned()
}
