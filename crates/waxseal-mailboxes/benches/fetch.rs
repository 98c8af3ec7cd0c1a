//! FLAGS of 100,000 messages and ENVELOPE of 1,000, by us and by Dovecot on the same Maildir (and Dovecot's caches as warm as ours).
//!
//! `cargo bench -p waxseal-mailboxes --bench fetch`. Needs Debian's dovecot-imapd, and root to run it as another user.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use waxseal_mailboxes::accounts::{self, Account};
use waxseal_mailboxes::service::ACCOUNTS_FILE;
use waxseal_mailboxes::{Address, Mailboxes, Peer, TlsWords, imap};

const MESSAGES: usize = 100_000;
const ROUNDS: usize = 5;
const OWNER: &str = "alice@waxseal.test";
/// What is timed, each command on its own.
const COMMANDS: [(&str, &str); 5] = [
    ("FLAGS of 100,000", "FETCH 1:* (UID FLAGS)"),
    ("ENVELOPE of 1,000", "FETCH 1:1000 (ENVELOPE)"),
    ("BODYSTRUCTURE of 1,000", "FETCH 1:1000 (BODYSTRUCTURE)"),
    ("whole, 1,000", "FETCH 1:1000 (BODY.PEEK[])"),
    ("SEARCH of flags", "SEARCH UNSEEN NOT FLAGGED"),
];

/// Fills `maildir/cur`, as another program might have left it.
fn fill(maildir: &Path) {
    for part in ["cur", "new", "tmp"] {
        std::fs::create_dir_all(maildir.join(part)).unwrap();
    }
    for number in 0..MESSAGES {
        let message = format!(
            "Return-Path: <sender@example.test>\r\nReceived: from a (b [192.0.2.1]) by c with ESMTPS id {number};\r\n\tMon, 1 Jun 2026 10:00:00 +0000\r\n\
             From: \"Sender {number}\" <sender@example.test>\r\nTo: Alice <{OWNER}>, bob@waxseal.test\r\nSubject: Message {number} of many\r\n\
             Date: Mon, 1 Jun 2026 10:00:00 +0000\r\nMessage-ID: <{number}@example.test>\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n{0}\r\n--b\r\n\
             Content-Type: text/html\r\n\r\n<p>{0}</p>\r\n--b--\r\n",
            "Words of some length. ".repeat(40)
        );
        let flags = ["", "S", "FS", "RS"][number % 4];
        let name = format!(
            "{}.M{number}P1.host,S={1},W={1}:2,{flags}",
            1_780_000_000 + number / 1000,
            message.len()
        );
        std::fs::write(maildir.join("cur").join(name), message).unwrap();
    }
}

/// Says a command, reads to its end; how many bytes that was.
fn run(input: &mut impl Write, output: &mut impl BufRead, command: &str) -> usize {
    write!(input, "t {command}\r\n").unwrap();
    input.flush().unwrap();
    let mut bytes = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        bytes += output.read_until(b'\n', &mut line).unwrap();
        assert!(!line.is_empty(), "{command}: the connection ended");
        if line.starts_with(b"t ") {
            assert!(line.starts_with(b"t OK"), "{command}: {}", String::from_utf8_lossy(&line));
            return bytes;
        }
        if let Some(length) = literal(&line) {
            bytes += usize::try_from(io::copy(&mut output.take(length), &mut io::sink()).unwrap()).unwrap();
        }
    }
}

fn literal(line: &[u8]) -> Option<u64> {
    let line = line.strip_suffix(b"}\r\n")?;
    let start = line.iter().rposition(|byte| *byte == b'{')?;
    std::str::from_utf8(line.get(start + 1..)?).ok()?.parse().ok()
}

/// SELECT from nothing, SELECT again, then each command: the best of some rounds.
fn measure(mut input: impl Write, output: impl Read) -> Vec<(String, Duration, usize)> {
    let mut output = BufReader::with_capacity(1 << 20, output);
    let mut times = Vec::new();
    for name in ["SELECT, first", "SELECT, again"] {
        let begun = Instant::now();
        let bytes = run(&mut input, &mut output, "SELECT INBOX");
        times.push((name.to_owned(), begun.elapsed(), bytes));
    }
    for (name, command) in COMMANDS {
        let rounds = (0..ROUNDS).map(|_| {
            let begun = Instant::now();
            let bytes = run(&mut input, &mut output, command);
            (begun.elapsed(), bytes)
        });
        let (best, bytes) = rounds.min().unwrap();
        times.push((name.to_owned(), best, bytes));
    }
    times
}

fn ours(dir: &Path) -> Vec<(String, Duration, usize)> {
    let account = Account { address: OWNER.parse::<Address>().unwrap(), aliases: Vec::new(), quota: None };
    accounts::add(&dir.join(ACCOUNTS_FILE), account, b"secret").unwrap();
    let site = Mailboxes::site("mail.waxseal.test", dir, &["waxseal.test".to_owned()]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    stream.set_nodelay(true).unwrap();
    let (served, _) = listener.accept().unwrap();
    served.set_nodelay(true).unwrap();
    served.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.spawn(async move {
        let served = tokio::net::TcpStream::from_std(served).unwrap();
        let tls = Some(TlsWords { version: "TLS1.3".into(), suite: "TLS_AES_256_GCM_SHA384".into() });
        let peer = Peer { source: IpAddr::from([127, 0, 0, 1]), tls, session: "bench".into() };
        imap::serve(served, Arc::clone(&site), peer).await.unwrap();
    });
    let (mut input, mut output) = (stream.try_clone().unwrap(), BufReader::new(stream.try_clone().unwrap()));
    run(&mut input, &mut output, &format!("LOGIN {OWNER} secret"));
    let times = measure(input, stream);
    println!("resident after all: {} MiB", resident_mib());
    times
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) / 1024
}

fn dovecot(dir: &Path, maildir: &Path) -> Vec<(String, Duration, usize)> {
    for above in maildir.ancestors().skip(1).take_while(|above| above.starts_with(dir)) {
        std::fs::set_permissions(above, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    assert!(Command::new("chown").args(["-R", "nobody:nogroup"]).arg(maildir).status().unwrap().success());
    let config = dir.join("dovecot.conf");
    let text = format!(
        "base_dir = {}/run\nlog_path = /dev/stderr\nssl = no\nfirst_valid_uid = 1\nfirst_valid_gid = 1\nmail_location = maildir:{}\n\
         namespace inbox {{\n inbox = yes\n}}\n",
        dir.display(),
        maildir.display()
    );
    std::fs::write(&config, text).unwrap();
    let mut child = Command::new("setpriv")
        .args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "/usr/lib/dovecot/imap", "-c"])
        .arg(&config)
        .env("USER", "nobody")
        .env("HOME", maildir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Debian's dovecot-imapd");
    let times = measure(child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let _ = child.kill();
    let _ = child.wait();
    times
}

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let maildir = dir.path().join("mail/waxseal.test/alice");
    fill(&maildir);
    let ours = ours(dir.path());
    let theirs = dovecot(dir.path(), &maildir);
    println!("{:24}{:>12}{:>12}", "", "waxseal", "Dovecot");
    for ((name, time, bytes), (_, other, other_bytes)) in ours.iter().zip(&theirs) {
        let ms = |time: &Duration| time.as_secs_f64() * 1000.0;
        println!("{name:24}{:>9.1} ms{:>9.1} ms  ({bytes} and {other_bytes} bytes)", ms(time), ms(other));
    }
}
