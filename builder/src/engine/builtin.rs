use std::path::Path;

use bytecode_image::platform::Platform;

use crate::image::{ImageError, Unpacked};
use crate::plan::BuildPlan;
use crate::{Architecture, BuildError};

/// Puts the images together without a daemon. The date is `SOURCE_DATE_EPOCH`, else (unset or
/// empty) 1970.
pub(super) fn build(plan: &BuildPlan) -> Result<Vec<(Architecture, Unpacked)>, BuildError> {
    let created = match std::env::var_os("SOURCE_DATE_EPOCH") {
        Some(set) if !set.is_empty() => set.to_string_lossy().into_owned(),
        _ => "0".to_owned(),
    };
    let mut images = Vec::with_capacity(plan.objects.len());
    for (&architecture, object) in &plan.objects {
        let Some(name) = object.path.file_name() else {
            return Err(ImageError::NoFileName {
                path: object.path.display().to_string(),
            }
            .into());
        };
        let platform = Platform::from(architecture);
        log::info!(
            "packing {} for {platform}: {} bytes",
            object.path.display(),
            object.bytes.len()
        );
        let image = Unpacked::new(
            Path::new(name),
            &object.bytes,
            object.labels(),
            &platform,
            &created,
        )?;
        images.push((architecture, image));
    }
    Ok(images)
}
