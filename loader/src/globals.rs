//! Whether globals fit the variables of an object.

use std::collections::BTreeMap;

use crate::near::nearest;
use crate::object::Variable;

/// A global that does not fit the object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GlobalError {
    /// No variable of that name.
    #[error("no global variable `{name}` in the object; it has {}", list(.available))]
    Unknown {
        /// Name asked for.
        name: String,
        /// Variables there are, sorted.
        available: Vec<String>,
        /// The one of them that was most likely meant.
        near: Option<Box<str>>,
    },
    /// The value has another size than the variable.
    #[error("global variable `{name}` has {expected} bytes, its value {found}")]
    Size {
        /// Variable.
        name: String,
        /// Its size in bytes.
        expected: u64,
        /// Bytes given.
        found: u64,
    },
}

/// Compares the globals asked for with the variables of the object ([`crate::object::Object::variables`]).
///
/// # Errors
///
/// For the first, by name, that is no variable or has not exactly its size.
pub fn check(
    variables: &BTreeMap<String, Variable>,
    globals: &BTreeMap<String, Vec<u8>>,
) -> Result<(), GlobalError> {
    for (name, value) in globals {
        let variable = variables.get(name).ok_or_else(|| GlobalError::Unknown {
            name: name.clone(),
            available: variables.keys().cloned().collect(),
            near: nearest(name, variables.keys().map(String::as_str)).map(Into::into),
        })?;
        let found = value.len() as u64;
        if found != variable.size {
            return Err(GlobalError::Size {
                name: name.clone(),
                expected: variable.size,
                found,
            });
        }
    }
    Ok(())
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globals_must_exist_and_have_the_size() {
        let variable = |size| Variable {
            section: 1,
            offset: 0,
            size,
        };
        let variables =
            BTreeMap::from([("a".to_owned(), variable(4)), ("b".to_owned(), variable(1))]);
        type Globals<'a> = &'a [(&'a str, usize)];
        let cases: [(Globals<'_>, Option<&str>); 5] = [
            (&[], None),
            (&[("a", 4), ("b", 1)], None),
            (
                &[("a", 3)],
                Some("global variable `a` has 4 bytes, its value 3"),
            ),
            (
                &[("a", 4), ("b", 2)],
                Some("global variable `b` has 1 bytes, its value 2"),
            ),
            (
                &[("c", 1)],
                Some("no global variable `c` in the object; it has a, b"),
            ),
        ];
        for (globals, expected) in cases {
            let globals = globals
                .iter()
                .map(|(name, size)| ((*name).to_owned(), vec![0; *size]))
                .collect();
            let found = check(&variables, &globals)
                .err()
                .map(|error| error.to_string());
            assert_eq!(found.as_deref(), expected, "{globals:?}");
        }
        let globals = BTreeMap::from([("c".to_owned(), vec![0])]);
        let error = check(&BTreeMap::new(), &globals).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no global variable `c` in the object; it has none"
        );
    }
}
