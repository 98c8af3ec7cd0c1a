//! What clients log in with: PLAIN (RFC 4616) and LOGIN, in BASE64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// A name and a password.
pub(crate) struct Credentials {
    pub(crate) name: String,
    pub(crate) password: Zeroizing<Vec<u8>>,
}

/// Decodes what a client sends; `=` is nothing (RFC 4954 section 4).
pub(crate) fn decode(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if text == b"=" {
        return Some(Zeroizing::default());
    }
    STANDARD.decode(text).ok().map(Zeroizing::new)
}

/// Reads the message of PLAIN: `authzid NUL authcid NUL password`. To act as somebody else is not possible.
pub(crate) fn plain(message: &[u8]) -> Option<Credentials> {
    let mut parts = message.splitn(3, |byte| *byte == 0);
    let (authzid, authcid, password) = (parts.next()?, parts.next()?, parts.next()?);
    let name = std::str::from_utf8(authcid).ok()?;
    if name.is_empty()
        || password.contains(&0)
        || !(authzid.is_empty() || authzid.eq_ignore_ascii_case(authcid))
    {
        return None;
    }
    Some(Credentials { name: name.to_owned(), password: Zeroizing::new(password.to_vec()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_is_read_as_the_rfc_writes_it() {
        let read = |message: &[u8]| plain(message).map(|found| (found.name.clone(), found.password.to_vec()));
        let right = Some(("a@b".to_owned(), b"secret".to_vec()));
        assert_eq!(read(b"\0a@b\0secret"), right);
        assert_eq!(read(b"A@b\0a@b\0secret"), right);
        for wrong in
            [&b"x@b\0a@b\0secret"[..], b"\0\0secret", b"a@b\0secret", b"", b"\0a@b\0se\0cret", b"\0\xff\0x"]
        {
            assert!(read(wrong).is_none());
        }
        assert_eq!(decode(b"=").unwrap().len(), 0);
        assert!(decode(b"*").is_none());
    }
}
