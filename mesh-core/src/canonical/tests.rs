use proptest::prelude::*;

use super::*;
use PathNormalization::{Base, DecodeAndMergeSlashes, MergeSlashes, None as AsIs};

fn canonical(text: &str, mode: PathNormalization) -> String {
    match path(&Bytes::from(text.to_owned()), mode) {
        Ok(path) => String::from_utf8_lossy(&path).into_owned(),
        Err(failure) => failure.consequence().status.to_string(),
    }
}

/// PN-01 to PN-07 and PN-09: input, then what BASE, MERGE_SLASHES and DECODE_AND_MERGE_SLASHES make of it.
#[test]
fn the_modes() {
    for (input, base, merge, decode) in [
        ("/app/../admin", "/admin", "/admin", "/admin"),
        ("/app/%2E./admin", "/admin", "/admin", "/admin"),
        ("/app\\admin", "/app/admin", "/app/admin", "/app/admin"),
        ("/app//", "/app//", "/app/", "/app/"),
        ("/app//../admin", "/app/admin", "/app/admin", "/app/admin"),
        ("/app%2f/", "/app%2f/", "/app%2f/", "/app/"),
        ("/%2Fapp%5cadmin%5Cabc", "/%2Fapp%5cadmin%5Cabc", "/%2Fapp%5cadmin%5Cabc", "/app/admin/abc"),
        ("/xyz%30..//abc", "/xyz0..//abc", "/xyz0../abc", "/xyz0../abc"),
        ("/%252e%252e/admin", "/%252e%252e/admin", "/%252e%252e/admin", "/%252e%252e/admin"),
        ("/%c0%af", "/%c0%af", "/%c0%af", "/%c0%af"),
        ("/Admin", "/Admin", "/Admin", "/Admin"),
        ("/admin,a", "/admin,a", "/admin,a", "/admin,a"),
        ("/admin%00", "400", "400", "400"),
        ("/a\x01b", "400", "400", "400"),
        ("/a b", "400", "400", "400"),
        ("/%zz", "400", "400", "400"),
        ("/%2", "400", "400", "400"),
        ("/..;/admin", "/admin", "/admin", "/admin"),
        ("/x/..;a=b/admin", "/admin", "/admin", "/admin"),
        ("/.;a/admin", "/admin", "/admin", "/admin"),
        ("/admin;a=b/x", "/admin;a=b/x", "/admin;a=b/x", "/admin;a=b/x"),
        ("/..%2fadmin", "/..%2fadmin", "/..%2fadmin", "/admin"),
        ("/../../..", "/", "/", "/"),
        ("/a/..", "/", "/", "/"),
        ("/a/b/..", "/a/", "/a/", "/a/"),
        ("/a/.", "/a/", "/a/", "/a/"),
        ("/...", "/...", "/...", "/..."),
        ("/.hidden", "/.hidden", "/.hidden", "/.hidden"),
        ("*", "*", "*", "*"),
        ("admin", "400", "400", "400"),
    ] {
        assert_eq!(canonical(input, AsIs), input);
        assert_eq!(canonical(input, Base), base, "BASE of {input}");
        assert_eq!(canonical(input, MergeSlashes), merge, "MERGE_SLASHES of {input}");
        assert_eq!(canonical(input, DecodeAndMergeSlashes), decode, "DECODE_AND_MERGE_SLASHES of {input}");
    }
}

/// PN-08.
#[test]
fn query_and_fragment_are_no_part_of_the_path() {
    for (target, path, query) in [
        ("/admin#x", "/admin", None),
        ("/admin?x", "/admin", Some("x")),
        ("/admin?", "/admin", Some("")),
        ("/admin?x#y?z", "/admin", Some("x")),
        ("/admin#y?z", "/admin", None),
    ] {
        let split = split_target(&Bytes::from(target));
        assert_eq!(split, (Bytes::from(path), query.map(Bytes::from)), "{target}");
    }
}

/// PN-10: what a server that decodes once and resolves dots would make of the path.
fn as_a_server_reads(path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < path.len() {
        let escape = (path[at] == b'%').then(|| path.get(at + 1..at + 3)).flatten();
        let byte = escape.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        decoded.push(byte.unwrap_or(path[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    resolve(&decoded)
}

/// The rules of docs/security.md#paths, one after the other on text; `None` is 400.
fn naive(text: &str, mode: PathNormalization) -> Option<String> {
    if mode == AsIs {
        return Some(text.to_owned());
    }
    let decodes_slashes = mode == DecodeAndMergeSlashes;
    let mut decoded = String::new();
    let mut parts = text.split('%');
    decoded += parts.next()?;
    for part in parts {
        let escape = part.get(..2).filter(|digits| digits.chars().all(|digit| digit.is_ascii_hexdigit()))?;
        match char::from(u8::from_str_radix(escape, 16).ok()?) {
            '\0' => return None,
            '/' | '\\' if decodes_slashes => decoded.push('/'),
            plain if plain.is_ascii_alphanumeric() || "-._~".contains(plain) => decoded.push(plain),
            _ => decoded += &format!("%{escape}"),
        }
        decoded += &part[2..];
    }
    let decoded = decoded.replace('\\', "/");
    let segments: Vec<&str> = decoded.split('/').skip(1).collect();
    let mut kept: Vec<&str> = Vec::new();
    for (at, segment) in segments.iter().enumerate() {
        let name = segment.split(';').next()?;
        if name == ".." {
            kept.pop();
        }
        match name {
            "." | ".." if at + 1 == segments.len() => kept.push(""),
            "." | ".." => {}
            _ => kept.push(segment),
        }
    }
    let mut resolved = format!("/{}", kept.join("/"));
    while mode != Base && resolved.contains("//") {
        resolved = resolved.replace("//", "/");
    }
    Some(resolved)
}

proptest! {
    #[test]
    fn s38_every_form_is_the_oracles(
        text in "(/|\\.|\\.\\.|;|\\\\|[a-c]|%2[eEfF]|%5[cC]|%25|%00|%4|%[0-9a-fA-F]{2}|\u{e4}){0,12}",
        mode in prop::sample::select(vec![AsIs, Base, MergeSlashes, DecodeAndMergeSlashes]),
    ) {
        let text = format!("/{text}");
        let seen = path(&Bytes::from(text.clone()), mode).ok();
        prop_assert_eq!(seen.map(|path| String::from_utf8_lossy(&path).into_owned()), naive(&text, mode));
    }

    #[test]
    fn the_canonical_form_is_its_own(
        text in "(/|%2[eE]|%5[cC]|%2[fF]|%25|%[0-9a-f]{2}|\\.|;|\\\\|[a-c]|%|\u{e4}){0,12}",
        mode in prop::sample::select(vec![AsIs, Base, MergeSlashes, DecodeAndMergeSlashes]),
    ) {
        let input = Bytes::from(format!("/{text}"));
        if let Ok(once) = path(&input, mode) {
            prop_assert_eq!(path(&once, mode), Ok(once.clone()));
            prop_assert!(once.starts_with(b"/"));
        }
    }

    #[test]
    fn a_prefix_rule_sees_what_the_server_sees(segments in prop::collection::vec("(\\.|%2e|a|admin|%61dmin){1,3}", 1..5)) {
        let input = Bytes::from(format!("/{}", segments.join("/")));
        let canonical = path(&input, Base).expect("valid escapes");
        prop_assert_eq!(as_a_server_reads(&canonical), canonical.to_vec());
    }
}

#[test]
fn every_escaped_byte_is_stable() {
    for byte in 1..=255_u8 {
        for mode in [Base, MergeSlashes, DecodeAndMergeSlashes] {
            let once = path(&Bytes::from(format!("/a%{byte:02x}b%{byte:02X}")), mode).unwrap();
            assert_eq!(path(&once, mode).unwrap(), once);
        }
    }
}
