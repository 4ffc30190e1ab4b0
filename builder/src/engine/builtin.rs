use bytecode_image::platform::Platform;
use bytecode_image::registry::push;

use crate::image::{ImageError, Unpacked};
use crate::plan::BuildPlan;
use crate::{BuildError, build_args};

/// Puts the image together without a daemon. The date is `SOURCE_DATE_EPOCH`, else 1970.
pub(super) fn build(plan: &BuildPlan) -> Result<push::Image, BuildError> {
    let (architecture, object) = plan.only_object()?;
    let Some(name) = object.path.file_name() else {
        return Err(ImageError::NoFileName {
            path: object.path.display().to_string(),
        }
        .into());
    };
    let name = build_args::text(name.as_ref())?;
    let created = std::env::var("SOURCE_DATE_EPOCH").unwrap_or_else(|_| "0".to_owned());
    let platform = Platform::from(architecture);
    Ok(Unpacked::new(&name, &object.bytes, plan.labels(), &platform, &created)?.pack()?)
}
