//! BuildKit in a docker daemon, by `POST /build?version=2` of its API.
//!
//! Not through bollard: its BuildKit support wants a gRPC session for every build, which only secrets and private base
//! images need, and a bytecode image has neither. Without that feature bollard cannot read BuildKit's messages.

use bollard::errors::Error;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::{Request, StatusCode};
use serde::Deserialize;

use super::trace;
use super::transport::Transport;

/// Longest message of a daemon, in bytes: 4 MiB. The longest are traces of a step's whole output, cut by BuildKit at 2 MiB.
const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// What a build says, one message after the other.
pub(super) struct Messages {
    body: Incoming,
    /// What came and ends in no whole message yet.
    rest: BytesMut,
}

/// One message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// Lines about its steps.
    Output(Vec<String>),
    /// Id of the finished image.
    Image(String),
    /// Why there will be none.
    Failed(String),
}

/// A line of the answer.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    id: String,
    aux: Option<Aux>,
    error: Option<String>,
    stream: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Aux {
    /// A `moby.buildkit.v1.StatusResponse`, in base64.
    Trace(String),
    Image {
        #[serde(rename = "ID")]
        id: String,
    },
    Other(serde::de::IgnoredAny),
}

/// The body of an answer that is no success.
#[derive(Deserialize)]
struct Refusal {
    message: String,
}

impl Messages {
    /// Starts a build with these query parameters.
    pub(super) async fn start(
        transport: &Transport,
        parameters: &[(&str, &str)],
        context: Bytes,
    ) -> Result<Self, Error> {
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("version", "2")
            .extend_pairs(parameters)
            .finish();
        let request = Request::post(format!("/build?{query}"))
            .header(CONTENT_TYPE, "application/x-tar")
            .body(Full::new(context))?;
        let response = transport.send(request).await?;
        let status = response.status();
        let mut messages = Self {
            body: response.into_body(),
            rest: BytesMut::new(),
        };
        if status == StatusCode::OK {
            return Ok(messages);
        }
        while messages.more().await? {}
        let message = match serde_json::from_slice(&messages.rest) {
            Ok(Refusal { message }) => message,
            Err(_) => String::from_utf8_lossy(&messages.rest).into_owned(),
        };
        Err(Error::DockerResponseServerError {
            status_code: status.as_u16(),
            message,
        })
    }

    /// The next message; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Message>, Error> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line = self.rest.split_to(end + 1);
                if let Some(message) = read(&line)? {
                    return Ok(Some(message));
                }
            } else if !self.more().await? {
                let last = self.rest.split();
                return read(&last);
            }
        }
    }

    /// Waits for more; false at the end.
    async fn more(&mut self) -> Result<bool, Error> {
        let Some(frame) = self.body.frame().await else {
            return Ok(false);
        };
        if let Ok(data) = frame?.into_data() {
            self.rest.extend_from_slice(&data);
        }
        if self.rest.len() > MAX_MESSAGE_BYTES {
            let error = std::io::Error::other("a message of the daemon is longer than 4 MiB");
            return Err(error.into());
        }
        Ok(true)
    }
}

fn read(line: &[u8]) -> Result<Option<Message>, Error> {
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    let line: Line = serde_json::from_slice(line)?;
    if let Some(error) = line.error {
        return Ok(Some(Message::Failed(error)));
    }
    Ok(match (line.id.as_str(), line.aux) {
        ("moby.buildkit.trace", Some(Aux::Trace(text))) => {
            Some(Message::Output(trace::lines(&text)))
        }
        (_, Some(Aux::Image { id })) => Some(Message::Image(id)),
        _ => line.stream.map(|text| Message::Output(vec![text])),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_answer() {
        let table: &[(&str, Option<Message>)] = &[
            (
                r#"{"id":"moby.image.id","aux":{"ID":"sha256:ab"}}"#,
                Some(Message::Image("sha256:ab".to_owned())),
            ),
            (
                r#"{"errorDetail":{"message":"no"},"error":"no"}"#,
                Some(Message::Failed("no".to_owned())),
            ),
            (
                r#"{"id":"moby.buildkit.trace","aux":"CgUaA3Rhcg=="}"#,
                Some(Message::Output(vec!["tar".to_owned()])),
            ),
            (
                r#"{"stream":"x\n"}"#,
                Some(Message::Output(vec!["x\n".to_owned()])),
            ),
            (r#"{"id":"containerimage.digest","aux":[1]}"#, None),
            ("\n", None),
        ];
        for (line, expected) in table {
            assert_eq!(read(line.as_bytes()).unwrap(), *expected, "{line}");
        }
        assert!(read(b"<html>").is_err());
    }
}
