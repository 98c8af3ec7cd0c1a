//! A guard takes what it says it takes, invents nothing, holds little, and neither shows nor passes what it
//! must not.

use waxseal_proto::{Auth, ClientLeg, Guard, Outputs, Protocol, Taken};

/// The longest answer of a guard's own, beyond what it echoes.
const MAX_ANSWER: usize = 256;

struct Session {
    guard: Guard,
    /// What the client said and the guard would not take yet.
    waiting: Vec<u8>,
    /// How many bytes the client and the service have said.
    said: (usize, usize),
    heard: Outputs,
    over: bool,
}

/// Plays both sides: each piece of the input is the client's or, if its first byte says so, the service's.
pub fn run(protocol: Protocol, data: &[u8]) {
    let (settings, data) = super::split_settings(data);
    let leg = match settings % 3 {
        0 => ClientLeg::Tls,
        1 => ClientLeg::Clear { auth: Auth::Pass },
        _ => ClientLeg::Clear { auth: Auth::Refuse },
    };
    let mut guard = Guard::new(protocol, leg, "mx.example");
    if settings & 0x80 != 0 {
        guard.service_offers(&super::service(protocol));
    }
    let heard = Outputs::default();
    let mut session = Session { guard, waiting: Vec::new(), said: (0, 0), heard, over: false };
    for piece in super::pieces(data) {
        match piece.split_first() {
            Some((0xfe, piece)) => session.service_says(piece),
            _ => session.waiting.extend_from_slice(piece),
        }
        session.client_goes_on();
        if session.over || session.guard.is_transparent() {
            break;
        }
        session.check(protocol, leg);
    }
}

impl Session {
    fn service_says(&mut self, mut piece: &[u8]) {
        self.said.1 += piece.len();
        while !piece.is_empty() && !self.over {
            let mut out = Outputs::default();
            match self.guard.from_service(piece, &mut out) {
                Taken::Pass(count) => {
                    self.heard.to_client.extend_from_slice(&piece[..count]);
                    piece = &piece[count..];
                    assert!(count > 0);
                }
                Taken::Took(count) => {
                    piece = &piece[count..];
                    assert!(count > 0);
                }
                Taken::Wait => panic!("a service never waits"),
                Taken::Close(_) => self.over = true,
            }
            self.note(out);
        }
    }

    fn client_goes_on(&mut self) {
        while !self.waiting.is_empty() && !self.over {
            let mut out = Outputs::default();
            let taken = self.guard.from_client(&self.waiting, &mut out);
            let to_service = std::mem::take(&mut out.to_service);
            self.heard.to_service.extend(to_service);
            match taken {
                Taken::Pass(count) => {
                    assert!(count > 0);
                    self.heard.to_service.extend_from_slice(&self.waiting[..count]);
                    self.waiting.drain(..count);
                    self.said.0 += count;
                }
                Taken::Took(count) => {
                    assert!(count > 0);
                    self.waiting.drain(..count);
                    self.said.0 += count;
                }
                Taken::Wait => {
                    assert!(out.to_client.is_empty());
                    return;
                }
                Taken::Close(_) => self.over = true,
            }
            self.note(out);
        }
    }

    fn note(&mut self, out: Outputs) {
        self.heard.to_service.extend(out.to_service);
        self.heard.to_client.extend(out.to_client);
    }

    fn check(&self, protocol: Protocol, leg: ClientLeg) {
        let (client, service) = self.said;
        let heard = self.heard.to_service.len();
        assert!(heard <= client, "the service heard more than was said");
        // Each own answer is to a line of at least one byte, and so is each LOGINDISABLED that is added.
        assert!(self.heard.to_client.len() <= service * 16 + client * MAX_ANSWER + MAX_ANSWER);
        // Within a literal anything may stand.
        if !self.heard.to_client.contains(&b'{') {
            for line in self.heard.to_client.split(|&byte| byte == b'\n') {
                check_line(protocol, leg, &String::from_utf8_lossy(line).to_ascii_uppercase());
            }
        }
    }
}

fn check_line(protocol: Protocol, leg: ClientLeg, line: &str) {
    let line = line.trim_end_matches('\r');
    match protocol {
        Protocol::Imap => {
            let atoms = line.strip_prefix("* CAPABILITY ").unwrap_or_default();
            let shows = |hidden| atoms.split(' ').any(|atom| atom == hidden);
            assert!(!shows("STARTTLS"), "{line}");
            assert!(leg != ClientLeg::Tls || !shows("LOGINDISABLED"), "{line}");
        }
        Protocol::ManageSieve => assert!(line != "\"STARTTLS\"" && line != "\"XCLIENT\""),
        _ => {}
    }
}
