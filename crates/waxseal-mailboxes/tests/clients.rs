//! Real clients on the protocols' own ports: what they think of us is what counts.

mod support;

use std::process::{Command, Output};

use support::{House, Leg, PASSWORD, Speak};
use waxseal_mailboxes::smtp::Kind;

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

#[test]
fn swaks_submits_and_delivers() {
    let house = House::new();
    let submission = house.listen(Speak::Mail(Kind::Submission), Leg::Tls).port().to_string();
    for mechanism in ["PLAIN", "LOGIN"] {
        run(Command::new("swaks")
            .args(["--server", "127.0.0.1", "--port", &submission, "--auth", mechanism])
            .args([
                "--auth-user",
                "alice@waxseal.test",
                "--auth-password",
                PASSWORD,
                "--from",
                "alice@waxseal.test",
                "--to",
                "bob@waxseal.test",
                "--body",
                ".dots\n..and more",
            ]));
    }
    let lmtp = house.listen(Speak::Mail(Kind::Lmtp), Leg::Clear).port().to_string();
    run(Command::new("swaks")
        .args(["--protocol", "LMTP", "--server", "127.0.0.1", "--port", &lmtp, "--to"])
        .args(["bob@waxseal.test,alice@waxseal.test", "--pipeline"]));
    let refused = Command::new("swaks")
        .args([
            "--server",
            "127.0.0.1",
            "--port",
            &submission,
            "--to",
            "bob@waxseal.test",
            "--from",
            "bob@waxseal.test",
        ])
        .output()
        .unwrap();
    assert!(!refused.status.success());
    assert_eq!((house.inbox("bob").len(), house.inbox("alice").len()), (3, 1));
    let first = String::from_utf8(house.inbox("bob").remove(0)).unwrap();
    assert!(first.contains("\r\n\r\n.dots\r\n..and more\r\n"));
}

#[test]
fn curl_sends_and_reads_byte_for_byte() {
    let house = House::new();
    let smtp = house.listen(Speak::Mail(Kind::Smtp), Leg::Clear);
    let pop3 = house.listen(Speak::Pop3, Leg::Tls);
    let message = house.dir.path().join("message");
    let text = format!("Subject: bytes\r\n\r\n.\r\n..x\r\n\u{fc}\r\n{}\r\nend\r\n", "y".repeat(990));
    std::fs::write(&message, &text).unwrap();
    run(Command::new("curl")
        .args([
            "-sS",
            &format!("smtp://{smtp}"),
            "--mail-from",
            "c@d.example",
            "--mail-rcpt",
            "alice@waxseal.test",
            "-T",
        ])
        .arg(&message));
    let user = format!("alice@waxseal.test:{PASSWORD}");
    let listed = run(Command::new("curl").args(["-sS", "--user", &user, &format!("pop3://{pop3}/")]));
    assert_eq!(listed.stdout.iter().filter(|byte| **byte == b'\n').count(), 1);
    let read = run(Command::new("curl").args(["-sS", "--user", &user, &format!("pop3://{pop3}/1")]));
    assert!(read.stdout.ends_with(text.as_bytes()));
    assert_eq!(read.stdout, house.inbox("alice")[0]);
}

#[test]
fn poplib_reads_and_removes_what_smtplib_sent() {
    const SCRIPT: &str = r#"
import poplib, smtplib, sys
smtp, pop3, password = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
with smtplib.SMTP("127.0.0.1", smtp) as s:
    s.ehlo()
    s.login("alice@waxseal.test", password)
    for n in range(5):
        s.sendmail("alice@waxseal.test", ["info@waxseal.test"], f"Subject: {n}\r\n\r\n.body {n}\r\n")
    try:
        s.sendmail("alice@waxseal.test", ["x@elsewhere.example"], "x")
        sys.exit("relayed")
    except smtplib.SMTPRecipientsRefused as e:
        assert b"sends nothing to other servers" in e.recipients["x@elsewhere.example"][1]
def session():
    p = poplib.POP3("127.0.0.1", pop3)
    p.user("alice@waxseal.test")
    p.pass_(password)
    return p
p = session()
assert "PIPELINING" in p.capa() and "TOP" in p.capa()
assert p.stat()[0] == 5
ids = p.uidl()[1]
lines = p.retr(3)[1]
assert lines[-3:] == [b"Subject: 2", b"", b".body 2"], lines
p.dele(3)
p.quit()
p = session()
assert [i.split()[1] for i in p.uidl()[1]] == [i.split()[1] for n, i in enumerate(ids) if n != 2]
p.quit()
"#;
    let house = House::new();
    let submission = house.listen(Speak::Mail(Kind::Submission), Leg::Tls).port().to_string();
    let pop3 = house.listen(Speak::Pop3, Leg::Tls).port().to_string();
    run(Command::new("python3").args(["-c", SCRIPT, &submission, &pop3, PASSWORD]));
    assert_eq!(house.inbox("alice").len(), 4);
}
