//! A door never answers behind STARTTLS, never says more than a bounded answer for each line, and never goes
//! on after the end.

use waxseal_proto::{Dialogue, DoorWords, MAX_LINE, Protocol, StartTls, Step};

/// The longest answer to a line: what it echoes of it, escaped, and a list of capabilities.
const MAX_ANSWER: usize = 2 * MAX_LINE + 1024;

/// Talks to a door.
pub fn run(protocol: Protocol, data: &[u8]) {
    let (settings, data) = super::split_settings(data);
    let starttls = if settings & 1 == 0 { StartTls::Required } else { StartTls::Optional };
    let words = DoorWords { hostname: "mx.example".into(), starttls };
    let mut door = Dialogue::new(protocol, words, super::service(protocol)).expect("has STARTTLS");
    let mut said = Vec::new();
    door.greet(&mut said);
    for piece in super::pieces(data) {
        said.clear();
        let lines = piece.iter().filter(|&&byte| byte == b'\n').count();
        let step = door.receive(piece, &mut said);
        assert!(said.len() <= (lines + 1) * MAX_ANSWER, "{} for {lines} lines", said.len());
        match step {
            Step::More => {}
            Step::StartTls(go_ahead) => {
                assert!(piece.ends_with(b"\n"), "granted with bytes behind it");
                assert!(go_ahead.words.ends_with(b"\r\n"));
                assert!(!contains(&said, &go_ahead.words), "said before its time");
                said.clear();
                assert!(matches!(door.receive(b"x", &mut said), Step::Close(_)));
                return;
            }
            Step::Open(start) => {
                assert_eq!(starttls, StartTls::Optional);
                assert!(piece.is_empty() || start.unread.ends_with(&piece[piece.len() - 1..]));
                assert!(start.hello.is_none_or(|hello| hello.ends_with(b"\r\n")));
                return;
            }
            Step::Close(ended) => {
                said.clear();
                assert!(matches!(door.receive(b"NOOP\r\n", &mut said), Step::Close(again) if again == ended));
                assert!(said.is_empty());
                return;
            }
        }
    }
    let _ = door.saw_proxy_header();
}

fn contains(said: &[u8], words: &[u8]) -> bool {
    said.windows(words.len()).any(|window| window == words)
}
