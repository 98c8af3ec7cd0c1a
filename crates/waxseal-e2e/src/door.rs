//! The program under test.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;

use nix::sys::signal::Signal;

use crate::{Daemon, Finished, Ground, run};

/// A running `waxseal serve`. Derefs to its [`Daemon`].
#[derive(Debug)]
pub struct Door {
    daemon: Daemon,
    configuration: PathBuf,
}

impl Door {
    /// Starts it with a configuration of that text, expanded, and waits until it listens.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn start(ground: &Ground, configuration: &str) -> Self {
        Self::start_in(ground, configuration, &[])
    }

    /// The same, with these variables in its environment.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn start_in(ground: &Ground, configuration: &str, environment: &[(&str, &str)]) -> Self {
        let ports = ports_bound(&ground.expand(configuration));
        let mut door = Self::spawn_in(ground, configuration, environment);
        door.daemon.wait_listening(&ports);
        door
    }

    /// Starts it and does not wait for anything.
    ///
    /// # Panics
    /// When the program cannot be run.
    #[must_use]
    pub fn spawn(ground: &Ground, configuration: &str) -> Self {
        Self::spawn_in(ground, configuration, &[])
    }

    fn spawn_in(ground: &Ground, configuration: &str, environment: &[(&str, &str)]) -> Self {
        let configuration = ground.write("waxseal.toml", configuration);
        let path = configuration.to_str().expect("utf-8");
        let daemon = Daemon::start("waxseal", &program(), &["serve", "--config", path], environment);
        Self { daemon, configuration }
    }

    /// Starts it as process 1 of a namespace of its own, as in a container, and waits until it listens.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn spawn_in_namespace(ground: &Ground, configuration: &str) -> Self {
        let ports = ports_bound(&ground.expand(configuration));
        let configuration = ground.write("waxseal.toml", configuration);
        let path = configuration.to_str().expect("utf-8");
        let program = program();
        let arguments = ["--pid", "--fork", "--kill-child", &program, "serve", "--config", path];
        let mut daemon = Daemon::start("waxseal as process 1", "unshare", &arguments, &[]);
        daemon.wait_listening(&ports);
        Self { daemon, configuration }
    }

    /// Tells the process inside [`Door::spawn_in_namespace`]'s namespace to stop.
    ///
    /// # Panics
    /// When it is gone.
    pub fn stop_inside(&self) {
        let children = self.proc_file(&format!("task/{}/children", self.pid()));
        let inside = children.split_whitespace().next().expect("a child");
        let _ = run("kill", &["-TERM", inside]).ok();
    }

    /// Rewrites its configuration and tells it to reload.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn reload(&self, ground: &Ground, configuration: &str) {
        std::fs::write(&self.configuration, ground.expand(configuration)).expect("configuration");
        self.signal(Signal::SIGHUP);
    }

    /// Waits for a line of its log that holds `words`.
    ///
    /// # Panics
    /// When none comes.
    pub fn wait_log(&self, words: &str) -> String {
        self.wait_line(&[words])
    }
}

impl Deref for Door {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

impl DerefMut for Door {
    fn deref_mut(&mut self) -> &mut Daemon {
        &mut self.daemon
    }
}

/// The certificate that most tests show: `mail.pem` and `mail.key` on the ground, which
/// [`mail_certificate`](crate::mail_certificate) makes.
pub const CERTIFICATE: &str = r#"
[server]
hostname = "mail.example.test"
[certificate.mail]
cert = "%{file:<dir>/mail.pem}%"
private-key = "%{file:<dir>/mail.key}%"
default = true
"#;

/// Runs a command of the program to its end.
///
/// # Panics
/// When it cannot be started, or does not end.
#[must_use]
pub fn waxseal(arguments: &[&str]) -> Finished {
    run(&program(), arguments)
}

/// Runs `waxseal cert` with the configuration that is on `ground`.
///
/// # Panics
/// When it cannot be started, or does not end.
#[must_use]
pub fn cert(ground: &Ground, arguments: &[&str]) -> Finished {
    let config = ground.path("waxseal.toml");
    waxseal(&[&["cert", "--config", config.to_str().expect("utf-8")], arguments].concat())
}

/// The program itself: the one that WAXSEAL_BIN names, else the one built beside this test.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn program() -> String {
    let path = std::env::var_os("WAXSEAL_BIN").map_or_else(beside_this_test, PathBuf::from);
    assert!(
        path.is_file(),
        "{} is not there: `cargo build -p waxseal` builds it, WAXSEAL_BIN names another",
        path.display()
    );
    path.to_str().expect("utf-8").to_owned()
}

/// `target/debug/deps/TEST` runs `target/debug/waxseal`.
fn beside_this_test() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    test.parent().and_then(|deps| deps.parent()).expect("target directory").join("waxseal")
}

/// The ports in the `bind` lines of a configuration.
fn ports_bound(configuration: &str) -> Vec<u16> {
    let lines = configuration.lines().map(str::trim).filter(|line| line.starts_with("bind"));
    let words = lines.flat_map(|line| line.split('"').skip(1).step_by(2));
    words.filter_map(|word| word.parse::<SocketAddr>().ok()).map(|addr| addr.port()).collect()
}
