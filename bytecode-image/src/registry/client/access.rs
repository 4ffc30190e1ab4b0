//! What a client shows a registry of who it is: the answer to a 401, and what was accepted before.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use reqwest::header::{HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode};

use super::Client;
use crate::host::auth_file::Login;
use crate::limits::MAX_ANSWER_BYTES;
use crate::reference::Reference;
use crate::registry::auth::{self, Access, Challenge};
use crate::registry::http::{Request, body, origin};
use crate::registry::reach::Known;
use crate::registry::{Action, Reason, RegistryError};

impl Client {
    /// Sends a request; answers a 401 once.
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
            self.lock().get(&key).cloned()
        } else {
            None
        };
        let mut response = self
            .send(action, request, accepted.as_ref(), attempt)
            .await?;
        // Only the registry's own challenge is answered, never one of a host that it redirected to.
        if response.status() == StatusCode::UNAUTHORIZED
            && ours
            && response.url().origin() == origin
        {
            let authorization = self
                .answer(action, &response, &key, accepted.as_ref())
                .await?;
            response = self
                .send(action, request, Some(&authorization), attempt)
                .await?;
            if response.status() != StatusCode::UNAUTHORIZED {
                self.lock().insert(key, authorization);
            }
        }
        self.successful(action, response).await
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, Access), HeaderValue>> {
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

    /// The `Authorization` header that a challenge asks for.
    async fn answer(
        &self,
        action: &Action,
        response: &Response,
        (repository, access): &(String, Access),
        tried: Option<&HeaderValue>,
    ) -> Result<HeaderValue, RegistryError> {
        let challenges: Vec<_> = response
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        let failed = |reason| self.error(action, reason);
        let challenge = Challenge::read(&challenges).map_err(failed)?;
        let login = self.login().await.map_err(failed)?;
        let login = login.map(|known| &known.login);
        match challenge {
            Challenge::Basic => {
                // An identity token is for token services only.
                let Some(Login::Password(credentials)) = login else {
                    return Err(failed(self.unauthorized()));
                };
                let header = credentials.basic();
                // The same user name and password will not do better the second time.
                if tried == Some(&header) {
                    return Err(failed(self.unauthorized()));
                }
                Ok(header)
            }
            Challenge::Bearer(bearer) => {
                let base = self.base().url.clone();
                let (request, basic) = bearer
                    .request(&base, repository, *access, login)
                    .map_err(failed)?;
                let action = Action::Token(origin(&request.url));
                let response = self.send(&action, &request, basic.as_ref(), &mut 1).await?;
                let response = self.successful(&action, response).await?;
                let token = body(response, MAX_ANSWER_BYTES)
                    .await
                    .and_then(|bytes| auth::bearer(&bytes));
                token.map_err(|reason| self.error(&action, reason))
            }
        }
    }
}
