//! An IMAP client that says commands and hears whole responses, literals in them.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::support::{DOMAIN, House, Leg, PASSWORD, Speak};

pub struct Imap {
    stream: BufReader<TcpStream>,
    tags: u32,
}

impl Imap {
    /// Connects, and hears the greeting.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut client = Self { stream: BufReader::new(stream), tags: 0 };
        let greeting = client.response();
        assert!(greeting.starts_with("* OK [CAPABILITY "), "{greeting}");
        client
    }

    pub fn log_in(address: SocketAddr, local: &str) -> Self {
        let mut client = Self::connect(address);
        client.ok(&format!("LOGIN {local}@{DOMAIN} \"{PASSWORD}\""));
        client
    }

    /// Alice, logged in, with her INBOX open.
    pub fn alice(house: &House) -> Self {
        let mut client = Self::log_in(house.listen(Speak::Imap, Leg::Tls), "alice");
        client.ok("SELECT INBOX");
        client
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// One response without its last line end, literals in place; empty at the end of the connection.
    pub fn response(&mut self) -> String {
        let mut response = Vec::new();
        loop {
            let start = response.len();
            self.stream.read_until(b'\n', &mut response).unwrap();
            let line = String::from_utf8_lossy(&response[start..]).into_owned();
            let Some(line) = line.strip_suffix("\r\n") else { break };
            response.truncate(response.len() - 2);
            let literal = line.strip_suffix('}').and_then(|line| line.rsplit_once('{'));
            let Some(length) = literal.and_then(|(_, length)| length.parse().ok()) else { break };
            response.extend_from_slice(b"\r\n");
            let mut bytes = vec![0; length];
            self.stream.read_exact(&mut bytes).unwrap();
            response.extend(bytes);
        }
        String::from_utf8_lossy(&response).into_owned()
    }

    /// Says a command; its untagged responses without `* `, and the tagged one without its tag.
    pub fn run(&mut self, command: impl AsRef<[u8]>) -> (Vec<String>, String) {
        let tag = self.begin(command);
        self.finish(&tag)
    }

    /// Says a command, and gives its tag.
    pub fn begin(&mut self, command: impl AsRef<[u8]>) -> String {
        self.tags += 1;
        let tag = format!("t{}", self.tags);
        self.send([tag.as_bytes(), b" ", command.as_ref(), b"\r\n"].concat());
        tag
    }

    /// Hears up to the tagged response.
    #[track_caller]
    pub fn finish(&mut self, tag: &str) -> (Vec<String>, String) {
        let mut untagged = Vec::new();
        loop {
            let response = self.response();
            if let Some(rest) = response.strip_prefix("* ") {
                untagged.push(rest.to_owned());
            } else if let Some(rest) = response.strip_prefix(&format!("{tag} ")) {
                return (untagged, rest.to_owned());
            } else {
                assert!(response.starts_with("+ "), "{response:?} after {untagged:?}");
            }
        }
    }

    /// Says a command that has to succeed, and gives its untagged responses.
    #[track_caller]
    pub fn ok(&mut self, command: &str) -> Vec<String> {
        let (untagged, tagged) = self.run(command);
        assert!(tagged.starts_with("OK"), "{command}: {tagged}");
        untagged
    }

    /// Says a command whose tagged response has to begin so.
    #[track_caller]
    pub fn expect(&mut self, command: impl AsRef<[u8]>, beginning: &str) -> Vec<String> {
        let (untagged, tagged) = self.run(&command);
        assert!(tagged.starts_with(beginning), "{}: {tagged}", String::from_utf8_lossy(command.as_ref()));
        untagged
    }

    /// Appends a message; `arguments`: flags and date, with a space behind.
    #[track_caller]
    pub fn append(&mut self, folder: &str, arguments: &str, message: &str) -> String {
        let (_, tagged) = self.run(format!("APPEND {folder} {arguments}{{{}+}}\r\n{message}", message.len()));
        tagged
    }

    /// Begins to idle.
    pub fn idle(&mut self) -> String {
        let tag = self.begin("IDLE");
        assert!(self.response().starts_with("+ "));
        tag
    }
}

/// A message of one line.
pub fn note(subject: &str) -> String {
    format!(
        "From: Alice <alice@{DOMAIN}>\r\nTo: bob@{DOMAIN}\r\nSubject: {subject}\r\n\r\nAbout {subject}.\r\n"
    )
}
