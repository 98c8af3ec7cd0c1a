//! Services that answer, for guards to stand before.

use waxseal_proto::Protocol;

/// A service of its protocol that cares for nothing but where commands begin and end.
pub(crate) struct Service {
    protocol: Protocol,
    pub(crate) heard: Vec<u8>,
    unread: Vec<u8>,
    awaits: Awaits,
    accepted: usize,
    /// Commands that a guard should not have let through.
    pub(crate) forbidden: Vec<String>,
}

#[derive(Clone, Debug)]
enum Awaits {
    Command,
    /// A line of a login.
    Login {
        tag: String,
    },
    /// A message up to its dot.
    Message,
    /// So many bytes, then the rest of the command or nothing.
    Chunk {
        bytes: usize,
        replies: usize,
    },
    Literal {
        bytes: usize,
        tag: String,
    },
    RestOfLine {
        tag: String,
    },
    LoggedIn,
}

impl Service {
    pub(crate) fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            heard: Vec::new(),
            unread: Vec::new(),
            awaits: Awaits::Command,
            accepted: 0,
            forbidden: Vec::new(),
        }
    }

    pub(crate) fn hears(&mut self, heard: &[u8]) -> Vec<u8> {
        self.heard.extend(heard);
        self.unread.extend(heard);
        let mut replies = String::new();
        while let Some(reply) = self.next() {
            replies += &reply;
        }
        replies.into_bytes()
    }

    fn next(&mut self) -> Option<String> {
        match self.awaits.clone() {
            Awaits::LoggedIn => None,
            Awaits::Chunk { bytes, replies } => {
                let _ = self.take(bytes)?;
                self.awaits = Awaits::Command;
                Some("250 chunk\r\n".repeat(replies))
            }
            Awaits::Literal { bytes, tag } => {
                let _ = self.take(bytes)?;
                self.awaits = Awaits::RestOfLine { tag };
                Some(String::new())
            }
            Awaits::Message => {
                let text = [b"\r\n", &self.unread[..]].concat();
                let end = text.windows(5).position(|window| window == b"\r\n.\r\n")?;
                let _ = self.take(end + 3)?;
                self.awaits = Awaits::Command;
                let replies =
                    if self.protocol == Protocol::Lmtp { std::mem::take(&mut self.accepted) } else { 1 };
                Some("250 queued\r\n".repeat(replies))
            }
            Awaits::Login { tag } => {
                let line = self.line()?;
                if let Some(bytes) = literal(&line) {
                    self.awaits = Awaits::Literal { bytes, tag };
                    return Some(String::new());
                }
                Some(self.login(&tag, &line))
            }
            Awaits::RestOfLine { tag } => {
                let line = self.line()?;
                Some(self.rest(tag, &line))
            }
            Awaits::Command => {
                let line = self.line()?;
                self.check(&line);
                Some(match self.protocol {
                    Protocol::Imap => self.imap(&line),
                    Protocol::Pop3 => self.pop3(&line),
                    Protocol::ManageSieve => self.managesieve(&line),
                    _ => self.smtp(&line),
                })
            }
        }
    }

    fn take(&mut self, bytes: usize) -> Option<Vec<u8>> {
        (self.unread.len() >= bytes).then(|| self.unread.drain(..bytes).collect())
    }

    /// A line as a lax server sees it: ended by any LF.
    fn line(&mut self) -> Option<String> {
        let end = self.unread.iter().position(|&byte| byte == b'\n')?;
        let line = self.take(end + 1)?;
        Some(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    fn check(&mut self, line: &str) {
        let verbs = match self.protocol {
            Protocol::Imap => &["STARTTLS"][..],
            Protocol::Pop3 => &["STLS", "XCLIENT"],
            _ => &["STARTTLS", "XCLIENT"],
        };
        let words: Vec<String> = line.split_whitespace().take(2).map(str::to_ascii_uppercase).collect();
        let is_command = |at: usize| words.get(at).is_some_and(|word| verbs.contains(&word.as_str()));
        let is_imap = self.protocol == Protocol::Imap;
        if is_command(usize::from(is_imap)) || (is_imap && line.contains("x-originating")) {
            self.forbidden.push(line.to_owned());
        }
    }

    fn login(&mut self, tag: &str, secret: &str) -> String {
        // Only the right secret logs in, so that sessions go on.
        let good = secret.contains("c2VjcmV0") || secret.contains(" secret");
        let stays = matches!(self.protocol, Protocol::Smtp | Protocol::Submission | Protocol::Lmtp);
        self.awaits = if good && !stays { Awaits::LoggedIn } else { Awaits::Command };
        match (self.protocol, good) {
            (Protocol::Imap, true) => format!("{tag} OK [CAPABILITY IMAP4rev1 STARTTLS] in\r\n"),
            (Protocol::Imap, false) => format!("{tag} NO no\r\n"),
            (Protocol::Pop3, true) => "+OK in\r\n".into(),
            (Protocol::Pop3, false) => "-ERR no\r\n".into(),
            (Protocol::ManageSieve, true) => "OK \"in\"\r\n".into(),
            (Protocol::ManageSieve, false) => "NO \"no\"\r\n".into(),
            (_, true) => "235 in\r\n".into(),
            (_, false) => "535 no\r\n".into(),
        }
    }

    fn rest(&mut self, tag: String, line: &str) -> String {
        match literal(line) {
            Some(bytes) => {
                self.awaits = Awaits::Literal { bytes, tag };
                if self.protocol == Protocol::Imap { "+ go\r\n".into() } else { String::new() }
            }
            None => self.login(&tag, line),
        }
    }

    fn smtp(&mut self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let verb = words.next().unwrap_or_default().to_ascii_uppercase();
        match verb.as_str() {
            "EHLO" | "LHLO" => {
                self.accepted = 0;
                "250-mail\r\n250-STARTTLS\r\n250-CHUNKING\r\n250 XCLIENT ADDR\r\n".into()
            }
            "RCPT" if line.contains("no@") => "550 no\r\n".into(),
            "RCPT" => {
                self.accepted += 1;
                "250 ok\r\n".into()
            }
            "DATA" if self.accepted == 0 => "503 no\r\n".into(),
            "DATA" => {
                self.awaits = Awaits::Message;
                if self.protocol != Protocol::Lmtp {
                    self.accepted = 0;
                }
                "354 go\r\n".into()
            }
            "BDAT" => {
                let bytes = words.next().and_then(|size| size.parse().ok()).unwrap_or(0);
                let last = words.next().is_some();
                let accepted = if last { std::mem::take(&mut self.accepted).max(1) } else { 1 };
                let replies = if self.protocol == Protocol::Lmtp { accepted } else { 1 };
                self.awaits = Awaits::Chunk { bytes, replies };
                String::new()
            }
            "RSET" | "HELO" => {
                self.accepted = 0;
                "250 ok\r\n".into()
            }
            "AUTH" => {
                self.awaits = Awaits::Login { tag: String::new() };
                "334 \r\n".into()
            }
            "MAIL" | "NOOP" => "250 ok\r\n".into(),
            _ => "500-what\r\n500 STARTTLS\r\n".into(),
        }
    }

    fn imap(&mut self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let tag = words.next().unwrap_or_default().to_owned();
        match words.next().unwrap_or_default().to_ascii_uppercase().as_str() {
            "LOGIN" => {
                let reply = if literal(line).is_some() { "+ go\r\n" } else { "" };
                let rest = self.rest(tag, line);
                if reply.is_empty() { rest } else { reply.into() }
            }
            "AUTHENTICATE" => {
                self.awaits = Awaits::Login { tag };
                "+ \r\n".into()
            }
            "CAPABILITY" => format!("* CAPABILITY IMAP4rev1 STARTTLS\r\n{tag} OK done\r\n"),
            _ => format!("{tag} BAD what\r\n"),
        }
    }

    fn pop3(&mut self, line: &str) -> String {
        let mut words = line.split_whitespace();
        match words.next().unwrap_or_default().to_ascii_uppercase().as_str() {
            "CAPA" => "+OK\r\nUSER\r\nSTLS\r\n.\r\n".into(),
            "AUTH" => {
                self.awaits = Awaits::Login { tag: String::new() };
                "+ \r\n".into()
            }
            "PASS" => self.login("", line),
            "USER" | "NOOP" => "+OK\r\n".into(),
            _ => "-ERR what\r\n".into(),
        }
    }

    fn managesieve(&mut self, line: &str) -> String {
        match line.split_whitespace().next().unwrap_or_default().to_ascii_uppercase().as_str() {
            "AUTHENTICATE" => match literal(line) {
                Some(bytes) => {
                    self.awaits = Awaits::Literal { bytes, tag: String::new() };
                    String::new()
                }
                None => {
                    self.awaits = Awaits::Login { tag: String::new() };
                    "\"challenge\"\r\n".into()
                }
            },
            "CAPABILITY" => "\"SASL\" \"PLAIN\"\r\n\"STARTTLS\"\r\nOK\r\n".into(),
            _ => "NO \"what\"\r\n".into(),
        }
    }
}

fn literal(line: &str) -> Option<usize> {
    let inner = line.strip_suffix('}')?.rsplit_once('{')?.1;
    inner.trim_end_matches(['+', '-']).parse().ok()
}
