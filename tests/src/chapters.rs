//! The examples of the chapters in `docs/attach`, run as they stand: in a VM.

use crate::lanes;
use crate::objects::Object;
use crate::vm::{HELPERS, Vm};

/// A chapter as something to run: its C source, and its commands with the ids that come up for those that are printed.
struct Chapter {
    name: &'static str,
    source: String,
    script: String,
}

impl Chapter {
    fn read(name: &'static str) -> Self {
        let path = lanes::repository().join(format!("docs/attach/{name}.md"));
        let text = std::fs::read_to_string(path).expect("the chapter can be read");
        let block = |kind: &str| {
            let blocks = text.split("```").skip(1).step_by(2);
            let of_kind = blocks.filter_map(|block| block.strip_prefix(kind));
            of_kind
                .last()
                .expect("the chapter has an example")
                .to_owned()
        };
        // The head that every test's source gets has the licence.
        let source = block("c\n");
        let lines = source.lines();
        let source: String = lines
            .filter(|line| !line.starts_with("char _license[]"))
            .flat_map(|line| [line, "\n"])
            .collect();
        let commands = block("console\n");
        let commands = commands
            .lines()
            .filter_map(|line| line.strip_prefix("$ sudo "));
        let mut script = String::new();
        let (mut program, mut link) = (String::new(), String::new());
        for command in commands {
            let words: Vec<&str> = command.split_whitespace().collect();
            match words[..] {
                ["bpfman", "attach", id, ..] => program = id.to_owned(),
                ["bpfman", "detach", id] => link = id.to_owned(),
                _ => {}
            }
            let mut command = command.to_owned();
            for (printed, real) in [(&program, "$program"), (&link, "$link")] {
                if !printed.is_empty() {
                    command = command.replace(printed, real);
                }
            }
            script.push_str(&match words[..] {
                ["bpfman", "load", ..] => {
                    format!("{command} >/tmp/made\nprogram=$(field \"Program ID\" </tmp/made)\n")
                }
                ["bpfman", "attach", ..] => {
                    format!("{command} >/tmp/made\nlink=$(field \"Link ID\" </tmp/made)\n")
                }
                _ => format!("{command}\n"),
            });
        }
        Self {
            name,
            source,
            script,
        }
    }
}

/// Runs the examples of these chapters in one guest, after `setup`: each counts something, and leaves nothing behind.
/// Does nothing after the test was skipped for want of clang.
///
/// # Panics
///
/// When one does not.
pub fn work(vm: Vm, setup: &str, names: &[&'static str]) {
    let mut vm = vm;
    let mut script = format!("{HELPERS}\n{setup}\n");
    let mut objects = Vec::new();
    for name in names {
        let chapter = Chapter::read(name);
        let Some(object) = Object::compile(&chapter.source) else {
            return;
        };
        let (_, file) = chapter
            .script
            .split_once("--path ")
            .expect("the example loads a file");
        let file = file.split_whitespace().next().unwrap_or_default();
        vm = vm.file(object.path(), &format!("/root/{file}"));
        objects.push(object);
        script.push_str(&format!(
            "echo \"BEGIN {}\"\n{}left_behind | sed 's/^/LEFT /'\n",
            chapter.name, chapter.script
        ));
    }
    let outcome = vm.run(&script);
    let output = outcome.ok();
    assert_eq!(output.matches("BEGIN ").count(), names.len(), "{output}");
    for part in output.split("BEGIN ").skip(1) {
        // What the commands themselves did was counted.
        let count = part.split("\"value\": ").nth(1).unwrap_or_default();
        let count = count
            .split_whitespace()
            .next()
            .and_then(|count| count.parse::<u64>().ok());
        assert!(count.is_some_and(|count| count > 0), "{part}");
        assert!(!part.contains("LEFT "), "{part}");
    }
}
