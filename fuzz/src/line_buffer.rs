//! Lines are whole, bounded and strict, and nothing is drained that is not.

use waxseal_proto::{LineBuffer, MAX_LINE};

/// Feeds a line buffer piece by piece.
pub fn run(data: &[u8]) {
    let (settings, data) = super::split_settings(data);
    let limit = if settings & 1 == 0 { MAX_LINE } else { 16 };
    let mut buffer = LineBuffer::new(limit);
    let (mut pushed, mut lines) = (0, 0);
    for piece in super::pieces(data) {
        buffer.push(piece);
        pushed += piece.len();
        while let Some(line) = buffer.next() {
            let Ok(line) = line else { continue };
            lines += line.len();
            assert!(line.len() <= limit);
            let content = line.strip_suffix(b"\r\n").expect("ends in CRLF");
            assert!(!content.iter().any(|byte| b"\r\n\0".contains(byte)));
        }
        assert!(buffer.unread() <= limit);
    }
    let unread = buffer.unread();
    assert!(lines + unread <= pushed);
    // Whether the last byte ended a line decides.
    let ended = data.iter().rfind(|&&byte| byte != 0xff).is_none_or(|&byte| byte == b'\n');
    assert_eq!(ended, unread == 0);
    assert_eq!(buffer.drained().is_ok(), ended);
}
