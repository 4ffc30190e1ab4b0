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
    let check = config.signature_check(&reference);
    if check == SignatureCheck::Needed {
        return Err(Error::SignatureNeeded {
            image: reference.to_string(),
        });
    }
    let request = PullRequest {
        reference,
        policy: args.pull_policy.into(),
        credentials,
        platform: platform.unwrap_or_else(Platform::host),
    };
    let store = Store::open(image_dir(rustix::process::geteuid().is_root()));
    let image = bytecode_image::pull::pull(&store, &request, &Bar::default())?;
    if check == SignatureCheck::NotCovered {
        log::warn!(
            "the signature of {} was not checked: no policy of the configuration covers it",
            request.reference
        );
    }
    Ok(image)
}

pub(super) fn credentials(base64: &str) -> Result<Credentials, Error> {
    Credentials::from_base64(base64).map_err(Error::RegistryAuth)
}
