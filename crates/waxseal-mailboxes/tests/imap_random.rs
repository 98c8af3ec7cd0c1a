//! Commands of any bytes, in any pieces: no panic, no hang, and the same answers however they were cut.

mod imap_support;
mod support;

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use proptest::prelude::*;
use support::{DOMAIN, House, PASSWORD};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Runtime;
use waxseal_mailboxes::{Peer, TlsWords, imap};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// What a client says, in pieces, and what it hears.
struct Script {
    pieces: Vec<Vec<u8>>,
    heard: Arc<std::sync::Mutex<Vec<u8>>>,
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.pieces.first().is_some_and(Vec::is_empty) {
            self.pieces.remove(0);
        }
        if let Some(piece) = self.pieces.first_mut() {
            let length = piece.len().min(buffer.remaining());
            buffer.put_slice(&piece.drain(..length).collect::<Vec<u8>>());
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.heard.lock().unwrap().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What is answered, by a session of its own on a fresh mailbox.
fn answers(text: &[u8], cuts: &[usize]) -> Vec<u8> {
    static HOUSE: LazyLock<House> = LazyLock::new(House::new);
    let mail = tempfile::tempdir().unwrap();
    let site = Arc::new(waxseal_mailboxes::Site {
        hostname: "mail.waxseal.test".into(),
        domains: vec![DOMAIN.to_owned()],
        accounts: Arc::clone(&HOUSE.site.accounts),
        store: waxseal_mailboxes::store::Store::open(mail.path()).unwrap(),
        max_message: 100_000,
    });
    let mut pieces = Vec::new();
    let mut rest = text;
    for cut in cuts {
        let (piece, behind) = rest.split_at((*cut).min(rest.len()));
        pieces.push(piece.to_vec());
        rest = behind;
    }
    pieces.push(rest.to_vec());
    let heard = Arc::default();
    let stream = Script { pieces, heard: Arc::clone(&heard) };
    let tls = Some(TlsWords { version: "TLS1.3".into(), suite: "x".into() });
    let peer = Peer { source: IpAddr::from([127, 0, 0, 1]), tls, session: "test".into() };
    let session = RUNTIME.spawn(imap::serve(stream, site, peer));
    RUNTIME
        .block_on(async { tokio::time::timeout(Duration::from_secs(30), session).await })
        .expect("the session hangs")
        .expect("the session panicked")
        .unwrap();
    let heard = heard.lock().unwrap();
    heard.clone()
}

fn login() -> String {
    format!("l LOGIN alice@{DOMAIN} \"{PASSWORD}\"\r\n")
}

/// UIDVALIDITY and modification sequences come from the clock.
fn without_clock(answers: &[u8]) -> String {
    let text = String::from_utf8_lossy(answers).into_owned();
    let mut out = String::new();
    let mut digits = String::new();
    for character in text.chars().chain(['\n']) {
        if character.is_ascii_digit() {
            digits.push(character);
            continue;
        }
        out.push_str(if digits.len() >= 9 { "N" } else { &digits });
        digits.clear();
        out.push(character);
    }
    out
}

/// Words that commands are made of, so that what is random goes deep.
fn word() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "SELECT",
        "INBOX",
        "FETCH",
        "STORE",
        "SEARCH",
        "UID",
        "1:*",
        "*",
        "1",
        "(",
        ")",
        "FLAGS",
        "+FLAGS",
        "(\\Seen)",
        "BODY[]",
        "BODY.PEEK[1.MIME]<0.9>",
        "ENVELOPE",
        "BODYSTRUCTURE",
        "APPEND",
        "{3+}\r\nabc",
        "{3}\r\nabc",
        "{3}",
        "{99999+}",
        "NOOP",
        "COPY",
        "MOVE",
        "Trash",
        "EXPUNGE",
        "LIST",
        "\"\"",
        "%",
        "CREATE",
        "&AOQ-",
        "STATUS",
        "(MESSAGES)",
        "ENABLE",
        "IMAP4rev2",
        "RETURN",
        "(ALL SAVE)",
        "$",
        "OR",
        "NOT",
        "TEXT",
        "x",
        "IDLE",
        "DONE",
        "CLOSE",
        "EXAMINE",
        "ID",
        "NIL",
        "\"",
        "\\",
        "BINARY[1]",
        "(CHANGEDSINCE 1)",
        "RENAME",
        "DELETE",
        "LSUB",
        "SINCE",
        "1-Feb-2026",
        "LOGOUT",
        "AUTHENTICATE",
        "PLAIN",
    ]);
    prop_oneof![
        8 => known.prop_map(|word| word.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ]
}

fn conversation() -> impl Strategy<Value = Vec<u8>> {
    let command = prop::collection::vec(word(), 1..7)
        .prop_map(|words| [b"t ", words.join(&b' ').as_slice(), b"\r\n"].concat());
    prop::collection::vec(command, 1..20).prop_map(|commands| commands.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_commands_are_answered(text in conversation()) {
        let start = format!("{}s SELECT INBOX\r\na APPEND INBOX {{10+}}\r\nA: b\r\n\r\nhi\r\n", login());
        answers(&[start.as_bytes(), &text].concat(), &[]);
    }

    #[test]
    fn any_bytes_are_answered(text in prop::collection::vec(any::<u8>(), 0..2000)) {
        answers(&text, &[]);
        answers(&[login().as_bytes(), &text].concat(), &[]);
    }

    #[test]
    fn however_it_is_cut_the_answers_are_the_same(
        text in conversation(),
        cuts in prop::collection::vec(0usize..60, 0..40),
    ) {
        let start = format!("{}s SELECT INBOX\r\na APPEND INBOX {{10+}}\r\nA: b\r\n\r\nhi\r\n", login());
        let text = [start.as_bytes(), &text].concat();
        prop_assert_eq!(without_clock(&answers(&text, &[])), without_clock(&answers(&text, &cuts)));
    }
}
