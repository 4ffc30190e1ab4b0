//! How this process reaches registries: the user's own login, what the host's files say, and how long is waited.

use std::path::PathBuf;
use std::sync::Arc;

use crate::host::auth_file::Login;
use crate::host::certs_d::{self, Certificates, CertificatesError};
use crate::host::environment::Environment;
use crate::host::logins::{self, LoginError};
use crate::host::proxy::{Proxies, ProxyError};
use crate::host::registries_conf::{Endpoint, PlanError, Registries, RegistriesError};
use crate::redact;
use crate::reference::Reference;
use crate::registry::auth::Credentials;
use crate::registry::patience::Patience;
use crate::registry::tls::PemProblem;

/// What decides how registries are reached. [`Default`] reads no file and no variable: registries are asked where
/// names say, directly and without a login.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    credentials: Option<Credentials>,
    environment: Option<Environment>,
    proxies: Option<Proxies>,
    patience: Patience,
}

/// Why the host's configuration of registries cannot be used, or forbids an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReachError {
    /// `registries.conf` is broken.
    #[error(transparent)]
    Registries(#[from] RegistriesError),
    /// `registries.conf` has nobody to ask for this image.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A login cannot be had.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// The registry's certificates cannot be used.
    #[error(transparent)]
    Certificates(#[from] CertificatesError),
    /// A proxy's variable cannot be used.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// A certificate or key that the TLS library does not take.
    #[error("{} cannot be used", .file.display())]
    Pem {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        #[source]
        source: PemProblem,
    },
}

impl ReachError {
    /// What to do, where that is known.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Plan(PlanError::Blocked { .. }) => {
                "images that the store has can be used with pull policy Never".to_owned()
            }
            Self::Plan(PlanError::Ambiguous { candidates, .. }) => {
                format!("write one of {}", candidates.join(", "))
            }
            Self::Pem { file, source } => match source {
                PemProblem::Encrypted => format!(
                    "decrypt it: openssl pkey -in {0} -out {0}.plain, then name that one *.key",
                    file.display()
                ),
                PemProblem::OtherKey(certificate) => format!(
                    "put the certificate and the key of one pair at {} and {}",
                    certificate.display(),
                    file.display()
                ),
                PemProblem::NoAuthority(_) => {
                    "install the package ca-certificates, or name the registry's authority in certs.d".to_owned()
                }
                _ => format!("replace {} by a PEM file that openssl reads", file.display()),
            },
            _ => return None,
        })
    }
}

/// A login, and where it is from.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) login: Login,
    pub(super) source: String,
}

impl Reach {
    /// As the host's files and this process's variables have it. Nothing is read before it is needed.
    pub fn of_process() -> Self {
        Self {
            environment: Some(Environment::of_process()),
            ..Self::default()
        }
    }

    /// With the files of this environment.
    #[must_use]
    pub fn with_environment(mut self, environment: Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// With these proxies instead of the variables'.
    #[must_use]
    pub fn with_proxies(mut self, proxies: Proxies) -> Self {
        self.proxies = Some(proxies);
        self
    }

    /// With a login that goes before every file's. It is for the registry that an image's name says, never for a
    /// mirror on another host.
    #[must_use]
    pub fn with_credentials(mut self, credentials: Option<Credentials>) -> Self {
        self.credentials = credentials;
        self
    }

    /// With other times.
    #[must_use]
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// How patient requests are.
    pub fn patience(&self) -> &Patience {
        &self.patience
    }

    /// What an image's name stands for, the one that is tried first in front; `short` is what was typed when that names
    /// no registry. Reads `registries.conf` for a short name only.
    ///
    /// # Errors
    ///
    /// When `registries.conf` is broken, or the short name could be several.
    pub fn full_names(
        &self,
        image: &Reference,
        short: Option<&str>,
    ) -> Result<Vec<Reference>, ReachError> {
        let (Some(short), Some(environment)) = (short, &self.environment) else {
            return Ok(vec![image.clone()]);
        };
        Ok(Registries::read(environment)?.full_names(image, short)?)
    }

    /// The host's `registries.conf`.
    pub(crate) fn registries(&self) -> Result<Arc<Registries>, ReachError> {
        Ok(Arc::new(match &self.environment {
            Some(environment) => Registries::read(environment)?,
            None => Registries::default(),
        }))
    }

    /// The image's own server as it is pushed to: under its own name, insecure where `registries.conf` says so.
    pub(crate) fn push_endpoint(
        &self,
        registries: &Registries,
        image: &Reference,
    ) -> Result<Endpoint, ReachError> {
        let plan = registries.plan(image, None)?;
        let own = plan.iter().find(|endpoint| !endpoint.mirror);
        Ok(Endpoint {
            image: image.clone(),
            reference: image.clone(),
            insecure: own.is_some_and(|own| own.insecure),
            mirror: false,
            at: own.and_then(|own| own.at.clone()),
        })
    }

    /// Who we are to the server of `endpoint`.
    pub(super) fn login(
        &self,
        endpoint: &Endpoint,
        registries: &Registries,
    ) -> Result<Option<Known>, ReachError> {
        let own = endpoint.reference.registry() == endpoint.image.registry();
        if let (Some(credentials), true) = (&self.credentials, own || !endpoint.mirror) {
            redact::add_login(&credentials.username, &credentials.password);
            return Ok(Some(Known {
                login: Login::Password(credentials.clone()),
                source: "--registry-auth".to_owned(),
            }));
        }
        let Some(environment) = &self.environment else {
            return Ok(None);
        };
        let helpers = registries.credential_helpers();
        let found = logins::find(environment, helpers, &endpoint.reference)?;
        if let Some(Login::Password(credentials)) = found.as_ref().map(|found| &found.login) {
            redact::add_login(&credentials.username, &credentials.password);
        }
        Ok(found.map(|found| Known {
            source: found.source.to_string(),
            login: found.login,
        }))
    }

    /// Where this host keeps the certificates of a registry: the folder that is there, else the one to be made.
    pub(super) fn certificates_folder(&self, reference: &Reference) -> Option<PathBuf> {
        let environment = self.environment.as_ref()?;
        Some(certs_d::folder(environment, reference))
    }

    /// The `registries.conf` that counts, or the one to be made.
    pub(super) fn registries_file(&self) -> Option<PathBuf> {
        Some(self.environment.as_ref()?.registries_file())
    }

    /// The certificates for the registry of a reference.
    pub(super) fn certificates(&self, reference: &Reference) -> Result<Certificates, ReachError> {
        Ok(match &self.environment {
            Some(environment) => certs_d::read(environment, reference)?,
            None => Certificates::default(),
        })
    }

    /// The proxies, those of the process where the environment is.
    pub(super) fn proxies(&self) -> Result<Proxies, ReachError> {
        Ok(match (&self.proxies, &self.environment) {
            (Some(proxies), _) => proxies.clone(),
            (None, Some(_)) => Proxies::of_process()?,
            (None, None) => Proxies::default(),
        })
    }
}
