//! The generated protocol code in mesh-core is committed; this proves that it is what the .proto files say.
//!
//! `UPDATE=1 cargo test -p mesh-e2e --test generated` rewrites it.

use std::path::Path;

const PROTOS: [&str; 3] =
    ["mesh/v1/config.proto", "mesh/v1/identity.proto", "mesh/authorization/check.proto"];

/// The files that come out, and where they are kept.
const GENERATED: [(&str, &str); 2] =
    [("mesh.v1.rs", "src/wire/generated"), ("mesh.authorization.rs", "src/engine/http/authorize/generated")];

#[test]
fn generated_code_is_what_the_protos_say() {
    let core = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mesh-core");
    let descriptors = protox::compile(PROTOS, [core.join("proto")]).expect("the protos compile");
    let out = tempfile::tempdir().expect("a folder for the output");
    tonic_prost_build::configure().out_dir(out.path()).compile_fds(descriptors).expect("code is generated");
    for (file, folder) in GENERATED {
        let fresh = std::fs::read_to_string(out.path().join(file)).expect("one file for each package");
        let committed = core.join(folder).join(file);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&committed, &fresh).expect("the committed file is written");
        }
        let held = std::fs::read_to_string(&committed).unwrap_or_default();
        assert!(held == fresh, "{} is stale: run with UPDATE=1", committed.display());
    }
}
