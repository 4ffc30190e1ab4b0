use std::path::Path;

use crate::plan::{Arguments, BuildPlan, PlanError};

/// The plan as `--build-arg` takes it, with the paths as they were given.
pub(crate) fn build_args(plan: &BuildPlan) -> Result<Vec<(String, String)>, PlanError> {
    let mut arguments = Vec::with_capacity(plan.objects.len() + 2);
    for (architecture, object) in &plan.objects {
        let name = match plan.arguments {
            Arguments::OneFile => "BYTECODE_FILE",
            Arguments::FilePerArchitecture => architecture.build_arg(),
        };
        arguments.push((name.to_owned(), text(&object.path)?));
    }
    arguments.extend(labels(plan));
    Ok(arguments)
}

/// The two arguments that become labels.
pub(crate) fn labels(plan: &BuildPlan) -> [(String, String); 2] {
    [
        ("PROGRAMS".to_owned(), plan.programs.clone()),
        ("MAPS".to_owned(), plan.maps.clone()),
    ]
}

pub(crate) fn text(path: &Path) -> Result<String, PlanError> {
    match path.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(PlanError::NotUtf8 {
            path: path.to_owned(),
        }),
    }
}
