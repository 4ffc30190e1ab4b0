use bytecode_image::platform::Platform;
use bytecode_image::pull::{BytecodeImage, PullRequest};
use bytecode_image::registry::auth::Credentials;
use bytecode_image::store::Store;

use crate::args::{PullArgs, RegistryArgs};
use crate::config::{Config, SignatureCheck, image_dir};
use crate::error::Error;
use crate::output::{Bar, Printer};

/// `image pull`.
pub(super) fn run(args: PullArgs) -> Result<(), Error> {
    let image = pull(&Config::read()?, &args.registry, args.platform)?;
    Printer::new(args.output.output).pulled(&image)
}

/// Pulls an image as far as the configuration trusts it, for this host where no platform is named.
pub(super) fn pull(
    config: &Config,
    args: &RegistryArgs,
    platform: Option<Platform>,
) -> Result<BytecodeImage, Error> {
    let credentials = args.registry_auth.as_deref().map(credentials).transpose()?;
    let reference = args.image_url.reference.clone();
    match config.signature_check(&reference) {
        SignatureCheck::Off => {}
        SignatureCheck::NotCovered => {
            log::warn!(
                "the signature of {reference} was not checked: no policy of the configuration covers it"
            );
        }
        SignatureCheck::Needed => return Err(Error::NotBuiltYet("signature verification")),
    }
    let request = PullRequest {
        reference,
        policy: args.pull_policy.into(),
        credentials,
        platform: platform.unwrap_or_else(Platform::host),
    };
    let store = Store::open(image_dir(rustix::process::geteuid().is_root()));
    Ok(bytecode_image::pull::pull(
        &store,
        &request,
        &Bar::default(),
    )?)
}

pub(super) fn credentials(base64: &str) -> Result<Credentials, Error> {
    Credentials::from_base64(base64).map_err(Error::RegistryAuth)
}
