//! Images of the store, as text.

use bytecode_image::archive::{Exported, Imported};
use bytecode_image::digest::Digest;
use bytecode_image::platform::Platform;
use bytecode_image::reference::Reference;
use bytecode_image::store::{Admission, Entry, Freed, Held, State, StoredImage, StoredPlatform};
use bytecode_image::verify::Candidate;

use super::proof;
use super::table::{Section, Table};

/// How many programs of an image a list names.
const LISTED_PROGRAMS: usize = 2;

/// How many hex digits of a digest a list shows; `-o json` and `image inspect` show all.
const LISTED_DIGITS: usize = 12;

/// What stands where there is nothing to show.
const NOTHING: &str = "-";

/// An image of the store, with what is known and what is said about its signatures.
#[derive(Debug)]
pub(crate) struct Shown<'a> {
    pub(crate) image: &'a StoredImage,
    /// By the policy that covers the image now, in the order of its platforms.
    pub(crate) admissions: Vec<Option<Admission>>,
    /// Not looked at.
    pub(crate) signatures: Vec<Candidate>,
}

impl Shown<'_> {
    /// Each platform with its admission.
    pub(super) fn platforms(&self) -> impl Iterator<Item = (&StoredPlatform, Option<&Admission>)> {
        let admissions = self.admissions.iter().map(Option::as_ref);
        self.image
            .platforms
            .iter()
            .zip(admissions.chain(std::iter::repeat(None)))
    }
}

/// Who signed, or `no`.
fn verified(admission: Option<&Admission>) -> String {
    admission.map_or_else(|| "no".to_owned(), |found| proof::signer(&found.proof))
}

/// `image list`: one line for each platform that the store has of an image.
pub(super) fn list(images: &[Shown<'_>]) -> String {
    let mut table = Table::new([
        "Image", "Digest", "Platform", "Programs", "Size", "Verified",
    ]);
    for shown in images {
        let image = shown.image;
        let held = shown
            .platforms()
            .filter(|(found, _)| !matches!(found.state, State::Absent));
        let mut rows: Vec<[String; 4]> = held
            .map(|(found, admission)| {
                let [platform, programs, size] = cells(found);
                [platform, programs, size, verified(admission)]
            })
            .collect();
        if rows.is_empty() {
            rows.push([
                NOTHING.to_owned(),
                "(incomplete)".to_owned(),
                NOTHING.to_owned(),
                verified(None),
            ]);
        }
        for [platform, programs, size, verified] in rows {
            table.push([
                name(&image.entry).to_owned(),
                short(image.entry.digest),
                platform,
                programs,
                size,
                verified,
            ]);
        }
    }
    table.render()
}

/// `image inspect`.
pub(super) fn details(shown: &Shown<'_>) -> String {
    let image = shown.image;
    let absent = image
        .platforms
        .iter()
        .filter(|found| matches!(found.state, State::Absent));
    let mut text = Section::new("Image")
        .row("Name:", name(&image.entry))
        .row("Digest:", image.entry.digest)
        .row("Media Type:", &image.entry.media_type)
        .rows("Not In The Store:", absent.map(platform))
        .rows("Signatures:", shown.signatures.iter().map(proof::claim))
        .render();
    for (found, admission) in shown.platforms() {
        match &found.state {
            State::Absent => {}
            State::Unusable(why) => {
                text += &of_platform(found, admission).row("Unusable:", why).render();
            }
            State::Whole(held) => text += &whole(found, admission, held),
        }
    }
    text
}

fn of_platform(found: &StoredPlatform, admission: Option<&Admission>) -> Section {
    Section::new("Platform")
        .row("Platform:", platform(found))
        .row("Manifest:", found.manifest)
        .row("Verified:", verified(admission))
}

fn whole(found: &StoredPlatform, admission: Option<&Admission>, held: &Held) -> String {
    let pairs = |pairs: &std::collections::BTreeMap<String, String>, between: &str| {
        pairs
            .iter()
            .map(|(key, value)| format!("{key}{between}{value}"))
            .collect::<Vec<_>>()
    };
    of_platform(found, admission)
        .row("Config:", held.config.digest)
        .row("Layer:", held.layer.digest)
        .row("Layer Type:", &held.layer.media_type)
        .row("Size:", size(found.size()))
        .rows("Programs:", programs(held))
        .rows("Maps:", pairs(&held.labels.maps, " "))
        .rows("Labels:", pairs(&held.config_labels, "="))
        .render()
}

/// `image remove` and `image prune`.
pub(super) fn freed(freed: &Freed) -> String {
    let mut text = String::new();
    for entry in &freed.entries {
        text += &format!("Removed {} ({})\n", name(entry), entry.digest);
    }
    let files = if freed.files == 1 { "file" } else { "files" };
    text + &format!(
        "Freed {} in {} {files}\n",
        size(Some(freed.bytes)),
        freed.files
    )
}

/// `image export`.
pub(super) fn exported(images: &[Exported]) -> String {
    images
        .iter()
        .map(|image| line("Exported", &image.reference, image.digest, &image.platforms))
        .collect()
}

/// `image import`.
pub(super) fn imported(images: &[Imported]) -> String {
    images
        .iter()
        .map(|image| line("Imported", &image.reference, image.digest, &image.platforms))
        .collect()
}

fn line(what: &str, reference: &Reference, digest: Digest, platforms: &[Platform]) -> String {
    let platforms: Vec<_> = platforms.iter().map(ToString::to_string).collect();
    format!(
        "{what} {reference} ({digest}) for {}\n",
        platforms.join(", ")
    )
}

fn name(entry: &Entry) -> &str {
    entry.name.as_deref().unwrap_or(NOTHING)
}

fn short(digest: Digest) -> String {
    let hex = digest.hex();
    format!("sha256:{}", hex.get(..LISTED_DIGITS).unwrap_or(&hex))
}

fn platform(found: &StoredPlatform) -> String {
    found
        .platform
        .as_ref()
        .map_or_else(|| NOTHING.to_owned(), ToString::to_string)
}

/// Platform, programs and size.
fn cells(found: &StoredPlatform) -> [String; 3] {
    let programs = match &found.state {
        State::Whole(held) => {
            let mut programs = programs(held);
            let more = programs.len().saturating_sub(LISTED_PROGRAMS);
            programs.truncate(LISTED_PROGRAMS);
            let rest = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            format!("{}{rest}", programs.join(", "))
        }
        State::Absent => NOTHING.to_owned(),
        State::Unusable(_) => "(unusable)".to_owned(),
    };
    [platform(found), programs, size(found.size())]
}

/// As `load --programs` takes them.
fn programs(held: &Held) -> Vec<String> {
    let programs = held.labels.programs.iter();
    programs
        .map(|(name, kind)| format!("{kind}:{name}"))
        .collect()
}

/// Bytes for people: powers of 1000, three digits.
fn size(bytes: Option<u64>) -> String {
    let Some(bytes) = bytes else {
        return NOTHING.to_owned();
    };
    let mut unit = "B";
    let (mut whole, mut tenths) = (bytes, 0);
    for next in ["kB", "MB", "GB", "TB"] {
        if whole < 1000 {
            break;
        }
        (whole, tenths) = (whole / 1000, whole % 1000 / 100);
        unit = next;
    }
    if unit == "B" || whole >= 100 {
        format!("{whole} {unit}")
    } else {
        format!("{whole}.{tenths} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, expected) in [
            (Some(0), "0 B"),
            (Some(999), "999 B"),
            (Some(1000), "1.0 kB"),
            (Some(20_480), "20.4 kB"),
            (Some(999_999), "999 kB"),
            (Some(1_234_567), "1.2 MB"),
            (Some(u64::MAX), "18446744 TB"),
            (None, "-"),
        ] {
            assert_eq!(size(bytes), expected);
        }
    }
}
