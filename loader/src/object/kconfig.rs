//! The kernel's configuration (`/proc/config.gz`, `/boot/config-<release>`) and how its values become C values:
//! what `set_kcfg_value_*` of libbpf does.

use super::externs::ConfigType;

/// A value that does not fit the variable that asks for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is `{value}`, which does not fit {wanted}")]
pub struct ConfigValueError {
    /// As it stands in the configuration.
    pub value: String,
    /// What the program declares.
    pub wanted: String,
}

/// The value of an option, as it stands after the `=`; `None` where it is not set.
pub fn find<'c>(config: &'c str, option: &str) -> Option<&'c str> {
    config.lines().find_map(|line| {
        let value = line.strip_prefix(option)?.strip_prefix('=')?;
        Some(value.trim_end())
    })
}

/// A value as it lies in memory of this machine.
///
/// # Errors
///
/// When the variable's type cannot hold it.
pub fn encode(value: &str, wanted: ConfigType) -> Result<Vec<u8>, ConfigValueError> {
    let unfit = || ConfigValueError {
        value: value.to_owned(),
        wanted: describe(wanted),
    };
    match (value, wanted) {
        ("y", ConfigType::Bool) => Ok(vec![1]),
        ("n", ConfigType::Bool) => Ok(vec![0]),
        // enum libbpf_tristate { TRI_NO, TRI_YES, TRI_MODULE }
        ("n" | "y" | "m", ConfigType::Tristate) => {
            let number: u32 = match value {
                "y" => 1,
                "m" => 2,
                _ => 0,
            };
            Ok(number.to_ne_bytes().to_vec())
        }
        ("n" | "y" | "m", ConfigType::Int { letter: true, .. }) => Ok(value.as_bytes().to_vec()),
        (_, ConfigType::Text { size }) => text(value, size as usize).ok_or_else(unfit),
        (_, ConfigType::Int { size, signed, .. }) => number(value)
            .and_then(|number| integer(number, size, signed))
            .ok_or_else(unfit),
        (_, ConfigType::Bool) => number(value)
            .and_then(|number| integer(number, 1, false))
            .filter(|bytes| matches!(bytes.as_slice(), [0 | 1]))
            .ok_or_else(unfit),
        _ => Err(unfit()),
    }
}

/// Nought, for an option that is not set.
pub fn nought(wanted: ConfigType) -> Vec<u8> {
    let size = match wanted {
        ConfigType::Bool => 1,
        ConfigType::Tristate => 4,
        ConfigType::Int { size, .. } | ConfigType::Text { size } => size as usize,
        ConfigType::Other => 8,
    };
    vec![0; size]
}

/// `"text"`, cut to what there is room for, with a NUL at its end.
fn text(value: &str, size: usize) -> Option<Vec<u8>> {
    let text = value.strip_prefix('"')?.strip_suffix('"')?;
    let mut bytes = text.as_bytes().to_vec();
    bytes.truncate(size.checked_sub(1)?);
    bytes.resize(size, 0);
    Some(bytes)
}

fn number(value: &str) -> Option<i128> {
    let (sign, digits) = match value.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, value),
    };
    let number = match digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"))
    {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None => digits.parse().ok()?,
    };
    Some(sign * i128::from(number))
}

fn integer(number: i128, size: u32, signed: bool) -> Option<Vec<u8>> {
    let bits = size.checked_mul(8)?;
    let (least, most) = if signed {
        (-(1_i128 << (bits - 1)), (1_i128 << (bits - 1)) - 1)
    } else {
        (0, (1_i128 << bits) - 1)
    };
    if !(least..=most).contains(&number) {
        return None;
    }
    let bytes = number as i64;
    Some(match size {
        1 => (bytes as i8).to_ne_bytes().to_vec(),
        2 => (bytes as i16).to_ne_bytes().to_vec(),
        4 => (bytes as i32).to_ne_bytes().to_vec(),
        8 => bytes.to_ne_bytes().to_vec(),
        _ => return None,
    })
}

fn describe(wanted: ConfigType) -> String {
    match wanted {
        ConfigType::Bool => "a bool".to_owned(),
        ConfigType::Tristate => "an enum libbpf_tristate".to_owned(),
        ConfigType::Int { size, signed, .. } => {
            let sign = if signed { "a signed" } else { "an unsigned" };
            format!("{sign} integer of {size} bytes")
        }
        ConfigType::Text { size } => format!("a char[{size}]"),
        ConfigType::Other => {
            "the type declared: a bool, an enum libbpf_tristate, an integer or a char array is needed"
                .to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "#\n# Linux/x86\n#\nCONFIG_HZ=250\nCONFIG_BPF=y\n# CONFIG_OFF is not set\n\
        CONFIG_HZ_250=y\nCONFIG_MOD=m\nCONFIG_NAME=\"a \\\"b\\\"\"\nCONFIG_BASE=0xffffffff81000000\n";

    #[test]
    fn options_are_found_by_their_whole_name() {
        let cases = [
            ("CONFIG_HZ", Some("250")),
            ("CONFIG_HZ_250", Some("y")),
            ("CONFIG_H", None),
            ("CONFIG_OFF", None),
            ("CONFIG_BASE", Some("0xffffffff81000000")),
            ("", None),
        ];
        for (option, expected) in cases {
            assert_eq!(find(CONFIG, option), expected, "{option}");
        }
    }

    #[test]
    fn values_fit_their_types_or_are_refused() {
        let int = |size, signed| ConfigType::Int {
            size,
            signed,
            letter: size == 1,
        };
        let cases: [(&str, ConfigType, Option<&[u8]>); 22] = [
            ("y", ConfigType::Bool, Some(&[1])),
            ("n", ConfigType::Bool, Some(&[0])),
            ("m", ConfigType::Bool, None),
            ("1", ConfigType::Bool, Some(&[1])),
            ("2", ConfigType::Bool, None),
            ("m", ConfigType::Tristate, Some(&2_u32.to_ne_bytes())),
            ("y", ConfigType::Tristate, Some(&1_u32.to_ne_bytes())),
            ("7", ConfigType::Tristate, None),
            ("m", int(1, true), Some(b"m")),
            ("y", int(4, true), None),
            ("250", int(4, true), Some(&250_u32.to_ne_bytes())),
            ("250", int(1, true), None),
            ("250", int(1, false), Some(&[250])),
            ("-1", int(2, true), Some(&[0xff, 0xff])),
            ("-1", int(2, false), None),
            (
                "0xffffffff81000000",
                int(8, false),
                Some(&0xffff_ffff_8100_0000_u64.to_ne_bytes()),
            ),
            ("0xffffffff81000000", int(8, true), None),
            ("\"abc\"", ConfigType::Text { size: 6 }, Some(b"abc\0\0\0")),
            ("\"abc\"", ConfigType::Text { size: 3 }, Some(b"ab\0")),
            ("abc", ConfigType::Text { size: 3 }, None),
            ("\"abc\"", int(8, false), None),
            ("y", ConfigType::Other, None),
        ];
        for (value, wanted, expected) in cases {
            let found = encode(value, wanted);
            assert_eq!(found.ok().as_deref(), expected, "{value} {wanted:?}");
        }
        let error = encode("m", ConfigType::Bool).unwrap_err();
        assert_eq!(error.to_string(), "it is `m`, which does not fit a bool");
    }
}
