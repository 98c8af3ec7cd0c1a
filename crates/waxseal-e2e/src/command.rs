//! Programs that run once and end.

use std::io::Write;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// No client of these tests has reason to take longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a program ended and what it said.
#[derive(Debug)]
pub struct Finished {
    /// Its status.
    pub status: ExitStatus,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Finished {
    /// The same, having succeeded.
    ///
    /// # Panics
    /// When it did not.
    #[must_use]
    pub fn ok(self) -> Self {
        assert!(self.status.success(), "{}\nout: {}\nerr: {}", self.status, self.out, self.err);
        self
    }

    /// Standard output and error together.
    #[must_use]
    pub fn all(&self) -> String {
        format!("{}{}", self.out, self.err)
    }
}

/// Runs `program` to its end, with nothing on its standard input.
///
/// # Panics
/// When it cannot be started or does not end within a minute.
#[must_use]
pub fn run(program: &str, arguments: &[&str]) -> Finished {
    run_with_input(program, arguments, b"")
}

/// Runs `program` to its end, with `input` on its standard input.
///
/// # Panics
/// When it cannot be started or does not end within a minute.
#[must_use]
pub fn run_with_input(program: &str, arguments: &[&str], input: &[u8]) -> Finished {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    // A program that ends without reading is no error here: its status tells.
    std::thread::spawn(move || drop(stdin.write_all(&input)));
    let out = collect(child.stdout.take().expect("piped"));
    let err = collect(child.stderr.take().expect("piped"));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("wait") {
            break status;
        }
        if start.elapsed() > PATIENCE {
            let _ = child.kill();
            let said = out.join().expect("reader") + &err.join().expect("reader");
            panic!("{program} {arguments:?} does not end; it said: {said}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Finished { status, out: out.join().expect("reader"), err: err.join().expect("reader") }
}

/// Runs a Python script; what it prints is the result.
///
/// # Panics
/// When it fails.
#[must_use]
pub fn python(script: &str) -> String {
    // The system's own, before whatever else is called python3 here.
    let program = ["/usr/bin/python3", "python3"];
    let program = program.iter().find(|p| std::path::Path::new(p).exists()).unwrap_or(&program[1]);
    run_with_input(program, &["-"], script.as_bytes()).ok().out
}

fn collect(mut stream: impl std::io::Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
