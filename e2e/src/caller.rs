//! Who called, as the sidecar in front of this application reports it in `x-forwarded-client-cert`.
//!
//! The header is a list of hops (`,`) of pairs (`;`); values may be quoted, and quoted text may hold both
//! separators. The last hop is the one that reached this pod.

/// The SPIFFE ID of the nearest caller.
pub(crate) fn caller_identity(header: &str) -> Option<String> {
    let hop = split_outside_quotes(header, ',').pop()?;
    split_outside_quotes(hop, ';').into_iter().find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case("uri").then(|| value.trim().trim_matches('"').to_owned())
    })
}

fn split_outside_quotes(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c == separator && !quoted => {
                parts.push(&text[start..at]);
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_hop_names_the_caller() {
        let header = "By=spiffe://a/ns/x/sa/y;Hash=1;Subject=\"\";URI=spiffe://a/ns/x/sa/far,\
                      By=spiffe://a/ns/x/sa/z;Hash=2;Subject=\"CN=a,O=b;c\";URI=spiffe://a/ns/x/sa/near";
        assert_eq!(caller_identity(header).as_deref(), Some("spiffe://a/ns/x/sa/near"));
    }

    #[test]
    fn a_quoted_separator_does_not_split() {
        let header = r#"Subject="O=\"x\",URI=spiffe://forged";URI=spiffe://true"#;
        assert_eq!(caller_identity(header).as_deref(), Some("spiffe://true"));
    }

    #[test]
    fn no_uri_means_nobody() {
        assert_eq!(caller_identity("By=spiffe://a;Hash=1"), None);
        assert_eq!(caller_identity(""), None);
    }
}
