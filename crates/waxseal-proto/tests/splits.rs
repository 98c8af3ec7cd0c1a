//! However the network cuts the bytes, the same comes of them; and what must not pass never does.

mod drive;

use drive::{DialogueEnd, Guarded, OpeningEnd, WHOLE};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use waxseal_proto::{
    Auth, Client, ClientLeg, Ended, Goal, Guard, LineBuffer, Opening, OpeningError, OpeningPlan, Protocol,
    StartTls,
};

/// Protocols with a dialogue.
const SPOKEN: [Protocol; 6] = [
    Protocol::Smtp,
    Protocol::Submission,
    Protocol::Lmtp,
    Protocol::Imap,
    Protocol::Pop3,
    Protocol::ManageSieve,
];

const SERVICE: [&str; 6] =
    ["PIPELINING", "AUTH PLAIN", "AUTH=PLAIN", "STARTTLS", "STLS", "\"SASL\" \"PLAIN\""];

/// What clients say in any of the protocols, well and badly.
const CLIENT_LINES: &[&str] = &[
    "EHLO client.example\r\n",
    "helo x\r\n",
    "LHLO x\r\n",
    "MAIL FROM:<a@example.org>\r\n",
    "RCPT TO:<b@example.org>\r\n",
    "RCPT TO:<no@example.org>\r\n",
    "DATA\r\n",
    "text\r\n.\r\n",
    ".\r\n",
    "..\r\n",
    "\n.\r\n",
    "BDAT 9\r\nSTARTTLS\n",
    "BDAT 0 LAST\r\n",
    "BDAT 4 LAST\r\nab\r\n",
    "AUTH PLAIN\r\n",
    "AUTH LOGIN dGVzdA==\r\n",
    "STARTTLS\r\n",
    "XCLIENT ADDR=192.0.2.1\r\n",
    "RSET\r\n",
    "NOOP\r\n",
    "QUIT\r\n",
    "what\r\n",
    "a NOOP\r\n",
    "a STARTTLS\r\n",
    "a1 LOGIN alice secret\r\n",
    "a1 LOGIN alice wrong\r\n",
    "a2 LOGIN {5}\r\nalice {3}\r\nbad\r\n",
    "a2 LOGIN {5+}\r\nalice {3-}\r\nbad\r\n",
    "a3 AUTHENTICATE PLAIN\r\n",
    "a4 ID (\"x-originating-ip\" \"192.0.2.1\")\r\n",
    "a5 ID NIL\r\n",
    "a6 ID {10+}\r\na STARTTLS\r\n",
    "a7 CAPABILITY\r\n",
    "CAPA\r\n",
    "STLS\r\n",
    "USER alice\r\n",
    "PASS wrong\r\n",
    "CAPABILITY\r\n",
    "AUTHENTICATE \"PLAIN\"\r\n",
    "AUTHENTICATE \"PLAIN\" {8+}\r\nSTARTTLS\r\n",
    "NOOP {8+}\r\nSTARTTLS\r\n",
    "\"c2VjcmV0\"\r\n",
    "*\r\n",
    "\r\n",
    "\n",
    "\r",
    "bare\rCR\r\n",
    "nul\0\r\n",
    "\u{e9}\r\n",
    "GET / HTTP/1.1\r\n",
    "PROXY TCP4 1.1.1.1 2.2.2.2 3 4\r\n",
    "\u{16}\u{3}\u{1}",
];

/// What services say, well and badly.
const SERVICE_LINES: &[&str] = &[
    "220 mail.example\r\n",
    "220-mail.example\r\n220 ESMTP\r\n",
    "250-mail.example\r\n250-STARTTLS\r\n250 XCLIENT ADDR PORT\r\n",
    "250 ok\r\n",
    "554 no\r\n",
    "* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] ready\r\n",
    "* OK ready\r\n",
    "* CAPABILITY IMAP4rev1 STARTTLS\r\n",
    "* ID (\"x\" {5}\r\nw1 OK)\r\n",
    "w1 OK done\r\n",
    "w2 OK done\r\n",
    "w3 OK done\r\n",
    "w1 NO no\r\n",
    "* BYE no\r\n",
    "+OK ready\r\n",
    "+OK [XCLIENT] ready\r\n",
    "+OK\r\nSTLS\r\nXCLIENT\r\n.\r\n",
    "-ERR no\r\n",
    "\"STARTTLS\"\r\n\"XCLIENT\"\r\nOK\r\n",
    "\"SASL\" \"\"\r\n",
    "OK \"done\"\r\n",
    "OK {3}\r\nabc\r\n",
    "NO\r\n",
    "\n",
    "garbage",
];

fn script(lines: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    vec(select(lines), 0..16).prop_map(|lines| lines.concat().into_bytes())
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    vec(1_usize..40, 1..8)
}

fn starttls() -> impl Strategy<Value = StartTls> {
    select(&[StartTls::Required, StartTls::Optional][..])
}

fn plan() -> impl Strategy<Value = OpeningPlan> {
    let client = Client {
        source: "198.51.100.7:4711".parse().unwrap(),
        destination: "[2001:db8::25]:25".parse().unwrap(),
        helo: Some("client.example".into()),
        session: "s".into(),
    };
    let hello = b"EHLO client.example\r\n".to_vec();
    (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        move |(starttls, introduce, say, learn)| OpeningPlan {
            hostname: "door.example".into(),
            starttls,
            introduce: introduce.then(|| client.clone()),
            hello: say.then(|| hello.clone()),
            goal: if learn { Goal::Learn } else { Goal::Serve },
        },
    )
}

/// How much was injected depends on how much had come.
fn without_count(end: DialogueEnd) -> DialogueEnd {
    match end {
        DialogueEnd::Close(Ended::Injection { .. }) => DialogueEnd::Close(Ended::Injection { bytes: 0 }),
        end => end,
    }
}

fn without_injected_count(end: OpeningEnd) -> OpeningEnd {
    match end {
        OpeningEnd::Failed(OpeningError::Injected { .. }) => {
            OpeningEnd::Failed(OpeningError::Injected { bytes: 0 })
        }
        end => end,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_line_buffer_gives_the_same_lines(input in vec(select(&b"ab\r\n\0\xff{1}"[..]), 0..200), cuts in cuts()) {
        let lines = |cuts: &[usize]| {
            let (mut buffer, mut lines) = (LineBuffer::new(16), Vec::new());
            for piece in drive::pieces(&input, cuts) {
                buffer.push(piece);
                lines.extend(std::iter::from_fn(|| buffer.next()));
            }
            let unread = buffer.unread();
            prop_assert_eq!(buffer.drained().is_ok(), unread == 0);
            Ok((lines, unread))
        };
        prop_assert_eq!(lines(&cuts)?, lines(WHOLE)?);
    }

    #[test]
    fn a_dialogue_comes_to_the_same(
        protocol in select(&SPOKEN[..]), starttls in starttls(), input in script(CLIENT_LINES), cuts in cuts(),
    ) {
        let whole = drive::talk(&mut drive::door(protocol, starttls, &SERVICE), &input, WHOLE);
        let pieces = drive::talk(&mut drive::door(protocol, starttls, &SERVICE), &input, &cuts);
        prop_assert_eq!(String::from_utf8_lossy(&pieces.0), String::from_utf8_lossy(&whole.0));
        prop_assert_eq!(without_count(pieces.1), without_count(whole.1));
    }

    #[test]
    fn nothing_behind_starttls_is_answered(
        protocol in select(&SPOKEN[..]), injected in script(CLIENT_LINES), cuts in cuts(),
    ) {
        let command = match protocol {
            Protocol::Imap => &b"a STARTTLS\r\n"[..],
            Protocol::Pop3 => b"STLS\r\n",
            _ => b"STARTTLS\r\n",
        };
        let mut door = drive::door(protocol, StartTls::Optional, &SERVICE);
        let (said, end) = drive::talk(&mut door, &[command, &injected].concat(), &cuts);
        if injected.is_empty() {
            prop_assert!(said.is_empty());
            prop_assert!(matches!(end, DialogueEnd::StartTls(_)), "{:?}", end);
        } else {
            // One line: the refusal.
            prop_assert_eq!(said.iter().filter(|&&byte| byte == b'\n').count(), 1);
            prop_assert!(matches!(end, DialogueEnd::Close(Ended::Injection { .. })), "{:?}", end);
        }
    }

    #[test]
    fn an_opening_comes_to_the_same(
        protocol in select(&SPOKEN[..]), plan in plan(), before in script(SERVICE_LINES), after in script(SERVICE_LINES),
        cuts in cuts(),
    ) {
        let play = |cuts: &[usize]| {
            let mut opening = Opening::new(protocol, plan.clone()).expect("has an opening");
            let (mut said, end) = drive::open(&mut opening, &before, cuts);
            if end != OpeningEnd::StartTls {
                return (said, without_injected_count(end));
            }
            opening.secured(&mut said);
            let (more, end) = drive::open(&mut opening, &after, cuts);
            said.extend(more);
            (said, without_injected_count(end))
        };
        let (pieces, whole) = (play(&cuts), play(WHOLE));
        prop_assert_eq!(String::from_utf8_lossy(&pieces.0), String::from_utf8_lossy(&whole.0));
        prop_assert_eq!(pieces.1, whole.1);
    }

    #[test]
    fn a_guarded_session_comes_to_the_same_and_no_forbidden_command_passes(
        protocol in select(&SPOKEN[..]), leg in select(&LEGS[..]), input in script(CLIENT_LINES), cuts in cuts(),
    ) {
        let whole = converse(protocol, leg, &input, WHOLE);
        let pieces = converse(protocol, leg, &input, &cuts);
        prop_assert_eq!(String::from_utf8_lossy(&pieces.service.heard), String::from_utf8_lossy(&whole.service.heard));
        prop_assert_eq!(pieces.session.cut, whole.session.cut);
        prop_assert_eq!(pieces.session.guard.is_transparent(), whole.session.guard.is_transparent());
        // A session that is cut loses the replies that were still on their way.
        if whole.session.cut.is_none() {
            let said = |talk: &Conversation| String::from_utf8_lossy(&talk.session.to_client).into_owned();
            prop_assert_eq!(said(&pieces), said(&whole));
        }
        for talk in [whole, pieces] {
            prop_assert_eq!(talk.service.forbidden, Vec::<String>::new());
            let said = String::from_utf8_lossy(&talk.session.to_client).into_owned();
            for hidden in ["250-STARTTLS", "250 STARTTLS", "250 XCLIENT", "\nSTLS\r", "\"STARTTLS\"", "IMAP4rev1 STARTTLS"] {
                prop_assert!(!said.contains(hidden), "{} in {}", hidden, said);
            }
        }
    }
}

const LEGS: [ClientLeg; 3] =
    [ClientLeg::Tls, ClientLeg::Clear { auth: Auth::Pass }, ClientLeg::Clear { auth: Auth::Refuse }];

struct Conversation {
    session: Guarded,
    service: Service,
}

/// Says `input` through a guard to a service that answers.
fn converse(protocol: Protocol, leg: ClientLeg, input: &[u8], cuts: &[usize]) -> Conversation {
    let mut session = Guarded::new(Guard::new(protocol, leg, "mx.example"));
    let mut service = Service {
        protocol,
        heard: Vec::new(),
        unread: Vec::new(),
        awaits: Awaits::Command,
        accepted: 0,
        forbidden: Vec::new(),
    };
    for piece in drive::pieces(input, cuts) {
        session.client_says(piece, WHOLE);
        loop {
            let heard = std::mem::take(&mut session.to_service);
            let reply = service.hears(&heard);
            if heard.is_empty() || session.cut.is_some() {
                break;
            }
            session.service_says(&reply, cuts);
        }
    }
    Conversation { session, service }
}

/// A service of its protocol that cares for nothing but where commands begin and end.
struct Service {
    protocol: Protocol,
    heard: Vec<u8>,
    unread: Vec<u8>,
    awaits: Awaits,
    accepted: usize,
    /// Commands that a guard should not have let through.
    forbidden: Vec<String>,
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
    fn hears(&mut self, heard: &[u8]) -> Vec<u8> {
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
            "EHLO" | "LHLO" => "250-mail\r\n250-STARTTLS\r\n250-CHUNKING\r\n250 XCLIENT ADDR\r\n".into(),
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
            "RSET" => {
                self.accepted = 0;
                "250 ok\r\n".into()
            }
            "AUTH" => {
                self.awaits = Awaits::Login { tag: String::new() };
                "334 \r\n".into()
            }
            "MAIL" | "NOOP" | "HELO" => "250 ok\r\n".into(),
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
