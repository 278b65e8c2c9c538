//! Other programs, run to their end within a deadline.

use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How a program ended and what it said.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error, as text.
    pub stderr: String,
}

impl Finished {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).expect("standard output is UTF-8")
    }

    /// Panics unless the exit code was 0.
    pub fn must_succeed(self) -> Self {
        assert_eq!(self.code, 0, "the program failed: {}", self.stderr);
        self
    }
}

/// Runs `command` with nothing on its standard input. Panics past the deadline.
pub fn run(command: &mut Command, deadline: Duration) -> Finished {
    run_with_input(command, &[], deadline)
}

/// Runs `command` with `input` on its standard input. Panics past the deadline.
pub fn run_with_input(command: &mut Command, input: &[u8], deadline: Duration) -> Finished {
    let what = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut stdin = child.stdin.take().expect("piped");
    let mut stdout = child.stdout.take().expect("piped");
    let mut stderr = child.stderr.take().expect("piped");
    thread::scope(|scope| {
        // A program that does not read its input closes the pipe: no concern of ours.
        scope.spawn(move || stdin.write_all(input).ok());
        let out = scope.spawn(move || read_all(&mut stdout));
        let err = scope.spawn(move || read_all(&mut stderr));
        let status = wait(&mut child, deadline);
        if status.is_none() {
            child.kill().ok();
            child.wait().ok();
        }
        let stdout = out.join().expect("reader");
        let stderr = String::from_utf8_lossy(&err.join().expect("reader")).into_owned();
        let status = status.unwrap_or_else(|| panic!("{what}: not done in {deadline:?}: {stderr}"));
        Finished { code: status.code().unwrap_or(-1), stdout, stderr }
    })
}

fn read_all(from: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).expect("a pipe can be read");
    bytes
}

/// Waits for the end of `child`; `None` when it still runs at the deadline.
pub fn wait(child: &mut Child, deadline: Duration) -> Option<ExitStatus> {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("our own child") {
            return Some(status);
        }
        if begin.elapsed() >= deadline {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}
