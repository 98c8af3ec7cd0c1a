//! However the network cuts the bytes, the same comes of them; and what must not pass never does.

use crate::drive::{self, DialogueEnd, Guarded, OpeningEnd, WHOLE};
use crate::service::Service;
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
    let mut service = Service::new(protocol);
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
