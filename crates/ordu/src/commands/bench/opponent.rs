//! Another program that computes the same. It gets a line of JSON for each pass and answers with one.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::Value;

/// A program that runs.
#[derive(Debug)]
pub(super) struct Opponent {
    command: String,
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

/// What it says of a pass.
#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct Answer {
    pub(super) seconds: f64,
    /// Of all cores together.
    pub(super) core_seconds: Option<f64>,
    pub(super) peak_bytes: Option<u64>,
}

impl Opponent {
    /// Starts it; its words are parted by spaces.
    pub(super) fn start(command: &str) -> Result<Self> {
        let mut words = command.split_whitespace();
        let program = words.next().context("`--against` names no program")?;
        let mut child = Command::new(program)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{program}`"))?;
        let (to, from) = (child.stdin.take(), child.stdout.take());
        let (to, from) = to.zip(from).context("a program without input and output")?;
        Ok(Self {
            command: command.to_owned(),
            child,
            to,
            from: BufReader::new(from),
        })
    }

    /// Has it compute once.
    pub(super) fn pass(&mut self, asked: &Value) -> Result<Answer> {
        let command = &self.command;
        let gone = || format!("`{command}` has ended");
        writeln!(self.to, "{asked}").with_context(gone)?;
        self.to.flush().with_context(gone)?;
        let mut line = String::new();
        if self.from.read_line(&mut line).with_context(gone)? == 0 {
            bail!(gone());
        }
        serde_json::from_str(&line)
            .with_context(|| format!("`{command}` was asked {asked} and said `{}`", line.trim()))
    }
}

impl Drop for Opponent {
    fn drop(&mut self) {
        // It may be gone already, and then there is nobody to end.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[cfg(all(test, unix))]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_pass_is_a_line_there_and_a_line_back() {
        // Gives back what it gets.
        let mut opponent = Opponent::start("cat").unwrap();
        for seconds in [1.5, 2.5] {
            let answer = opponent
                .pass(&json!({"seconds": seconds, "part": "unet"}))
                .unwrap();
            let wanted = Answer {
                seconds,
                core_seconds: None,
                peak_bytes: None,
            };
            assert_eq!(answer, wanted);
        }
        let error = opponent.pass(&json!({"part": "unet"})).unwrap_err();
        assert!(
            format!("{error:#}").contains("`cat` was asked"),
            "{error:#}"
        );
    }

    #[test]
    fn a_program_that_is_not_there_or_has_ended_is_named() {
        let error = Opponent::start("no-such-program --fast").unwrap_err();
        assert!(error.to_string().contains("no-such-program"), "{error}");
        assert!(Opponent::start("  ").is_err());
        let mut opponent = Opponent::start("true").unwrap();
        let error = opponent.pass(&json!({})).unwrap_err();
        assert!(error.to_string().contains("`true` has ended"), "{error}");
    }
}
