//! The sample message.

use std::time::{SystemTime, UNIX_EPOCH};

use super::DOMAIN;
use super::directory::{Directory, DirectoryError, Visibility};

/// Its file.
pub(super) const FILE: &str = "hello.eml";
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Writes it, unless it is there: whoever changed it wants it so.
pub(super) fn write(directory: &Directory) -> Result<(), DirectoryError> {
    if !directory.path(FILE).exists() {
        directory.write(FILE, text(directory, SystemTime::now()), Visibility::Public)?;
    }
    Ok(())
}

/// Lines end in CRLF, as they do on the wire: what is read is then what was sent, byte for byte.
fn text(directory: &Directory, now: SystemTime) -> String {
    let [sender, reader] = directory.logins();
    let number = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!(
        "From: Alice <{}>\r\nTo: Bob <{}>\r\nSubject: Hello from waxseal\r\nDate: {}\r\nMessage-ID: <{number}@{DOMAIN}>\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\
         Hello Bob,\r\n\r\nthis message came through TLS.\r\n\r\nAlice\r\n",
        sender.address,
        reader.address,
        date(now)
    )
}

/// A time as RFC 5322 section 3.3 writes it, without the day of the week.
fn date(time: SystemTime) -> String {
    // 2026-01-31T12:34:56Z
    let text = humantime::format_rfc3339_seconds(time).to_string();
    let part = |range| text.get(range).unwrap_or_default();
    let month = part(5..7).parse::<usize>().ok().and_then(|month| MONTHS.get(month.wrapping_sub(1)));
    format!("{} {} {} {} +0000", part(8..10), month.unwrap_or(&"Jan"), part(0..4), part(11..19))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_written_as_mail_writes_them() {
        assert_eq!(date(UNIX_EPOCH), "01 Jan 1970 00:00:00 +0000");
        assert_eq!(date(UNIX_EPOCH + Duration::from_secs(1_798_761_599)), "31 Dec 2026 23:59:59 +0000");
    }
}
