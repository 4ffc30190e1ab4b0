//! "Did you mean".

/// The candidate that `name` was most likely a slip of, if any is near: at most a third of its letters differ.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let length = name.chars().count();
    let limit = (length / 3).max(1);
    candidates
        .into_iter()
        // Each letter more or less is a difference; told before the long way.
        .filter(|candidate| candidate.chars().count().abs_diff(length) <= limit)
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, remove or replace (Levenshtein), one row of the table at a time.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, letter) in from.chars().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        let mut left = line + 1;
        next.push(left);
        for ((above_left, above), other) in row.iter().zip(row.iter().skip(1)).zip(&to) {
            let replaced = above_left + usize::from(letter != *other);
            left = replaced.min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (from, to, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("pass", "pass", 0),
            ("pas", "pass", 1),
            ("kitten", "sitting", 3),
            ("flaw", "lawn", 2),
        ] {
            assert_eq!(distance(from, to), expected, "{from} {to}");
        }
    }

    #[test]
    fn only_near_names_are_offered() {
        let names = ["xdp_counter", "xdp_stats", "pass"];
        for (name, expected) in [
            ("xdp_conter", Some("xdp_counter")),
            ("xdp_stat", Some("xdp_stats")),
            ("pss", Some("pass")),
            ("tracepoint", None),
            ("p", None),
        ] {
            assert_eq!(nearest(name, names), expected, "{name}");
        }
    }
}
