//! A command that sets records: `COMMAND... present NAME VALUE`, and `cleanup` with the same.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use tokio::process::Command;
use waxseal_storage::BoxFuture;

use super::{Provider, Record};
use crate::child;

/// A program with its first arguments. It is run as it stands, by no shell.
#[derive(Debug)]
pub(super) struct Exec {
    command: Vec<String>,
    timeout: Duration,
}

/// Whether a program of that name could be run from here: by its path, or else found as execvp(3) does.
pub(super) fn is_there(program: &str) -> bool {
    let runs = |path: &Path| {
        path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return runs(Path::new(program));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| runs(&directory.join(program)))
}

impl Exec {
    pub(super) fn new(command: &[String], timeout: Duration) -> Self {
        Self { command: command.to_vec(), timeout }
    }

    async fn run(&self, action: &str, record: &Record) -> Result<(), String> {
        let Some((program, arguments)) = self.command.split_first() else {
            return Err("acme.ID.command is empty".to_owned());
        };
        let mut command = Command::new(program);
        command.args(arguments).args([action, &record.name, &record.value]);
        child::run(&mut command, &format!("{program} {action}"), self.timeout).await
    }
}

impl Provider for Exec {
    fn add<'a>(&'a self, record: &'a Record) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(self.run("present", record))
    }

    fn remove<'a>(&'a self, record: &'a Record) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(self.run("cleanup", record))
    }

    fn needs_zone(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout: Duration) -> Exec {
        let command = ["/bin/sh", "-c", script, "sh"].map(str::to_owned);
        Exec::new(&command, timeout)
    }

    fn record() -> Record {
        Record { zone: None, name: "_acme-challenge.x.example".into(), value: "a;b $(c)".into(), ttl: 60 }
    }

    #[test]
    fn a_program_is_there_where_it_could_be_run() {
        assert!(is_there("/bin/sh") && is_there("sh"));
        assert!(!is_there("/etc/passwd") && !is_there("/nonexistent/hook") && !is_there("no-such-program"));
    }

    #[tokio::test]
    async fn the_command_gets_action_name_and_value_as_they_are() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("said");
        let script = format!("printf '%s|' \"$@\" >>{}", file.display());
        let exec = shell(&script, Duration::from_secs(5));
        exec.add(&record()).await.expect("present");
        exec.remove(&record()).await.expect("cleanup");
        let said = std::fs::read_to_string(file).expect("the file");
        assert_eq!(
            said,
            "present|_acme-challenge.x.example|a;b $(c)|cleanup|_acme-challenge.x.example|a;b $(c)|"
        );
    }

    #[tokio::test]
    async fn a_command_that_fails_or_hangs_or_is_missing_is_told_with_its_words() {
        let failed = shell("echo no such zone >&2; exit 3", Duration::from_secs(5));
        let said = failed.add(&record()).await.expect_err("status 3");
        assert!(said.contains("present failed (exit status: 3): no such zone"), "{said}");
        let hangs = shell("sleep 60", Duration::from_millis(50));
        let said = hangs.add(&record()).await.expect_err("hangs");
        assert!(said.contains("did not end within"), "{said}");
        let missing = Exec::new(&["/nonexistent/hook".to_owned()], Duration::from_secs(5));
        let said = missing.add(&record()).await.expect_err("missing");
        assert!(said.contains("/nonexistent/hook present cannot be run"), "{said}");
    }
}
