use std::cmp::Reverse;

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::printer::Stderr;

/// Log records as lines on stderr: `warning: …`.
struct Logger {
    filter: Filter,
}

/// Which records are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Filter {
    /// Where no target says otherwise.
    level: LevelFilter,
    /// Modules with levels of their own (`loader::state`), the longest first.
    targets: Vec<(String, LevelFilter)>,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.shows(metadata.level(), metadata.target())
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            Stderr::labelled(word(record.level()), &record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// Starts the logger: warnings, with `-v` information, with `-vv` debug; `RUST_LOG` (levels, and levels of modules, with
/// commas between them) decides where there is no `-v`.
pub(crate) fn init(verbose: u8) {
    let variable = std::env::var("RUST_LOG").unwrap_or_default();
    let (filter, misread) = match verbose {
        0 => Filter::parse(&variable),
        1 => (Filter::of(LevelFilter::Info), Vec::new()),
        _ => (Filter::of(LevelFilter::Debug), Vec::new()),
    };
    log::set_max_level(filter.most());
    // Fails only when there is one already, and there is none.
    let _ = log::set_logger(Box::leak(Box::new(Logger { filter })));
    for part in misread {
        log::warn!(
            "RUST_LOG: `{part}` is no level (off, error, warn, info, debug, trace), nor <MODULE>=<LEVEL>"
        );
    }
}

impl Filter {
    fn of(level: LevelFilter) -> Self {
        Self {
            level,
            targets: Vec::new(),
        }
    }

    /// The filter that the text asks for, and the parts of it that say nothing.
    fn parse(text: &str) -> (Self, Vec<&str>) {
        let mut filter = Self::of(LevelFilter::Warn);
        let mut misread = Vec::new();
        let parts = text.split(',').map(str::trim);
        for part in parts.filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                None => match part.parse() {
                    Ok(level) => filter.level = level,
                    Err(_) => misread.push(part),
                },
                Some((target, level)) => match level.parse() {
                    Ok(level) if !target.is_empty() => {
                        filter.targets.push((target.to_owned(), level));
                    }
                    _ => misread.push(part),
                },
            }
        }
        filter
            .targets
            .sort_by_key(|(target, _)| Reverse(target.len()));
        (filter, misread)
    }

    /// The level of whoever may say most.
    fn most(&self) -> LevelFilter {
        let levels = self.targets.iter().map(|(_, level)| *level);
        levels.fold(self.level, std::cmp::max)
    }

    fn shows(&self, level: Level, target: &str) -> bool {
        let named = self.targets.iter().find(|(name, _)| {
            target
                .strip_prefix(name.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        });
        match named {
            Some((_, most)) => level <= *most,
            // The libraries of others speak only when everything is asked for.
            None => level <= self.level && (ours(target) || self.level == LevelFilter::Trace),
        }
    }
}

fn ours(target: &str) -> bool {
    let name = target.split("::").next().unwrap_or_default();
    matches!(
        name,
        "bpfman" | "builder" | "bytecode_image" | "bytecode_object" | "loader"
    )
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_modules() {
        use Level::{Debug, Info, Trace, Warn};
        type Shown = (&'static str, Level, bool);
        // RUST_LOG, what it does not understand, and who then may say what.
        let cases: [(&str, &[&str], &[Shown]); 8] = [
            ("", &[], &[("loader", Warn, true), ("loader", Info, false)]),
            (
                "info",
                &[],
                &[("loader", Info, true), ("reqwest", Info, false)],
            ),
            (
                "TRACE",
                &[],
                &[("loader", Trace, true), ("reqwest", Trace, true)],
            ),
            ("off", &[], &[("loader", Level::Error, false)]),
            (
                "loader=debug",
                &[],
                &[
                    ("loader", Debug, true),
                    ("loader::state", Debug, true),
                    ("loaders", Debug, false),
                    ("bpfman", Info, false),
                    ("bpfman", Warn, true),
                ],
            ),
            (
                "info, loader=warn,loader::state=trace ,reqwest=debug",
                &[],
                &[
                    ("bpfman", Info, true),
                    ("loader::load", Info, false),
                    ("loader::state::store", Trace, true),
                    ("reqwest::connect", Debug, true),
                    ("reqwest::connect", Trace, false),
                ],
            ),
            (
                "loud",
                &["loud"],
                &[("loader", Warn, true), ("loader", Info, false)],
            ),
            (
                "=info,loader=,debug",
                &["=info", "loader="],
                &[("loader", Debug, true)],
            ),
        ];
        for (text, misread, records) in cases {
            let (filter, found) = Filter::parse(text);
            assert_eq!(found, misread, "{text}");
            for (target, level, shown) in records {
                let found = *level <= filter.most() && filter.shows(*level, target);
                assert_eq!(found, *shown, "{text}: {target} {level}");
            }
        }
    }

    #[test]
    fn targets() {
        assert!(ours("loader::state"));
        assert!(ours("bpfman"));
        assert!(!ours("reqwest::connect"));
        assert!(!ours("loaders"));
    }
}
