//! Host names as they are written in configurations.

/// Why a text is no host name (RFC 1123 section 2.1).
pub(crate) fn refuse_hostname(name: &str) -> Result<(), &'static str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if !name.is_ascii() {
        return Err("it is not ASCII: write the form that begins with xn--");
    }
    if name.is_empty() || name.len() > 253 {
        return Err("it must have 1 to 253 characters");
    }
    for label in name.split('.') {
        if label.is_empty() || label.len() > 63 {
            return Err("between two dots there must be 1 to 63 characters");
        }
        if !label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
            return Err("only letters, digits, hyphens and dots may stand in it");
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err("no part of it may begin or end with a hyphen");
        }
    }
    Ok(())
}

/// As [`refuse_hostname`], but the first label may be `*`.
pub(crate) fn refuse_pattern(name: &str) -> Result<(), &'static str> {
    refuse_hostname(name.strip_prefix("*.").unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_told_from_what_is_none() {
        for good in
            ["mail.example.org", "mail.example.org.", "localhost", "xn--bcher-kva.example", "a_b", "1.2.3.4"]
        {
            assert_eq!(refuse_hostname(good), Ok(()), "{good}");
        }
        for bad in
            ["", ".", "a..b", "-a.b", "a-.b", "a b", "a\r\nb", "bücher.example", "*.a", "[::1]", "a:25"]
        {
            assert!(refuse_hostname(bad).is_err(), "{bad}");
        }
        assert!(refuse_hostname(&"a".repeat(64)).is_err());
        assert!(refuse_hostname(&"a.".repeat(128)).is_err());
        assert_eq!(refuse_pattern("*.example.org"), Ok(()));
        assert!(refuse_pattern("*.*.example.org").is_err());
    }
}
