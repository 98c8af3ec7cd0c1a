//! TLS on the leg behind, and whom it trusts.

use std::net::IpAddr;

use waxseal_server::{Address, LegSecurity};
use waxseal_tls::{Connector, Pool, pin_text};

use super::choice::choose;
use super::pem;
use crate::config::file;
use crate::config::model::{Trust, UpstreamTls};
use crate::config::names::refuse_hostname;
use crate::config::nearest::{Ledger, Origin};
use crate::config::problem::Problems;
use crate::config::reader::Located;
use crate::config::source::Span;
use crate::config::values::{Roots, Word};

/// Other words for a mode.
const STRANGERS: [(&str, &str); 4] = [
    ("tls", "`implicit`, or `starttls`"),
    ("ssl", "`implicit`, or `starttls`"),
    ("plain", "`none`"),
    ("clear", "`none`"),
];

/// Decides the leg to `addresses`.
pub(super) fn leg(
    written: &file::UpstreamTls,
    addresses: &[Address],
    header: &Span,
    ledger: &mut Ledger<'_>,
    problems: &mut Problems,
) -> UpstreamTls {
    let mode = choose(&written.mode, "tls.mode", &UpstreamTls::MODES, &STRANGERS, problems);
    let shown = mode.as_ref().map(|mode| mode.with(UpstreamTls::word(mode.value)));
    ledger.only("tls.mode", (Origin::Upstream, &shown), UpstreamTls::word(LegSecurity::None));
    let server_name = server_name(&written.server_name, problems);
    let trust = trust(written, problems).unwrap_or(Trust::System);
    let mode = match mode {
        Some(Located { value: LegSecurity::None, .. }) | None => {
            if mode.is_some() || written.mode.is_none() {
                idle(written, problems);
            }
            LegSecurity::None
        }
        Some(mode) => {
            ledger.only("tls.server-name", (Origin::Upstream, &words(&written.server_name)), None);
            let ca = written.ca.as_ref().map(|ca| ca.with(Some(pem::in_words(&ca.value.0))));
            ledger.only("tls.ca", (Origin::Upstream, &ca), None);
            ledger.only("tls.pin", (Origin::Upstream, &words(&written.pin)), None);
            ledger.only("tls.verify", (Origin::Upstream, &written.verify), true);
            nameless(written, &trust, addresses, header, problems);
            mode.value
        }
    };
    UpstreamTls { mode, server_name, trust }
}

fn words(written: &Option<Located<Word>>) -> Option<Located<Option<String>>> {
    written.as_ref().map(|word| word.with(Some(word.value.as_str().to_owned())))
}

/// What is said about a leg that has no TLS.
fn idle(written: &file::UpstreamTls, problems: &mut Problems) {
    let keys = [
        written.server_name.as_ref().map(|key| &key.key),
        written.ca.as_ref().map(|key| &key.key),
        written.pin.as_ref().map(|key| &key.key),
        written.verify.as_ref().map(|key| &key.key),
    ];
    for key in keys.into_iter().flatten() {
        problems
            .warning(key.clone(), "this has no effect: `tls.mode` is none, so this leg is cleartext")
            .help("set tls.mode = \"starttls\", \"implicit\" or \"mirror\"");
    }
}

/// A certificate is to be verified, and there is no name that it should bear.
fn nameless(
    written: &file::UpstreamTls,
    trust: &Trust,
    addresses: &[Address],
    header: &Span,
    problems: &mut Problems,
) {
    let verified = matches!(trust, Trust::System | Trust::Ca { .. });
    let dialled = addresses.iter().any(|address| matches!(address, Address::Tcp { .. }));
    if verified && !dialled && !addresses.is_empty() && written.server_name.is_none() {
        problems
            .error(header.clone(), "no name is known that the certificate behind a unix socket should bear")
            .help("set `tls.server-name`, or pin the key with `tls.pin`");
    }
}

fn server_name(written: &Option<Located<Word>>, problems: &mut Problems) -> Option<String> {
    let word = written.as_ref()?;
    let name = word.value.as_str();
    if let (Err(_), Err(why)) = (name.parse::<IpAddr>(), refuse_hostname(name)) {
        problems.error(word.span.clone(), format!("`{}` is no host name: {why}", word.value));
        return None;
    }
    Some(name.to_owned())
}

/// Whom the leg trusts; two answers to that are a contradiction.
fn trust(written: &file::UpstreamTls, problems: &mut Problems) -> Option<Trust> {
    let pin = written.pin.as_ref().and_then(|word| pin(word, problems));
    let ca = written.ca.as_ref().and_then(|source| ca(source, problems));
    if let (Some(ca), Some(pin)) = (&written.ca, &written.pin) {
        let later = if ca.key.start > pin.key.start { &ca.key } else { &pin.key };
        problems
            .error(later.clone(), "`ca` and `pin` both say whom to trust")
            .help("leave out one of the two: a pin is the narrower");
        return None;
    }
    let Some(verify) = written.verify.as_ref().filter(|verify| !verify.value) else { return pin.or(ca) };
    if written.ca.is_some() || written.pin.is_some() {
        problems
            .error(
                verify.key.clone(),
                "`verify = false` trusts anyone, `ca` or `pin` somebody: they contradict",
            )
            .help("leave out one of the two");
    } else {
        problems
            .warning(verify.key.clone(), "anyone on the way to this service can pose as it")
            .help("name its key with `tls.pin`, or its CA with `tls.ca`");
    }
    Some(Trust::Any)
}

fn pin(word: &Located<Word>, problems: &mut Problems) -> Option<Trust> {
    let text = word.value.as_str();
    if let Some(waxseal_tls::Trust::Pin(hash)) = waxseal_tls::Trust::from_pin(text) {
        return Some(Trust::Pin(hash));
    }
    let problem = problems.error(word.span.clone(), format!("`{}` is no pin", word.value));
    let hexadecimal = word.value.literal().and_then(from_hexadecimal);
    problem.help(match hexadecimal {
        Some(hash) => format!("write \"{}\"", pin_text(&hash)),
        None => "a pin is sha256: and the base64 of the hash of the service's public key, 44 characters"
            .to_owned(),
    });
    None
}

/// The 32 bytes of 64 hexadecimal digits, with colons between them or not, after `sha256:` or not.
fn from_hexadecimal(text: &str) -> Option<[u8; 32]> {
    let digits = text.trim_start_matches("sha256:").chars().filter(|c| *c != ':');
    let digits: Vec<u8> = digits.map(|c| c.to_digit(16)?.try_into().ok()).collect::<Option<_>>()?;
    let bytes = digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit));
    <[u8; 32]>::try_from(bytes.collect::<Vec<u8>>()).ok().filter(|_| digits.len() == 64)
}

fn ca(source: &Located<Roots>, problems: &mut Problems) -> Option<Trust> {
    let pem = pem::text(&source.value.0, &source.span, problems)?;
    // Whoever connects reads the roots: it says what it makes of them.
    let roots = waxseal_tls::Trust::Roots(pem.clone().into_bytes());
    if let Err(error) = Connector::new(&roots, "localhost", Pool::new(0)) {
        problems
            .error(source.span.clone(), error.to_string())
            .help("`ca` is the path of a file with the CA's root in PEM");
        return None;
    }
    Some(Trust::Ca { pem, written: pem::in_words(&source.value.0) })
}
