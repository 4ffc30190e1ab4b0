use std::path::PathBuf;

use bytecode_image::platform::Platform;
use clap::{ArgGroup, Args};

use super::image::RegistryArgs;
use super::values::OutputArgs;

#[derive(Debug, Args)]
#[command(group(
    ArgGroup::new("identity")
        .args(["certificate_identity", "certificate_identity_regexp"])
        .requires("certificate_oidc_issuer")
))]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,

    /// Optional: Public keys (PEM), one of which must have signed. Without a key or an
    /// identity the policies of the configuration decide.
    #[arg(long, num_args = 1.., conflicts_with = "identity", verbatim_doc_comment)]
    pub(crate) key: Vec<PathBuf>,

    /// Optional: Identity in the signer's certificate, the whole of it.
    #[arg(long, verbatim_doc_comment)]
    pub(crate) certificate_identity: Option<String>,

    /// Optional: Pattern that the whole identity in the signer's certificate must match.
    #[arg(long, verbatim_doc_comment)]
    pub(crate) certificate_identity_regexp: Option<String>,

    /// Optional: Issuer that vouched for the identity.
    /// Example: --certificate-oidc-issuer https://token.actions.githubusercontent.com
    #[arg(long, requires = "identity", verbatim_doc_comment)]
    pub(crate) certificate_oidc_issuer: Option<String>,

    /// Optional: Roots of trust for identities, a sigstore trusted_root.json.
    #[arg(long, verbatim_doc_comment)]
    pub(crate) trusted_root: Option<PathBuf>,

    /// Optional: Platform to check, when it is not this machine's.
    /// Format: <OS>/<ARCHITECTURE>[/<VARIANT>]
    /// Example: --platform linux/arm64
    #[arg(long, verbatim_doc_comment)]
    pub(crate) platform: Option<Platform>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}
