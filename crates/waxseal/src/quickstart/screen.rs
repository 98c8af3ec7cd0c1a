//! What a quickstart tells the world once it serves.

use std::fmt::Write as _;
use std::path::Path;

use serde::{Serialize, Serializer};

use super::directory::{Directory, Login};
use super::message;
use super::ports::Open;
use super::{CONFIGURATION, DOMAIN, HOST};

/// Everything that is told.
#[derive(Debug)]
pub struct Screen<'a> {
    pub(super) directory: &'a Directory,
    pub(super) ports: &'a [Open],
}

#[derive(Serialize)]
struct Record<'a> {
    directory: &'a Path,
    ca: &'a Path,
    ports: Ports<'a>,
    accounts: &'a [Login],
}

/// An object, in the order of the listeners.
struct Ports<'a>(&'a [Open]);

impl Serialize for Ports<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|open| (open.door.name, open.port)))
    }
}

impl Screen<'_> {
    /// One line for programs.
    pub fn json(&self) -> String {
        let record = Record {
            directory: self.directory.root(),
            ca: &self.directory.path("ca.pem"),
            ports: Ports(self.ports),
            accounts: self.directory.logins(),
        };
        // Only a path that is no text has no JSON.
        serde_json::to_string(&record).map_or_else(|error| error.to_string(), |line| format!("{line}\n"))
    }

    /// For people: commands to paste.
    pub fn text(&self) -> String {
        let [alice, bob] = self.directory.logins();
        let ca = quoted(&self.directory.path("ca.pem"));
        let hello = quoted(&self.directory.path(message::FILE));
        let (submission, submissions) = (self.port("submission"), self.port("submissions"));
        let (imap, imaps, pop3s) = (self.port("imap"), self.port("imaps"), self.port("pop3s"));
        let login = |login: &Login| format!("{}:{}", login.address, login.password);
        format!(
            "waxseal serves mail with TLS on this machine, and for it alone, until Ctrl-C.\n\
             \n\
             Directory:  {directory} (kept: the next start uses it again)\n\
             Authority:  {ca_path}\n\
             Accounts:   {alice} {alice_password}\n\
             \x20           {bob} {bob_password}\n\
             Ports:      {ports}\n\
             {busy}\n\
             Send a message from alice to bob, with STARTTLS:\n\
             \n\
             \x20 curl --ssl-reqd --cacert {ca} --url smtp://{HOST}:{submission}/{HOST} --user {alice_login} \
             --mail-from {alice} --mail-rcpt {bob} --upload-file {hello}\n\
             \n\
             Read the newest message as bob, with IMAP and TLS from the first byte, then the first one with POP3:\n\
             \n\
             \x20 curl --cacert {ca} --user {bob_login} 'imaps://{HOST}:{imaps}/INBOX;MAILINDEX=*'\n\
             \x20 curl --cacert {ca} --user {bob_login} pop3s://{HOST}:{pop3s}/1\n\
             \n\
             The same way to send, with swaks:\n\
             \n\
             \x20 swaks --server 127.0.0.1:{submission} --tls --tls-verify --tls-ca-path {ca} --auth PLAIN --auth-user {alice} \
             --auth-password {alice_password} --from {alice} --to {bob} --header 'Subject: Hello from swaks'\n\
             \n\
             Look at the TLS of two of the ports:\n\
             \n\
             \x20 openssl s_client -brief -verify_return_error -verify_hostname {HOST} -CAfile {ca} \
             -connect {HOST}:{submission} -starttls smtp </dev/null\n\
             \x20 openssl s_client -brief -verify_return_error -verify_hostname {HOST} -CAfile {ca} \
             -connect {HOST}:{imaps} </dev/null\n\
             \n\
             Make another account, while this runs:\n\
             \n\
             \x20 {program} account add carol@{DOMAIN} --config {configuration}\n\
             \n\
             Thunderbird: Settings, Privacy & Security, Manage Certificates, Authorities: import {ca_path}\n\
             and trust it to identify websites. Then a new mail account, configured manually:\n\
             \n\
             \x20 Incoming  IMAP  {HOST}  port {imaps}  SSL/TLS   (or port {imap}  STARTTLS)   Normal password\n\
             \x20 Outgoing  SMTP  {HOST}  port {submissions}  SSL/TLS   (or port {submission}  STARTTLS)   Normal password\n\
             \x20 User name {alice} or {bob}, with the password above\n\
             \n",
            directory = self.directory.root().display(),
            program = std::env::current_exe().map_or_else(|_| "waxseal".to_owned(), |path| quoted(&path)),
            configuration = quoted(&self.directory.path(CONFIGURATION)),
            ca_path = self.directory.path("ca.pem").display(),
            alice = alice.address,
            alice_password = alice.password,
            alice_login = login(alice),
            bob = bob.address,
            bob_password = bob.password,
            bob_login = login(bob),
            ports = self.ports_in_words(),
            busy = self.busy_in_words(),
        )
    }

    fn port(&self, name: &str) -> u16 {
        self.ports.iter().find(|open| open.door.name == name).map_or(0, |open| open.port)
    }

    fn ports_in_words(&self) -> String {
        self.ports
            .iter()
            .map(|open| format!("{} {}", open.door.name, open.port))
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// A line for each port that was not free.
    fn busy_in_words(&self) -> String {
        let mut text = String::new();
        for open in self.ports {
            if let Some(busy) = &open.instead {
                let name = open.door.name;
                let _ = writeln!(
                    text,
                    "            {name} is on {} because {} is held by {}",
                    open.port, busy.port, busy.holder
                );
            }
        }
        text
    }
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+@,:=".contains(&byte);
    if text.bytes().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        assert_eq!(quoted(Path::new("/tmp/waxseal-quickstart/ca.pem")), "/tmp/waxseal-quickstart/ca.pem");
        for path in ["/tmp/two words", "/tmp/it's", "/tmp/$(id)", "/tmp/a;b", "/tmp/\u{e4}"] {
            let echoed = std::process::Command::new("sh")
                .args(["-c", &format!("printf %s {}", quoted(Path::new(path)))])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(echoed.stdout).unwrap(), path);
        }
    }
}
