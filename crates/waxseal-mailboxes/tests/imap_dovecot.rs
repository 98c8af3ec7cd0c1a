//! Debian's Dovecot beside us on the same directory: it gives the same UIDs, flags, envelopes, structures and sections.

mod imap_support;
mod support;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use imap_support::{Imap, note};
use support::{House, Leg, Speak};

/// Dovecot's IMAP, already logged in, over pipes.
struct Dovecot {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Dovecot {
    fn new(maildir: &Path) -> Self {
        let dir = maildir.ancestors().nth(3).unwrap();
        for above in maildir.ancestors().skip(1).take_while(|above| above.starts_with(dir)) {
            std::fs::set_permissions(above, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        // Dovecot does not serve root.
        let owned = Command::new("chown").args(["-R", "nobody:nogroup"]).arg(maildir).status().unwrap();
        assert!(owned.success());
        let config = dir.join("dovecot.conf");
        let text = format!(
            "base_dir = {0}/run\nlog_path = /dev/stderr\nprotocols = imap\nssl = no\nfirst_valid_uid = 1\nfirst_valid_gid = 1\n\
             mail_location = maildir:{1}\nnamespace inbox {{\n inbox = yes\n separator = .\n}}\n",
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
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut dovecot = Self { child, input, output };
        let mut greeting = String::new();
        dovecot.output.read_line(&mut greeting).unwrap();
        assert!(greeting.starts_with("* PREAUTH"), "{greeting}");
        dovecot
    }

    /// The untagged responses of a command that has to succeed.
    fn ok(&mut self, command: &str) -> Vec<String> {
        write!(self.input, "t {command}\r\n").unwrap();
        let mut untagged = Vec::new();
        let mut response = Vec::new();
        loop {
            assert!(self.output.read_until(b'\n', &mut response).unwrap() > 0, "{command}");
            let text = String::from_utf8_lossy(&response).into_owned();
            let text = text.trim_end_matches("\r\n");
            let literal = text.strip_suffix('}').and_then(|text| text.rsplit_once('{'));
            if let Some(length) = literal.and_then(|(_, length)| length.parse::<usize>().ok()) {
                let mut bytes = vec![0; length];
                std::io::Read::read_exact(&mut self.output, &mut bytes).unwrap();
                response.extend(bytes);
                continue;
            }
            if let Some(tagged) = text.strip_prefix("t ") {
                assert!(tagged.starts_with("OK"), "{command}: {tagged}");
                return untagged;
            }
            untagged.push(text.trim_start_matches("* ").to_owned());
            response.clear();
        }
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Messages of all kinds, broken ones too.
fn corpus() -> Vec<String> {
    let mixed = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"=_b\"\n\n";
    let mut messages: Vec<String> = [
        "\n",
        "Subject: only a header\n",
        "Subject: a\n\nbody without end",
        "From: a@b, \"C, D\" <c@d>, E F <e@f> (comment)\nTo: Group: x@y, Z <z@y>;, last@y\nCc: undisclosed-recipients:;\n\nx\n",
        "From: <@relay:a@b>\nSender: s@t (The Sender)\nReply-To: \"R \\\"Q\\\" S\" <r@s>\nBcc: b@c\nIn-Reply-To: <1@x>\nMessage-ID: <2@x>\n\n",
        "From: =?UTF-8?Q?J=C3=BC?= =?UTF-8?Q?rgen?= <j@x>\nSubject: =?UTF-8?B?w6Q=?=\n folded\n\ttwice\nDate: Mon, 7 Feb 1994 21:52:25 -0800 (PST)\n\nx\n",
        "From: \"quoted local\"@x\nTo: a.b@[127.0.0.1]\nSubject: tabs\tand \"quotes\" and \\\n\nx\n",
        "Content-Type: text/html; charset=\"utf-8\"; format=flowed\nContent-Transfer-Encoding: 8bit\nContent-Description: d\nContent-ID: <i@x>\n\n<p>\n",
        "Content-Type: TEXT/Plain; charset=iso-8859-1 (comment); name=\"a;b\"\nContent-Disposition: attachment; filename=\"x y.txt\"; size=3\nContent-Language: de, en\nContent-Location: http://x/\nContent-MD5: Q2hlY2s=\n\nx\n",
        "Content-Type: application/pdf\nContent-Transfer-Encoding: base64\n\nQUJD\n",
        "Content-Type: message/rfc822\n\nSubject: in\nFrom: a@b\n\nline\nline\n",
        "Content-Type: multipart/mixed; boundary=b\n\npre\n--b\n\none\n--b\nContent-Type: text/html\n\n<b>\n--b--\nepi\n",
        "Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: d1\n\nx\n--b\n\nSubject: d2\n\ny\n--b--\n",
        "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nunclosed\n",
        "Content-Type: multipart/alternative; boundary=a\n\n--a\nContent-Type: multipart/related; boundary=r\n\n--r\n\none\n--r\nContent-Type: image/png\n\nPNG\n--a\n\ntwo\n--a--\n",
    ]
    .iter()
    .map(|message| message.replace('\n', "\r\n"))
    .collect();
    let part = |content: &str| format!("--=_b\n{content}\n");
    let parts = [
        "Content-Type: text/plain\n\nplain\ntext",
        "Content-Type: message/rfc822\nContent-Disposition: inline\n\nSubject: in\nContent-Type: multipart/mixed; boundary=in\n\n--in\n\nx\n--in--\n",
        "Content-Type: application/octet-stream; name=x\nContent-Transfer-Encoding: base64\n\nAAEC\n",
        "\nno header",
        "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n=C3=A4=\nb",
    ];
    // Each pair of parts, with the end and without.
    for (first, second) in parts.iter().flat_map(|first| parts.iter().map(move |second| (first, second))) {
        let message = format!("Subject: pair\n{mixed}{}{}", part(first), part(second));
        messages.push(format!("{message}--=_b--\n").replace('\n', "\r\n"));
        messages.push(message.replace('\n', "\r\n"));
    }
    messages
}

/// What the two say in other words, and both may: how words are cased, literals and quoting.
fn normal(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some((before, behind)) = rest.split_once('{') {
        text.push_str(before);
        match behind.split_once("}\r\n") {
            Some((length, bytes)) if length.parse::<usize>().is_ok_and(|length| length <= bytes.len()) => {
                let (literal, behind) = bytes.split_at(length.parse().unwrap());
                text.push_str(&format!("{literal:?}"));
                rest = behind;
            }
            _ => {
                text.push('{');
                rest = behind;
            }
        }
    }
    text.push_str(rest);
    // literal8 is for NUL, and allowed for anything.
    text.replace("] ~", "] ").to_ascii_lowercase()
}

#[test]
fn dovecot_describes_messages_in_the_same_words() {
    let house = House::new();
    let mut ours = Imap::alice(&house);
    let messages = corpus();
    for message in &messages {
        assert!(ours.append("INBOX", "", message).starts_with("OK"));
    }
    let mut dovecot = Dovecot::new(&house.maildir("alice"));
    dovecot.ok("SELECT INBOX");
    let mut differences = Vec::new();
    for items in [
        "UID RFC822.SIZE INTERNALDATE",
        "ENVELOPE",
        "BODYSTRUCTURE",
        "BODY",
        "BODY.PEEK[]",
        "BODY.PEEK[HEADER]",
        "BODY.PEEK[TEXT]",
        "BODY.PEEK[1]",
        "BODY.PEEK[2]",
        "BODY.PEEK[1.1]",
        "BODY.PEEK[2.MIME]",
        "BODY.PEEK[2.HEADER]",
        "BODY.PEEK[2.TEXT]",
        "BODY.PEEK[HEADER.FIELDS (FROM SUBJECT)]",
        "BODY.PEEK[HEADER.FIELDS.NOT (FROM)]",
        "BODY.PEEK[1]<2.3>",
        "BINARY.SIZE[1]",
        "BINARY.PEEK[1]",
    ] {
        for (number, message) in messages.iter().enumerate() {
            let command = format!("FETCH {} ({items})", number + 1);
            let (here, there) = (ours.ok(&command).concat(), dovecot.ok(&command).concat());
            // Of a part that is not there Dovecot gives nothing, we say NIL; and it lets a part without parts be its own part 1.
            let no_part =
                here.ends_with("] NIL)") && (there.ends_with("{0}\r\n)") || items.contains("[1.1]"));
            if normal(&here) != normal(&there) && !no_part {
                differences.push(format!("{message}\n  {command}\n  ours    {here}\n  Dovecot {there}"));
            }
        }
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n\n"));
}

#[test]
fn flags_uids_and_folders_go_there_and_back() {
    let house = House::new();
    let mut ours = Imap::log_in(house.listen(Speak::Imap, Leg::Tls), "alice");
    for number in 0..20 {
        let flags = ["", "(\\Seen) ", "(\\Flagged \\Answered) ", "($Work \\Draft) "][number % 4];
        ours.append("INBOX", flags, &note(&number.to_string()));
    }
    ours.ok("CREATE Entw&APw-rfe.alt");
    ours.append("Entw&APw-rfe.alt", "(Junk) ", &note("deep"));
    ours.ok("SELECT INBOX");
    ours.ok("UID MOVE 5 Archive");
    let figures = ["INBOX", "Archive", "Entw&APw-rfe.alt"]
        .map(|folder| format!("STATUS {folder} (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)"));
    let flags = |lines: Vec<String>| -> Vec<String> {
        let sorted = |line: String| {
            let mut words: Vec<_> =
                line.split([' ', '(', ')']).filter(|word| *word != "\\Recent").map(str::to_owned).collect();
            words.sort();
            words.join(" ")
        };
        lines.into_iter().filter(|line| line.contains("FETCH")).map(sorted).collect()
    };
    let before = flags(ours.ok("FETCH 1:* (UID FLAGS)"));
    let mut dovecot = Dovecot::new(&house.maildir("alice"));
    for status in &figures {
        assert_eq!(
            normal(&ours.ok(status).concat()).replace('"', ""),
            normal(&dovecot.ok(status).concat()).replace('"', "")
        );
    }
    dovecot.ok("SELECT INBOX");
    assert_eq!(flags(dovecot.ok("FETCH 1:* (UID FLAGS)")), before);
    // And back: what Dovecot changes we see, in the open folder.
    dovecot.ok("UID STORE 1:3 +FLAGS (\\Deleted $Later)");
    dovecot.ok("UID COPY 7:8 Archive");
    dovecot.ok("UID EXPUNGE 2");
    let theirs = flags(dovecot.ok("FETCH 1:* (UID FLAGS)"));
    drop(dovecot);
    assert!(ours.ok("NOOP").iter().any(|line| line == "2 EXPUNGE"));
    assert_eq!(flags(ours.ok("FETCH 1:* (UID FLAGS)")), theirs);
    assert!(ours.ok("STATUS Archive (MESSAGES UIDNEXT)")[0].ends_with("(MESSAGES 3 UIDNEXT 4)"));
}
