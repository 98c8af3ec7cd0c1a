//! The commands of SMTP, LMTP and submission.

use super::path::{self, Path};

/// A command, its words checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Ehlo(String),
    Helo(String),
    Lhlo(String),
    Mail {
        from: Path,
        parameters: MailParameters,
    },
    Rcpt {
        to: Path,
    },
    Data,
    Bdat {
        size: u64,
        last: bool,
    },
    Rset,
    Noop,
    Quit,
    Help,
    Vrfy,
    Auth {
        mechanism: String,
        initial: Option<String>,
    },
    /// What the door does, and nobody behind it.
    StartTls,
}

/// What may stand behind MAIL FROM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MailParameters {
    /// SIZE (RFC 1870)
    pub(crate) size: Option<u64>,
    /// BODY=8BITMIME (RFC 6152)
    pub(crate) eight_bit: bool,
    /// SMTPUTF8 (RFC 6531)
    pub(crate) utf8: bool,
}

/// Why a line is no command, as the reply to it.
pub(crate) type Refusal = &'static str;

const SYNTAX: Refusal = "501 5.5.4 Syntax error in parameters\r\n";
const UNKNOWN_PARAMETER: Refusal = "555 5.5.4 Parameter not recognized\r\n";

/// Reads a line without its CRLF.
pub(crate) fn parse(line: &[u8]) -> Result<Command, Refusal> {
    let line = std::str::from_utf8(line).map_err(|_| "500 5.5.2 Not UTF-8\r\n")?;
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let rest = rest.trim_matches(' ');
    let alone = |command: Command| if rest.is_empty() { Ok(command) } else { Err(SYNTAX) };
    match verb.to_ascii_uppercase().as_str() {
        "EHLO" => hello(rest).map(Command::Ehlo),
        "HELO" => hello(rest).map(Command::Helo),
        "LHLO" => hello(rest).map(Command::Lhlo),
        "MAIL" => mail(rest),
        "RCPT" => rcpt(rest),
        "DATA" => alone(Command::Data),
        "BDAT" => bdat(rest),
        "RSET" => alone(Command::Rset),
        "NOOP" => Ok(Command::Noop),
        "QUIT" => alone(Command::Quit),
        "HELP" => Ok(Command::Help),
        "VRFY" => Ok(Command::Vrfy),
        "AUTH" => auth(rest),
        "STARTTLS" => alone(Command::StartTls),
        "EXPN" | "TURN" | "ETRN" | "SEND" | "SOML" | "SAML" => Err("502 5.5.1 Command not implemented\r\n"),
        _ => Err("500 5.5.2 Command not recognized\r\n"),
    }
}

fn hello(name: &str) -> Result<String, Refusal> {
    // Clients say all sorts of names; it must only be fit to stand in a Received line.
    let fit = |c: char| c.is_ascii_graphic() && !"()<>\\\"".contains(c);
    let name = name.split(' ').next().unwrap_or_default();
    if name.is_empty()
        || name.len() > 255
        || !name.chars().all(|c| fit(c) || (!c.is_ascii() && !c.is_control()))
    {
        return Err("501 5.5.4 A domain name is needed\r\n");
    }
    Ok(name.to_owned())
}

fn after_keyword<'a>(text: &'a str, keyword: &str) -> Option<&'a str> {
    let (head, rest) = (text.get(..keyword.len())?, text.get(keyword.len()..)?);
    // A space behind the colon is wrong and common.
    head.eq_ignore_ascii_case(keyword).then(|| rest.trim_start_matches(' '))
}

/// A path, and the parameters behind it, at most this many.
fn path_and_parameters<'a>(text: &'a str, keyword: &str) -> Result<(Path, Vec<&'a str>), Refusal> {
    const MAX_PARAMETERS: usize = 16;
    let (path, rest) = after_keyword(text, keyword).and_then(path::path).ok_or(SYNTAX)?;
    if !rest.is_empty() && !rest.starts_with(' ') {
        return Err(SYNTAX);
    }
    let parameters: Vec<&str> = rest.split(' ').filter(|word| !word.is_empty()).collect();
    if parameters.len() > MAX_PARAMETERS { Err(SYNTAX) } else { Ok((path, parameters)) }
}

fn mail(text: &str) -> Result<Command, Refusal> {
    let (from, words) = path_and_parameters(text, "FROM:")?;
    if from == Path::Postmaster {
        return Err(SYNTAX);
    }
    let mut parameters = MailParameters::default();
    let mut seen = Vec::new();
    for word in words {
        let (keyword, value) =
            word.split_once('=').map_or((word, None), |(keyword, value)| (keyword, Some(value)));
        let keyword = keyword.to_ascii_uppercase();
        match (keyword.as_str(), value) {
            ("SIZE", Some(size)) if size.len() <= 20 && size.bytes().all(|byte| byte.is_ascii_digit()) => {
                parameters.size = Some(size.parse().unwrap_or(u64::MAX));
            }
            ("BODY", Some(body)) if body.eq_ignore_ascii_case("7BIT") => {}
            ("BODY", Some(body)) if body.eq_ignore_ascii_case("8BITMIME") => parameters.eight_bit = true,
            ("SMTPUTF8", None) => parameters.utf8 = true,
            // RFC 4954 section 5: taken and, as the client is not trusted to say it, left aside.
            ("AUTH", Some(_)) => {}
            ("SIZE" | "BODY" | "SMTPUTF8" | "AUTH", _) => return Err(SYNTAX),
            _ => return Err(UNKNOWN_PARAMETER),
        }
        if seen.contains(&keyword) {
            return Err(SYNTAX);
        }
        seen.push(keyword);
    }
    Ok(Command::Mail { from, parameters })
}

fn rcpt(text: &str) -> Result<Command, Refusal> {
    let (to, parameters) = path_and_parameters(text, "TO:")?;
    match (to, parameters.is_empty()) {
        (Path::Null, _) => Err(SYNTAX),
        (_, false) => Err(UNKNOWN_PARAMETER),
        (to, true) => Ok(Command::Rcpt { to }),
    }
}

fn bdat(text: &str) -> Result<Command, Refusal> {
    let (size, last) = match text.split_once(' ') {
        None => (text, false),
        Some((size, last)) if last.trim().eq_ignore_ascii_case("LAST") => (size, true),
        Some(_) => return Err(SYNTAX),
    };
    if size.is_empty() || size.len() > 18 || !size.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(SYNTAX);
    }
    size.parse().map(|size| Command::Bdat { size, last }).map_err(|_| SYNTAX)
}

fn auth(text: &str) -> Result<Command, Refusal> {
    let (mechanism, initial) =
        text.split_once(' ').map_or((text, None), |(mechanism, rest)| (mechanism, Some(rest)));
    if mechanism.is_empty() || initial.is_some_and(|initial| initial.contains(' ')) {
        return Err(SYNTAX);
    }
    Ok(Command::Auth { mechanism: mechanism.to_ascii_uppercase(), initial: initial.map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn commands_are_read_in_whatever_case() {
        assert_eq!(parse(b"ehlo [192.0.2.1]"), Ok(Command::Ehlo("[192.0.2.1]".to_owned())));
        assert_eq!(parse(b"BDAT 0 last"), Ok(Command::Bdat { size: 0, last: true }));
        let Ok(Command::Mail { from, parameters }) =
            parse(b"mail FROM:<a@b> size=12 BODY=8bitmime SMTPUTF8 AUTH=<>")
        else {
            panic!()
        };
        assert_eq!(from.text(), "a@b");
        assert_eq!(parameters, MailParameters { size: Some(12), eight_bit: true, utf8: true });
    }

    #[test]
    fn wrong_words_are_refused_each_with_its_code() {
        for (line, code) in [
            ("MAIL FROM:<a@b> SIZE=x", "501"),
            ("MAIL FROM:<a@b> SIZE=1 SIZE=1", "501"),
            ("MAIL FROM:<a@b> RET=FULL", "555"),
            ("MAIL FROM:<a@b>SIZE=1", "501"),
            ("MAIL FROM:a@b", "501"),
            ("RCPT TO:<>", "501"),
            ("RCPT TO:<a@b> NOTIFY=NEVER", "555"),
            ("BDAT -1", "501"),
            ("BDAT 9999999999999999999", "501"),
            ("BDAT", "501"),
            ("DATA now", "501"),
            ("EHLO", "501"),
            ("EHLO a(b", "501"),
            ("EXPN x", "502"),
            ("NONSENSE", "500"),
            ("", "500"),
        ] {
            assert!(parse(line.as_bytes()).unwrap_err().starts_with(code), "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_line_upsets_the_reader(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(&line);
        }

        #[test]
        fn nothing_read_could_break_a_header(line in "(EHLO |MAIL FROM:<|RCPT TO:<)\\PC{0,30}[>]?") {
            match parse(line.as_bytes()) {
                Ok(Command::Ehlo(name)) => prop_assert!(!name.contains(['\r', '\n', '(', ')'])),
                Ok(Command::Mail { from, .. }) => prop_assert!(!from.text().contains(['\r', '\n'])),
                _ => {}
            }
        }
    }
}
