//! A process of ours: what it says is kept, and it does not outlive the test.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{SOON, eventually};

/// A child process with its standard output and error kept, line by line.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    said: Arc<Said>,
}

#[derive(Debug, Default)]
struct Said {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl Daemon {
    /// Starts `program`. It is killed when the thread that started it ends, however it ends.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(name: &str, program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", program])
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{name}: {program}: {e}"));
        let said = Arc::new(Said::default());
        keep(child.stdout.take().expect("piped"), Arc::clone(&said));
        keep(child.stderr.take().expect("piped"), Arc::clone(&said));
        Self { name: name.to_owned(), child, said }
    }

    /// The process' number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has said until now.
    #[must_use]
    pub fn log(&self) -> String {
        self.said.lines.lock().expect("lock").join("\n")
    }

    /// How many lines hold all of `words`.
    #[must_use]
    pub fn count(&self, words: &[&str]) -> usize {
        let lines = self.said.lines.lock().expect("lock");
        lines.iter().filter(|line| words.iter().all(|word| line.contains(word))).count()
    }

    /// The first line that holds all of `words`, waited for.
    ///
    /// # Panics
    /// When none comes.
    pub fn wait_line(&self, words: &[&str]) -> String {
        let start = Instant::now();
        let mut lines = self.said.lines.lock().expect("lock");
        loop {
            if let Some(line) = lines.iter().find(|line| words.iter().all(|word| line.contains(word))) {
                return line.clone();
            }
            let left = SOON.saturating_sub(start.elapsed());
            if left.is_zero() {
                drop(lines);
                panic!("{} never said {words:?}", self.name);
            }
            lines = self.said.more.wait_timeout(lines, left).expect("lock").0;
        }
    }

    /// Waits until something listens on each of `ports`, looked up in `/proc` so that no
    /// connection is made for it.
    ///
    /// # Panics
    /// When one stays closed or the process ends.
    pub fn wait_listening(&mut self, ports: &[u16]) {
        let wanted: BTreeSet<u16> = ports.iter().copied().collect();
        let start = Instant::now();
        loop {
            if wanted.is_subset(&listening()) {
                return;
            }
            if let Some(status) = self.child.try_wait().expect("wait") {
                std::thread::sleep(Duration::from_millis(50));
                panic!("{} ended with {status} before it listened; it said:\n{}", self.name, self.log());
            }
            assert!(
                start.elapsed() < SOON,
                "{} does not listen on all of {wanted:?}; it said:\n{}",
                self.name,
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).expect("a pid"));
        kill(pid, signal).unwrap_or_else(|e| panic!("{}: {signal}: {e}", self.name));
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait_exit(&mut self) -> ExitStatus {
        let name = self.name.clone();
        eventually(&format!("{name} ends"), || self.child.try_wait().expect("wait"))
    }

    /// Whether it still runs.
    ///
    /// # Panics
    /// When the system does not say.
    #[must_use]
    pub fn lives(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_none()
    }

    /// Resident memory in KiB.
    ///
    /// # Panics
    /// When the process is gone.
    #[must_use]
    pub fn resident_kib(&self) -> u64 {
        let status = self.proc_file("status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number of KiB")
    }

    /// A file under `/proc/PID`.
    ///
    /// # Panics
    /// When the process is gone.
    #[must_use]
    pub fn proc_file(&self, name: &str) -> String {
        let path = format!("/proc/{}/{name}", self.pid());
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {path}: {e}", self.name))
    }

    /// Ends it: asks, and after two seconds insists.
    pub fn stop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap_or(i32::MAX));
        let _ = kill(pid, Signal::SIGTERM);
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if start.elapsed() > Duration::from_secs(2) {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            let mut text = String::new();
            let _ = write!(text, "---- {} said:\n{}\n----", self.name, self.log());
            eprintln!("{text}");
        }
    }
}

fn keep(stream: impl Read + Send + 'static, said: Arc<Said>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            said.lines.lock().expect("lock").push(String::from_utf8_lossy(&line).into_owned());
            said.more.notify_all();
        }
    });
}

/// The TCP ports of this machine on which something listens.
pub(crate) fn listening() -> BTreeSet<u16> {
    const LISTEN: &str = "0A";
    let mut ports = BTreeSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in std::fs::read_to_string(table).unwrap_or_default().lines().skip(1) {
            let mut columns = line.split_whitespace().skip(1);
            let (Some(local), Some(_), Some(state)) = (columns.next(), columns.next(), columns.next()) else {
                continue;
            };
            let port = local.rsplit(':').next().and_then(|hex| u16::from_str_radix(hex, 16).ok());
            if let (LISTEN, Some(port)) = (state, port) {
                ports.insert(port);
            }
        }
    }
    ports
}
