//! A registry of a few routes, in the test's own process. It answers what it is told to, true or not, and writes down what
//! it was asked. Before another registry it is that one's front: a token service, a proxy, a mirror.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::images::digest;

/// What a route answers.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers beside `Content-Length`.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// `Content-Length`, when it is to be another than the body's; the connection is closed after the body.
    pub announced: Option<u64>,
    /// No `Content-Length` at all: the body ends with the connection. Sent this many times.
    pub repeated: Option<usize>,
    /// The body comes a byte at a time, with this pause after each.
    pub trickle: Option<Duration>,
    /// The head never ends: this header is sent until the client goes away.
    pub endless: Option<(String, String)>,
    /// No answer at all: the connection is closed.
    pub reset: bool,
    /// No answer at all: the connection stays open until the client closes it.
    pub silent: bool,
}

impl Answer {
    /// Status 200 and a body.
    #[must_use]
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 200,
            body: body.into(),
            ..Self::default()
        }
    }

    /// A status without a body.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    /// No answer: the connection is closed.
    #[must_use]
    pub fn reset(mut self) -> Self {
        self.reset = true;
        self
    }

    /// No answer: the connection stays open.
    #[must_use]
    pub fn silent() -> Self {
        Self {
            silent: true,
            ..Self::default()
        }
    }

    /// With another header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// One request, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// `GET`, ….
    pub method: String,
    /// With the query; of a proxy the whole URL.
    pub path: String,
    /// `Authorization`.
    pub authorization: Option<String>,
    /// `Proxy-Authorization`.
    pub proxy_authorization: Option<String>,
    /// `Range`.
    pub range: Option<String>,
    /// `Content-Range`.
    pub content_range: Option<String>,
    /// The body, as text.
    pub body: String,
}

#[derive(Debug, Default)]
struct State {
    routes: Mutex<BTreeMap<String, Answer>>,
    /// What routes answer from their second request on.
    later: Mutex<BTreeMap<String, Answer>>,
    /// What a route answers before it answers what it always answers.
    first: Mutex<BTreeMap<String, Vec<Answer>>>,
    asked: Mutex<Vec<Asked>>,
    /// The `Authorization` that paths under `/v2/` need, and the challenge of those who have not got it.
    needed: Mutex<Option<(String, Answer)>>,
    /// What a path answers to everybody, whatever it needs.
    public: Mutex<BTreeMap<String, Answer>>,
    /// The registry that is asked for what no route has.
    behind: Mutex<Option<String>>,
    stopped: AtomicBool,
}

/// What a registry that speaks TLS answers a plain request with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plain {
    /// An alert, as TLS libraries do.
    Alert,
    /// The connection is closed.
    Close,
    /// The connection is reset.
    Reset,
    /// These bytes, then the connection is closed.
    Text(&'static str),
    /// Nothing: the connection stays open.
    Silent,
}

impl Plain {
    fn answer(self, mut stream: TcpStream) -> Option<()> {
        match self {
            Self::Close | Self::Alert => {}
            // What was not read when the socket is closed is answered with a reset (tcp(7)).
            Self::Reset => return stream.set_nonblocking(true).ok(),
            Self::Text(text) => {
                let mut head = [0; 1024];
                let _ = stream.read(&mut head);
                stream.write_all(text.as_bytes()).ok()?;
            }
            Self::Silent => {
                let _ = stream.read_to_end(&mut Vec::new());
            }
        }
        let mut head = [0; 1024];
        let _ = stream.set_nonblocking(true);
        let _ = stream.read(&mut head);
        stream.shutdown(Shutdown::Both).ok()
    }
}

/// Takes every client certificate, whatever its version.
#[derive(Debug)]
struct AnyClient(Arc<rustls::crypto::CryptoProvider>);

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A running registry; it stops when the value is dropped.
#[derive(Debug)]
pub struct Registry {
    /// Where it listens, on loopback.
    pub address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl Default for Registry {
    fn default() -> Self {
        Self::start()
    }
}

impl Registry {
    /// Starts one that speaks plain HTTP.
    #[must_use]
    pub fn start() -> Self {
        Self::listen(None)
    }

    /// Starts one that speaks TLS with this certificate and its key, both PEM files.
    ///
    /// # Panics
    ///
    /// When they are none.
    #[must_use]
    pub fn start_secure(certificate: &Path, key: &Path) -> Self {
        Self::start_secure_saying(certificate, key, Plain::Alert)
    }

    /// As [`start_secure`](Self::start_secure), with an answer to plain requests.
    ///
    /// # Panics
    ///
    /// When certificate and key are none.
    #[must_use]
    pub fn start_secure_saying(certificate: &Path, key: &Path, plain: Plain) -> Self {
        Self::listen(Some((server_config(certificate, key, false), plain)))
    }

    /// As [`start_secure`](Self::start_secure), for clients with a certificate only.
    ///
    /// # Panics
    ///
    /// When certificate and key are none.
    #[must_use]
    pub fn start_mutual(certificate: &Path, key: &Path) -> Self {
        Self::listen(Some((server_config(certificate, key, true), Plain::Alert)))
    }

    fn listen(tls: Option<(Arc<ServerConfig>, Plain)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (stream, state, tls) = (stream.unwrap(), Arc::clone(&shared), tls.clone());
                // Ends when the client closes the connection; a client that goes away in the middle is no failure.
                std::thread::spawn(move || {
                    let socket = stream.try_clone().ok()?;
                    match tls {
                        None => connection(stream, &socket, &state),
                        Some((config, plain)) => {
                            let mut first = [0];
                            if plain != Plain::Alert
                                && stream.peek(&mut first).ok()? == 1
                                && first != [0x16]
                            {
                                return plain.answer(stream);
                            }
                            let session = ServerConnection::new(config).ok()?;
                            connection(StreamOwned::new(session, stream), &socket, &state)
                        }
                    }
                });
            }
        });
        Self {
            address,
            state,
            thread: Some(thread),
        }
    }

    /// Passes on what no route answers to the registry at this address, with its headers, and what comes back.
    ///
    /// # Panics
    ///
    /// Never: no thread panics while it holds the state.
    pub fn stand_before(&self, address: &str) {
        *self.state.behind.lock().unwrap() = Some(address.to_owned());
    }

    /// Lets `METHOD path` (without query) answer something. GET answers HEAD too.
    pub fn route(&self, method: &str, path: &str, answer: Answer) {
        self.state
            .routes
            .lock()
            .unwrap()
            .insert(format!("{method} {path}"), answer);
    }

    /// Lets `METHOD path` answer something else from its second request on.
    pub fn then(&self, method: &str, path: &str, answer: Answer) {
        self.state
            .later
            .lock()
            .unwrap()
            .insert(format!("{method} {path}"), answer);
    }

    /// Lets `METHOD path` answer these first, one after the other, and then what its route says.
    pub fn first(&self, method: &str, path: &str, answers: Vec<Answer>) {
        self.state
            .first
            .lock()
            .unwrap()
            .insert(format!("{method} {path}"), answers);
    }

    /// Lets `/v2/` need an `Authorization`; without it the answer is this challenge.
    pub fn need(&self, authorization: &str, challenge: Answer) {
        *self.state.needed.lock().unwrap() = Some((authorization.to_owned(), challenge));
    }

    /// Lets a path answer this to everybody, before anything else is looked at.
    pub fn first_of_all(&self, path: &str, answer: Answer) {
        self.state
            .public
            .lock()
            .unwrap()
            .insert(path.to_owned(), answer);
    }

    /// Everything that was asked since the last time, in order.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.asked.lock().unwrap())
    }

    /// The same as `METHOD path`.
    pub fn asked_lines(&self) -> Vec<String> {
        self.asked()
            .iter()
            .map(|asked| format!("{} {}", asked.method, asked.path))
            .collect()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for a connection.
        let _ = TcpStream::connect(self.address);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn server_config(certificate: &Path, key: &Path, mutual: bool) -> Arc<ServerConfig> {
    let certificate = CertificateDer::from_pem_file(certificate).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions of TLS");
    let builder = if mutual {
        builder.with_client_cert_verifier(Arc::new(AnyClient(provider)))
    } else {
        builder.with_no_client_auth()
    };
    // Unchecked: a certificate of version 1 is one of the cases.
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).expect("a key");
    let certified = rustls::sign::CertifiedKey::new(vec![certificate], key);
    let resolver = rustls::sign::SingleCertAndKey::from(certified);
    Arc::new(builder.with_cert_resolver(Arc::new(resolver)))
}

fn connection(stream: impl Read + Write, socket: &TcpStream, state: &State) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let mut words = line.split_whitespace();
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers: BTreeMap<String, String> = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            // A header that comes several times is one with a list (RFC 9110, 5.3).
            headers
                .entry(name.to_ascii_lowercase())
                .and_modify(|values| *values = format!("{values}, {value}"))
                .or_insert_with(|| value.to_owned());
        }
        let length = headers
            .get("content-length")
            .and_then(|length| length.parse().ok())
            .unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let authorization = headers.get("authorization").cloned();
        let asked = Asked {
            method: method.clone(),
            path: path.clone(),
            authorization: authorization.clone(),
            proxy_authorization: headers.get("proxy-authorization").cloned(),
            range: headers.get("range").cloned(),
            content_range: headers.get("content-range").cloned(),
            body: String::from_utf8_lossy(&body).into_owned(),
        };
        state.asked.lock().unwrap().push(asked);

        let public = state.public.lock().unwrap().get(&path).cloned();
        let answer = public
            .or_else(|| refused(state, &path, authorization.as_deref()))
            .unwrap_or_else(|| answer(state, &method, &path, &headers, body));
        if answer.reset {
            return socket.shutdown(Shutdown::Both).ok();
        }
        if answer.silent {
            let _ = reader.read_to_end(&mut Vec::new());
            return None;
        }
        send(reader.get_mut(), &method, &answer)?;
        if answer.announced.is_some() || answer.repeated.is_some() {
            return socket.shutdown(Shutdown::Both).ok();
        }
    }
}

fn refused(state: &State, path: &str, authorization: Option<&str>) -> Option<Answer> {
    let needed = state.needed.lock().unwrap();
    let (wanted, challenge) = needed.as_ref()?;
    (path.starts_with("/v2/") && authorization != Some(wanted)).then(|| challenge.clone())
}

fn answer(
    state: &State,
    method: &str,
    path: &str,
    headers: &BTreeMap<String, String>,
    body: Vec<u8>,
) -> Answer {
    let (bare, query) = path.split_once('?').unwrap_or((path, ""));
    if let Some(answers) = state
        .first
        .lock()
        .unwrap()
        .get_mut(&format!("{method} {bare}"))
        && !answers.is_empty()
    {
        return answers.remove(0);
    }
    let mut routes = state.routes.lock().unwrap();
    let route = |method: &str| routes.get(&format!("{method} {bare}")).cloned();
    if let Some(answer) =
        route(method).or_else(|| if method == "HEAD" { route("GET") } else { None })
    {
        let name = format!("{method} {bare}");
        if let Some(later) = state.later.lock().unwrap().remove(&name) {
            routes.insert(name, later);
        }
        return answer;
    }
    let behind = state.behind.lock().unwrap().clone();
    if let Some(behind) = behind {
        drop(routes);
        let answer = passed_on(&behind, method, path, headers, &body);
        return answer.unwrap_or_else(|| Answer::status(502));
    }
    let found = digest(&body);
    let created = Answer::status(201).header("Docker-Content-Digest", found.clone());
    match method {
        // The address of an upload is relative and has a query of its own, as some registries do it.
        "POST" if bare.ends_with("/blobs/uploads/") => {
            Answer::status(202).header("Location", format!("{bare}one?state=a%2Fb"))
        }
        "PUT" if bare.contains("/blobs/uploads/") => {
            assert_eq!(
                query,
                format!("state=a%2Fb&digest={}", found.replace(':', "%3A"))
            );
            let repository = bare.split("/blobs/uploads/").next().unwrap();
            routes.insert(format!("GET {repository}/blobs/{found}"), Answer::ok(body));
            created
        }
        "PUT" if bare.contains("/manifests/") => {
            let media_type = headers["content-type"].clone();
            routes.insert(
                format!("GET {bare}"),
                Answer::ok(body).header("Content-Type", media_type),
            );
            created
        }
        _ => Answer::status(404).header("Content-Type", "application/json"),
    }
}

/// What another registry answers to the same request. A proxy's request has a URL where that one takes a path.
fn passed_on(
    address: &str,
    method: &str,
    path: &str,
    headers: &BTreeMap<String, String>,
    body: &[u8],
) -> Option<Answer> {
    let path = match path.split_once("://") {
        Some((_, rest)) => &rest[rest.find('/')?..],
        None => path,
    };
    let mut stream = TcpStream::connect(address).ok()?;
    // HTTP/1.0: the answer comes whole and the connection ends.
    let mut head = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\n");
    for (name, value) in headers {
        if !["host", "connection", "authorization", "proxy-authorization"].contains(&name.as_str())
        {
            head += &format!("{name}: {value}\r\n");
        }
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut answer = Answer::status(line.split(' ').nth(1)?.parse().ok()?);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(": ") {
            None => break,
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                answer.announced = (method == "HEAD").then(|| value.parse().ok()).flatten();
            }
            Some((name, _)) if name.eq_ignore_ascii_case("connection") => {}
            Some((name, value)) => answer = answer.header(name, value),
        }
    }
    reader.read_to_end(&mut answer.body).ok()?;
    Some(answer)
}

fn send(stream: &mut impl Write, method: &str, answer: &Answer) -> Option<()> {
    let mut head = format!("HTTP/1.1 {} x\r\n", answer.status);
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if let Some((name, value)) = &answer.endless {
        let line = format!("{name}: {value}\r\n").repeat(64);
        stream.write_all(head.as_bytes()).ok()?;
        loop {
            stream.write_all(line.as_bytes()).ok()?;
        }
    }
    if answer.repeated.is_none() {
        head += &format!(
            "Content-Length: {}\r\n",
            answer.announced.unwrap_or(answer.body.len() as u64)
        );
    }
    head += "\r\n";
    stream.write_all(head.as_bytes()).ok()?;
    if method != "HEAD" {
        if let Some(pause) = answer.trickle {
            for byte in &answer.body {
                stream
                    .write_all(&[*byte])
                    .and_then(|()| stream.flush())
                    .ok()?;
                std::thread::sleep(pause);
            }
            return Some(());
        }
        for _ in 0..answer.repeated.unwrap_or(1) {
            stream.write_all(&answer.body).ok()?;
        }
    }
    stream.flush().ok()
}
