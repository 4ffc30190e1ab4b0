//! Servers whose certificate nobody vouches for.

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

use crate::host::{Host, serving};
use crate::images::chain;
use crate::server::Answer;

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
