//! What to do on this host about a registry that cannot be connected to: which file, and what to write into it.

use std::io::ErrorKind;

use rustls::{AlertDescription, CertificateError, Error as TlsError};

use crate::host::registries_conf::Endpoint;
use crate::registry::patience::{io_error, tls_error};
use crate::registry::reach::Reach;
use crate::registry::{Action, Reason};

/// The advice, where the host's files are known and one of them would help.
pub(super) fn of(
    action: &Action,
    reason: &Reason,
    endpoint: &Endpoint,
    reach: &Reach,
) -> Option<String> {
    match reason {
        // A token service is another server, for which only the registry's authorities count.
        Reason::Connect(_) | Reason::Transfer(_) if matches!(action, Action::Token(_)) => None,
        Reason::Certificate(TlsError::InvalidCertificate(error)) => {
            certificate(error, endpoint, reach)
        }
        Reason::Connect(error) | Reason::Transfer(error) => match tls_error(error) {
            Some(TlsError::AlertReceived(alert)) => client_certificate(*alert, endpoint, reach),
            Some(TlsError::InvalidMessage(_)) => plain_http(endpoint, reach),
            Some(_) => None,
            None if !matches!(reason, Reason::Connect(_)) || error.is_timeout() => None,
            None => match io_error(error)? {
                ErrorKind::ConnectionRefused => Some(format!(
                    "check that {} is the right host and port{}",
                    endpoint.reference.registry(),
                    plain_http(endpoint, reach)
                        .map(|plain| format!("; {plain}"))
                        .unwrap_or_default()
                )),
                ErrorKind::UnexpectedEof
                | ErrorKind::ConnectionReset
                | ErrorKind::BrokenPipe
                | ErrorKind::ConnectionAborted => plain_http(endpoint, reach),
                _ => None,
            },
        },
        _ => None,
    }
}

fn certificate(error: &CertificateError, endpoint: &Endpoint, reach: &Reach) -> Option<String> {
    let registry = endpoint.reference.registry();
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let kind = if host.parse::<std::net::IpAddr>().is_ok() {
        "IP"
    } else {
        "DNS"
    };
    let name = format!("subjectAltName={kind}:{host}");
    let folder = reach.certificates_folder(&endpoint.reference)?;
    let folder = folder.display();
    let insecure = insecure(endpoint, reach)?;
    let other = |error: &rustls::OtherError, text: &str| format!("{error:?}").contains(text);
    Some(match error {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            format!("check the clock of this host; {registry} may need a new certificate")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!(
                "use a name that is in the certificate of {registry}, or make it anew with `{name}`"
            )
        }
        CertificateError::Other(error) if other(error, "UnsupportedCertVersion") => format!(
            "make the certificate of {registry} anew in version 3: openssl x509 -req … -extfile FILE, with `{name}` in FILE"
        ),
        CertificateError::Other(error) if other(error, "CaUsedAsEndEntity") => {
            format!(
                "copy the certificate of {registry} to {folder}/{host}.crt; or do not check it: {insecure}"
            )
        }
        CertificateError::UnknownIssuer => format!(
            "copy the certificate of the authority of {registry} to {folder}/ca.crt; or do not check it: {insecure}"
        ),
        _ => format!("make the certificate of {registry} anew; or do not check it: {insecure}"),
    })
}

fn client_certificate(
    alert: AlertDescription,
    endpoint: &Endpoint,
    reach: &Reach,
) -> Option<String> {
    let of_client = matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::HandshakeFailure
    );
    if !of_client {
        return None;
    }
    let registry = endpoint.reference.registry();
    let certificates = reach.certificates(&endpoint.reference).ok()?;
    Some(match certificates.clients.first() {
        Some(pair) => format!(
            "check that {registry} accepts the certificate {}",
            pair.certificate.file.display()
        ),
        None => {
            let folder = reach.certificates_folder(&endpoint.reference)?;
            let folder = folder.display();
            format!(
                "{registry} may ask for a client certificate: put it at {folder}/client.cert, and its key at {folder}/client.key"
            )
        }
    })
}

/// How plain http is allowed, where it is not.
fn plain_http(endpoint: &Endpoint, reach: &Reach) -> Option<String> {
    if endpoint.insecure || endpoint.reference.is_loopback() {
        return None;
    }
    Some(format!(
        "if {} speaks plain http, {}",
        endpoint.reference.registry(),
        insecure(endpoint, reach)?
    ))
}

/// The line that marks a registry as insecure, and its place.
fn insecure(endpoint: &Endpoint, reach: &Reach) -> Option<String> {
    if let Some(at) = &endpoint.at {
        return Some(format!(
            "set `insecure = true` in the table of {}, line {}",
            at.file.display(),
            at.line
        ));
    }
    Some(format!(
        "add to {} the lines `[[registry]]`, `location = \"{}\"`, `insecure = true`",
        reach.registries_file()?.display(),
        endpoint.reference.registry()
    ))
}
