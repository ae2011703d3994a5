//! Handshakes between two holders of mesh certificates, in memory.

use std::io::{Read, Write};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, SanType,
};
use rustls::{ClientConnection, ServerConnection};

use super::*;
use crate::identity::SpiffeId;
use crate::model::Workload;

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn issuer() -> Issuer {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn leaf(issuer: &Issuer, uris: &[&str], adjust: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let mut params = CertificateParams::default();
    params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    adjust(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn holder(issuer: &Issuer, uri: &str) -> MeshTls {
    let (certificate, key) = leaf(issuer, &[uri], |_| {});
    let mesh = MeshTls::default();
    mesh.install(&certificate, &key, &issuer.pem(), &[]).unwrap();
    mesh
}

fn handshake(client: &MeshTls, server: &MeshTls) -> Result<PeerFacts, String> {
    let name = "outbound_.9080_._.reviews.default.svc.cluster.local".try_into().unwrap();
    let mut client = ClientConnection::new(client.client_config(MeshAlpn::Http1).unwrap(), name).unwrap();
    let mut server = ServerConnection::new(server.server_config().unwrap()).unwrap();
    for _ in 0..8 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        while !wire.is_empty() && server.read_tls(&mut { std::mem::take(&mut wire) }.as_slice()).unwrap() > 0
        {
        }
        server.process_new_packets().map_err(|error| error.to_string())?;
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        while !wire.is_empty() && client.read_tls(&mut { std::mem::take(&mut wire) }.as_slice()).unwrap() > 0
        {
        }
        client.process_new_packets().map_err(|error| error.to_string())?;
    }
    client.writer().write_all(b"x").unwrap();
    let _ = client.reader().read(&mut [0; 1]);
    peer_facts(server.peer_certificates().unwrap_or_default()).map_err(|error| error.to_string())
}

#[test]
fn peers_of_one_mesh_learn_each_other() {
    let issuer = issuer();
    let client = holder(&issuer, "spiffe://cluster.local/ns/default/sa/web");
    let server = holder(&issuer, "spiffe://cluster.local/ns/default/sa/reviews");
    let facts = handshake(&client, &server).unwrap();
    assert_eq!(facts.identity.service_account(), "web");
    assert_eq!(facts.workload, None);
}

#[test]
fn workload_facts_travel_in_the_certificate() {
    let issuer = issuer();
    let web = Workload { pod: "web-1".into(), app: "web".into(), ..Workload::default() };
    let json = serde_json::to_vec(&web).unwrap();
    let (certificate, _) = leaf(&issuer, &["spiffe://cluster.local/ns/default/sa/web"], |params| {
        params.custom_extensions = vec![CustomExtension::from_oid_content(WORKLOAD_EXTENSION, json)];
    });
    assert_eq!(peer_facts(&certificates(&certificate).unwrap()).unwrap().workload, Some(web));
}

/// SV-02, SV-07, SV-09 of the attack list.
#[test]
fn peers_without_exactly_one_identity_of_ours_are_refused() {
    let ours = issuer();
    let server = holder(&ours, "spiffe://cluster.local/ns/default/sa/reviews");
    let stranger = holder(&issuer(), "spiffe://cluster.local/ns/default/sa/web");
    assert!(handshake(&stranger, &server).is_err(), "unknown issuer");
    let other = holder(&ours, "spiffe://other.domain/ns/default/sa/web");
    assert!(handshake(&other, &server).is_err(), "other trust domain");
    let twice = ["spiffe://cluster.local/ns/default/sa/web", "https://example.com/"];
    for uris in [&twice[..], &[]] {
        let (certificate, key) = leaf(&ours, uris, |_| {});
        let refused = MeshTls::default().install(&certificate, &key, &ours.pem(), &[]);
        assert!(matches!(refused, Err(TlsError::Identity(_))), "{uris:?}");
    }
}

#[test]
fn an_endpoint_with_another_identity_is_refused_before_the_first_byte() {
    let (certificate, _) = leaf(&issuer(), &["spiffe://cluster.local/ns/default/sa/web"], |_| {});
    let chain = certificates(&certificate).unwrap();
    let expected = |account| SpiffeId::new("cluster.local", "default", account).unwrap();
    assert!(expect_identity(&chain, Some(&expected("web"))).is_ok());
    assert!(matches!(expect_identity(&chain, Some(&expected("db"))), Err(TlsError::WrongPeer { .. })));
}

/// RO-05: what cannot be used never replaces what is held.
#[test]
fn a_broken_renewal_keeps_the_last_good_certificate() {
    let issuer = issuer();
    let mesh = holder(&issuer, "spiffe://cluster.local/ns/default/sa/web");
    let before = mesh.server_config().unwrap();
    let (certificate, _) = leaf(&issuer, &["spiffe://cluster.local/ns/default/sa/web"], |_| {});
    let (_, other_key) = leaf(&issuer, &["spiffe://cluster.local/ns/default/sa/web"], |_| {});
    for (chain, key) in
        [(certificate.as_str(), other_key.as_str()), ("", &other_key), (&certificate, "garbage")]
    {
        assert!(mesh.install(chain, key, &issuer.pem(), &[]).is_err());
    }
    assert!(Arc::ptr_eq(&before, &mesh.server_config().unwrap()));
}

/// Whom we trust changes under a certificate: with more, connections stay usable; what is dropped counts no more, and
/// connections of before are not used again.
#[test]
fn anchors_change_without_a_new_certificate() {
    let (old, new) = (issuer(), issuer());
    let uri = "spiffe://cluster.local/ns/default/sa/web";
    let (client, server) = (holder(&old, uri), holder(&new, uri));
    handshake(&client, &server).unwrap_err();
    let made_with = client.client_config(MeshAlpn::Http1).unwrap();
    let both = old.pem() + &new.pem();
    for mesh in [&client, &server] {
        assert!(mesh.set_anchors(&both).unwrap());
        assert!(!mesh.set_anchors(&both).unwrap(), "the same again is no change");
        mesh.set_anchors("nonsense").unwrap_err();
    }
    handshake(&client, &server).unwrap();
    assert!(Arc::ptr_eq(&made_with, &client.client_config(MeshAlpn::Http1).unwrap()));
    for mesh in [&client, &server] {
        mesh.set_anchors(&new.pem()).unwrap();
    }
    assert!(!Arc::ptr_eq(&made_with, &client.client_config(MeshAlpn::Http1).unwrap()));
    handshake(&client, &server).unwrap_err();
}
