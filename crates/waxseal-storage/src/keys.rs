//! Every key's name, in one place. A lease has the name of the value that it protects: whoever makes an account holds
//! the lease [`account`], whoever orders certificates for a set of names the lease [`ordering`].

use crate::key::{Key, KeyError};

/// Longest readable part of a segment made from names; what distinguishes is the digest behind it.
const MAX_READABLE: usize = 120;

/// Where certificates with their keys are: one value for each name set and key type.
pub const CERTIFICATES: &str = "certificates";
/// Where histories are: one value for each name set and key type.
pub const ATTEMPTS: &str = "attempts";
/// Where answers to http-01 are: one value for each token.
pub const HTTP_01: &str = "challenges/http-01";
/// Where answers to tls-alpn-01 are: one value for each name.
pub const TLS_ALPN_01: &str = "challenges/tls-alpn-01";
/// Where exports are: one value for each certificate file that is kept up to date.
pub const EXPORTS: &str = "exports";

/// The first segments of all keys.
pub(crate) const ROOTS: [&str; 8] = [
    "accounts",
    ATTEMPTS,
    CERTIFICATES,
    "challenges",
    EXPORTS,
    "orders",
    // Where it is tried whether anything can be written.
    "preflight",
    "renewal-info",
];

/// The account at a CA, named by its directory address, for these contacts.
///
/// # Errors
///
/// None for texts of any kind; the type is that of all keys.
pub fn account(directory: &str, contacts: &[String]) -> Result<Key, KeyError> {
    let host = directory.split("://").last().unwrap_or(directory);
    let host = readable(host.split('/').next().unwrap_or(host));
    let contacts = sorted(contacts);
    Key::new(&format!("accounts/{host}-{:016x}/{:016x}", digest([directory]), digest(contacts)))
}

/// The certificate for a set of names (in any order) with a key of `key_type`, and its key.
///
/// # Errors
///
/// A key type with characters that no key may hold.
pub fn certificate(names: &[String], key_type: &str) -> Result<Key, KeyError> {
    Key::new(&format!("{CERTIFICATES}/{}/{key_type}", name_set(names)))
}

/// What was tried for a certificate, and when it may be tried again.
///
/// # Errors
///
/// A key type with characters that no key may hold.
pub fn attempts(names: &[String], key_type: &str) -> Result<Key, KeyError> {
    Key::new(&format!("{ATTEMPTS}/{}/{key_type}", name_set(names)))
}

/// The order in flight for a certificate: its address at the CA and the key it is for, to go on with after a crash.
///
/// # Errors
///
/// A key type with characters that no key may hold.
pub fn order(names: &[String], key_type: &str) -> Result<Key, KeyError> {
    Key::new(&format!("orders/{}/{key_type}", name_set(names)))
}

/// The lease of whoever orders certificates for a set of names. One for all key types: a CA gives the order that is open
/// for these names to whoever asks for another.
///
/// # Errors
///
/// None for names of any kind; the type is that of all keys.
pub fn ordering(names: &[String]) -> Result<Key, KeyError> {
    Key::new(&format!("orders/{}", name_set(names)))
}

/// When the CA would like a certificate to be renewed (RFC 9773).
///
/// # Errors
///
/// A key type with characters that no key may hold.
pub fn renewal_info(names: &[String], key_type: &str) -> Result<Key, KeyError> {
    Key::new(&format!("renewal-info/{}/{key_type}", name_set(names)))
}

/// The export of what is called `name` to the file `certificate`.
///
/// # Errors
///
/// None for texts of any kind; the type is that of all keys.
pub fn export(name: &str, certificate: &str) -> Result<Key, KeyError> {
    Key::new(&format!("{EXPORTS}/{}-{:016x}", readable(name), digest([name, certificate])))
}

/// The answer to an http-01 challenge: the key authorization (RFC 8555 section 8.3).
///
/// # Errors
///
/// A token outside the base64url alphabet, which is no token.
pub fn http_01(token: &str) -> Result<Key, KeyError> {
    Key::new(&format!("{HTTP_01}/{token}"))
}

/// The answer to a tls-alpn-01 challenge for a name as the CA will say it in SNI (RFC 8737 section 3, RFC 8738
/// section 6): certificate and key.
///
/// # Errors
///
/// None for texts of any kind; the type is that of all keys.
pub fn tls_alpn_01(name: &str) -> Result<Key, KeyError> {
    Key::new(&format!("{TLS_ALPN_01}/{}", name_set(&[name.to_owned()])))
}

/// A segment for a set of names: the name itself for one plain name, else the first with a digest of all.
fn name_set(names: &[String]) -> String {
    let names = sorted(names);
    let first = names.first().copied().unwrap_or("none");
    let plain = readable(first);
    if names.len() == 1 && plain == first {
        return plain;
    }
    format!("{plain}+{:016x}", digest(names))
}

fn sorted(texts: &[String]) -> Vec<&str> {
    let mut texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    texts.sort_unstable();
    texts
}

/// `text` with what no key may hold replaced, and cut where it is long.
fn readable(text: &str) -> String {
    let safe = |char: char| if char.is_ascii_alphanumeric() || ".-".contains(char) { char } else { '_' };
    let text: String = text.chars().take(MAX_READABLE).map(safe).collect();
    if text.starts_with('.') || text.is_empty() { format!("_{text}") } else { text }
}

/// FNV-1a with 64 bits over the texts, each ended by a byte that none of them holds. Stays the same for ever, which
/// no hash of the standard library promises; what is told apart here is an operator's own name sets.
fn digest<'a>(texts: impl IntoIterator<Item = &'a str>) -> u64 {
    let bytes = texts.into_iter().flat_map(|text| text.bytes().chain([b'\n']));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn one_plain_name_is_its_own_directory() {
        let key = certificate(&names(&["mail.example.org"]), "ecdsa-p256").expect("a key");
        assert_eq!(key.as_str(), "certificates/mail.example.org/ecdsa-p256");
    }

    #[test]
    fn the_order_of_names_does_not_count_but_each_name_does() {
        let of = |list: &[&str]| certificate(&names(list), "rsa-2048").expect("a key");
        assert_eq!(of(&["b.example", "a.example"]), of(&["a.example", "b.example"]));
        assert_ne!(of(&["a.example", "b.example"]), of(&["a.example", "c.example"]));
        assert_ne!(of(&["a.example", "b.example"]), of(&["a.example"]));
        assert_ne!(of(&["*.example.org"]), of(&["_.example.org"]));
        assert_ne!(of(&["2001:db8::1"]), of(&["2001_db8__1"]));
    }

    #[test]
    fn names_of_any_length_make_a_key() {
        let long = format!("{}.example", "a".repeat(240));
        let other = format!("{}.example.org", "a".repeat(236));
        assert_ne!(tls_alpn_01(&long).expect("a key"), tls_alpn_01(&other).expect("a key"));
    }

    #[test]
    fn a_token_that_is_no_token_is_no_key() {
        assert!(http_01("evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA").is_ok());
        for wrong in ["", "../x", "a/../b", ".hidden", "a b", "%2e"] {
            assert!(http_01(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn accounts_differ_by_ca_and_contact_and_say_the_host() {
        let of = |url, contact: &[&str]| account(url, &names(contact)).expect("a key");
        let one = of("https://ca.example:14000/dir", &["mailto:a@example.org"]);
        assert!(one.as_str().starts_with("accounts/ca.example_14000-"), "{one}");
        assert_ne!(one, of("https://ca.example:14000/other", &["mailto:a@example.org"]));
        assert_ne!(one, of("https://ca.example:14000/dir", &["mailto:b@example.org"]));
    }
}
