//! `doctor`.

use bytecode_image::printable::escaped;
use loader::{Diagnosis, Outcome, Remedy};
use serde::Serialize;

use crate::error::with_causes;

/// A line a difference: what, expected, found, and what is or was done about it.
pub(super) fn report(found: &[Diagnosis]) -> String {
    if found.is_empty() {
        return "Records, kernel and bpffs agree\n".to_owned();
    }
    found.iter().map(line).collect()
}

fn line(diagnosis: &Diagnosis) -> String {
    let finding = &diagnosis.finding;
    let end = match (&diagnosis.outcome, &finding.remedy) {
        (Outcome::Repaired, _) => "repaired".to_owned(),
        (Outcome::Failed(error), _) => format!("not repaired: {}", with_causes(error)),
        (Outcome::Left, Remedy::Repair(what)) => format!("--repair will {what}"),
        (Outcome::Left, Remedy::ByHand(what)) => format!("by hand: {what}"),
    };
    let text = format!(
        "{}: expected {}, found {}; {end}",
        finding.place, finding.expected, finding.found
    );
    format!("{}\n", escaped(&text))
}

#[derive(Debug, Serialize)]
pub(super) struct DiagnosisJson<'a> {
    difference: &'static str,
    place: &'a str,
    expected: &'a str,
    found: &'a str,
    repair: Option<&'a str>,
    by_hand: Option<&'a str>,
    repaired: Option<bool>,
    error: Option<String>,
}

impl<'a> DiagnosisJson<'a> {
    /// `asked`: whether repair was.
    pub(super) fn new(diagnosis: &'a Diagnosis, asked: bool) -> Self {
        let finding = &diagnosis.finding;
        let (repair, by_hand) = match &finding.remedy {
            Remedy::Repair(what) => (Some(what.as_str()), None),
            Remedy::ByHand(what) => (None, Some(what.as_str())),
        };
        Self {
            difference: finding.kind.as_str(),
            place: &finding.place,
            expected: &finding.expected,
            found: &finding.found,
            repair,
            by_hand,
            repaired: asked.then_some(matches!(diagnosis.outcome, Outcome::Repaired)),
            error: match &diagnosis.outcome {
                Outcome::Failed(error) => Some(with_causes(error)),
                Outcome::Left | Outcome::Repaired => None,
            },
        }
    }
}
