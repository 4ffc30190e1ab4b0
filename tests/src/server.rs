//! A server that lives as long as the value, and no longer than the process that started it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tempfile::TempDir;

/// Runs the server with its output on stdout and ends it when stdin closes: at drop, or when the test process dies.
const WATCHED: &str = r#""$@" 2>&1 </dev/null & pid=$!
exec >/dev/null 2>&1
read -r _
kill "$pid"
wait "$pid""#;

/// A folder for a server's data. Registries and engines sync everything that they write, engines several times: it
/// lies in memory where it may.
pub(crate) fn folder_in_memory() -> TempDir {
    TempDir::new_in("/dev/shm")
        .or_else(|_| TempDir::new())
        .expect("a temporary folder can be made")
}

/// Sends a process a signal, by its name without `SIG`. The shell's own `kill` does it: the program of that name comes
/// in a package that small machines do not have.
///
/// # Panics
///
/// When there is no such process.
pub fn signal(child: &Child, name: &str) {
    let sent = Command::new("sh")
        .args(["-c", "kill -s \"$0\" \"$1\"", name, &child.id().to_string()])
        .status()
        .expect("sh can be run");
    assert!(sent.success(), "SIG{name}");
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    shell: Child,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts `command` and reads what it prints until `ready` makes something of a line.
    ///
    /// # Panics
    ///
    /// When it cannot be started, or ends before it was ready; the message has what it printed.
    pub fn start<T>(command: &[&str], ready: impl Fn(&str) -> Option<T>) -> (Self, T) {
        let mut shell = Command::new("sh")
            .args(["-c", WATCHED, "sh"])
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh can be run");
        let mut output = BufReader::new(shell.stdout.take().expect("stdout is piped"));
        let log = Arc::new(Mutex::new(String::new()));
        let found = loop {
            let mut line = String::new();
            if output.read_line(&mut line).unwrap_or(0) == 0 {
                panic!(
                    "{} ended before it was ready:\n{}",
                    command.join(" "),
                    log.lock().unwrap()
                );
            }
            log.lock().unwrap().push_str(&line);
            if let Some(found) = ready(&line) {
                break found;
            }
        };
        // A server whose output nobody reads stops at a full pipe.
        let kept = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in output.lines() {
                let Ok(line) = line else { break };
                let mut log = kept.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        (
            Self {
                shell,
                log,
                reader: Some(reader),
            },
            found,
        )
    }

    /// What the server printed until now.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
