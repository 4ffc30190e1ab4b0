//! Who we are to a registry: credentials, the challenge of a 401 answer, and tokens.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Url};

use crate::base64 as go_base64;
use crate::host::auth_file::Login;
use crate::printable::printable;
use crate::redact;
use crate::registry::Reason;
use crate::registry::challenge;
use crate::registry::http::{Request, may_lead};

/// User name and password for one registry. `Debug` never shows the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User name; without a colon, which divides it from the password on the wire (RFC 7617, 2).
    pub username: String,
    /// Password or access token.
    pub password: String,
}

/// Why a text is not credentials. The text itself is never part of the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// Not base64.
    #[error(
        "the registry credentials are not base64: expected the base64 form of USERNAME:PASSWORD"
    )]
    Base64,
    /// Base64 of something else than text.
    #[error(
        "the registry credentials are base64 of bytes that are not UTF-8: expected USERNAME:PASSWORD"
    )]
    Utf8,
    /// No colon, or nothing before it.
    #[error(
        "the registry credentials are base64 of a text without a user name: expected USERNAME:PASSWORD"
    )]
    UserName,
}

impl Credentials {
    /// Reads the base64 form of `USERNAME:PASSWORD`, as `--registry-auth` and the `auth` field of auth files have it.
    ///
    /// # Errors
    ///
    /// When it is not base64 of a UTF-8 text with a user name and a colon.
    pub fn from_base64(text: &str) -> Result<Self, CredentialsError> {
        // Whatever it turns out to be, it was meant as a secret.
        redact::add(text.trim());
        let bytes = go_base64::decode(text.trim()).map_err(|_| CredentialsError::Base64)?;
        let text = String::from_utf8(bytes).map_err(|_| CredentialsError::Utf8)?;
        match text.split_once(':') {
            Some((username, password)) if !username.is_empty() => {
                redact::add_login(username, password);
                Ok(Self {
                    username: username.to_owned(),
                    password: password.to_owned(),
                })
            }
            _ => Err(CredentialsError::UserName),
        }
    }

    /// The `Authorization` header of the Basic scheme (RFC 7617).
    pub(super) fn basic(&self) -> HeaderValue {
        redact::add_login(&self.username, &self.password);
        let text = format!(
            "Basic {}",
            STANDARD.encode(format!("{}:{}", self.username, self.password))
        );
        secret(&text).unwrap_or_else(|_| HeaderValue::from_static("Basic"))
    }
}

/// A header that `Debug` does not show, and no message.
fn secret(text: &str) -> Result<HeaderValue, reqwest::header::InvalidHeaderValue> {
    redact::add(text.split_once(' ').map_or(text, |(_, secret)| secret));
    let mut value = HeaderValue::from_str(text)?;
    value.set_sensitive(true);
    Ok(value)
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// What a request is to be allowed to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Access {
    Pull,
    Push,
    /// Push, with blobs of this repository of the same registry.
    Mount(String),
}

impl Access {
    /// Token scopes (distribution, "Token Scope Documentation"), where the challenge to a HEAD asks for less than the
    /// push that follows it needs.
    fn scopes(&self, repository: &str) -> Vec<String> {
        match self {
            Self::Pull => vec![format!("repository:{repository}:pull")],
            Self::Push => vec![format!("repository:{repository}:pull,push")],
            Self::Mount(from) => vec![
                format!("repository:{repository}:pull,push"),
                format!("repository:{from}:pull"),
            ],
        }
    }
}

/// What a 401 asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer(Bearer),
}

/// A Bearer challenge (distribution, "Token Authentication Specification").
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bearer {
    realm: String,
    service: Option<String>,
    scope: Option<String>,
}

impl Challenge {
    /// Reads `WWW-Authenticate` headers. Bearer is taken before Basic: it shows the password to fewer.
    pub(super) fn read(headers: &[&str]) -> Result<Self, Reason> {
        let mut basic = false;
        for challenge in headers.iter().flat_map(|header| challenge::parse(header)) {
            let parameter = |name| challenge.parameter(name).filter(|value| !value.is_empty());
            if challenge.is("bearer")
                && let Some(realm) = parameter("realm")
            {
                let owned = |name| parameter(name).map(str::to_owned);
                return Ok(Self::Bearer(Bearer {
                    realm: realm.to_owned(),
                    service: owned("service"),
                    scope: owned("scope"),
                }));
            }
            basic |= challenge.is("basic");
        }
        if basic {
            return Ok(Self::Basic);
        }
        let challenge = printable(&headers.join(", "), 200);
        Err(Reason::Challenge { challenge })
    }
}

impl Bearer {
    /// Where the token is asked for. Credentials go there, so it must be as safe as the registry.
    pub(super) fn token_url(
        &self,
        registry: &Url,
        repository: &str,
        access: &Access,
    ) -> Result<Url, Reason> {
        let refused = || Reason::Realm {
            realm: printable(&self.realm, 200),
        };
        let mut url = Url::parse(&self.realm).map_err(|_| refused())?;
        if !may_lead(registry, &url) || !url.username().is_empty() || url.password().is_some() {
            return Err(refused());
        }
        let scopes = self.scopes(repository, access);
        url.query_pairs_mut()
            .extend_pairs(self.service.iter().map(|service| ("service", service)))
            .extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
        Ok(url)
    }

    /// What a token is asked for.
    fn scopes(&self, repository: &str, access: &Access) -> Vec<String> {
        match (&self.scope, access) {
            (Some(scope), Access::Pull) => vec![scope.clone()],
            _ => access.scopes(repository),
        }
    }

    /// The request for a token: GET with a password or nothing, POST with an identity token (distribution, "OAuth2
    /// Token Authentication"). With it the `Authorization` header that it needs.
    pub(super) fn request(
        &self,
        registry: &Url,
        repository: &str,
        access: &Access,
        login: Option<&Login>,
    ) -> Result<(Request, Option<HeaderValue>), Reason> {
        let mut url = self.token_url(registry, repository, access)?;
        match login {
            None => Ok((Request::new(Method::GET, url), None)),
            Some(Login::Password(credentials)) => {
                Ok((Request::new(Method::GET, url), Some(credentials.basic())))
            }
            Some(Login::IdentityToken(token)) => {
                // The realm's own query stays, what was added goes into the body.
                url.set_query(Url::parse(&self.realm).ok().as_ref().and_then(Url::query));
                let mut form = Url::parse("form:").map_err(|_| Reason::Header { name: "realm" })?;
                form.query_pairs_mut()
                    .append_pair("grant_type", "refresh_token")
                    .extend_pairs(self.service.iter().map(|service| ("service", service)))
                    .append_pair("scope", &self.scopes(repository, access).join(" "))
                    .append_pair("client_id", "bpfman")
                    .append_pair("refresh_token", token.expose());
                let body = form.query().unwrap_or_default().to_owned();
                let content_type = HeaderValue::from_static("application/x-www-form-urlencoded");
                let request = Request::new(Method::POST, url)
                    .header(CONTENT_TYPE, content_type)
                    .body(body.into());
                Ok((request, None))
            }
        }
    }
}

/// The `Authorization` header of a token service's answer: `token`, or where that is missing, null or empty,
/// `access_token` (distribution, "Token Authentication Specification"). Go, which most services are written in, reads
/// names in any case.
pub(super) fn bearer(answer: &[u8]) -> Result<HeaderValue, Reason> {
    let members: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(answer).map_err(|_| Reason::Token)?;
    let texts = || {
        members
            .iter()
            .filter_map(|(name, value)| Some((name, value.as_str()?.trim())))
            .filter(|(_, value)| !value.is_empty())
    };
    // A refresh token is a secret, too.
    for (_, value) in texts().filter(|(name, _)| name.to_ascii_lowercase().contains("token")) {
        redact::add(value);
    }
    let token = ["token", "access_token"]
        .into_iter()
        .find_map(|wanted| texts().find(|(name, _)| name.eq_ignore_ascii_case(wanted)))
        .ok_or(Reason::Token)?;
    secret(&format!("Bearer {}", token.1)).map_err(|_| Reason::Header { name: "token" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials() {
        let read = Credentials::from_base64("dXNlcjpwYTpzcw==\n").unwrap();
        assert_eq!(
            (read.username.as_str(), read.password.as_str()),
            ("user", "pa:ss")
        );
        assert_eq!(read.basic().to_str().unwrap(), "Basic dXNlcjpwYTpzcw==");
        assert!(!format!("{read:?} {:?}", read.basic()).contains("pa:ss"));
        let cases = [
            ("", CredentialsError::UserName),
            ("user:pass", CredentialsError::Base64),
            ("dXNlcg==", CredentialsError::UserName),
            ("OnBhc3M=", CredentialsError::UserName),
            ("//79", CredentialsError::Utf8),
        ];
        for (text, expected) in cases {
            assert_eq!(
                Credentials::from_base64(text).unwrap_err(),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn challenges() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            let (service, scope) = (service.map(str::to_owned), scope.map(str::to_owned));
            Some(Challenge::Bearer(Bearer {
                realm: realm.to_owned(),
                service,
                scope,
            }))
        };
        let cases: [(&[&str], Option<Challenge>); 8] = [
            (&[r#"Basic realm="x""#], Some(Challenge::Basic)),
            (&["basic"], Some(Challenge::Basic)),
            (
                &[r#"Bearer realm="https://a/t",service="s",scope="repository:a/b:pull""#],
                bearer("https://a/t", Some("s"), Some("repository:a/b:pull")),
            ),
            (
                &[r#"Basic realm="x", Bearer realm="https://a/t""#],
                bearer("https://a/t", None, None),
            ),
            (
                &[r#"Basic realm="x""#, r#"BEARER Realm="https://a/t""#],
                bearer("https://a/t", None, None),
            ),
            (&[], None),
            (&["Bearer"], None),
            (&["Negotiate"], None),
        ];
        for (headers, expected) in cases {
            assert_eq!(Challenge::read(headers).ok(), expected, "{headers:?}");
        }
    }

    #[test]
    fn token_urls() {
        let bearer = |realm: &str, scope: Option<&str>| Bearer {
            realm: realm.to_owned(),
            service: Some("s v".to_owned()),
            scope: scope.map(str::to_owned),
        };
        let https: Url = "https://reg.example/v2/".parse().unwrap();
        let http: Url = "http://127.0.0.1:5000/v2/".parse().unwrap();
        let url = |bearer: Bearer, base: &Url, access| {
            bearer.token_url(base, "a/b", access).map(String::from)
        };
        assert_eq!(
            url(
                bearer("https://auth.example/t?x=1", Some("q")),
                &https,
                &Access::Pull
            )
            .unwrap(),
            "https://auth.example/t?x=1&service=s+v&scope=q"
        );
        assert_eq!(
            url(
                bearer("https://auth.example/t", Some("q")),
                &https,
                &Access::Push
            )
            .unwrap(),
            "https://auth.example/t?service=s+v&scope=repository%3Aa%2Fb%3Apull%2Cpush"
        );
        let mount = Access::Mount("a/c".to_owned());
        assert_eq!(
            url(bearer("https://auth.example/t", Some("q")), &https, &mount).unwrap(),
            "https://auth.example/t?service=s+v&scope=repository%3Aa%2Fb%3Apull%2Cpush&scope=repository%3Aa%2Fc%3Apull"
        );
        assert!(url(bearer("http://127.0.0.1:9/t", None), &http, &Access::Pull).is_ok());
        for realm in [
            "http://auth.example/t",
            "http://127.0.0.1/t",
            "ftp://a/t",
            "t",
            "https://u:p@auth.example/t",
        ] {
            assert!(
                url(bearer(realm, None), &https, &Access::Pull).is_err(),
                "{realm}"
            );
        }
        assert!(url(bearer("http://auth.example/t", None), &http, &Access::Pull).is_err());
    }

    #[test]
    fn identity_tokens_go_into_the_body() {
        let bearer = Bearer {
            realm: "https://auth.example/t?x=1".to_owned(),
            service: Some("s v".to_owned()),
            scope: None,
        };
        let https: Url = "https://reg.example/v2/".parse().unwrap();
        let login = Login::IdentityToken(crate::host::auth_file::Secret::new("a&b"));
        let request = |access| bearer.request(&https, "a/b", access, Some(&login)).unwrap();
        let mount = Access::Mount("a/c".to_owned());
        let (mount, _) = request(&mount);
        assert_eq!(
            mount.body.unwrap(),
            "grant_type=refresh_token&service=s+v&scope=repository%3Aa%2Fb%3Apull%2Cpush+repository%3Aa%2Fc%3Apull&client_id=bpfman&refresh_token=a%26b"
        );
        let (request, authorization) = request(&Access::Pull);
        assert_eq!(request.method, Method::POST);
        assert_eq!(request.url.as_str(), "https://auth.example/t?x=1");
        assert_eq!(
            request.body.unwrap(),
            "grant_type=refresh_token&service=s+v&scope=repository%3Aa%2Fb%3Apull&client_id=bpfman&refresh_token=a%26b"
        );
        assert_eq!(authorization, None);
    }

    #[test]
    fn tokens() {
        let header = |answer: &str| {
            bearer(answer.as_bytes())
                .ok()
                .and_then(|v| v.to_str().map(str::to_owned).ok())
        };
        assert_eq!(
            header(r#"{"token":"t","expires_in":60}"#).as_deref(),
            Some("Bearer t")
        );
        assert_eq!(
            header(r#"{"access_token":"a"}"#).as_deref(),
            Some("Bearer a")
        );
        for answer in [
            r#"{"token":"","access_token":"a"}"#,
            r#"{"token":null,"access_token":"a"}"#,
            r#"{"token":" ","access_token":"a\n"}"#,
            r#"{"token":1,"access_token":"a"}"#,
            r#"{"access_token":"a","token":""}"#,
            r#"{"access_token":"b","token":"a"}"#,
            r#"{"token":"a","access_token":""}"#,
            r#"{"token":"a","access_token":null,"refresh_token":"r"}"#,
            r#"{"token":"b","token":"a"}"#,
            r#"{"Token":"a"}"#,
            r#"{"ACCESS_TOKEN":"a"}"#,
        ] {
            assert_eq!(header(answer).as_deref(), Some("Bearer a"), "{answer}");
        }
        for answer in [
            "",
            "{}",
            "null",
            "[]",
            r#""a""#,
            r#"{"token":1}"#,
            r#"{"token":""}"#,
            r#"{"token":null,"access_token":""}"#,
            r#"{"token":["a"]}"#,
            r#"{"token":"a\r\nX: y"}"#,
        ] {
            assert_eq!(header(answer), None, "{answer}");
        }
    }
}
