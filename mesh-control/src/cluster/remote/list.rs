//! Lists of the API server, page by page.

use kube::Client;
use serde_json::Value;

use super::RemoteError;
use crate::cluster::request::{Method, send};

/// Objects per page: a pod has some 10 KiB.
const PAGE: usize = 500;

/// All items of a collection; `selector` is what comes after `labelSelector=`, or empty. None where the cluster has no such kind.
pub(super) async fn list(
    client: &Client,
    collection: &str,
    selector: &str,
) -> Result<Option<Vec<Value>>, RemoteError> {
    let mut items = Vec::new();
    let mut next = String::new();
    loop {
        let mut path = format!("{collection}?limit={PAGE}");
        for (name, value) in [("labelSelector", selector), ("continue", &next)] {
            if !value.is_empty() {
                path.push_str(&format!("&{name}={}", escaped(value)));
            }
        }
        let mut page = match send(client, Method::Get, &path, None).await {
            Ok(page) => page,
            Err(error) if error.code() == Some(404) => return Ok(None),
            Err(error) => return Err(RemoteError::Request(format!("listing {collection}"), error)),
        };
        if let Some(found) = page["items"].as_array_mut() {
            items.append(found);
        }
        match page["metadata"]["continue"].as_str() {
            Some(token) if !token.is_empty() => token.clone_into(&mut next),
            _ => return Ok(Some(items)),
        }
    }
}

/// For a query: everything but letters, digits and `-._~` as `%XX` (RFC 3986, section 2).
pub(super) fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_selector_survives_a_query() {
        assert_eq!(super::escaped("a.io/b!=c"), "a.io%2Fb%21%3Dc");
    }
}
