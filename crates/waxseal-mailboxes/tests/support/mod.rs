//! A site in a temporary directory, its protocols on loopback ports, and a client that says lines.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use waxseal_mailboxes::accounts::{self, Account};
use waxseal_mailboxes::service::ACCOUNTS_FILE;
use waxseal_mailboxes::smtp::{self, Kind};
use waxseal_mailboxes::{Address, Mailboxes, Peer, Site, TlsWords, imap, pop3};

pub(crate) const PASSWORD: &str = "correct horse";
pub(crate) const DOMAIN: &str = "waxseal.test";

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// What is spoken on a port.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Speak {
    Mail(Kind),
    Pop3,
    Imap,
}

/// What the door would say of the clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leg {
    Tls,
    Clear,
}

pub(crate) struct House {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) site: Arc<Site>,
}

pub(crate) fn address(local: &str) -> Address {
    format!("{local}@{DOMAIN}").parse().unwrap()
}

/// Adds an account; the file is noticed by whoever has it open.
pub(crate) fn add_account(directory: &Path, local: &str, aliases: &[&str], quota: Option<u64>) {
    let aliases = aliases.iter().map(|alias| address(alias)).collect();
    let account = Account { address: address(local), aliases, quota };
    accounts::add(&directory.join(ACCOUNTS_FILE), account, PASSWORD.as_bytes()).unwrap();
}

/// The site in a directory, as the program opens it.
pub(crate) fn site(directory: &Path) -> Arc<Site> {
    Mailboxes::site("mail.waxseal.test", directory, &[DOMAIN.to_owned()]).unwrap()
}

impl House {
    /// Alice (also `info`) and Bob, who may keep 20,000 bytes.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        add_account(dir.path(), "alice", &["info"], None);
        add_account(dir.path(), "bob", &[], Some(20_000));
        let site = site(dir.path());
        Self { dir, site }
    }

    pub(crate) fn listen(&self, speak: Speak, leg: Leg) -> SocketAddr {
        listen(Arc::clone(&self.site), speak, leg)
    }

    pub(crate) fn connect(&self, speak: Speak, leg: Leg) -> Client {
        Client::new(self.listen(speak, leg))
    }

    pub(crate) fn maildir(&self, local: &str) -> PathBuf {
        self.dir.path().join("mail").join(DOMAIN).join(local)
    }

    /// The files of an INBOX.
    pub(crate) fn inbox(&self, local: &str) -> Vec<Vec<u8>> {
        inbox(&self.maildir(local))
    }
}

/// The messages of a Maildir, by file name.
pub(crate) fn inbox(maildir: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> = ["new", "cur"]
        .iter()
        .filter_map(|part| std::fs::read_dir(maildir.join(part)).ok())
        .flat_map(|entries| entries.map(|entry| entry.unwrap().path()))
        .collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

pub(crate) fn listen(site: Arc<Site>, speak: Speak, leg: Leg) -> SocketAddr {
    let listener = RUNTIME.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let local = listener.local_addr().unwrap();
    RUNTIME.spawn(async move {
        while let Ok((mut stream, source)) = listener.accept().await {
            let site = Arc::clone(&site);
            tokio::spawn(async move {
                let words = TlsWords { version: "TLS1.3".into(), suite: "TLS_AES_256_GCM_SHA384".into() };
                let tls = (leg == Leg::Tls).then_some(words);
                let peer = Peer { source: source.ip(), tls, session: "test".into() };
                let greeting = match speak {
                    Speak::Mail(kind) => smtp::greeting(&site, kind),
                    Speak::Pop3 => pop3::greeting(&site),
                    Speak::Imap => imap::greeting(&site, &peer),
                };
                if stream.write_all(&greeting).await.is_ok() {
                    let _ = match speak {
                        Speak::Mail(kind) => smtp::serve(stream, site, kind, peer, None).await,
                        Speak::Pop3 => pop3::serve(stream, site, peer).await,
                        Speak::Imap => imap::serve(stream, site, peer).await,
                    };
                }
            });
        }
    });
    local
}

/// A client that says lines and hears replies.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut client = Self { stream: BufReader::new(stream) };
        client.line();
        client
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// One line, without its end; empty at the end of the connection.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end_matches("\r\n").to_owned()
    }

    /// One reply of SMTP, its lines joined.
    pub(crate) fn reply(&mut self) -> String {
        let mut reply = self.line();
        while reply.lines().last().is_some_and(|line| line.as_bytes().get(3) == Some(&b'-')) {
            reply = format!("{reply}\n{}", self.line());
        }
        reply
    }

    /// Says a line, and hears the reply of SMTP.
    pub(crate) fn say(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n"));
        self.reply()
    }

    /// Says a line; panics unless the reply begins so.
    #[track_caller]
    pub(crate) fn expect(&mut self, line: &str, reply: &str) -> String {
        let heard = self.say(line);
        assert!(heard.starts_with(reply), "{line} -> {heard}");
        heard
    }

    /// Whatever comes until the connection ends.
    pub(crate) fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest);
        String::from_utf8(rest).unwrap()
    }
}
