//! A directory and ports of a test's own, and the words that stand for them in configurations.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tempfile::TempDir;

/// Below the range from which the kernel takes ports for outgoing connections, so that a port
/// that was free stays free until a daemon binds it.
const FIRST_PORT: u16 = 12_000;
const PORTS_IN_A_BLOCK: u16 = 40;
const BLOCKS: u16 = 500;

/// Where one test stands: a directory, and ports named by the test.
///
/// In texts given to [`Ground::expand`], `<dir>` is the directory, `<imap>` is `127.0.0.1:PORT`
/// and `<imap:port>` the port alone, for any name of lower-case letters, digits and hyphens.
#[derive(Debug)]
pub struct Ground {
    dir: TempDir,
    ports: Mutex<Ports>,
}

#[derive(Debug)]
struct Ports {
    named: BTreeMap<String, u16>,
    next: u16,
    end: u16,
    /// Locked while this test lives; the kernel gives it back whatever becomes of the process.
    _lease: File,
}

impl Ground {
    /// A fresh directory and a block of ports that no other test on the machine holds.
    ///
    /// # Panics
    /// When the machine has neither.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it makes a directory and takes a lock")]
    pub fn new() -> Self {
        // Short, because the paths of Unix sockets made below it may have 107 bytes. Open to all,
        // because the mail servers' unprivileged processes reach their sockets through it.
        let dir = tempfile::Builder::new().prefix("wxs-").tempdir_in("/tmp").expect("a directory in /tmp");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
        Self { dir, ports: Mutex::new(Ports::lease()) }
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A path inside the directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes `text`, expanded, to a file in the directory.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, self.expand(text)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path
    }

    /// The port of that name; a free one is taken at the first asking.
    ///
    /// # Panics
    /// When the test has used up its ports.
    #[must_use]
    pub fn port(&self, name: &str) -> u16 {
        let mut ports = self.ports.lock().expect("lock");
        if let Some(port) = ports.named.get(name) {
            return *port;
        }
        let port = ports.free();
        ports.named.insert(name.to_owned(), port);
        port
    }

    /// `127.0.0.1` with the port of that name.
    #[must_use]
    pub fn addr(&self, name: &str) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.port(name))
    }

    /// `[::1]` with the port of that name.
    #[must_use]
    pub fn addr6(&self, name: &str) -> SocketAddr {
        SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), self.port(name))
    }

    /// Puts addresses, ports and the directory where `text` names them.
    #[must_use]
    pub fn expand(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(open) = rest.find('<') {
            let (before, from) = rest.split_at(open);
            out.push_str(before);
            let word = from[1..].split('>').next().unwrap_or_default();
            let name = word.strip_suffix(":port").unwrap_or(word);
            let named = !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && from.len() > word.len() + 1;
            if !named {
                out.push('<');
                rest = &from[1..];
                continue;
            }
            match word {
                "dir" => out.push_str(&self.dir.path().to_string_lossy()),
                _ if word != name => out.push_str(&self.port(name).to_string()),
                _ => out.push_str(&self.addr(name).to_string()),
            }
            rest = &from[word.len() + 2..];
        }
        out.push_str(rest);
        out
    }
}

impl Ports {
    fn lease() -> Self {
        let locks = Path::new("/tmp/waxseal-e2e-ports");
        fs::create_dir_all(locks).expect("directory for the locks of ports");
        // Tests that run at once start looking at different places.
        let start = u16::try_from(std::process::id() % u32::from(BLOCKS)).expect("below BLOCKS");
        for turn in 0..BLOCKS {
            let block = (start + turn) % BLOCKS;
            let path = locks.join(block.to_string());
            let open = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(path);
            let Ok(lease) = open else { continue };
            if lease.try_lock().is_ok() {
                let next = FIRST_PORT + block * PORTS_IN_A_BLOCK;
                return Self { named: BTreeMap::new(), next, end: next + PORTS_IN_A_BLOCK, _lease: lease };
            }
        }
        panic!("every block of ports is taken");
    }

    fn free(&mut self) -> u16 {
        while self.next < self.end {
            let port = self.next;
            self.next += 1;
            let v4 = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
            if v4.is_ok() && (drop(v4), TcpListener::bind((Ipv6Addr::LOCALHOST, port))).1.is_ok() {
                return port;
            }
        }
        panic!("this test has used up its {PORTS_IN_A_BLOCK} ports");
    }
}
