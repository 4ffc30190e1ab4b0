//! Requests to a daemon, each on a connection of its own: for BuildKit, and for bollard where the daemon speaks TLS.
//!
//! bollard's own TLS wants the system's authorities to be readable one and all, and brings a second way to find
//! certificates.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use bytecode_image::host::open_regular;
use hyper::body::{Body, Incoming};
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::address::Address;

/// How long a daemon may take to begin an answer: bollard's own default.
const PATIENCE: Duration = Duration::from_secs(120);

/// Largest file of certificates that is read, in bytes: 1 MiB.
const MAX_PEM_BYTES: u64 = 1 << 20;

/// A way to a daemon.
#[derive(Clone)]
pub(super) enum Transport {
    /// Path of a unix socket.
    Unix(String),
    /// `HOST:PORT`.
    Http(String),
    /// The same, with TLS.
    Https {
        host: String,
        tls: TlsConnector,
        name: ServerName<'static>,
    },
}

impl Transport {
    /// Reads the certificates, where the address wants any; connects to nothing.
    pub(super) fn to(address: &Address) -> io::Result<Self> {
        Ok(match address {
            Address::Unix(path) => Self::Unix(path.clone()),
            Address::Http(host) => Self::Http(host.clone()),
            Address::Https { host, certificates } => {
                // What is left of the last colon, which stands before the port.
                let name = host
                    .rsplit_once(':')
                    .map_or(host.as_str(), |(name, _)| name);
                let name = name.trim_start_matches('[').trim_end_matches(']');
                let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
                Self::Https {
                    host: host.clone(),
                    tls: TlsConnector::from(Arc::new(client(certificates)?)),
                    name,
                }
            }
        })
    }

    /// bollard's client of this daemon.
    pub(super) fn docker(&self) -> Result<Docker, Error> {
        let seconds = PATIENCE.as_secs();
        match self {
            Self::Unix(path) => Docker::connect_with_unix(path, seconds, API_DEFAULT_VERSION),
            Self::Http(host) => Docker::connect_with_http(host, seconds, API_DEFAULT_VERSION),
            Self::Https { host, .. } => {
                let transport = self.clone();
                let send = move |request: BollardRequest| {
                    let transport = transport.clone();
                    async move { transport.send(request).await }
                };
                let address = Some(format!("https://{host}"));
                Docker::connect_with_custom_transport(send, address, seconds, API_DEFAULT_VERSION)
            }
        }
    }

    /// Sends a request; gives the answer as soon as it begins.
    pub(super) async fn send<B>(&self, request: Request<B>) -> Result<Response<Incoming>, Error>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (mut head, body) = request.into_parts();
        let host = match self {
            Self::Unix(_) => "docker",
            Self::Http(host) | Self::Https { host, .. } => host,
        };
        let value = HeaderValue::from_str(host).map_err(io::Error::other)?;
        head.headers.insert(HOST, value);
        // bollard's addresses are whole; a server is asked for the path.
        if let Some(path) = head.uri.path_and_query() {
            head.uri = Uri::from(path.clone());
        }
        let request = Request::from_parts(head, body);
        let sent = tokio::time::timeout(PATIENCE, self.connect_and_send(request));
        sent.await.map_err(|_| Error::RequestTimeoutError)?
    }

    async fn connect_and_send<B>(&self, request: Request<B>) -> Result<Response<Incoming>, Error>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match self {
            Self::Unix(path) => exchange(UnixStream::connect(path).await?, request).await,
            Self::Http(host) => exchange(TcpStream::connect(host).await?, request).await,
            Self::Https { host, tls, name } => {
                let stream = TcpStream::connect(host).await?;
                exchange(tls.connect(name.clone(), stream).await?, request).await
            }
        }
    }
}

async fn exchange<B>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<B>,
) -> Result<Response<Incoming>, Error>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the answer, or with the runtime. Its error is the answer's too.
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

/// What docker's command line does with a folder of certificates: the authority of the daemon's, and our own.
fn client(folder: &Path) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(&folder.join("ca.pem"))? {
        roots.add(authority).map_err(io::Error::other)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots);
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    if !certificate.exists() && !key.exists() {
        return Ok(config.with_no_client_auth());
    }
    let own = certificates(&certificate)?;
    let pem = read(&key)?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| named(&key, error))?;
    config
        .with_client_auth_cert(own, key)
        .map_err(|error| named(&certificate, error))
}

fn certificates(file: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let pem = read(file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(named(file, "no certificate in it")),
        Ok(found) => Ok(found),
        Err(error) => Err(named(file, error)),
    }
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(file)
        .and_then(|open| open.take(MAX_PEM_BYTES).read_to_end(&mut bytes))
        .map_err(|error| named(file, error))?;
    Ok(bytes)
}

/// An error that says which file it is about.
fn named(file: &Path, error: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", file.display()))
}
