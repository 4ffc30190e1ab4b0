//! TLS as containers tools have it: the system's authorities, those of `certs.d`, and certificates that are listed there
//! themselves.
//!
//! Own verifier around the platform's, because webpki refuses two kinds of certificates that Go takes: a server's that is
//! an authority (`openssl req -x509` makes such), and a client's of X.509 version 1.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error as TlsError,
    InconsistentKeys, RootCertStore, SignatureScheme,
};
use rustls_platform_verifier::Verifier;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use x509_cert::der::Decode as _;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::ext::pkix::ExtendedKeyUsage;

use crate::host::certs_d::{Certificates, ClientPair, PemFile};
use crate::registry::reach::ReachError;

/// Extended key usages (RFC 5280, 4.2.1.12) that a server's certificate may be restricted to.
const SERVER_USAGES: [ObjectIdentifier; 2] = [
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1"),
    ObjectIdentifier::new_unwrap("2.5.29.37.0"),
];

/// How long a server on loopback may take to answer the beginning of a handshake: 2 s.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a certificate or key of `certs.d` cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PemProblem {
    /// Not what its label says.
    #[error("the PEM block cannot be decoded: {0}")]
    Pem(String),
    /// A certificate that cannot be parsed.
    #[error("the certificate cannot be parsed: {0}")]
    Certificate(String),
    /// A key that is encrypted. Nobody can be asked for its password.
    #[error("the key is encrypted")]
    Encrypted,
    /// A kind of key that the TLS library does not have.
    #[error("the key cannot be used: {0}")]
    Key(TlsError),
    /// Certificate and key of a client that do not belong together.
    #[error("the certificate {} is not for this key", .0.display())]
    OtherKey(std::path::PathBuf),
    /// The authorities of the system cannot be read, and there are no others.
    #[error("no authority's certificate can be used: {0}")]
    NoAuthority(TlsError),
}

/// What a connection to a registry, or to where it leads, is made with.
pub(super) fn config(
    found: &Certificates,
    insecure: bool,
    identity: Option<&ClientPair>,
) -> Result<ClientConfig, ReachError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let listed = listed(&found.authorities)?;
    let roots = if insecure {
        None
    } else {
        let authorities = listed.iter().filter(|(certificate, file)| {
            let added = RootCertStore::empty().add((*certificate).clone());
            if let Err(error) = &added {
                log::warn!("{}: skipping an authority: {error}", file.display());
            }
            added.is_ok()
        });
        let authorities: Vec<_> = authorities.map(|(root, _)| root.clone()).collect();
        let roots = Verifier::new_with_extra_roots(authorities, Arc::clone(&provider));
        Some(roots.map_err(|error| ReachError::Pem {
            file: "/etc/ssl/certs".into(),
            source: PemProblem::NoAuthority(error),
        })?)
    };
    let verifier = RegistryVerifier {
        roots,
        listed: listed
            .into_iter()
            .map(|(certificate, _)| certificate)
            .collect(),
        algorithms: provider.signature_verification_algorithms,
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .map_err(|error| ReachError::Pem {
            file: "TLS".into(),
            source: PemProblem::Key(error),
        })?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        Some(pair) => {
            let key = SingleCertAndKey::from(client(pair, &provider)?);
            builder.with_client_cert_resolver(Arc::new(key))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

type Listed<'a> = (CertificateDer<'static>, &'a Path);

/// Every certificate of the files, and its file.
fn listed(files: &[PemFile]) -> Result<Vec<Listed<'_>>, ReachError> {
    let mut listed = Vec::new();
    for file in files {
        for certificate in certificates(file)? {
            listed.push((certificate, file.file.as_path()));
        }
    }
    Ok(listed)
}

fn certificates(file: &PemFile) -> Result<Vec<CertificateDer<'static>>, ReachError> {
    CertificateDer::pem_slice_iter(&file.pem)
        .collect::<Result<_, pem::Error>>()
        .map_err(|error| unusable(&file.file, PemProblem::Pem(error.to_string())))
}

fn unusable(file: &Path, source: PemProblem) -> ReachError {
    ReachError::Pem {
        file: file.to_owned(),
        source,
    }
}

/// A client's certificate and key. The certificate is for the server to judge: it may be of X.509 version 1, which the TLS
/// library does not parse.
fn client(pair: &ClientPair, provider: &CryptoProvider) -> Result<CertifiedKey, ReachError> {
    let file = &pair.certificate.file;
    let chain = certificates(&pair.certificate)?;
    for certificate in &chain {
        x509_cert::Certificate::from_der(certificate)
            .map_err(|error| unusable(file, PemProblem::Certificate(error.to_string())))?;
    }
    let of_key = |problem| unusable(&pair.key_file, problem);
    let encrypted = b"ENCRYPTED";
    if pair
        .key_pem
        .windows(encrypted.len())
        .any(|part| part == encrypted)
    {
        return Err(of_key(PemProblem::Encrypted));
    }
    let key = PrivateKeyDer::from_pem_slice(&pair.key_pem)
        .map_err(|error| of_key(PemProblem::Pem(error.to_string())))?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| of_key(PemProblem::Key(error)))?;
    let fits = key
        .public_key()
        .zip(chain.first())
        .is_none_or(|(key, certificate)| {
            let key: &[u8] = key.as_ref();
            certificate.windows(key.len()).any(|part| part == key)
        });
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        // Another spelling of the same key is for the library to compare.
        Ok(()) | Err(TlsError::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(TlsError::InvalidCertificate(_)) if fits => Ok(certified),
        Err(_) => Err(of_key(PemProblem::OtherKey(file.clone()))),
    }
}

/// Takes what the platform takes, and certificates that are listed for the registry themselves.
#[derive(Debug)]
struct RegistryVerifier {
    /// `None`: every certificate is taken.
    roots: Option<Verifier>,
    listed: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for RegistryVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let Some(roots) = &self.roots else {
            return Ok(ServerCertVerified::assertion());
        };
        let verified = roots.verify_server_cert(certificate, chain, name, ocsp, now);
        let is_listed = || self.listed.iter().any(|listed| **listed == **certificate);
        if verified.is_err() && is_listed() {
            return verify_listed(certificate, name, now);
        }
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        if self.roots.is_none() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        if self.roots.is_none() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Names, times and use of a certificate that needs nobody to vouch for it.
fn verify_listed(
    certificate: &CertificateDer<'_>,
    name: &ServerName<'_>,
    now: UnixTime,
) -> Result<ServerCertVerified, TlsError> {
    let refused = TlsError::InvalidCertificate;
    verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
    let parsed = x509_cert::Certificate::from_der(certificate)
        .map_err(|_| refused(CertificateError::BadEncoding))?;
    let parsed = parsed.tbs_certificate;
    let seconds = now.as_secs();
    if seconds < parsed.validity.not_before.to_unix_duration().as_secs() {
        return Err(refused(CertificateError::NotValidYet));
    }
    if seconds > parsed.validity.not_after.to_unix_duration().as_secs() {
        return Err(refused(CertificateError::Expired));
    }
    let usage = parsed
        .get::<ExtendedKeyUsage>()
        .map_err(|_| refused(CertificateError::BadEncoding))?;
    let serves = usage.is_none_or(|(_, ExtendedKeyUsage(usages))| {
        usages.iter().any(|usage| SERVER_USAGES.contains(usage))
    });
    if !serves {
        return Err(refused(CertificateError::InvalidPurpose));
    }
    Ok(ServerCertVerified::assertion())
}

/// Whether a server answers the beginning of a handshake with TLS, with a handshake or an alert.
pub(super) async fn is_spoken(host: &str, port: u16, limit: Duration) -> bool {
    let asked = tokio::time::timeout(limit.min(PROBE_TIMEOUT), first_record(host, port));
    asked.await.is_ok_and(|answer| {
        // TLSPlaintext (RFC 8446, 5.1): type, then version 3.x.
        matches!(answer, Some([0x15 | 0x16, 3, 0..=4]))
    })
}

async fn first_record(host: &str, port: u16) -> Option<[u8; 3]> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .ok()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(bare.to_owned()).ok()?;
    let mut connection = ClientConnection::new(Arc::new(config), name).ok()?;
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).ok()?;
    let mut stream = TcpStream::connect((bare, port)).await.ok()?;
    stream.write_all(&hello).await.ok()?;
    let mut record = [0; 3];
    stream.read_exact(&mut record).await.ok()?;
    Some(record)
}
