use std::path::PathBuf;

use clap::Args;

use super::values::{ImageUrl, PullPolicyWord};

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Required: Name of the image.
    /// Example: --image-url quay.io/bpfman-bytecode/xdp_pass:latest
    #[arg(short, long, verbatim_doc_comment)]
    pub(crate) image_url: ImageUrl,

    /// Optional: Public keys (PEM), one of which must have signed. Without a key or an
    /// identity the policies of the configuration decide.
    #[arg(long, num_args = 1.., conflicts_with_all = ["certificate_identity", "certificate_identity_regexp"], verbatim_doc_comment)]
    pub(crate) key: Vec<PathBuf>,

    /// Optional: Identity in the signer's certificate, the whole of it.
    #[arg(
        long,
        requires = "certificate_oidc_issuer",
        conflicts_with = "certificate_identity_regexp",
        verbatim_doc_comment
    )]
    pub(crate) certificate_identity: Option<String>,

    /// Optional: Pattern that the whole identity in the signer's certificate must match.
    #[arg(long, requires = "certificate_oidc_issuer", verbatim_doc_comment)]
    pub(crate) certificate_identity_regexp: Option<String>,

    /// Optional: Issuer that vouched for the identity.
    /// Example: --certificate-oidc-issuer https://token.actions.githubusercontent.com
    #[arg(long, verbatim_doc_comment)]
    pub(crate) certificate_oidc_issuer: Option<String>,

    /// Optional: Roots of trust for identities, a sigstore trusted_root.json.
    #[arg(long, verbatim_doc_comment)]
    pub(crate) trusted_root: Option<PathBuf>,

    /// Optional: When the registry is asked: each time, only for an image that is not in the
    /// local store, or never.
    ///
    /// [possible values: Always, IfNotPresent, Never]
    ///
    /// [default: IfNotPresent]
    #[arg(
        short,
        long,
        value_enum,
        default_value_t,
        hide_default_value = true,
        hide_possible_values = true,
        verbatim_doc_comment
    )]
    pub(crate) pull_policy: PullPolicyWord,
}
