use std::path::Path;

use super::*;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// `UPDATE=1` rewrites it.
fn is_golden(file: &str, policies: &[Value]) {
    let documents = policies
        .iter()
        .map(|policy| format!("---\n{}\n", serde_saphyr::to_string(policy).unwrap().trim_end()));
    let text: String = documents.collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cluster/way_out").join(file);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), text, "UPDATE=1 rewrites {file}");
}

#[test]
fn outside_is_what_is_no_pod() {
    is_golden("every-pod.golden", &policies(&names(&["payments", "shop"]), &Reach::default()).unwrap());
}

#[test]
fn namespaces_may_be_kept_apart_too() {
    let networks = ["192.0.2.1/32:6443", "10.20.30.40/16"].map(|text| text.parse().unwrap()).to_vec();
    let reach = Reach { namespaces: names(&["billing"]), networks };
    is_golden("some-namespaces.golden", &policies(&names(&["payments"]), &reach).unwrap());
}

#[test]
fn whoever_must_get_out_keeps_its_way() {
    for name in ["istio-system", "mesh-system", "kube-system"] {
        let refused = policies(&names(&["shop", name]), &Reach::default()).unwrap_err();
        assert!(matches!(&refused, Refused::Needed(refused, _) if refused == name), "{refused}");
    }
    // They may be reached.
    let reach = Reach { namespaces: names(&["istio-system"]), ..Reach::default() };
    assert!(policies(&names(&["shop"]), &reach).is_ok());
    for name in ["", "Shop", "a.b", "-a", "a\nb"] {
        assert_eq!(policies(&names(&[name]), &Reach::default()), Err(Refused::Name(name.to_owned())));
    }
}

#[test]
fn openings_are_networks_with_or_without_a_port() {
    let rule = |text: &str| text.parse::<Opening>().map(|opening| opening.rule().to_string());
    for (text, expected) in [
        ("192.0.2.77/24", r#"{"to":[{"ipBlock":{"cidr":"192.0.2.0/24"}}]}"#),
        (
            "2001:db8::1/128:443",
            r#"{"ports":[{"port":443,"protocol":"TCP"}],"to":[{"ipBlock":{"cidr":"2001:db8::1/128"}}]}"#,
        ),
    ] {
        assert_eq!(rule(text).unwrap(), expected);
    }
    for text in [
        "192.0.2.1",
        "192.0.2.1/33",
        "192.0.2.1/32:0",
        "192.0.2.1/32:",
        "api.example/32",
        "192.0.2.1/32:6443:1",
    ] {
        assert_eq!(rule(text), Err(Refused::Network(text.to_owned())));
    }
    for text in ["0.0.0.0/0", "::/0:443"] {
        assert_eq!(rule(text), Err(Refused::Everything(text.to_owned())));
    }
}
