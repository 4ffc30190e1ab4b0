//! TLS: servers whose certificate nobody vouches for, or which is listed itself; clients' certificates.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use bytecode_image::pull::PullPolicy;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use bpfman_tests::tls::{Pair, Tls};

use crate::host::{Host, serving};
use crate::images::{Parts, chain, serve as serve_image};
use crate::server::{Answer, Plain, Registry};

/// A certificate that is none, and a key.
#[derive(Debug)]
struct Nobody(Arc<CertifiedKey>);

impl Nobody {
    fn new() -> Self {
        let key =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new());
        let key = PrivatePkcs8KeyDer::from(key.unwrap().as_ref().to_vec());
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&PrivateKeyDer::Pkcs8(key))
            .unwrap();
        let certificate = CertificateDer::from(b"nobody".to_vec());
        Self(Arc::new(CertifiedKey::new(vec![certificate], key)))
    }
}

impl ResolvesServerCert for Nobody {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// A server that gives this body to everybody, by https.
fn serve(body: &'static str) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Nobody::new()));
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, stream.unwrap());
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                head.extend_from_slice(&byte);
            }
            // A client that did not like the certificate is gone.
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.flush();
        }
    });
    address
}

/// What is marked insecure is so with its token service, as for containers tools, and nothing else is.
#[test]
fn a_token_service_of_an_insecure_registry() {
    let registry = serving();
    let service = serve(r#"{"token":"t0ken"}"#);
    registry.need(
        "Bearer t0ken",
        Answer::status(401).header(
            "WWW-Authenticate",
            format!(r#"Bearer realm="https://{service}/token""#),
        ),
    );
    let host = Host::new();
    let name = format!("{}/acme/xdp:v1", registry.address);
    let pull = || host.pull(&name, PullPolicy::Always, host.reach());
    let error = chain(&pull().unwrap_err());
    assert!(error.contains("certificate"), "{error}");
    host.registries(&format!(
        "[[registry]]\nlocation = '{}'\ninsecure = true\n",
        registry.address
    ));
    pull().unwrap_or_else(|error| panic!("{}", chain(&error)));
}

fn start(pair: &Pair, plain: Plain) -> Registry {
    let registry = Registry::start_secure_saying(&pair.certificate, &pair.key, plain);
    serve_image(&registry, &Parts::new("pass").image(), &["v1"]);
    registry
}

fn name(registry: &Registry) -> String {
    format!("{}/acme/xdp:v1", registry.address)
}

fn pull(host: &Host, registry: &Registry) -> Result<(), (String, String)> {
    let pulled = host.pull(&name(registry), PullPolicy::Always, host.reach());
    pulled.map(|_| ()).map_err(|error| {
        let hint = error.hint().unwrap_or_default();
        (chain(&error), hint)
    })
}

fn trust(host: &Host, registry: &Registry, file: &str, from: &std::path::Path) {
    let text = std::fs::read_to_string(from).unwrap();
    host.file(
        &format!("etc/containers/certs.d/{}/{file}", registry.address),
        &text,
    );
}

const PLAIN: [Plain; 8] = [
    Plain::Alert,
    Plain::Close,
    Plain::Reset,
    Plain::Text(
        "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
    ),
    Plain::Text("HTTP/1.1 400 Bad Request\r\nContent-Length: 6\r\n\r\n<html>"),
    Plain::Text("HTTP/1.1 308 x\r\nLocation: https://127.0.0.1/\r\nContent-Length: 0\r\n\r\n"),
    Plain::Text("no HTTP\r\n"),
    Plain::Silent,
];

/// Whatever a server of TLS answers a plain request with, it is asked by TLS, and its certificate is the error.
#[test]
fn tls_on_loopback_is_found_whatever_a_plain_request_is_answered_with() {
    let Some(tls) = Tls::make() else { return };
    for plain in PLAIN {
        let registry = start(&tls.server(), plain);
        let host = Host::new();
        let (error, hint) = pull(&host, &registry).unwrap_err();
        assert!(error.contains("UnknownIssuer"), "{plain:?}: {error}");
        let folder = format!("/etc/containers/certs.d/{}/ca.crt", registry.address);
        let lines = format!(
            "/etc/containers/registries.conf the lines `[[registry]]`, `location = \"{}\"`, `insecure = true`",
            registry.address
        );
        assert!(
            hint.contains(&folder) && hint.contains(&lines),
            "{plain:?}: {hint}"
        );

        host.registries(&format!(
            "[[registry]]\nlocation = '{}'\ninsecure = true\n",
            registry.address
        ));
        pull(&host, &registry).unwrap_or_else(|error| panic!("{plain:?}: {error:?}"));

        host.registries("");
        trust(&host, &registry, "ca.crt", &tls.ca());
        pull(&host, &registry).unwrap_or_else(|error| panic!("{plain:?}: {error:?}"));
    }
}

#[test]
fn a_listed_certificate_is_trusted_for_its_names() {
    let Some(tls) = Tls::make() else { return };
    let cases: [(&str, &[&str], Option<&str>); 6] = [
        ("IP:127.0.0.1", &[], None),
        (
            "IP:127.0.0.1",
            &["-addext", "basicConstraints=critical,CA:FALSE"],
            None,
        ),
        (
            "IP:127.0.0.1",
            &["-addext", "extendedKeyUsage=serverAuth,clientAuth"],
            None,
        ),
        (
            "IP:127.0.0.1",
            &["-addext", "extendedKeyUsage=clientAuth"],
            Some("InvalidPurpose"),
        ),
        ("DNS:registry.example", &[], Some("not valid for name")),
        ("IP:127.0.0.1", &["-days", "-1"], Some("xpired")),
    ];
    for (names, more, refused) in cases {
        let pair = match more {
            ["-days", _] => expired(&tls, names),
            more => Some(tls.self_signed(names, more)),
        };
        let Some(pair) = pair else { continue };
        let registry = start(&pair, Plain::Alert);
        let host = Host::new();
        // Not listed, it is nobody's.
        let (error, hint) = pull(&host, &registry).unwrap_err();
        assert!(error.contains("certificate"), "{names} {more:?}: {error}");
        assert!(!hint.is_empty(), "{names} {more:?}");
        trust(&host, &registry, "own.crt", &pair.certificate);
        match (pull(&host, &registry), refused) {
            (Ok(()), None) => {}
            (Err((error, _)), Some(refused)) if error.contains(refused) => {}
            (found, _) => panic!("{names} {more:?}: {found:?}"),
        }
        // Another one of the same name is not that one.
        let other = tls.self_signed(names, &[]);
        trust(&host, &registry, "own.crt", &other.certificate);
        assert!(pull(&host, &registry).is_err(), "{names} {more:?}");
    }
}

/// openssl refuses to make some versions of it: then there is nothing to try.
fn expired(tls: &Tls, names: &str) -> Option<Pair> {
    std::panic::catch_unwind(|| {
        tls.self_signed(
            names,
            &[
                "-not_before",
                "20200101000000Z",
                "-not_after",
                "20200102000000Z",
            ],
        )
    })
    .ok()
}

#[test]
fn client_certificates_of_version_1_are_sent() {
    let Some(tls) = Tls::make() else { return };
    let server = tls.server();
    for client in [tls.client(), tls.version_1("old")] {
        let registry = Registry::start_mutual(&server.certificate, &server.key);
        serve_image(&registry, &Parts::new("pass").image(), &["v1"]);
        let host = Host::new();
        trust(&host, &registry, "ca.crt", &tls.ca());
        let (_, hint) = pull(&host, &registry).unwrap_err();
        assert!(hint.contains("client.cert"), "{hint}");
        trust(&host, &registry, "client.cert", &client.certificate);
        trust(&host, &registry, "client.key", &client.key);
        pull(&host, &registry).unwrap_or_else(|error| panic!("{error:?}"));
    }
}

#[test]
fn client_certificates_that_cannot_be_used_are_named() {
    let Some(tls) = Tls::make() else { return };
    let (server, client, old) = (tls.server(), tls.client(), tls.version_1("old"));
    let registry = Registry::start_mutual(&server.certificate, &server.key);
    let host = Host::new();
    trust(&host, &registry, "ca.crt", &tls.ca());
    let text = |path: &std::path::Path| std::fs::read_to_string(path).unwrap();
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (certificate, key, expected) in [
        (
            text(&client.certificate),
            text(&server.key),
            "client.cert is not for this key",
        ),
        (
            text(&old.certificate),
            text(&client.key),
            "client.cert is not for this key",
        ),
        (
            text(&client.certificate),
            encrypted.to_owned(),
            "client.key cannot be used: the key is encrypted",
        ),
        (
            broken.to_owned(),
            text(&client.key),
            "client.cert cannot be used: the certificate cannot be parsed",
        ),
    ] {
        let folder = format!("etc/containers/certs.d/{}", registry.address);
        host.file(&format!("{folder}/client.cert"), &certificate);
        host.file(&format!("{folder}/client.key"), &key);
        let (error, hint) = pull(&host, &registry).unwrap_err();
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(hint.contains("client."), "{expected}: {hint}");
    }
}
