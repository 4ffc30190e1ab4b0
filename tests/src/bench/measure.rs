//! Runs commands in turn and takes the medians of their time and the most memory they took.

use std::process::{Command, Stdio};
use std::time::Instant;

use wait4::Wait4 as _;

/// What is compared with what.
pub(crate) struct Case<'a> {
    /// What is done, for the table's head.
    pub(crate) title: String,
    /// Ours first.
    pub(crate) contestants: Vec<Contestant<'a>>,
    /// Most memory that ours may take, in KiB.
    pub(crate) most_kib: u64,
    /// Most milliseconds that ours may take, where that is said.
    pub(crate) most_milliseconds: Option<f64>,
    /// How many milliseconds ours may take more than each of theirs.
    pub(crate) most_more_milliseconds: Option<f64>,
}

/// Makes the command of a round, by its number.
pub(crate) type Prepare<'a> = Box<dyn Fn(usize) -> Command + 'a>;

/// Clears up after a round, by its number and what the command printed.
pub(crate) type Clear<'a> = Box<dyn Fn(usize, &str) + 'a>;

/// One of those who do it.
pub(crate) struct Contestant<'a> {
    pub(crate) name: &'static str,
    /// How many times their time ours may take; `None`: shown, not judged.
    pub(crate) most_times: Option<f64>,
    /// Not timed.
    pub(crate) prepare: Prepare<'a>,
    /// Not timed.
    pub(crate) clear: Clear<'a>,
}

/// What the rounds of a contestant came to.
pub(crate) struct Summary {
    pub(crate) name: &'static str,
    /// The median.
    pub(crate) milliseconds: f64,
    /// The most of any round.
    pub(crate) peak_kib: u64,
}

/// Runs every contestant once a round, one round before the first that counts.
pub(crate) fn run(case: &Case<'_>, rounds: usize) -> Vec<Summary> {
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); case.contestants.len()];
    let mut peaks = vec![0; case.contestants.len()];
    for round in 0..=rounds {
        for ((contestant, times), peak) in case.contestants.iter().zip(&mut times).zip(&mut peaks) {
            let command = (contestant.prepare)(round);
            let (milliseconds, peak_kib, output) = once(contestant.name, command);
            (contestant.clear)(round, &output);
            if round > 0 {
                times.push(milliseconds);
                *peak = peak_kib.max(*peak);
            }
        }
    }
    let summaries =
        case.contestants
            .iter()
            .zip(times)
            .zip(peaks)
            .map(|((contestant, times), peak_kib)| Summary {
                name: contestant.name,
                milliseconds: median(times),
                peak_kib,
            });
    summaries.collect()
}

/// The middle one; not a number, when there is none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Milliseconds, peak memory in KiB and stdout of one run. It must succeed.
fn once(name: &str, mut command: Command) -> (f64, u64, String) {
    let output = tempfile::tempfile().expect("a temporary file can be made");
    let errors = tempfile::tempfile().expect("a temporary file can be made");
    let kept =
        |file: &std::fs::File| Stdio::from(file.try_clone().expect("a file can be opened twice"));
    // Files, not pipes: nobody has to read while it runs.
    command
        .stdin(Stdio::null())
        .stdout(kept(&output))
        .stderr(kept(&errors));
    let started = Instant::now();
    let child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{name} cannot be run: {error}"));
    let ended = child
        .wait4()
        .unwrap_or_else(|error| panic!("{name} cannot be waited for: {error}"));
    let milliseconds = started.elapsed().as_secs_f64() * 1000.0;
    assert!(
        ended.status.success(),
        "{name} failed: {command:?}\n{}",
        text(&errors)
    );
    (milliseconds, ended.rusage.maxrss / 1024, text(&output))
}

fn text(mut file: &std::fs::File) -> String {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).expect("a file has a start");
    file.read_to_end(&mut bytes)
        .expect("a file that was written can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}
