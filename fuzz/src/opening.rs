//! An opening never takes TLS for granted with bytes unread, never says more than its few lines, and never
//! introduces a client to a service that did not ask for it.

use waxseal_proto::{Client, Goal, Opening, OpeningPlan, OpeningStep, Protocol};

/// More than all that an opening ever says.
const MAX_SAID: usize = 8192;

/// Answers an opening.
pub fn run(protocol: Protocol, data: &[u8]) {
    let (settings, data) = super::split_settings(data);
    let set = |bit: u8| settings & (1 << bit) != 0;
    let client = Client {
        source: if set(4) { "198.51.100.7:4711" } else { "[2001:db8::7]:4711" }.parse().expect("an address"),
        destination: "192.0.2.25:25".parse().expect("an address"),
        helo: set(5).then(|| "client.example".to_owned()),
        session: "session".to_owned(),
    };
    let plan = OpeningPlan {
        hostname: "door.example".to_owned(),
        starttls: set(0),
        introduce: set(1).then_some(client),
        hello: set(2).then(|| b"EHLO client.example\r\n".to_vec()),
        goal: if set(3) { Goal::Learn } else { Goal::Serve },
    };
    let (introduced, starttls) = (plan.introduce.is_some(), plan.starttls);
    let mut opening = Opening::new(protocol, plan).expect("has an opening");
    let (mut said, mut secured, mut heard) = (Vec::new(), false, 0);
    for piece in super::pieces(data) {
        heard += piece.len();
        match opening.receive(piece, &mut said) {
            Ok(OpeningStep::More) => {}
            Ok(OpeningStep::StartTls(_)) => {
                assert!(starttls && !secured);
                assert!(piece.ends_with(b"\n"), "granted with bytes behind it");
                secured = true;
                opening.secured(&mut said);
            }
            Ok(OpeningStep::Ready(ready)) => {
                assert_eq!(secured, starttls, "ready without TLS");
                assert!(ready.unread.len() <= piece.len());
                assert!(!ready.greeting.is_empty());
                // Re-written at most by capabilities heard later.
                assert!(ready.greeting.len() <= heard);
                break;
            }
            Err(error) => {
                assert!(error.to_string().len() < 2048);
                let _ = error.is_about_the_client();
                break;
            }
        }
        assert!(said.len() <= MAX_SAID);
        assert!(said.is_empty() || said.ends_with(b"\r\n"));
    }
    let said = String::from_utf8_lossy(&said);
    assert!(introduced || !(said.contains("XCLIENT") || said.contains("x-originating-ip")));
}
