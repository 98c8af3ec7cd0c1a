//! Plays the door before TLS on standard input and output:
//!
//! ```text
//! cargo run -p waxseal-proto --example dialogue -- imap
//! printf 'a CAPABILITY\r\na STARTTLS\r\n' | cargo run -p waxseal-proto --example dialogue -- imap
//! ```
//!
//! A terminal ends lines in LF; this program says CRLF for it.

use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::Arc;

use waxseal_proto::{Capabilities, Dialogue, DoorWords, Protocol, StartTls, Step};

/// What the service behind would have announced.
fn learnt(protocol: Protocol) -> Capabilities {
    let entries: &[&str] = match protocol {
        Protocol::Imap => &["IMAP4rev1", "SASL-IR", "IDLE", "AUTH=PLAIN"],
        Protocol::Pop3 => &["TOP", "UIDL", "SASL PLAIN"],
        Protocol::ManageSieve => {
            &["\"IMPLEMENTATION\" \"example\"", "\"SASL\" \"PLAIN\"", "\"VERSION\" \"1.0\""]
        }
        _ => &["PIPELINING", "SIZE 10240000", "AUTH PLAIN", "8BITMIME"],
    };
    Capabilities::new(protocol, entries.iter().map(|&entry| entry.to_owned()).collect())
}

fn main() -> io::Result<()> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "smtp".to_owned());
    let usage = || io::Error::other(format!("no protocol with STARTTLS: {name}"));
    let protocol: Protocol = name.parse().map_err(|_| usage())?;
    let words = DoorWords { hostname: "mail.example".into(), starttls: StartTls::Required };
    let mut door = Dialogue::new(protocol, words, Arc::new(learnt(protocol))).ok_or_else(usage)?;

    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let typed = input.is_terminal();
    let mut out = Vec::new();
    door.greet(&mut out);
    loop {
        output.write_all(&out)?;
        output.flush()?;
        out.clear();
        let mut line = Vec::new();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if typed {
            line = [line.trim_ascii_end(), b"\r\n"].concat();
        }
        match door.receive(&line, &mut out) {
            Step::More => {}
            Step::StartTls(go_ahead) => {
                // A server asks its socket once more here, writes these words, and begins the handshake with
                // `go_ahead.drained`, without which it could not.
                output.write_all(&go_ahead.words)?;
                eprintln!("(TLS begins)");
                return Ok(());
            }
            Step::Open(start) => {
                eprintln!("(the service is opened with {:?})", String::from_utf8_lossy(&start.unread));
                return Ok(());
            }
            Step::Close(ended) => {
                output.write_all(&out)?;
                eprintln!("(closed: {ended:?})");
                return Ok(());
            }
        }
    }
}
