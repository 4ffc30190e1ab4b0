//! Metadata as the command line gives it: pairs, and an application that is one more of them.

use std::collections::BTreeMap;

use loader::LoaderError;

use crate::args::KeyValue;
use crate::error::Error;

/// Key under which an application is kept.
pub(crate) const APPLICATION_KEY: &str = "bpfman_application";

/// The pairs of `-m` and the one of `--application`. A key with two values is wrong usage.
pub(crate) fn collect(
    pairs: Vec<KeyValue>,
    application: Option<String>,
) -> Result<BTreeMap<String, String>, Error> {
    let application = application.map(|value| KeyValue {
        key: APPLICATION_KEY.to_owned(),
        value,
    });
    let mut metadata: BTreeMap<String, String> = BTreeMap::new();
    for KeyValue { key, value } in pairs.into_iter().chain(application) {
        match metadata.get(&key) {
            Some(first) if *first != value => {
                return Err(Error::TwoValues {
                    key,
                    first: first.clone(),
                    second: value,
                });
            }
            _ => metadata.insert(key, value),
        };
    }
    // Before anything is read or fetched.
    loader::metadata::check(&metadata).map_err(LoaderError::from)?;
    Ok(metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_and_application() {
        let pairs = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| text.parse().unwrap())
                .collect::<Vec<KeyValue>>()
        };
        let metadata = collect(pairs(&["owner=acme", "a=b", "a=b"]), Some("app".into())).unwrap();
        assert_eq!(
            metadata.into_iter().collect::<Vec<_>>(),
            [("a", "b"), ("bpfman_application", "app"), ("owner", "acme")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
        );
        assert!(
            matches!(collect(pairs(&["a=b", "a=c"]), None), Err(Error::TwoValues { key, .. }) if key == "a")
        );
        let long = collect(Vec::new(), Some("a".repeat(4097))).unwrap_err();
        assert!(long.to_string().contains("`bpfman_application`"), "{long}");
        let both = collect(pairs(&["bpfman_application=x"]), Some("y".into()));
        assert!(matches!(both, Err(Error::TwoValues { .. })));
    }
}
