//! What a client shows a registry of who it is: the answer to a 401, and what was accepted before.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use reqwest::header::{HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, Response, StatusCode};

use super::Client;
use crate::host::auth_file::Login;
use crate::limits::MAX_ANSWER_BYTES;
use crate::reference::Reference;
use crate::registry::auth::{self, Access, Bearer, Challenge};
use crate::registry::http::{Request, body, origin};
use crate::registry::reach::Known;
use crate::registry::{Action, Reason, RegistryError};

/// What a registry accepted.
#[derive(Clone)]
pub(super) struct Granted {
    /// The `Authorization` header.
    authorization: HeaderValue,
    /// The challenge that it answers, where it is a token.
    bearer: Option<Bearer>,
}

impl Client {
    /// Sends a request; answers a 401 once, and shows who we are before a 403 or 404 to a stranger is believed.
    pub(super) async fn authorized(
        &self,
        action: &Action,
        reference: &Reference,
        access: Access,
        request: &Request,
        attempt: &mut u32,
    ) -> Result<Response, RegistryError> {
        let key = (reference.repository().to_owned(), access);
        // An upload may lead to another host: what the registry accepted is not for that one.
        let origin = self.base().url.origin();
        let ours = request.url.origin() == origin;
        let accepted = if ours {
            self.granted(action, &key).await?
        } else {
            None
        };
        let accepted = accepted.map(|granted| granted.authorization);
        let mut response = self
            .send(action, request, accepted.as_ref(), attempt)
            .await?;
        // Only the registry's own challenge is answered, never one of a host that it redirected to.
        if response.status() == StatusCode::UNAUTHORIZED
            && ours
            && response.url().origin() == origin
        {
            let granted = self
                .answer(action, &response, &key, accepted.as_ref())
                .await?;
            response = self
                .send(action, request, Some(&granted.authorization), attempt)
                .await?;
            if response.status() != StatusCode::UNAUTHORIZED {
                self.lock().insert(key, granted);
            }
        } else if matches!(
            response.status(),
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND
        ) && ours
            && accepted.is_none()
            && let Some(granted) = self.introduce(&response, &key).await
        {
            let known = self
                .send(action, request, Some(&granted.authorization), attempt)
                .await?;
            if known.status() == StatusCode::UNAUTHORIZED {
                self.is_stranger.store(true, Ordering::Relaxed);
            } else {
                self.lock().insert(key, granted);
                response = known;
            }
        }
        self.successful(action, response).await
    }

    /// Who we are, for a registry that says to a stranger that something is not there, or forbidden, instead of asking.
    /// `None` where nothing is known that it could be shown.
    async fn introduce(&self, response: &Response, key: &(String, Access)) -> Option<Granted> {
        if self.is_stranger.load(Ordering::Relaxed) {
            return None;
        }
        let granted = self.introduced(response, key).await;
        let granted = granted.unwrap_or_else(|error| {
            log::debug!("{error}: {}", error.reason);
            None
        });
        if granted.is_none() {
            self.is_stranger.store(true, Ordering::Relaxed);
        }
        granted
    }

    async fn introduced(
        &self,
        response: &Response,
        key: &(String, Access),
    ) -> Result<Option<Granted>, RegistryError> {
        let action = Action::Prepare;
        let login = self
            .login()
            .await
            .map_err(|reason| self.error(&action, reason))?;
        let Some(known) = login else {
            return Ok(None);
        };
        if response.headers().contains_key(WWW_AUTHENTICATE) {
            return self.answer(&action, response, key, None).await.map(Some);
        }
        let base = Request::new(Method::GET, self.base().url.clone());
        let asked = self.send(&action, &base, None, &mut 1).await?;
        if asked.status() == StatusCode::UNAUTHORIZED {
            return self.answer(&action, &asked, key, None).await.map(Some);
        }
        // It asks nobody. A password may be shown all the same; an identity token is for token services only.
        Ok(match &known.login {
            Login::Password(credentials) => Some(Granted {
                authorization: credentials.basic(),
                bearer: None,
            }),
            Login::IdentityToken(_) => None,
        })
    }

    /// What is shown without being asked for it. A mount is shown what a push was, where that is no token; a token for both
    /// repositories is asked for before, as some registries answer one for a push alone like a blob that is not there.
    async fn granted(
        &self,
        action: &Action,
        key: &(String, Access),
    ) -> Result<Option<Granted>, RegistryError> {
        let known = self.lock().get(key).cloned();
        let (None, Access::Mount(_)) = (&known, &key.1) else {
            return Ok(known);
        };
        let push = self.lock().get(&(key.0.clone(), Access::Push)).cloned();
        let Some(bearer) = push.as_ref().and_then(|push| push.bearer.clone()) else {
            return Ok(push);
        };
        let _asking = self.asking.lock().await;
        let known = self.lock().get(key).cloned();
        if known.is_some() {
            return Ok(known);
        }
        let granted = self.token(action, bearer, key).await?;
        self.lock().insert(key.clone(), granted.clone());
        Ok(Some(granted))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, Access), Granted>> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who we are to this registry: looked up once, when it asks. A helper may take its time, and the end of the pull must
    /// not wait for it, so another thread does.
    async fn login(&self) -> Result<Option<&Known>, Reason> {
        let found = self.login.get_or_try_init(|| async {
            let reach = Arc::clone(&self.reach);
            let (endpoint, registries) = (self.endpoint.clone(), Arc::clone(&self.registries));
            let found = tokio::task::spawn_blocking(move || reach.login(&endpoint, &registries));
            Ok::<_, Reason>(found.await.map_err(Reason::Login)??)
        });
        Ok(found.await?.as_ref())
    }

    pub(super) fn unauthorized(&self) -> Reason {
        let known = self.login.get().and_then(Option::as_ref);
        Reason::Unauthorized {
            with: known.map(|known| known.source.clone()),
        }
    }

    /// What a challenge asks for.
    async fn answer(
        &self,
        action: &Action,
        response: &Response,
        key: &(String, Access),
        tried: Option<&HeaderValue>,
    ) -> Result<Granted, RegistryError> {
        let challenges: Vec<_> = response
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        let challenges: Vec<_> = challenges.iter().map(AsRef::as_ref).collect();
        let failed = |reason| self.error(action, reason);
        let bearer = match Challenge::read(&challenges).map_err(failed)? {
            Challenge::Bearer(bearer) => bearer,
            Challenge::Basic => {
                let login = self.login().await.map_err(failed)?;
                // An identity token is for token services only.
                let Some(Login::Password(credentials)) = login.map(|known| &known.login) else {
                    return Err(failed(self.unauthorized()));
                };
                let authorization = credentials.basic();
                // The same user name and password will not do better the second time.
                if tried == Some(&authorization) {
                    return Err(failed(self.unauthorized()));
                }
                return Ok(Granted {
                    authorization,
                    bearer: None,
                });
            }
        };
        self.token(action, bearer, key).await
    }

    /// A token of the service that a challenge named.
    async fn token(
        &self,
        action: &Action,
        bearer: Bearer,
        (repository, access): &(String, Access),
    ) -> Result<Granted, RegistryError> {
        let failed = |reason| self.error(action, reason);
        let login = self.login().await.map_err(failed)?;
        let login = login.map(|known| &known.login);
        let base = self.base().url.clone();
        let (request, basic) = bearer
            .request(&base, repository, access, login)
            .map_err(failed)?;
        let action = Action::Token(origin(&request.url));
        let response = self.send(&action, &request, basic.as_ref(), &mut 1).await?;
        let response = self.successful(&action, response).await?;
        let authorization = body(response, MAX_ANSWER_BYTES)
            .await
            .and_then(|bytes| auth::bearer(&bytes))
            .map_err(|reason| self.error(&action, reason))?;
        Ok(Granted {
            authorization,
            bearer: Some(bearer),
        })
    }
}
