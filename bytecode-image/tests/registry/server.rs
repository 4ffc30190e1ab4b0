//! A registry of a few routes. It answers what it is told to, true or not, and writes down what it was asked.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use bytecode_image::digest::Digest;

/// What a route answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// `Content-Length`, when it is to be another than the body's; the connection is closed after the body.
    pub(crate) announced: Option<u64>,
    /// No `Content-Length` at all: the body ends with the connection. Sent this many times.
    pub(crate) repeated: Option<usize>,
    /// No answer at all: the connection is closed.
    pub(crate) reset: bool,
    /// No answer at all: the connection stays open until the client closes it.
    pub(crate) silent: bool,
}

impl Answer {
    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 200,
            body: body.into(),
            ..Self::default()
        }
    }

    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub(crate) fn reset(mut self) -> Self {
        self.reset = true;
        self
    }

    pub(crate) fn silent() -> Self {
        Self {
            silent: true,
            ..Self::default()
        }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// One request, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) range: Option<String>,
    pub(crate) body: String,
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
    stopped: AtomicBool,
}

/// A running registry; it stops when the value is dropped.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl Registry {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (stream, state) = (stream.unwrap(), Arc::clone(&shared));
                // Ends when the client closes the connection; a client that goes away in the middle is no failure.
                std::thread::spawn(move || connection(&stream, &state));
            }
        });
        Self {
            address,
            state,
            thread: Some(thread),
        }
    }

    /// Lets `METHOD path` (without query) answer something. GET answers HEAD too.
    pub(crate) fn route(&self, method: &str, path: &str, answer: Answer) {
        self.state
            .routes
            .lock()
            .unwrap()
            .insert(format!("{method} {path}"), answer);
    }

    /// Lets `METHOD path` answer something else from its second request on.
    pub(crate) fn then(&self, method: &str, path: &str, answer: Answer) {
        self.state
            .later
            .lock()
            .unwrap()
            .insert(format!("{method} {path}"), answer);
    }

    /// Lets `METHOD path` answer these first, one after the other, and then what its route says.
    pub(crate) fn first(&self, method: &str, path: &str, answers: Vec<Answer>) {
        self.state
            .first
            .lock()
            .unwrap()
            .insert(format!("{method} {path}"), answers);
    }

    /// Lets `/v2/` need an `Authorization`; without it the answer is this challenge.
    pub(crate) fn need(&self, authorization: &str, challenge: Answer) {
        *self.state.needed.lock().unwrap() = Some((authorization.to_owned(), challenge));
    }

    /// Everything that was asked since the last time, in order.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.asked.lock().unwrap())
    }

    /// The same as `METHOD path`.
    pub(crate) fn asked_lines(&self) -> Vec<String> {
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

fn connection(stream: &TcpStream, state: &State) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let mut words = line.split_whitespace();
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            match line.trim_end().split_once(": ") {
                Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.to_owned()),
                None => break,
            };
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
            range: headers.get("range").cloned(),
            body: String::from_utf8_lossy(&body).into_owned(),
        };
        state.asked.lock().unwrap().push(asked);

        let answer = refused(state, &path, authorization.as_deref())
            .unwrap_or_else(|| answer(state, &method, &path, &headers, body));
        if answer.reset {
            return stream.shutdown(std::net::Shutdown::Both).ok();
        }
        if answer.silent {
            let _ = reader.read_to_end(&mut Vec::new());
            return None;
        }
        send(stream, &method, &answer)?;
        if answer.announced.is_some() || answer.repeated.is_some() {
            return stream.shutdown(std::net::Shutdown::Both).ok();
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
    let found = Digest::of(&body).to_string();
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

fn send(mut stream: &TcpStream, method: &str, answer: &Answer) -> Option<()> {
    let mut head = format!("HTTP/1.1 {} x\r\n", answer.status);
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
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
        for _ in 0..answer.repeated.unwrap_or(1) {
            stream.write_all(&answer.body).ok()?;
        }
    }
    Some(())
}
