//! The real binary in a folder of its own.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::Value;

/// The binary with nothing of this machine's settings.
pub(crate) fn ordu(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ordu"));
    command.current_dir(folder).env_clear();
    command
}

/// Runs a command to its end.
pub(crate) fn run(folder: &Path, arguments: &[&str]) -> Output {
    ordu(folder).args(arguments).output().unwrap()
}

/// Runs a command that prints one JSON value.
pub(crate) fn run_json(folder: &Path, arguments: &[&str]) -> Value {
    let output = run(folder, arguments);
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        text(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("JSON on standard output")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A server that was started and is ready.
pub(crate) struct Running {
    child: Child,
    pub(crate) url: String,
}

impl Running {
    /// Starts `up` or `serve` on a free port and waits for the line that says it is ready.
    pub(crate) fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut command = ordu(folder);
        command.args(arguments);
        Self::start_command(command, "127.0.0.1:0")
    }

    /// Starts a server at an address and waits for the line that says it is ready.
    pub(crate) fn start_command(mut command: Command, listen: &str) -> Self {
        command.args(["--listen", listen, "--data", "data"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines
            .map(|line| line.unwrap())
            .find_map(|line| line.strip_prefix("listening on ").map(str::to_owned));
        let url = ready.expect("the server says where it listens");
        Self { child, url }
    }

    /// Asks it to end and waits for its exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().unwrap();
        self.child.wait().unwrap().code()
    }

    /// Ends it at once, as a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A worker that runs until it is dropped.
pub(crate) struct Worker(Child);

impl Worker {
    /// Starts it for the horde of the folder.
    pub(crate) fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut command = ordu(folder);
        command.args(["work", "--data", "data"]).args(arguments);
        Self(command.stderr(Stdio::null()).spawn().unwrap())
    }

    /// The same, with what it says on standard error, line by line.
    pub(crate) fn heard(folder: &Path, arguments: &[&str]) -> (Self, Receiver<String>) {
        let mut command = ordu(folder);
        command.args(["work", "--data", "data"]).args(arguments);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, heard) = channel();
        // Somebody must read everything, or the worker would wait for that.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // The test may have heard enough.
                let _ = sender.send(line);
            }
        });
        (Self(child), heard)
    }

    /// As the system counts processes.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.0.id().to_string();
        Command::new("kill").args([name, &id]).status().unwrap();
    }

    /// Asks it to end and waits for its exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        self.signal("-TERM");
        self.0.wait().unwrap().code()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
