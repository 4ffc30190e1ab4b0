//! `docker-credential-…` programs (docker-credential-helpers): `get`, the server on stdin, JSON on stdout.

use std::ffi::OsStr;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::host::auth_file::{Login, Secret};
use crate::printable::printable;
use crate::registry::auth::Credentials;

/// Longest answer of a helper that is read, in bytes: 64 KiB. Tokens have 1 to 8 KiB.
pub const MAX_HELPER_BYTES: u64 = 64 << 10;

/// How long a helper may take: long enough to unlock a key by hand, and shorter than a pull may take.
pub const HELPER_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest pause between two looks whether a helper that closed its stdout has ended.
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// Longest message of a helper that is passed on, in characters.
const MAX_MESSAGE: usize = 200;

/// Why a helper gave no login. No message shows what it printed where that may be a login.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HelperError {
    /// A name that is no part of a program's name.
    #[error(
        "`{name}` is not the name of a credential helper: expected letters, digits, `.`, `_`, `-`"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// No such program in `PATH`.
    #[error("{program} is not in PATH")]
    Missing {
        /// The program.
        program: String,
    },
    /// The system cannot run it, or the pipes to it broke.
    #[error("cannot run {}", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It took longer than it may, and was killed.
    #[error("{} did not answer for {} within {} s", program.display(), server, timeout.as_secs_f32())]
    TimedOut {
        /// The program.
        program: PathBuf,
        /// What it was asked for.
        server: String,
        /// How long it had.
        timeout: Duration,
    },
    /// It printed more than is read.
    #[error("{} printed more than {MAX_HELPER_BYTES} bytes for {server}", program.display())]
    TooLarge {
        /// The program.
        program: PathBuf,
        /// What it was asked for.
        server: String,
    },
    /// It failed.
    #[error("{} failed for {server} ({status}){}", program.display(), message.as_ref().map(|m| format!(": {m}")).unwrap_or_default())]
    Failed {
        /// The program.
        program: PathBuf,
        /// What it was asked for.
        server: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The first line that it printed, where that cannot be a login.
        message: Option<String>,
    },
    /// Its answer is not a login.
    #[error("{} answered for {server} with something else than a JSON object with Username and Secret", program.display())]
    Answer {
        /// The program.
        program: PathBuf,
        /// What it was asked for.
        server: String,
    },
}

/// What a helper prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Asks the helper `name` in `path` (the variable `PATH`) for the login at `server`; `None` where it has none.
///
/// # Errors
///
/// When there is no such program, it fails, takes longer than `timeout`, or answers something else.
pub fn get(
    name: &str,
    server: &str,
    path: Option<&OsStr>,
    timeout: Duration,
) -> Result<Option<Login>, HelperError> {
    let program = find(name, path)?;
    let run = |source| HelperError::Run {
        program: program.clone(),
        source,
    };
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(run)?;
    let exchanged = exchange(&mut child, server, timeout);
    if !matches!(exchanged, Ok(Exchange::Done(..))) {
        // It may have ended meanwhile; then there is nothing left to kill, and it still has to be waited for.
        let _ = child.kill();
        let _ = child.wait();
    }
    let (status, printed) = match exchanged.map_err(run)? {
        Exchange::Done(status, printed) => (status, printed),
        Exchange::TimedOut => {
            return Err(HelperError::TimedOut {
                program,
                server: server.to_owned(),
                timeout,
            });
        }
        Exchange::TooLarge => {
            return Err(HelperError::TooLarge {
                program,
                server: server.to_owned(),
            });
        }
    };
    if status.success() {
        login(&printed)
            .map(Some)
            .ok_or_else(|| HelperError::Answer {
                program,
                server: server.to_owned(),
            })
    } else if says_not_found(&printed) {
        Ok(None)
    } else {
        let message = message(&printed);
        Err(HelperError::Failed {
            program,
            server: server.to_owned(),
            status,
            message,
        })
    }
}

/// The program's path. It is looked for here so that a helper that is not installed is told from one that cannot run.
fn find(name: &str, path: Option<&OsStr>) -> Result<PathBuf, HelperError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(HelperError::Name {
            name: name.to_owned(),
        });
    }
    let program = format!("docker-credential-{name}");
    let runs = |file: &Path| {
        std::fs::metadata(file)
            .is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(path.unwrap_or_default())
        // An empty or relative part would make the answer depend on the folder that the user stands in.
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(&program))
        .find(|file| runs(file))
        .ok_or(HelperError::Missing { program })
}

/// How the talk with a helper ended.
enum Exchange {
    Done(std::process::ExitStatus, Vec<u8>),
    TimedOut,
    TooLarge,
}

fn exchange(child: &mut Child, server: &str, timeout: Duration) -> std::io::Result<Exchange> {
    let deadline = Instant::now() + timeout;
    if let Some(mut stdin) = child.stdin.take() {
        // A server's name is shorter than a pipe, so this never blocks; a helper that does not read it is none of ours.
        match stdin.write_all(server.as_bytes()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
    }
    let (sender, receiver) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        // Ends when the last process that has the pipe does, or at the cap; nobody waits for it.
        std::thread::Builder::new()
            .name("credential-helper".to_owned())
            .spawn(move || {
                let mut printed = Vec::new();
                let read = stdout.take(MAX_HELPER_BYTES + 1).read_to_end(&mut printed);
                // The receiver is gone when the time was over before.
                let _ = sender.send(read.map(|_| printed));
            })?;
    }
    let printed = match receiver.recv_timeout(timeout) {
        Ok(printed) => printed?,
        Err(_) => return Ok(Exchange::TimedOut),
    };
    if printed.len() as u64 > MAX_HELPER_BYTES {
        return Ok(Exchange::TooLarge);
    }
    let mut pause = Duration::from_micros(100);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Exchange::Done(status, printed));
        }
        if Instant::now() >= deadline {
            return Ok(Exchange::TimedOut);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn login(printed: &[u8]) -> Option<Login> {
    let answer: Answer = serde_json::from_slice(printed).ok()?;
    match answer.username.as_str() {
        // The word of the protocol for an identity token.
        "<token>" => Some(Login::IdentityToken(Secret::new(answer.secret))),
        _ => Some(Login::Password(Credentials {
            username: answer.username,
            password: answer.secret,
        })),
    }
}

/// Whether a helper that failed said no more than that it has no login: the protocol's words are "credentials not
/// found in native keychain".
fn says_not_found(printed: &[u8]) -> bool {
    String::from_utf8_lossy(printed)
        .to_ascii_lowercase()
        .contains("credentials not found")
}

/// The first line that a helper printed; `None` where it may hold a login.
fn message(printed: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(printed).ok()?;
    if text.contains('{') || text.to_ascii_lowercase().contains("secret") {
        return None;
    }
    Some(printable(text.trim().lines().next()?, MAX_MESSAGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(50);

    /// A folder with one helper, `docker-credential-test`, that runs these lines of shell.
    fn helper(script: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("docker-credential-test");
        std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o700)).unwrap();
        folder
    }

    /// Runs it; a file that another test's child still has open for writing cannot be run for a moment.
    fn ask(script: &str, timeout: Duration) -> Result<Option<Login>, HelperError> {
        let folder = helper(script);
        loop {
            match get("test", "quay.io", Some(folder.path().as_os_str()), timeout) {
                Err(HelperError::Run { source, .. })
                    if source.kind() == ErrorKind::ExecutableFileBusy => {}
                result => return result,
            }
        }
    }

    #[test]
    fn answers() {
        let password = Login::Password(Credentials {
            username: "u".to_owned(),
            password: "quay.io get".to_owned(),
        });
        let script = r#"read -r server; printf '{"ServerURL":"%s","Username":"u","Secret":"%s %s"}' "$server" "$server" "$1""#;
        assert_eq!(ask(script, HELPER_TIMEOUT).unwrap(), Some(password));
        let token = r#"cat >&2; echo '{"Username":"<token>","Secret":"t"}'"#;
        assert_eq!(
            ask(token, HELPER_TIMEOUT).unwrap(),
            Some(Login::IdentityToken(Secret::new("t")))
        );
        let none = "echo 'credentials not found in native keychain'; exit 1";
        assert_eq!(ask(none, HELPER_TIMEOUT).unwrap(), None);
        // One that reads nothing and closes its output before it ends.
        let closed = r#"echo '{"Username":"<token>","Secret":"t"}'; exec 1>&-; exit 0"#;
        assert!(ask(closed, HELPER_TIMEOUT).unwrap().is_some());
    }

    #[test]
    fn failures_show_no_login() {
        let cases = [
            (
                "echo the vault is locked; exit 3",
                "(exit status: 3): the vault is locked",
            ),
            (
                r#"echo '{"Username":"u","Secret":"S3CR3T"}'; exit 1"#,
                "(exit status: 1)",
            ),
            (r#"echo '{"Token":"S3CR3T"}'; exit 1"#, "(exit status: 1)"),
            ("echo Secret=S3CR3T; exit 1", "(exit status: 1)"),
            ("exit 1", "(exit status: 1)"),
            (
                r#"echo '{"Username":"u","Secret":["S3CR3T"]}'"#,
                "something else than a JSON object",
            ),
            ("echo S3CR3T", "something else than a JSON object"),
            ("true", "something else than a JSON object"),
        ];
        for (script, expected) in cases {
            let error = ask(script, HELPER_TIMEOUT).unwrap_err();
            let shown = format!("{error}");
            assert!(
                shown.contains(expected) && shown.contains("quay.io"),
                "{script}: {shown}"
            );
            assert!(
                !format!("{error:?} {shown}").contains("S3CR3T"),
                "{script}: {shown}"
            );
            assert!(
                expected.ends_with("locked") || !shown.ends_with(": "),
                "{script}: {shown}"
            );
        }
    }

    #[test]
    fn limits() {
        assert!(matches!(
            ask("exec sleep 600", SOON),
            Err(HelperError::TimedOut { .. })
        ));
        let silent = "exec 1>&-; exec sleep 600";
        assert!(matches!(
            ask(silent, SOON),
            Err(HelperError::TimedOut { .. })
        ));
        let endless = "exec cat /dev/zero";
        assert!(matches!(
            ask(endless, HELPER_TIMEOUT),
            Err(HelperError::TooLarge { .. })
        ));
    }

    #[test]
    fn programs_that_are_not_run() {
        let folder = helper("echo no");
        let path = Some(folder.path().as_os_str());
        for name in ["", "../x", "a/b", "a b", "a;b"] {
            assert!(
                matches!(
                    get(name, "quay.io", path, SOON),
                    Err(HelperError::Name { .. })
                ),
                "{name}"
            );
        }
        let missing = get("other", "quay.io", path, SOON).unwrap_err();
        assert_eq!(
            missing.to_string(),
            "docker-credential-other is not in PATH"
        );
        assert!(matches!(
            get("test", "quay.io", None, SOON),
            Err(HelperError::Missing { .. })
        ));
        // From wherever the test stands, up to the root and down again.
        let relative = format!("{}{}", "../".repeat(64), folder.path().display());
        let found = get("test", "quay.io", Some(OsStr::new(&relative)), SOON);
        assert!(
            matches!(found, Err(HelperError::Missing { .. })),
            "{found:?}"
        );
        let file = folder.path().join("docker-credential-test");
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(
            get("test", "quay.io", path, SOON),
            Err(HelperError::Missing { .. })
        ));
    }
}
