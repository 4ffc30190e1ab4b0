//! Names like one that is not there.

/// How many names a message suggests.
const NEAR_NAMES: usize = 3;

/// The names that are most like one: by a third of its length in single edits at most, the nearest first.
pub(crate) fn near(wanted: &str, names: &[String]) -> Vec<String> {
    let mut near: Vec<_> = names
        .iter()
        .map(|name| (edits(wanted, name), name))
        .filter(|(edits, _)| (1..=wanted.len() / 3).contains(edits))
        .collect();
    near.sort();
    near.into_iter()
        .take(NEAR_NAMES)
        .map(|(_, name)| name.clone())
        .collect()
}

/// How many bytes must be put in, taken out or changed to make one text of the other (Levenshtein).
fn edits(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (number, a) in left.bytes().enumerate() {
        let mut before = number + 1;
        let mut diagonal = number;
        for (b, pair) in right.bytes().zip(1..) {
            let Some(cell) = row.get_mut(pair) else { break };
            let here = (diagonal + usize::from(a != b))
                .min(before + 1)
                .min(*cell + 1);
            diagonal = std::mem::replace(cell, here);
            before = here;
        }
        if let Some(first) = row.first_mut() {
            *first = number + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names() {
        for (left, right, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("flaw", "lawn", 2),
            ("a", "a", 0),
        ] {
            assert_eq!(edits(left, right), expected, "{left} {right}");
        }
        let names: Vec<_> = [
            "quay.io/acme/xdp:v2",
            "quay.io/acme/xdp:v10",
            "quay.io/acme/probes:v1",
            "ghcr.io/else/where:x",
        ]
        .map(str::to_owned)
        .into();
        assert_eq!(
            near("quay.io/acme/xdp:v1", &names)[..2],
            ["quay.io/acme/xdp:v10", "quay.io/acme/xdp:v2"]
        );
        assert_eq!(
            near("example.org/nothing/like:it", &names),
            Vec::<String>::new()
        );
    }
}
