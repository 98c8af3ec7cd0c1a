//! Programs that we start, told apart from those that we inherit.
//!
//! As process 1 of a container we become the parent of every orphan, and nobody else buries them. Whoever buries all
//! that is dead also takes away the status of the programs that somebody here waits for, so that both stand in one place.

use std::collections::BTreeSet;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

/// How much of a command's complaint is repeated, in characters from its end.
const MAX_COMPLAINT: usize = 500;
/// How much of it is kept meanwhile, in bytes from its end.
const KEPT: usize = 4 * MAX_COMPLAINT;
/// How long its last words are waited for once it has ended; what it has left running may hold its mouth open.
const LAST_WORDS: Duration = Duration::from_millis(100);

static STARTED: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

fn started() -> MutexGuard<'static, BTreeSet<u32>> {
    STARTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A program that somebody waits for. Dropped before it has ended, it is killed with all that it has started.
#[derive(Debug)]
struct Started {
    child: Child,
    pid: Option<u32>,
    ended: bool,
}

impl Started {
    /// Starts it, as the head of a process group of its own.
    fn start(command: &mut Command) -> io::Result<Self> {
        command.process_group(0).kill_on_drop(true);
        // Under the lock, for it may end before it is noted.
        let mut started = started();
        let child = command.spawn()?;
        let pid = child.id();
        started.extend(pid);
        Ok(Self { child, pid, ended: false })
    }

    /// Waits until it ends, and no longer for what it has left running; its status and the end of its complaint.
    async fn end(&mut self) -> io::Result<(ExitStatus, Vec<u8>)> {
        let mut stderr = self.child.stderr.take();
        let mut complaint = Vec::new();
        let status = loop {
            tokio::select! {
                status = self.child.wait() => break status?,
                more = listen(&mut stderr, &mut complaint) => if !more { stderr = None },
            }
        };
        self.ended = true;
        if stderr.is_some() {
            let rest = async { while listen(&mut stderr, &mut complaint).await {} };
            let _ = tokio::time::timeout(LAST_WORDS, rest).await;
        }
        Ok((status, complaint))
    }
}

/// Reads on, keeping the end; whether there may be more. Waits for ever where there is nothing to read from.
async fn listen(stderr: &mut Option<impl AsyncRead + Unpin>, complaint: &mut Vec<u8>) -> bool {
    let Some(stderr) = stderr else { return std::future::pending().await };
    let mut part = [0; 1024];
    let read = stderr.read(&mut part).await.unwrap_or(0);
    complaint.extend_from_slice(part.get(..read).unwrap_or_default());
    let surplus = complaint.len().saturating_sub(KEPT);
    complaint.drain(..surplus);
    read > 0
}

impl Drop for Started {
    fn drop(&mut self) {
        let Some(pid) = self.pid else { return };
        // While its head has not been waited for, the group's number is nobody else's.
        if let (false, Ok(group)) = (self.ended, i32::try_from(pid)) {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        started().remove(&pid);
    }
}

/// Runs a command to its end, within `limit`. What goes wrong is told of `what`, with the command's last words.
pub(crate) async fn run(command: &mut Command, what: &str, limit: Duration) -> Result<(), String> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut started = Started::start(command).map_err(|e| format!("{what} cannot be run: {e}"))?;
    let Ok(ended) = tokio::time::timeout(limit, started.end()).await else {
        return Err(format!("{what} did not end within {} s, and was killed", limit.as_secs()));
    };
    let (status, complaint) = ended.map_err(|e| format!("{what} cannot be waited for: {e}"))?;
    if status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&complaint);
    let skip = said.chars().count().saturating_sub(MAX_COMPLAINT);
    let said: String =
        said.chars().skip(skip).map(|char| if char.is_control() { ' ' } else { char }).collect();
    Err(format!("{what} failed ({status}): {}", said.trim()))
}

/// Kills all programs that we have started, with what these have started: nobody waits for them any more.
pub fn end_programs() {
    for pid in started().iter() {
        if let Ok(group) = i32::try_from(*pid) {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }
}

/// Buries the dead children that nobody here waits for. To be called whenever a child has ended (SIGCHLD).
pub fn bury_orphans() {
    let started = started();
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while let Some(pid) = waitid(Id::All, look).ok().and_then(|status| status.pid()) {
        let ours = u32::try_from(pid.as_raw()).is_ok_and(|pid| started.contains(&pid));
        // One of ours is taken by whoever waits for it; what is dead behind it is found the next time.
        if ours || waitpid(Pid::from_raw(pid.as_raw()), Some(WaitPidFlag::WNOHANG)).is_err() {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_we_wait_for_keeps_its_status_and_orphans_are_buried() {
        let burying = tokio::task::spawn_blocking(|| {
            for _ in 0..200 {
                bury_orphans();
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        for _ in 0..20 {
            let started = Started::start(Command::new("/bin/sh").args(["-c", "exit 7"]));
            tokio::time::sleep(Duration::from_millis(2)).await;
            let (status, _) = started.expect("started").end().await.expect("a status");
            assert_eq!(status.code(), Some(7));
        }
        let mut orphan = std::process::Command::new("/bin/true").spawn().expect("started");
        burying.await.expect("no panic");
        bury_orphans();
        assert!(orphan.try_wait().is_err(), "its status is gone");
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn one_that_takes_too_long_is_killed_with_all_that_it_has_started() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("grandchild");
        let script = format!("sleep 60 & echo $! >{0}.new; mv {0}.new {0}; wait", file.display());
        let done = run(&mut shell(&script), "it", Duration::from_millis(500)).await;
        assert!(done.expect_err("too long").contains("did not end within 0 s, and was killed"));
        let grandchild = std::fs::read_to_string(&file).expect("its number");
        let stat = std::path::PathBuf::from(format!("/proc/{}/stat", grandchild.trim()));
        for _ in 0..100 {
            // Dead, though nobody may have buried it yet.
            if std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z ")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it lives on");
    }

    #[tokio::test]
    async fn what_it_leaves_running_is_let_be_and_not_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("late");
        let script = format!("{{ sleep 1; echo late >{}; }} & exit 0", file.display());
        run(&mut shell(&script), "it", Duration::from_millis(800)).await.expect("ended at once");
        for _ in 0..300 {
            if file.exists() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it was killed");
    }

    #[tokio::test]
    async fn of_a_long_complaint_the_end_is_told() {
        let script = "yes complaint | head -c 1000000 >&2; echo the end >&2; exit 3";
        let said = run(&mut shell(script), "it", Duration::from_secs(10)).await.expect_err("status 3");
        assert!(said.starts_with("it failed (exit status: 3): "), "{said}");
        assert!(said.ends_with("complaint the end") && said.len() < 600, "{said}");
    }
}
