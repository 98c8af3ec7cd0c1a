//! A service behind the door that can be made to misbehave around STARTTLS.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use waxseal_e2e::{Fake, Ground, KeyKind, Pki};

/// A service that speaks the protocol of its connection far enough, offers STARTTLS, and keeps what it hears.
#[derive(Default)]
pub(crate) struct Behind {
    heard: Mutex<Vec<String>>,
    /// What it answers to STARTTLS, when not as it should.
    pub(crate) mischief: Mutex<Option<Mischief>>,
    /// Whether it keeps from everybody that it knows STARTTLS.
    pub(crate) hides_starttls: AtomicBool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Mischief {
    /// Commands of an attacker's behind the go-ahead, in the same segment.
    SameSegment,
    /// The same, a moment later.
    NextSegment,
    /// No, but goes on in clear.
    Refuses,
}

impl Behind {
    pub(crate) fn start(
        self: &Arc<Self>,
        ground: &Ground,
        name: &str,
        protocol: &'static str,
        pki: &Pki,
    ) -> Fake {
        let behind = Arc::clone(self);
        let tls = pki.leaf(KeyKind::Ecdsa, &["behind.test"]).server();
        Fake::start(ground, name, move |mut wire| {
            let starttls = if behind.hides_starttls.load(Ordering::SeqCst) { "" } else { offer(protocol) };
            if wire.try_send(greeting(protocol, starttls).as_bytes()).is_err() {
                return;
            }
            while let Ok(Some(line)) = wire.try_line() {
                behind.heard.lock().expect("lock").push(format!("clear: {line}"));
                let upper = line.to_ascii_uppercase();
                if !upper.ends_with("STARTTLS") && upper != "STLS" {
                    if wire.try_send(answer(protocol, &line, starttls).as_bytes()).is_err() {
                        return;
                    }
                    continue;
                }
                let tag = line.split(' ').next().unwrap_or_default();
                let mischief = *behind.mischief.lock().expect("lock");
                let go_ahead = go_ahead(protocol, tag);
                let sent = match mischief {
                    None => wire.try_send(go_ahead.as_bytes()),
                    Some(Mischief::SameSegment) => {
                        wire.try_send((go_ahead + &injected_answer(protocol, tag)).as_bytes())
                    }
                    Some(Mischief::NextSegment) => wire.try_send(go_ahead.as_bytes()).and_then(|()| {
                        std::thread::sleep(Duration::from_millis(1));
                        wire.try_send(injected_answer(protocol, tag).as_bytes())
                    }),
                    Some(Mischief::Refuses) => {
                        if wire.try_send(refusal(protocol, tag).as_bytes()).is_err() {
                            return;
                        }
                        continue;
                    }
                };
                let Ok(mut wire) = sent.and_then(|()| wire.try_tls_server(&tls)) else { return };
                if protocol == "managesieve" && wire.try_send(greeting(protocol, "").as_bytes()).is_err() {
                    return;
                }
                while let Ok(Some(line)) = wire.try_line() {
                    behind.heard.lock().expect("lock").push(format!("tls: {line}"));
                    if wire.try_send(answer(protocol, &line, "").as_bytes()).is_err() {
                        return;
                    }
                }
                return;
            }
        })
    }

    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().expect("lock").clone()
    }
}

fn offer(protocol: &str) -> &'static str {
    match protocol {
        "smtp" | "submission" | "lmtp" => "250-STARTTLS\r\n",
        "imap" => " STARTTLS",
        "pop3" => "STLS\r\n",
        _ => "\"STARTTLS\"\r\n",
    }
}

fn greeting(protocol: &str, starttls: &str) -> String {
    match protocol {
        "smtp" | "submission" => "220 behind.test ESMTP\r\n".to_owned(),
        "lmtp" => "220 behind.test LMTP\r\n".to_owned(),
        "imap" => format!("* OK [CAPABILITY IMAP4rev1 ID{starttls} AUTH=PLAIN] ready\r\n"),
        "pop3" => "+OK ready\r\n".to_owned(),
        _ => format!(
            "\"IMPLEMENTATION\" \"behind\"\r\n\"SIEVE\" \"fileinto\"\r\n{starttls}\"SASL\" \"PLAIN\"\r\nOK \"ready\"\r\n"
        ),
    }
}

fn answer(protocol: &str, line: &str, starttls: &str) -> String {
    let mut words = line.split(' ');
    let first = words.next().unwrap_or_default();
    let upper = first.to_ascii_uppercase();
    match protocol {
        "smtp" | "submission" | "lmtp" => match upper.as_str() {
            "EHLO" | "LHLO" => format!("250-behind.test\r\n{starttls}250-PIPELINING\r\n250 AUTH PLAIN\r\n"),
            "QUIT" => "221 2.0.0 Bye\r\n".to_owned(),
            _ => "250 2.0.0 Ok\r\n".to_owned(),
        },
        "imap" => match words.next().unwrap_or_default().to_ascii_uppercase().as_str() {
            "CAPABILITY" => {
                format!("* CAPABILITY IMAP4rev1 ID{starttls} AUTH=PLAIN\r\n{first} OK done\r\n")
            }
            _ => format!("{first} OK done\r\n"),
        },
        "pop3" => match upper.as_str() {
            "CAPA" => format!("+OK\r\nUSER\r\n{starttls}UIDL\r\n.\r\n"),
            _ => "+OK\r\n".to_owned(),
        },
        _ => match upper.as_str() {
            "CAPABILITY" => greeting(protocol, starttls),
            _ => "OK\r\n".to_owned(),
        },
    }
}

fn go_ahead(protocol: &str, tag: &str) -> String {
    match protocol {
        "smtp" | "submission" | "lmtp" => "220 2.0.0 Ready\r\n".to_owned(),
        "imap" => format!("{tag} OK begin\r\n"),
        "pop3" => "+OK begin\r\n".to_owned(),
        _ => "OK \"begin\"\r\n".to_owned(),
    }
}

fn refusal(protocol: &str, tag: &str) -> String {
    match protocol {
        "smtp" | "submission" | "lmtp" => "454 4.7.0 TLS not available\r\n".to_owned(),
        "imap" => format!("{tag} NO not now\r\n"),
        "pop3" => "-ERR not now\r\n".to_owned(),
        _ => "NO \"not now\"\r\n".to_owned(),
    }
}

/// What an attacker between door and service would have the door take for the service's words inside TLS.
fn injected_answer(protocol: &str, tag: &str) -> String {
    match protocol {
        "smtp" | "submission" | "lmtp" => "250-attacker.test\r\n250 AUTH PLAIN\r\n".to_owned(),
        "imap" => format!("* CAPABILITY IMAP4rev1 ATTACKER\r\n{tag} OK attacker\r\n"),
        "pop3" => "+OK attacker\r\n".to_owned(),
        _ => "\"IMPLEMENTATION\" \"attacker\"\r\nOK \"attacker\"\r\n".to_owned(),
    }
}
