use log::{Level, LevelFilter, Log, Metadata, Record};

use super::printer::Stderr;

/// Log records as lines on stderr: `warning: …`.
struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        // The libraries of others speak for themselves below warnings only when everything is asked for.
        if self.enabled(record.metadata())
            && (ours(record.target()) || log::max_level() == LevelFilter::Trace)
        {
            Stderr::labelled(word(record.level()), &record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// Starts the logger: warnings, with `-v` information, with `-vv` debug; `RUST_LOG` (one level word) decides where
/// there is no `-v`.
pub(crate) fn init(verbose: u8) {
    log::set_max_level(level(verbose, std::env::var("RUST_LOG").ok().as_deref()));
    // Fails only when there is one already, and there is none.
    let _ = log::set_logger(&Logger);
}

fn level(verbose: u8, rust_log: Option<&str>) -> LevelFilter {
    match verbose {
        0 => rust_log
            .and_then(|word| word.trim().parse().ok())
            .unwrap_or(LevelFilter::Warn),
        1 => LevelFilter::Info,
        _ => LevelFilter::Debug,
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
    fn levels() {
        let cases = [
            (0, None, LevelFilter::Warn),
            (0, Some("info"), LevelFilter::Info),
            (0, Some("TRACE"), LevelFilter::Trace),
            (0, Some("off"), LevelFilter::Off),
            (0, Some("loader=debug"), LevelFilter::Warn),
            (1, Some("error"), LevelFilter::Info),
            (2, None, LevelFilter::Debug),
            (9, None, LevelFilter::Debug),
        ];
        for (verbose, rust_log, expected) in cases {
            assert_eq!(level(verbose, rust_log), expected, "{verbose} {rust_log:?}");
        }
    }

    #[test]
    fn targets() {
        assert!(ours("loader::state"));
        assert!(ours("bpfman"));
        assert!(!ours("sled::pagecache"));
        assert!(!ours("loaders"));
    }
}
