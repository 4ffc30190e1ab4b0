//! Images on the command line: by `--image-url`, as the guide has it, or as a plain argument, as podman takes them.

use std::ops::Deref;

use clap::error::ErrorKind;
use clap::{ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

use super::values::ImageUrl;

/// One image, named in either way.
#[derive(Debug)]
pub(crate) struct ImageName(ImageUrl);

#[derive(Debug, Args)]
struct ImageNameArgs {
    /// Required: Name of the image.
    /// Example: --image-url quay.io/bpfman-bytecode/xdp_pass:latest
    #[arg(short, long, required_unless_present = "image", verbatim_doc_comment)]
    image_url: Option<ImageUrl>,

    /// Name of the image, instead of --image-url
    #[arg(conflicts_with = "image_url")]
    image: Option<ImageUrl>,
}

impl Deref for ImageName {
    type Target = ImageUrl;

    fn deref(&self) -> &ImageUrl {
        &self.0
    }
}

impl Args for ImageName {
    fn augment_args(command: Command) -> Command {
        ImageNameArgs::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        ImageNameArgs::augment_args_for_update(command)
    }
}

impl FromArgMatches for ImageName {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let args = ImageNameArgs::from_arg_matches(matches)?;
        let named = args.image_url.or(args.image);
        named.map(Self).ok_or_else(|| {
            Error::raw(
                ErrorKind::MissingRequiredArgument,
                "--image-url <IMAGE_URL> is missing",
            )
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// One image or more, named in either way or in both.
#[derive(Debug, Args)]
pub(crate) struct ImageNames {
    /// Required: Names of the images
    #[arg(required_unless_present = "image_url")]
    images: Vec<ImageUrl>,

    /// Optional: Names of images, as the other commands take them
    #[arg(short, long, num_args = 1.., action = ArgAction::Append)]
    image_url: Vec<ImageUrl>,
}

impl ImageNames {
    /// All of them.
    pub(crate) fn into_vec(mut self) -> Vec<ImageUrl> {
        self.images.append(&mut self.image_url);
        self.images
    }
}
