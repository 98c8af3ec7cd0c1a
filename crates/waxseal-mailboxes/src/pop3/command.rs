//! The commands of POP3 (RFC 1939, 2449, 5034).

/// A command, its words checked. Numbers are those of the client's list, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Capa,
    User(String),
    Pass(Vec<u8>),
    Auth { mechanism: Option<String>, initial: Option<String> },
    Stat,
    List(Option<usize>),
    Uidl(Option<usize>),
    Top { message: usize, lines: usize },
    Retr(usize),
    Dele(usize),
    Rset,
    Noop,
    Quit,
}

/// Reads a line without its CRLF; the error is the reply.
pub(crate) fn parse(line: &[u8]) -> Result<Command, &'static str> {
    const SYNTAX: &str = "-ERR Syntax error\r\n";
    let space = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
    let (verb, rest) = line.split_at(space);
    let raw = rest.get(1..).unwrap_or_default();
    let verb = verb.to_ascii_uppercase();
    if verb == b"PASS" {
        // The rest of the line, spaces and all (RFC 1939 section 7).
        return Ok(Command::Pass(raw.to_vec()));
    }
    let text = std::str::from_utf8(raw).map_err(|_| SYNTAX)?;
    let mut words = text.split(' ').filter(|word| !word.is_empty());
    let (first, second) = (words.next(), words.next());
    let number = |word: &str| {
        let digits = word.len() <= 9 && word.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| word.parse::<usize>().ok()).flatten().ok_or(SYNTAX)
    };
    let message =
        |word: &str| number(word).and_then(|number| if number == 0 { Err(SYNTAX) } else { Ok(number) });
    let command = match (verb.as_slice(), first, second) {
        (b"CAPA", None, _) => Command::Capa,
        (b"USER", Some(name), None) => Command::User(name.to_owned()),
        (b"AUTH", mechanism, initial) => Command::Auth {
            mechanism: mechanism.map(str::to_ascii_uppercase),
            initial: initial.map(str::to_owned),
        },
        (b"STAT", None, _) => Command::Stat,
        (b"LIST", which, None) => Command::List(which.map(message).transpose()?),
        (b"UIDL", which, None) => Command::Uidl(which.map(message).transpose()?),
        (b"TOP", Some(which), Some(lines)) => {
            Command::Top { message: message(which)?, lines: number(lines)? }
        }
        (b"RETR", Some(which), None) => Command::Retr(message(which)?),
        (b"DELE", Some(which), None) => Command::Dele(message(which)?),
        (b"RSET", None, _) => Command::Rset,
        (b"NOOP", None, _) => Command::Noop,
        (b"QUIT", None, _) => Command::Quit,
        (
            b"CAPA" | b"USER" | b"STAT" | b"LIST" | b"UIDL" | b"TOP" | b"RETR" | b"DELE" | b"RSET" | b"NOOP"
            | b"QUIT",
            ..,
        ) => return Err(SYNTAX),
        _ => return Err("-ERR Unknown command\r\n"),
    };
    if words.next().is_some() { Err(SYNTAX) } else { Ok(command) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn commands_are_read_in_whatever_case() {
        assert_eq!(parse(b"retr 12"), Ok(Command::Retr(12)));
        assert_eq!(parse(b"TOP 1 0"), Ok(Command::Top { message: 1, lines: 0 }));
        assert_eq!(parse(b"PASS a  b "), Ok(Command::Pass(b"a  b ".to_vec())));
        assert_eq!(parse(b"UIDL"), Ok(Command::Uidl(None)));
        for wrong in [
            "RETR",
            "RETR 0",
            "RETR -1",
            "RETR 1 2",
            "RETR 99999999999",
            "TOP 1",
            "TOP 1 2 3",
            "STAT 1",
            "XYZ",
            "",
        ] {
            assert!(parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_line_upsets_the_reader(line in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = parse(&line);
        }
    }
}
