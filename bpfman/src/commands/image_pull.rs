use std::sync::Arc;

use bytecode_image::platform::Platform;
use bytecode_image::pull::{BytecodeImage, PullRequest, Trust, Verdict};
use bytecode_image::registry::Reach;
use bytecode_image::registry::auth::Credentials;

use super::image_store::{in_store_by_digest, store};
use crate::args::{PullArgs, RegistryArgs};
use crate::config::Config;
use crate::error::Error;
use crate::output::{Bar, Printer, Stderr};

/// `image pull`.
pub(super) fn run(args: PullArgs) -> Result<(), Error> {
    let reach = reach(args.registry.registry_auth.as_deref())?;
    let image = pull(
        "pull",
        &Config::read()?,
        &args.registry,
        reach,
        args.platform,
    )?;
    Printer::new(args.output.output).pulled(&image)
}

/// Pulls an image as far as the configuration trusts it, for this host where no platform is named. `verb` is what the user
/// wanted.
pub(super) fn pull(
    verb: &'static str,
    config: &Config,
    args: &RegistryArgs,
    reach: Reach,
    platform: Option<Platform>,
) -> Result<BytecodeImage, Error> {
    let image = pull_by(verb, config, config.trust()?, args, reach, platform)?;
    let file = config.file().display();
    let name = &image.reference;
    match &image.verdict {
        Verdict::Proven(_) => {}
        Verdict::NotLookedAt => Stderr::warning(
            &format!(
                "{name}: signature verification is disabled, the configuration says `verify_enabled = false`"
            ),
            &format!("these lines of {file} enable it"),
            &["[signing]", "verify_enabled = true"],
        ),
        Verdict::NotCovered if config.accepts_unsigned() => {
            log::info!("{name}: signatures not verified, no signing policy matches");
        }
        Verdict::NotCovered => Stderr::warning(
            &format!("{name}: signatures not verified, no signing policy matches"),
            &format!(
                "these lines of {file} accept what no policy covers without this warning, or with `false` refuse it"
            ),
            &["[signing]", "allow_unsigned = true"],
        ),
    }
    Ok(image)
}

/// Pulls an image as far as its signatures are trusted.
pub(super) fn pull_by(
    verb: &'static str,
    config: &Config,
    trust: Trust,
    args: &RegistryArgs,
    reach: Reach,
    platform: Option<Platform>,
) -> Result<BytecodeImage, Error> {
    let store = store(config);
    let (reference, short) = match in_store_by_digest(&store, &args.image_url)? {
        Some(reference) => (reference, None),
        None => (args.image_url.reference.clone(), args.image_url.short()),
    };
    let request = PullRequest {
        reference,
        short,
        policy: args.pull_policy.into(),
        reach,
        platform: platform.unwrap_or_else(Platform::host),
        trust: Arc::new(trust),
    };
    bytecode_image::pull::pull(&store, &request, &Bar)
        .map_err(Error::to(verb, &args.image_url.typed))
}

/// Registries as this host reaches them, with the login of the command line: wrong usage where it is none, so it is made
/// before anything is read.
pub(super) fn reach(registry_auth: Option<&str>) -> Result<Reach, Error> {
    let credentials = registry_auth
        .map(Credentials::from_base64)
        .transpose()
        .map_err(Error::RegistryAuth)?;
    Ok(Reach::of_process().with_credentials(credentials))
}
