//! Programs that we start, told apart from those that we inherit.
//!
//! As process 1 of a container we become the parent of every orphan, and nobody else buries them. Whoever buries all
//! that is dead also takes away the status of the programs that somebody here waits for, so that both stand in one place.

use std::collections::BTreeSet;
use std::io;
use std::process::{Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

/// How much of a command's complaint is repeated, in characters from its end.
const MAX_COMPLAINT: usize = 500;

static STARTED: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

fn started() -> MutexGuard<'static, BTreeSet<u32>> {
    STARTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A program that somebody waits for.
#[derive(Debug)]
struct Started {
    child: Option<Child>,
    pid: Option<u32>,
}

impl Started {
    /// Starts it.
    fn start(command: &mut Command) -> io::Result<Self> {
        // Under the lock, for it may end before it is noted.
        let mut started = started();
        let child = command.spawn()?;
        let pid = child.id();
        started.extend(pid);
        Ok(Self { child: Some(child), pid })
    }

    /// Waits until it ends. Dropped before, it is killed if the command says so.
    async fn output(mut self) -> io::Result<Output> {
        match self.child.take() {
            Some(child) => child.wait_with_output().await,
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            started().remove(&pid);
        }
    }
}

/// Runs a command to its end, within `limit`. What goes wrong is told of `what`, with the command's last words.
pub(crate) async fn run(command: &mut Command, what: &str, limit: Duration) -> Result<(), String> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let started = Started::start(command).map_err(|e| format!("{what} cannot be run: {e}"))?;
    let Ok(ended) = tokio::time::timeout(limit, started.output()).await else {
        return Err(format!("{what} did not end within {} s", limit.as_secs()));
    };
    let ended = ended.map_err(|e| format!("{what} cannot be waited for: {e}"))?;
    if ended.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    let skip = said.chars().count().saturating_sub(MAX_COMPLAINT);
    let said: String =
        said.chars().skip(skip).map(|char| if char.is_control() { ' ' } else { char }).collect();
    Err(format!("{what} failed ({}): {}", ended.status, said.trim()))
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
            let started = Started::start(Command::new("/bin/sh").args(["-c", "exit 7"])).expect("started");
            tokio::time::sleep(Duration::from_millis(2)).await;
            let ended = started.output().await.expect("a status");
            assert_eq!(ended.status.code(), Some(7));
        }
        let mut orphan = std::process::Command::new("/bin/true").spawn().expect("started");
        burying.await.expect("no panic");
        bury_orphans();
        assert!(orphan.try_wait().is_err(), "its status is gone");
    }
}
