use std::path::Path;

use bytecode_image::pull::{Trust, Verdict};
use bytecode_image::verify::{Identity, Policy, PublicKey, Scope, Signing, TrustRoot};

use super::image_pull::{pull_by, reach};
use crate::args::VerifyArgs;
use crate::config::{Config, public_key, trust_root};
use crate::error::{Error, Unproven};
use crate::output::{Printer, Proven};

/// `image verify`: pulls the image under the policy that is asked for, and shows what was proven.
pub(super) fn run(args: VerifyArgs) -> Result<(), Error> {
    let reach = reach(args.registry.registry_auth.as_deref())?;
    let config = Config::read()?;
    let trust = trust(&config, &args)?;
    let (built_in, digest) = (trust.root().built_in_date(), trust.root().digest());
    let image = pull_by(
        "verify",
        &config,
        trust.anew(),
        &args.registry,
        reach,
        args.platform,
    )?;
    let nothing = |why| Error::NothingProven {
        image: args.registry.image_url.typed.clone(),
        why,
    };
    match &image.verdict {
        Verdict::Proven(proof) => Printer::new(args.output.output).proven(&Proven {
            image: &image,
            proof,
            trust_root: (built_in, digest),
        }),
        Verdict::NotCovered => Err(nothing(Unproven::NotCovered)),
        Verdict::NotLookedAt => Err(nothing(Unproven::NotLookedAt)),
    }
}

/// By the options, else by the configuration.
fn trust(config: &Config, args: &VerifyArgs) -> Result<Trust, Error> {
    let named = |file: &Path| {
        trust_root(file).map_err(|source| Error::OptionFile {
            option: "--trusted-root",
            file: file.to_owned(),
            source,
        })
    };
    let mut keys: Vec<PublicKey> = Vec::new();
    for file in &args.key {
        keys.push(public_key(file).map_err(|source| Error::OptionFile {
            option: "--key",
            file: file.clone(),
            source,
        })?);
    }
    let mut identities = Vec::new();
    if let Some(issuer) = &args.certificate_oidc_issuer {
        let identity = Identity::new(
            issuer,
            args.certificate_identity.as_deref(),
            args.certificate_identity_regexp.as_deref(),
        );
        identities.push(identity.map_err(Error::Identity)?);
    }
    let root = args.trusted_root.as_deref().map(named).transpose()?;
    if keys.is_empty() && identities.is_empty() {
        return Ok(match root {
            Some(root) => config.trust_with(root)?,
            None => config.trust()?,
        });
    }
    let config = Config::read()?;
    let root: TrustRoot = match root {
        Some(root) => root,
        None => config.trust_root()?,
    };
    let signatures = config.signatures(&args.registry.image_url.reference);
    let policy = Policy::new(Scope::EVERYTHING, keys, identities)
        .map_err(Error::Policy)?
        .with_signatures(signatures);
    let signing = Signing::new(true, false, vec![policy]).map_err(Error::Policy)?;
    Ok(Trust::new(signing, root))
}
