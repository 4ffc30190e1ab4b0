//! The host's configuration at work: mirrors, short names, blocked registries, logins.

use std::path::Path;

use bytecode_image::host::environment::Environment;
use bytecode_image::pull::{BytecodeImage, PullError, PullPolicy, PullRequest, Trust, pull};
use bytecode_image::reference::short_name;
use bytecode_image::registry::Reach;
use bytecode_image::registry::auth::Credentials;
use tempfile::TempDir;

use crate::images::{Parts, TestStore, chain, platform, reach, serve};
use crate::server::{Answer, Registry};

const BASIC: &str = "Basic dXNlcjpzM2NyM3Q=";

/// A host with these files, and a store.
pub(crate) struct Host {
    pub(crate) root: TempDir,
    pub(crate) store: TestStore,
}

impl Host {
    pub(crate) fn new() -> Self {
        Self {
            root: TempDir::new().unwrap(),
            store: TestStore::new(),
        }
    }

    pub(crate) fn file(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn registries(&self, text: &str) {
        self.file("etc/containers/registries.conf", text);
    }

    pub(crate) fn environment(&self) -> Environment {
        let mut environment = Environment::default();
        environment.root = self.root.path().to_owned();
        environment.home = Some(self.root.path().join("home"));
        environment
    }

    pub(crate) fn reach(&self) -> Reach {
        reach()
            .with_environment(self.environment())
            .with_proxies(bytecode_image::host::proxy::Proxies::default())
    }

    pub(crate) fn pull(
        &self,
        typed: &str,
        policy: PullPolicy,
        reach: Reach,
    ) -> Result<BytecodeImage, PullError> {
        let request = PullRequest {
            reference: typed.parse().unwrap(),
            short: short_name(typed).map(str::to_owned),
            policy,
            reach,
            platform: platform(),
            trust: Trust::unchecked().into(),
        };
        pull(&self.store.store, &request, &())
    }

    fn always(&self, typed: &str) -> Result<BytecodeImage, PullError> {
        self.pull(typed, PullPolicy::Always, self.reach())
    }

    fn names(&self) -> Vec<String> {
        let entries = self.store.store.entries().unwrap();
        entries.into_iter().filter_map(|entry| entry.name).collect()
    }
}

pub(crate) fn serving() -> Registry {
    let registry = Registry::start();
    serve(&registry, &Parts::new("pass").image(), &["v1"]);
    registry
}

#[test]
fn an_image_keeps_its_name_wherever_it_comes_from() {
    let host = Host::new();
    let registry = serving();
    let down = Registry::start();
    let dead = down.address;
    drop(down);
    let empty = Registry::start();
    host.registries(&format!(
        "[[registry]]\nprefix = 'quay.example/acme'\nlocation = '{}/acme'\n\
         [[registry.mirror]]\nlocation = '{dead}/acme'\n[[registry.mirror]]\nlocation = '{}/acme'\n",
        registry.address, empty.address
    ));
    let pulled = host.always("quay.example/acme/xdp:v1").unwrap();
    assert_eq!(pulled.reference.to_string(), "quay.example/acme/xdp:v1");
    assert_eq!(host.names(), ["quay.example/acme/xdp:v1"]);
    assert_eq!(empty.asked().len(), 1);
    assert_eq!(registry.asked().len(), 3);
    host.store.check();
    let kept = host.pull("quay.example/acme/xdp:v1", PullPolicy::Never, host.reach());
    assert!(kept.unwrap().from_store);

    // The mirror has it: nobody else is asked.
    serve(&empty, &Parts::new("pass").image(), &["v1"]);
    host.always("quay.example/acme/xdp:v1").unwrap();
    assert_eq!(registry.asked().len(), 0);

    // What is wrong at the registry itself is what is told.
    let error = host.always("quay.example/acme/xdp:v2").unwrap_err();
    assert!(
        chain(&error).contains(&format!("at registry {}: not found", registry.address)),
        "{}",
        chain(&error)
    );
}

#[test]
fn blocked_is_not_asked_and_says_where_it_stands() {
    let host = Host::new();
    let registry = serving();
    let name = format!("{}/acme/xdp:v1", registry.address);
    host.always(&name).unwrap();
    registry.asked();
    host.registries(&format!(
        "[[registry]]\nlocation = '{}'\nblocked = true\n",
        registry.address
    ));
    let error = host.always(&name).unwrap_err();
    let text = chain(&error);
    assert!(
        text.contains("is blocked") && text.contains("registries.conf, line"),
        "{text}"
    );
    assert!(registry.asked().is_empty());
    // What the store has is not fetched.
    for policy in [PullPolicy::IfNotPresent, PullPolicy::Never] {
        host.pull(&name, policy, host.reach()).unwrap();
    }
}

#[test]
fn short_names() {
    let host = Host::new();
    let (first, second) = (Registry::start(), serving());
    let search = format!(
        "unqualified-search-registries = ['{}', '{}']\n",
        first.address, second.address
    );
    host.registries(&search);
    let pulled = host.always("acme/xdp:v1").unwrap();
    let full = format!("{}/acme/xdp:v1", second.address);
    assert_eq!(pulled.reference.to_string(), full);
    assert_eq!(host.names(), std::slice::from_ref(&full));
    for policy in [PullPolicy::Never, PullPolicy::IfNotPresent] {
        let kept = host.pull("acme/xdp:v1", policy, host.reach()).unwrap();
        assert!(kept.from_store);
    }
    second.asked();

    host.registries(&format!(
        "{search}[aliases]\n'pass' = '{}/acme/xdp'\n",
        second.address
    ));
    assert_eq!(host.always("pass:v1").unwrap().reference.to_string(), full);

    // One that is down is not one that says no: who answers next could be anybody.
    drop(first);
    host.registries(&search);
    let error = host.always("acme/xdp:v1").unwrap_err();
    assert!(chain(&error).contains("no connection"), "{}", chain(&error));

    host.registries(&format!("{search}short-name-mode = 'enforcing'\n"));
    let error = host.always("acme/xdp:v1").unwrap_err();
    assert!(error.to_string().contains("could be any of"), "{error}");
    assert!(error.hint().unwrap().contains(&second.address.to_string()));
}

#[test]
fn logins_of_the_host() {
    let host = Host::new();
    let registry = serving();
    let challenge = Answer::status(401).header("WWW-Authenticate", "Basic realm=x");
    registry.need(BASIC, challenge);
    let name = format!("{}/acme/xdp:v1", registry.address);
    let error = host.always(&name).unwrap_err();
    assert!(
        error.hint().unwrap().contains("podman login"),
        "{:?}",
        error.hint()
    );

    let auth = |text: &str| {
        format!(
            r#"{{"auths":{{"{}":{{"auth":"{text}"}}}}}}"#,
            registry.address
        )
    };
    host.file("home/.docker/config.json", &auth("dXNlcjpzM2NyM3Q="));
    host.always(&name).unwrap();
    // One that goes before, and is wrong, is named.
    host.file("run/containers/0/auth.json", &auth("dXNlcjp3cm9uZw=="));
    let error = host.always(&name).unwrap_err();
    let text = format!("{} {:?} {error:?}", chain(&error), error.hint());
    assert!(text.contains("run/containers/0/auth.json"), "{text}");
    assert!(
        !text.contains("wrong\"") && !text.contains("dXNlcjp3cm9uZw"),
        "{text}"
    );
    // And what is typed goes before all.
    let typed = Credentials::from_base64("dXNlcjpzM2NyM3Q=").unwrap();
    let reach = host.reach().with_credentials(Some(typed));
    host.pull(&name, PullPolicy::Always, reach).unwrap();
}

/// What is typed is for the registry that the name says: a mirror gets the host's login or none.
#[test]
fn a_mirror_does_not_see_the_password() {
    let host = Host::new();
    let (registry, mirror) = (serving(), serving());
    for server in [&registry, &mirror] {
        server.need(
            BASIC,
            Answer::status(401).header("WWW-Authenticate", "Basic realm=x"),
        );
    }
    host.registries(&format!(
        "[[registry]]\nlocation = '{}'\n[[registry.mirror]]\nlocation = '{}'\n",
        registry.address, mirror.address
    ));
    let typed = Credentials::from_base64("dXNlcjpzM2NyM3Q=").unwrap();
    let reach = host.reach().with_credentials(Some(typed));
    let name = format!("{}/acme/xdp:v1", registry.address);
    host.pull(&name, PullPolicy::Always, reach).unwrap();
    assert!(
        mirror
            .asked()
            .iter()
            .all(|asked| asked.authorization.is_none())
    );
    assert!(
        registry
            .asked()
            .iter()
            .any(|asked| asked.authorization.is_some())
    );
}

#[test]
fn identity_tokens() {
    let host = Host::new();
    let registry = serving();
    let address = registry.address;
    let text = format!(r#"Bearer realm="http://{address}/token",service="reg""#);
    registry.need(
        "Bearer t0ken",
        Answer::status(401).header("WWW-Authenticate", text),
    );
    registry.route("POST", "/token", Answer::ok(r#"{"access_token":"t0ken"}"#));
    let auth = format!(r#"{{"auths":{{"{address}":{{"identitytoken":"s3cr3t"}}}}}}"#);
    host.file("home/.config/containers/auth.json", &auth);
    host.always(&format!("{address}/acme/xdp:v1")).unwrap();
    let asked = registry.asked();
    assert_eq!(
        (asked[1].method.as_str(), asked[1].path.as_str()),
        ("POST", "/token")
    );
    assert_eq!(asked[1].authorization, None);
    assert!(asked[1].body.contains("refresh_token=s3cr3t"));
}

#[test]
fn a_broken_file_is_named() {
    let host = Host::new();
    let registry = serving();
    host.registries("[[registry]]\nlocation = 1\n");
    let name = format!("{}/acme/xdp:v1", registry.address);
    let error = chain(&host.always(&name).unwrap_err());
    assert!(error.contains("registries.conf, line 2, key"), "{error}");
    assert!(registry.asked().is_empty());
    let certs = Path::new("etc/containers/certs.d").join(registry.address.to_string());
    host.registries("");
    host.file(certs.join("ca.crt").to_str().unwrap(), "no certificate");
    let error = chain(&host.always(&name).unwrap_err());
    assert!(error.contains("ca.crt has no CERTIFICATE in it"), "{error}");
}
