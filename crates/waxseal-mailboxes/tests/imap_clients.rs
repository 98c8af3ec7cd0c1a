//! Clients from Debian and the standard library: imaplib, curl, mbsync, mutt.

mod imap_support;
mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use imap_support::{Imap, note};
use support::{DOMAIN, House, Leg, PASSWORD, Speak};

#[track_caller]
fn succeed(command: &mut Command) -> String {
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{stdout}\n{stderr}");
    stdout.into_owned()
}

#[test]
fn imaplib_does_its_round() {
    let house = House::new();
    let address = house.listen(Speak::Imap, Leg::Tls);
    let script = r#"
import imaplib, sys, time
host, port, user, password = sys.argv[1:]
c = imaplib.IMAP4(host, int(port))
def ok(answer):
    assert answer[0] == 'OK', answer
    return answer[1]
ok(c.login(user, password))
ok(c.enable('CONDSTORE'))
ok(c.create('Work'))
message = b'Subject: hi\r\nTo: x@y\r\n\r\n' + b'line\r\n' * 1000
ok(c.append('Work', r'(\Seen $Tag)', imaplib.Time2Internaldate(time.time()), message))
assert ok(c.select('Work')) == [b'1']
data = ok(c.fetch('1', '(UID FLAGS BODY.PEEK[])'))
assert data[0][1] == message, data
assert b'$Tag' in data[0][0] or b'$Tag' in data[1]
assert ok(c.uid('search', None, 'SUBJECT', 'hi')) == [b'1']
ok(c.store('1', '+FLAGS', r'(\Deleted)'))
ok(c.copy('1', 'Trash'))
assert ok(c.expunge()) == [b'1']
ok(c.rename('Work', 'Rest'))
names = [line.decode() for line in ok(c.list())]
assert any(name.endswith('"Rest"') for name in names), names
ok(c.status('Trash', '(MESSAGES UIDNEXT HIGHESTMODSEQ)'))
ok(c.select('Rest'))
ok(c.close())
assert c.logout()[0] == 'BYE'
"#;
    succeed(
        Command::new("python3")
            .args(["-c", script, "127.0.0.1", &address.port().to_string()])
            .args([&format!("alice@{DOMAIN}"), PASSWORD]),
    );
}

#[test]
fn curl_puts_a_message_and_gets_it_back() {
    let house = House::new();
    let address = house.listen(Speak::Imap, Leg::Tls);
    let message = note("by curl");
    let file = house.dir.path().join("message");
    std::fs::write(&file, &message).unwrap();
    let curl = |path: &str, more: &[&str]| {
        succeed(
            Command::new("curl")
                .args([
                    "-sS",
                    "--user",
                    &format!("alice@{DOMAIN}:{PASSWORD}"),
                    &format!("imap://{address}/{path}"),
                ])
                .args(more),
        )
    };
    curl("Drafts", &["-T", file.to_str().unwrap()]);
    assert_eq!(curl("Drafts;UID=1", &[]), message);
    assert_eq!(curl("Drafts;UID=1;SECTION=TEXT", &[]), "About by curl.\r\n");
    assert!(curl("Drafts?SUBJECT%20curl", &[]).contains("* SEARCH 1"));
    assert!(curl("", &["-X", "LIST \"\" *"]).contains("\"Drafts\""));
    assert!(curl("Drafts", &["-X", "FETCH 1 (FLAGS)"]).contains("\\Seen"));
}

fn mbsync(dir: &Path, address: SocketAddr) {
    let config = dir.join("mbsyncrc");
    let near = dir.join("near");
    std::fs::create_dir_all(&near).unwrap();
    let text = format!(
        "IMAPAccount a\nHost 127.0.0.1\nPort {}\nUser alice@{DOMAIN}\nPass \"{PASSWORD}\"\nSSLType None\nAuthMechs LOGIN\n\n\
         IMAPStore far\nAccount a\n\nMaildirStore near\nPath {near}/\nInbox {near}/INBOX\nSubFolders Verbatim\n\n\
         Channel c\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nExpunge Both\nSyncState *\n",
        address.port(),
        near = near.display(),
    );
    std::fs::write(&config, text).unwrap();
    succeed(Command::new("mbsync").arg("-c").arg(&config).arg("-a"));
}

/// The subjects in a Maildir, each with the flags in its file name.
fn local(maildir: &Path) -> BTreeSet<String> {
    let files = ["new", "cur"].iter().filter_map(|part| std::fs::read_dir(maildir.join(part)).ok()).flatten();
    files
        .map(|entry| {
            let entry = entry.unwrap();
            let text = std::fs::read_to_string(entry.path()).unwrap();
            let subject = text.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap().to_owned();
            let name = entry.file_name().into_string().unwrap();
            let flags = name.rsplit_once(":2,").map_or("", |(_, flags)| flags).to_owned();
            format!("{subject} {flags}")
        })
        .collect()
}

#[test]
fn mbsync_keeps_a_thousand_messages_the_same_both_ways() {
    let house = House::new();
    let address = house.listen(Speak::Imap, Leg::Tls);
    let mut client = Imap::log_in(address, "alice");
    client.ok("CREATE Work.Plans");
    let mut commands = String::new();
    for number in 0..500 {
        let message = note(&format!("far {number:03}"));
        let folder = if number % 5 == 0 { "Work.Plans" } else { "INBOX" };
        commands.push_str(&format!("APPEND {folder} (\\Flagged) {{{}+}}\r\n{message}\r\nx ", message.len()));
    }
    commands.push_str("NOOP");
    let tag = client.begin(commands);
    let _ = (
        tag,
        std::iter::from_fn(|| Some(client.response()))
            .filter(|line| line.starts_with("x OK"))
            .take(500)
            .count(),
    );
    let near = house.dir.path().join("near");
    for part in ["cur", "new", "tmp"] {
        std::fs::create_dir_all(near.join("INBOX").join(part)).unwrap();
    }
    for number in 0..500 {
        let file = near.join(format!("INBOX/cur/{number}.x:2,S"));
        std::fs::write(file, note(&format!("near {number:03}")).replace("\r\n", "\n")).unwrap();
    }
    mbsync(house.dir.path(), address);
    assert_eq!(local(&near.join("INBOX")).len(), 900);
    assert_eq!(local(&near.join("Work/Plans")).len(), 100);
    client.ok("SELECT INBOX");
    assert_eq!(client.ok("SEARCH RETURN (COUNT) ALL")[0].split(' ').next_back(), Some("900"));
    assert_eq!(client.ok("SEARCH RETURN (COUNT) SEEN SUBJECT near")[0].split(' ').next_back(), Some("500"));
    let sent = client.ok("UID SEARCH SUBJECT \"near 123\"").concat();
    let uid = sent.split(' ').next_back().unwrap();
    // mbsync adds a field of its own to the header.
    assert!(client.ok(&format!("UID FETCH {uid} BODY.PEEK[]"))[0].ends_with("\r\n\r\nAbout near 123.\r\n)"));

    // Changes on both sides.
    client.ok("UID STORE 1:10 +FLAGS.SILENT (\\Answered)");
    client.ok("UID STORE 11:20 +FLAGS.SILENT (\\Deleted)");
    client.ok("UID EXPUNGE 11:20");
    let names: Vec<_> =
        std::fs::read_dir(near.join("INBOX/cur")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let chosen =
        names.iter().filter(|path| std::fs::read_to_string(path).unwrap().contains("Subject: near 00"));
    for path in chosen {
        let name = path.to_str().unwrap();
        let (base, flags) = name.rsplit_once(":2,").unwrap();
        assert_eq!(flags, "S");
        std::fs::rename(path, format!("{base}:2,FS")).unwrap();
    }
    mbsync(house.dir.path(), address);
    let inbox = local(&near.join("INBOX"));
    assert_eq!(inbox.len(), 890);
    assert_eq!(inbox.iter().filter(|line| line.ends_with(" FR")).count(), 10);
    client.ok("NOOP");
    assert_eq!(client.ok("SEARCH RETURN (COUNT) FLAGGED SUBJECT near")[0].split(' ').next_back(), Some("10"));
    let before = client.ok("UID FETCH 1:* FLAGS");
    mbsync(house.dir.path(), address);
    client.ok("NOOP");
    assert_eq!(client.ok("UID FETCH 1:* FLAGS"), before, "a third time changes nothing");
}

#[test]
fn mutt_shows_a_folder_and_saves_a_message() {
    let house = House::new();
    let address = house.listen(Speak::Imap, Leg::Tls);
    let mut client = Imap::log_in(address, "alice");
    client.append("INBOX", "", &note("for mutt"));
    client.append("INBOX", "", &note("the other"));
    let rc = house.dir.path().join("muttrc");
    let settings = format!(
        "set imap_user=\"alice@{DOMAIN}\"\nset imap_pass=\"{PASSWORD}\"\nset ssl_starttls=no\nset ssl_force_tls=no\nset folder=\"imap://{address}/\"\n\
         set spoolfile=\"imap://{address}/INBOX\"\nset confirmappend=no\nset confirmcreate=no\nset delete=yes\nset quit=yes\nset sleep_time=0\nset wait_key=no\n\
         set record=\"\"\nset postponed=\"\"\nset header_cache=\"\"\n\
         push \"<limit>~s mutt<enter><display-message><exit><save-message><kill-line>=Archive<enter><sync-mailbox><quit>\"\n"
    );
    std::fs::write(&rc, settings).unwrap();
    succeed(
        Command::new("timeout")
            .args(["60", "script", "-qec", &format!("mutt -n -F {}", rc.display()), "/dev/null"])
            .env("TERM", "xterm")
            .env("HOME", house.dir.path()),
    );
    client.ok("SELECT Archive");
    assert!(client.ok("FETCH 1 (FLAGS BODY.PEEK[])")[0].contains("Subject: for mutt"));
    client.ok("SELECT INBOX");
    assert_eq!(client.ok("UID SEARCH ALL"), ["SEARCH 2"]);
}
