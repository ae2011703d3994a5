//! A secret that cannot be used does not take the place of one that can.
//!
//! Certificate with key, and trust anchors, are two halves that are used apart: each is judged by itself. Where nothing
//! good came before there is nothing to keep; then handshakes that need the secret fail. A pair that was good once stays
//! until the secret is deleted: that it was taken out of a secret that goes on looks like any other slip of an editor.

use super::channel::chain;
use crate::model::{Resource, Secret};
use crate::tls::{TlsError, gateway};

/// What to hold of a delivered resource, and why it is not all that was delivered.
pub(super) fn or_last_good(delivered: Resource, held: Option<&Resource>) -> (Resource, Option<String>) {
    let Resource::Secret(secret) = delivered else { return (delivered, None) };
    let last = match held {
        Some(Resource::Secret(last)) => Some(last),
        _ => None,
    };
    let (secret, refused) = merged(secret, last);
    (Resource::Secret(secret), refused.map(|error| chain(&error)))
}

fn merged(mut secret: Secret, last: Option<&Secret>) -> (Secret, Option<TlsError>) {
    let pair = pair(&secret, last);
    let anchors = anchors(&secret);
    if let (Err(_), Some(last)) = (&pair, last) {
        secret.certificates.clone_from(&last.certificates);
        secret.private_key.clone_from(&last.private_key);
    }
    if let (Err(_), Some(last)) = (&anchors, last) {
        secret.trust_anchors.clone_from(&last.trust_anchors);
    }
    (secret, pair.and(anchors).err())
}

/// Secrets that hold trust anchors alone have none, and never had one. One that holds nothing has been emptied.
fn pair(secret: &Secret, last: Option<&Secret>) -> Result<(), TlsError> {
    let has_none = |of: &Secret| of.certificates.is_empty() && of.private_key.is_empty();
    if has_none(secret) && !secret.trust_anchors.is_empty() && last.is_none_or(has_none) {
        return Ok(());
    }
    gateway::check_pair(&secret.certificates, &secret.private_key)
}

fn anchors(secret: &Secret) -> Result<(), TlsError> {
    if secret.trust_anchors.is_empty() { Ok(()) } else { gateway::check_anchors(&secret.trust_anchors) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(trust_anchors: &str) -> Secret {
        let signed = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
        Secret {
            name: "default/cert".into(),
            certificates: signed.cert.pem(),
            private_key: signed.signing_key.serialize_pem(),
            trust_anchors: trust_anchors.to_owned(),
        }
    }

    fn taken(delivered: &Secret, held: Option<&Secret>) -> (Secret, Option<String>) {
        let held = held.cloned().map(Resource::Secret);
        match or_last_good(Resource::Secret(delivered.clone()), held.as_ref()) {
            (Resource::Secret(secret), refused) => (secret, refused),
            (other, _) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_of_another_certificate_leaves_the_last_good_pair() {
        let (old, new) = (secret(""), secret(""));
        assert_eq!(taken(&new, Some(&old)), (new.clone(), None));
        let bad = Secret { private_key: old.private_key.clone(), ..new };
        let (kept, refused) = taken(&bad, Some(&old));
        assert_eq!(kept, old);
        assert!(refused.unwrap().starts_with("certificate and key cannot be used together"));
        assert_eq!(taken(&bad, None).0, bad, "nothing came before");
    }

    #[test]
    fn each_half_is_judged_by_itself() {
        let authority = secret("").certificates;
        let (old, mut new) = (secret(&authority), secret("no certificate"));
        let (kept, refused) = taken(&new, Some(&old));
        assert_eq!(kept, Secret { trust_anchors: authority, ..new.clone() });
        assert!(refused.is_some());
        new.trust_anchors = secret("").certificates;
        let bad = Secret { certificates: String::new(), ..new.clone() };
        let expected = Secret { trust_anchors: new.trust_anchors.clone(), ..old.clone() };
        assert_eq!(taken(&bad, Some(&old)).0, expected);
        let emptied = Secret { private_key: String::new(), ..old.clone() };
        assert_eq!(taken(&emptied, Some(&old)).0, old, "without its key");
        let nothing = Secret { certificates: String::new(), trust_anchors: String::new(), ..emptied };
        let (kept, refused) = taken(&nothing, Some(&old));
        assert_eq!(kept, Secret { trust_anchors: String::new(), ..old.clone() }, "without anything");
        assert!(refused.is_some());
        let alone = Secret { certificates: String::new(), private_key: String::new(), ..new };
        assert_eq!(taken(&alone, None), (alone.clone(), None));
        assert_eq!(taken(&alone, Some(&alone)), (alone.clone(), None));
        let (kept, refused) = taken(&alone, Some(&old));
        assert_eq!(kept, Secret { trust_anchors: alone.trust_anchors, ..old }, "without its pair");
        assert!(refused.is_some());
    }
}
