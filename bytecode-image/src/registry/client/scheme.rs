//! Which scheme a registry speaks, where both https and plain http are allowed: found out by the first request.

use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use reqwest::{Response, Url};

use super::{Client, TLS_EXPECTED};
use crate::reference::Reference;
use crate::registry::auth::Access;
use crate::registry::http::Request;
use crate::registry::{Action, Reason, RegistryError, tls};

/// How long a plain request to a registry on loopback may be without an answer until it is asked whether it speaks TLS.
const PLAIN_SILENCE: Duration = Duration::from_secs(1);

impl Client {
    /// The request that settles the scheme, in whichever way it ends. It is sent once by the first scheme; whatever then
    /// fails is retried by the scheme that the server speaks.
    pub(super) async fn first(
        &self,
        action: &Action,
        reference: &Reference,
        access: Access,
        request: &Request,
        other: &'static str,
        attempt: &mut u32,
    ) -> Result<Response, RegistryError> {
        let is_plain = other == "https";
        let tried = {
            let sent = pin!(self.authorized(action, reference, access.clone(), request, attempt));
            if is_plain {
                match select(sent, pin!(self.waits_for_tls())).await {
                    Either::Left((answer, _)) => Some(answer),
                    Either::Right(((), _)) => None,
                }
            } else {
                Some(sent.await)
            }
        };
        self.base().other = None;
        let speaks_other = match &tried {
            None => true,
            Some(Ok(_)) => false,
            Some(Err(error)) if is_plain => match &*error.reason {
                Reason::Upgrade => true,
                reason if expects_tls(reason) => true,
                // Servers of TLS answer a plain request in many ways, or not at all.
                Reason::Connect(_)
                | Reason::Transfer(_)
                | Reason::Timeout(_)
                | Reason::Status {
                    status: 400 | 421 | 426 | 497,
                    message: None,
                } => self.speaks_tls().await,
                _ => false,
            },
            Some(Err(error)) => matches!(*error.reason, Reason::Connect(_)),
        };
        if !speaks_other {
            return match tried {
                Some(Err(error)) => {
                    self.once_more(action, reference, access, request, error, attempt)
                        .await
                }
                Some(answer) => answer,
                None => {
                    self.authorized(action, reference, access, request, attempt)
                        .await
                }
            };
        }
        let registry = &self.registry;
        log::debug!("{registry} is asked by {other} instead");
        let host = self.endpoint.reference.api_host();
        let Ok(url) = Url::parse(&format!("{other}://{host}/v2/")) else {
            let error = Reason::Url(format!("{other}://{host}/v2/"));
            return Err(self.error(action, error));
        };
        let moved = {
            let mut base = self.base();
            base.before = Some(std::mem::replace(&mut base.url, url));
            base.rebased(request)
        };
        let again = self
            .authorized(action, reference, access.clone(), &moved, &mut 1)
            .await;
        match (again, tried) {
            // Plain http was the last resort: the error is that of TLS.
            (Err(error), Some(Err(first)))
                if !is_plain
                    && (matches!(*error.reason, Reason::Connect(_))
                        || expects_tls(&error.reason)) =>
            {
                log::debug!("{registry} speaks neither https nor plain http");
                {
                    let mut base = self.base();
                    if let Some(before) = base.before.take() {
                        base.url = before;
                    }
                }
                self.once_more(action, reference, access, request, first, attempt)
                    .await
            }
            (again, _) => again,
        }
    }

    /// Sends a request again that failed while the scheme was not known, where it would have been sent again otherwise.
    async fn once_more(
        &self,
        action: &Action,
        reference: &Reference,
        access: Access,
        request: &Request,
        error: RegistryError,
        attempt: &mut u32,
    ) -> Result<Response, RegistryError> {
        let pause = self
            .patience()
            .after_failure(*attempt, &request.method, &error.reason);
        let Some(pause) = pause.filter(|pause| self.has_time(*pause)) else {
            return Err(error);
        };
        log::debug!("{error}: {}; once more in {pause:?}", error.reason);
        self.patience().pause(pause).await;
        *attempt += 1;
        self.authorized(action, reference, access, request, attempt)
            .await
    }

    /// Ends when a server that has not answered a plain request for a while turns out to speak TLS.
    async fn waits_for_tls(&self) {
        tokio::time::sleep(PLAIN_SILENCE).await;
        if !self.speaks_tls().await {
            pending::<()>().await;
        }
    }

    async fn speaks_tls(&self) -> bool {
        let url = Url::parse(&format!("https://{}/", self.endpoint.reference.api_host()));
        let Ok(url) = url else {
            return false;
        };
        let patience = self.patience();
        match (url.host_str(), url.port_or_known_default()) {
            (Some(host), Some(port)) => {
                tls::is_spoken(host, port, patience.connect.min(patience.read)).await
            }
            _ => false,
        }
    }
}

/// Whether a server says that it wants TLS.
fn expects_tls(reason: &Reason) -> bool {
    matches!(
        reason,
        Reason::Status {
            status: 400,
            message: Some(message),
        } if TLS_EXPECTED.iter().any(|text| message.contains(text))
    )
}
