use std::sync::Arc;

use bytecode_image::platform::Platform;
use bytecode_image::pull::{BytecodeImage, PullRequest, Trust, Verdict};
use bytecode_image::registry::Reach;
use bytecode_image::registry::auth::Credentials;

use super::image_store::store;
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
    let image = pull_by(verb, config.trust()?, args, reach, platform)?;
    // Not through the log, which can be switched off: that nothing was proven is never left unsaid.
    match &image.verdict {
        Verdict::Proven(_) => {}
        Verdict::NotLookedAt => Stderr::labelled(
            "warning",
            "signatures are not looked at: the configuration says `verify_enabled = false`",
        ),
        Verdict::NotCovered => Stderr::labelled(
            "warning",
            &format!(
                "the signatures of {} prove nothing: no policy of the configuration covers it",
                image.reference
            ),
        ),
    }
    Ok(image)
}

/// Pulls an image as far as its signatures are trusted.
pub(super) fn pull_by(
    verb: &'static str,
    trust: Trust,
    args: &RegistryArgs,
    reach: Reach,
    platform: Option<Platform>,
) -> Result<BytecodeImage, Error> {
    let request = PullRequest {
        reference: args.image_url.reference.clone(),
        short: args.image_url.short(),
        policy: args.pull_policy.into(),
        reach,
        platform: platform.unwrap_or_else(Platform::host),
        trust: Arc::new(trust),
    };
    bytecode_image::pull::pull(&store(), &request, &Bar)
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
