//! `openssl s_client`, and what it says it saw.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::SOON;

/// Stands at the end of what openssl says of a handshake.
const HANDSHAKE_DONE: &str = "Verify return code";

/// One run of `openssl s_client`.
#[derive(Clone, Debug)]
pub struct SClient {
    arguments: Vec<String>,
    lines: Vec<String>,
    cue: String,
    tickets: bool,
}

/// What it saw.
#[derive(Clone, Debug)]
pub struct Seen {
    /// All it said, both streams.
    pub text: String,
    /// The protocol's version as openssl calls it (`TLSv1.3`); none without a handshake.
    pub version: Option<String>,
    /// The suite, in OpenSSL's spelling.
    pub cipher: Option<String>,
    /// The group of the key exchange, in OpenSSL's spelling (`X25519`, `prime256v1`, `secp384r1`).
    pub group: Option<String>,
    /// The protocol agreed by ALPN.
    pub alpn: Option<String>,
    /// The common name of the certificate's subject.
    pub common_name: Option<String>,
    /// The certificate shown, in PEM.
    pub certificate: Option<String>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
    /// Whether the certificate was found good.
    pub verified: bool,
}

impl SClient {
    /// Towards `addr`, TLS from the first byte.
    #[must_use]
    pub fn new(addr: SocketAddr) -> Self {
        let client =
            Self { arguments: Vec::new(), lines: Vec::new(), cue: HANDSHAKE_DONE.to_owned(), tickets: false };
        client.args(&["s_client", "-connect", &addr.to_string()])
    }

    /// With STARTTLS of that protocol, in the words of openssl (`smtp`, `lmtp`, `imap`, `pop3`, `sieve`).
    #[must_use]
    pub fn starttls(self, protocol: &str) -> Self {
        self.args(&["-starttls", protocol])
    }

    /// With more arguments.
    #[must_use]
    pub fn args(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// Asking for `name`, trusting `ca`, and failing when the certificate is not good for it.
    #[must_use]
    pub fn verify(self, ca: &str, name: &str) -> Self {
        self.args(&["-CAfile", ca, "-verify_return_error", "-servername", name, "-verify_hostname", name])
    }

    /// Waits for a session ticket and writes the session to `path`.
    #[must_use]
    pub fn keep_session(mut self, path: &str) -> Self {
        self.tickets = true;
        self.args(&["-sess_out", path])
    }

    /// Sends a line once the handshake is done.
    #[must_use]
    pub fn say(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    /// Sends its lines not before the server has said something that holds `cue`.
    #[must_use]
    pub fn after(mut self, cue: &str) -> Self {
        self.cue = cue.to_owned();
        self
    }

    /// Runs it: handshake, the lines, end.
    ///
    /// # Panics
    /// When openssl cannot be run.
    #[must_use]
    pub fn run(self) -> Seen {
        let mut child = Command::new("openssl")
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("openssl");
        let (sender, lines) = mpsc::channel();
        follow(child.stdout.take().expect("piped"), Stream::Out, sender.clone());
        follow(child.stderr.take().expect("piped"), Stream::Err, sender);
        let mut stdin = child.stdin.take();
        let (mut text, mut out) = (String::new(), String::new());
        let start = Instant::now();
        let mut calm = Duration::from_secs(20);
        // openssl ends when its input ends, which must not be before the handshake and, where
        // tickets are wanted, not before they have come (RFC 8446 section 4.6.1).
        while start.elapsed() < SOON {
            match lines.recv_timeout(calm) {
                Ok((from, line)) => {
                    text.push_str(&line);
                    text.push('\n');
                    if from == Stream::Out {
                        out.push_str(&line);
                        out.push('\n');
                    }
                    if line.contains(&self.cue) && calm > Duration::from_secs(1) {
                        for line in &self.lines {
                            let _ =
                                stdin.as_mut().map(|stdin| stdin.write_all(format!("{line}\r\n").as_bytes()));
                        }
                        let patience = if self.tickets || !self.lines.is_empty() { 600 } else { 60 };
                        calm = Duration::from_millis(patience);
                    }
                }
                Err(mpsc::RecvTimeoutError::Timeout) => drop(stdin.take()),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        let _ = child.kill();
        let _ = child.wait();
        Seen::read(text, &out)
    }
}

impl Seen {
    fn read(text: String, out: &str) -> Self {
        let after = |mark: &str| {
            let found = text.lines().find_map(|line| line.trim_start().strip_prefix(mark));
            found.map(|rest| rest.trim().to_owned())
        };
        let session = text.lines().find(|line| line.contains(", Cipher is ")).unwrap_or_default().to_owned();
        let mut words = session.split(", ");
        let resumed = words.next() == Some("Reused");
        let version = words.next().filter(|v| v.starts_with("TLS")).map(str::to_owned);
        let cipher = session.split("Cipher is ").nth(1).filter(|c| *c != "(NONE)").map(str::to_owned);
        // "X25519, 253 bits", "ECDH, prime256v1, 256 bits"
        let group = after("Server Temp Key:").map(|key| {
            let mut parts = key.split(", ");
            match parts.next() {
                Some("ECDH") => parts.next().unwrap_or_default().to_owned(),
                other => other.unwrap_or_default().to_owned(),
            }
        });
        let subject = after("subject=").unwrap_or_default();
        // With TLS 1.3 a suite stands there from the ServerHello on, whatever comes of it.
        let done = cipher.is_some() && !text.contains("no peer certificate available");
        let common_name = subject.split("CN = ").nth(1).map(|rest| rest.split(',').next().unwrap_or(rest));
        Self {
            version: version.filter(|_| done),
            alpn: after("ALPN protocol:"),
            common_name: common_name.map(str::to_owned),
            certificate: pem(out).map(str::to_owned),
            verified: text.contains("Verify return code: 0 (ok)"),
            resumed,
            cipher,
            group,
            text,
        }
    }

    /// The same, the handshake having succeeded.
    ///
    /// # Panics
    /// When it did not.
    #[must_use]
    pub fn done(self) -> Self {
        assert!(self.version.is_some(), "no handshake: {}", self.text);
        self
    }

    /// The same, the handshake having failed.
    ///
    /// # Panics
    /// When it did not.
    #[must_use]
    pub fn refused(self) -> Self {
        assert!(self.version.is_none(), "a handshake: {}", self.text);
        self
    }
}

/// The first certificate in `out`, which is one of the two streams: where they come together a line of the other may stand in
/// the middle of it.
fn pem(out: &str) -> Option<&str> {
    const END: &str = "-----END CERTIFICATE-----";
    let from = out.find("-----BEGIN CERTIFICATE-----")?;
    let rest = out.get(from..)?;
    rest.get(..rest.find(END)? + END.len())
}

/// One of openssl's two streams.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    Out,
    Err,
}

fn follow(stream: impl Read + Send + 'static, from: Stream, lines: mpsc::Sender<(Stream, String)>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            if lines.send((from, String::from_utf8_lossy(&line).into_owned())).is_err() {
                return;
            }
        }
    });
}
