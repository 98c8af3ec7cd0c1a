//! Whatever a service announces, its capabilities can be asked, and a dialogue over them hides what it must.

use std::sync::Arc;

use waxseal_proto::{Capabilities, Dialogue, DoorWords, Protocol, StartTls, Step};

/// Has a door announce capabilities made of the input's lines.
pub fn run(data: &[u8]) {
    let (settings, data) = super::split_settings(data);
    let spoken = Protocol::ALL.into_iter().filter(|protocol| protocol.has_starttls());
    let protocol = spoken.cycle().nth(usize::from(settings)).expect("some protocol");
    let text = String::from_utf8_lossy(data).replace('\r', "");
    let known = Capabilities::new(protocol, text.lines().map(str::to_owned).collect());
    for entry in known.entries() {
        let _ = (known.offers(entry), known.arguments(entry));
    }
    let _ = (known.offers_starttls(), known.offers_auth());
    let words = DoorWords { hostname: "mx.example".into(), starttls: StartTls::Required };
    let mut door = Dialogue::new(protocol, words, Arc::new(known)).expect("has STARTTLS");
    let mut said = Vec::new();
    door.greet(&mut said);
    let ask: &[u8] = match protocol {
        Protocol::Imap => b"a CAPABILITY\r\n",
        Protocol::Pop3 => b"CAPA\r\n",
        Protocol::ManageSieve => b"CAPABILITY\r\n",
        Protocol::Lmtp => b"LHLO x\r\n",
        _ => b"EHLO x\r\n",
    };
    assert!(matches!(door.receive(ask, &mut said), Step::More));
    assert!(said.ends_with(b"\r\n"));
    let said = String::from_utf8_lossy(&said);
    let once = |what: &str| assert_eq!(said.matches(what).count(), 1, "{what} in {said}");
    match protocol {
        Protocol::Smtp | Protocol::Submission | Protocol::Lmtp => {
            once("\r\n250 ");
            once("\r\n250 STARTTLS\r\n");
        }
        Protocol::Pop3 => once("\r\nSTLS\r\n"),
        Protocol::ManageSieve => assert!(said.matches("\r\n\"STARTTLS\"\r\n").count() == 2),
        _ => assert!(said.matches(" STARTTLS LOGINDISABLED").count() == 2),
    }
}
