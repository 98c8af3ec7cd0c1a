//! Commands injected around STARTTLS (CVE-2011-0411 and its kin), on both legs.

use crate::drive::{self, DialogueEnd, WHOLE};
use waxseal_proto::{
    Dialogue, Ended, Goal, Opening, OpeningError, OpeningPlan, OpeningStep, Protocol, StartTls, Step,
};

/// A protocol, how its client asks for TLS, and what an attacker has it say in advance.
const CASES: [(Protocol, &[u8], &[u8]); 6] = [
    (Protocol::Smtp, b"STARTTLS\r\n", b"EHLO evil.example\r\n"),
    (Protocol::Submission, b"STARTTLS\r\n", b"AUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n"),
    (Protocol::Lmtp, b"STARTTLS\r\n", b"LHLO evil.example\r\n"),
    (Protocol::Imap, b"a STARTTLS\r\n", b"b CAPABILITY\r\n"),
    (Protocol::Pop3, b"STLS\r\n", b"CAPA\r\n"),
    (Protocol::ManageSieve, b"STARTTLS\r\n", b"CAPABILITY\r\n"),
];

/// Words of go-aheads and answers, none of which an attacked client may see.
const ANSWERS: [&str; 8] = ["220", "250", "a OK", "b OK", "* CAPABILITY", "+OK", "OK \"", "IMAP4rev1"];

fn door(protocol: Protocol) -> Dialogue {
    drive::door(protocol, StartTls::Required, &[])
}

fn assert_refused(protocol: Protocol, said: &[u8], end: &DialogueEnd) {
    let said = String::from_utf8_lossy(said);
    assert!(
        matches!(end, DialogueEnd::Close(Ended::Injection { bytes }) if *bytes > 0),
        "{protocol}: {end:?}"
    );
    for answer in ANSWERS {
        assert!(!said.contains(answer), "{protocol} answered {said:?}");
    }
}

#[test]
fn injected_command_is_refused_before_ready_is_said() {
    for (protocol, starttls, injected) in CASES {
        let (said, end) = drive::talk(&mut door(protocol), &[starttls, injected].concat(), WHOLE);
        assert_refused(protocol, &said, &end);
    }
}

#[test]
fn injected_command_is_refused_wherever_the_segments_are_cut() {
    for (protocol, starttls, injected) in CASES {
        let input = [starttls, injected].concat();
        for cut in 1..input.len() {
            let (said, end) = drive::talk(&mut door(protocol), &input, &[cut, usize::MAX]);
            assert_refused(protocol, &said, &end);
        }
    }
}

#[test]
fn a_single_byte_behind_starttls_is_an_injection() {
    for (protocol, starttls, _) in CASES {
        for byte in [b"\n", b"\r", b"x", b"\0", b"\x16"] {
            let (said, end) = drive::talk(&mut door(protocol), &[starttls, byte].concat(), WHOLE);
            assert_eq!(end, DialogueEnd::Close(Ended::Injection { bytes: 1 }), "{protocol}");
            assert_refused(protocol, &said, &end);
        }
    }
}

#[test]
fn starttls_with_a_bare_line_end_is_not_granted() {
    for (protocol, starttls, _) in CASES {
        for end in ["\n", "\r", "\n\r", "\r\r\n"] {
            let line = [starttls.trim_ascii_end(), end.as_bytes()].concat();
            let (_, end) = drive::talk(&mut door(protocol), &line, WHOLE);
            assert_eq!(end, DialogueEnd::More, "{protocol}: {}", line.escape_ascii());
        }
    }
}

#[test]
fn nothing_is_answered_after_the_end() {
    for (protocol, starttls, injected) in CASES {
        let mut door = door(protocol);
        drive::talk(&mut door, &[starttls, injected].concat(), WHOLE);
        let mut said = Vec::new();
        for input in [starttls, injected, b""] {
            assert!(
                matches!(door.receive(input, &mut said), Step::Close(Ended::Injection { .. })),
                "{protocol}"
            );
        }
        assert_eq!(said, b"", "{protocol}");
    }
}

/// How each kind of service comes to grant STARTTLS.
const SERVICES: [(Protocol, &[&[u8]]); 6] = [
    (Protocol::Smtp, &[b"220 mx\r\n", b"250-mx\r\n250 STARTTLS\r\n", b"220 go\r\n"]),
    (Protocol::Submission, &[b"220 mx\r\n", b"250-mx\r\n250 STARTTLS\r\n", b"220 go\r\n"]),
    (Protocol::Lmtp, &[b"220 mx\r\n", b"250-mx\r\n250 STARTTLS\r\n", b"220 go\r\n"]),
    (Protocol::Imap, &[b"* OK [CAPABILITY STARTTLS] mx\r\n", b"w1 OK go\r\n"]),
    (Protocol::Pop3, &[b"+OK mx\r\n", b"+OK\r\nSTLS\r\n.\r\n", b"+OK go\r\n"]),
    (Protocol::ManageSieve, &[b"\"STARTTLS\"\r\nOK\r\n", b"OK go\r\n"]),
];

fn opening(protocol: Protocol) -> Opening {
    let hostname = "door.example".into();
    let plan = OpeningPlan { hostname, starttls: true, introduce: None, hello: None, goal: Goal::Serve };
    Opening::new(protocol, plan).expect("has an opening")
}

#[test]
fn bytes_behind_the_services_go_ahead_are_refused() {
    for (protocol, replies) in SERVICES {
        for injected in [&b"\n"[..], b"2", b"250 injected\r\n", b"* OK injected\r\n"] {
            let (mut opening, mut said) = (opening(protocol), Vec::new());
            let (go_ahead, before) = replies.split_last().expect("replies");
            for reply in before {
                assert!(matches!(opening.receive(reply, &mut said), Ok(OpeningStep::More)), "{protocol}");
            }
            let result = opening.receive(&[go_ahead, injected].concat(), &mut said);
            let bytes = injected.len();
            assert_eq!(result.expect_err("injected"), OpeningError::Injected { bytes }, "{protocol}");
        }
    }
}

#[test]
fn a_service_that_grants_starttls_cleanly_is_gone_on_with() {
    for (protocol, replies) in SERVICES {
        let (mut opening, mut said) = (opening(protocol), Vec::new());
        let last = replies.iter().map(|reply| opening.receive(reply, &mut said)).last();
        assert!(matches!(last, Some(Ok(OpeningStep::StartTls(_)))), "{protocol}");
    }
}

#[test]
fn a_client_that_begins_with_a_proxy_header_is_noticed() {
    let heads = [
        &b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"[..],
        b"PROXY UNKNOWN\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11",
    ];
    for (protocol, ..) in CASES {
        for head in heads {
            for cut in 1..head.len() {
                let mut door = door(protocol);
                let _ = drive::talk(&mut door, head, &[cut, usize::MAX]);
                assert!(door.saw_proxy_header(), "{protocol}: {}", head.escape_ascii());
            }
        }
        let mut plain = door(protocol);
        let _ = drive::talk(&mut plain, b"\r\nPROXYTCP\r\nEHLO PROXY TCP4\r\n", WHOLE);
        assert!(!plain.saw_proxy_header());
    }
}
