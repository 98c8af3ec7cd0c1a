//! POP3, line by line.

mod support;

use std::io::Write as _;
use std::time::{Duration, Instant};

use support::{Client, House, Leg, PASSWORD, Speak, address};
use waxseal_mailboxes::store::{Access, Flag, FlagChange, Flags, FolderName};

fn put(house: &House, text: &str) {
    let mailbox = house.site.store.mailbox(&address("alice"), None).unwrap();
    let mut draft = mailbox.draft(None).unwrap();
    draft.write_all(text.as_bytes()).unwrap();
    mailbox.save(draft, &FolderName::inbox(), &Flags::new(), None).unwrap();
}

fn log_in(house: &House) -> Client {
    let mut client = house.connect(Speak::Pop3, Leg::Tls);
    client.expect("USER alice@waxseal.test", "+OK");
    client.expect(&format!("PASS {PASSWORD}"), "+OK");
    client
}

fn list(client: &mut Client, command: &str) -> Vec<String> {
    client.send(format!("{command}\r\n"));
    let mut lines = Vec::new();
    while lines.last().is_none_or(|line| line != ".") {
        lines.push(client.line());
    }
    lines
}

#[test]
fn messages_are_listed_read_and_removed_at_quit() {
    let house = House::new();
    put(&house, "A: 1\r\n\r\n.one\r\n");
    put(&house, "B: 2\n\ntwo\nlines");
    let mut client = log_in(&house);
    assert_eq!(client.say("STAT"), "+OK 2 32");
    assert_eq!(list(&mut client, "LIST"), ["+OK", "1 14", "2 18", "."]);
    let ids = list(&mut client, "UIDL");
    assert_eq!(list(&mut client, "RETR 1"), ["+OK", "A: 1", "", "..one", "."]);
    assert_eq!(list(&mut client, "TOP 2 1"), ["+OK", "B: 2", "", "two", "."]);
    client.expect("DELE 1", "+OK");
    client.expect("DELE 1", "-ERR");
    client.expect("RETR 1", "-ERR");
    client.expect("LIST 1", "-ERR");
    client.expect("LIST 3", "-ERR");
    assert_eq!(client.say("STAT"), "+OK 1 18");
    client.expect("RSET", "+OK");
    assert_eq!(list(&mut client, "UIDL"), ids);
    client.expect("DELE 1", "+OK");
    client.expect("QUIT", "+OK");
    assert_eq!(client.rest(), "");
    let mut again = log_in(&house);
    let left = list(&mut again, "UIDL");
    assert_eq!(left[1].strip_prefix("1 "), ids[2].strip_prefix("2 "), "the id of a message stays");
}

#[test]
fn without_quit_nothing_is_removed() {
    let house = House::new();
    put(&house, "x\r\n");
    let mut client = log_in(&house);
    client.expect("DELE 1", "+OK");
    drop(client);
    // The server notices when it reads.
    let patience = Instant::now() + Duration::from_secs(5);
    loop {
        let mut client = house.connect(Speak::Pop3, Leg::Tls);
        client.expect("USER alice@waxseal.test", "+OK");
        if client.say(&format!("PASS {PASSWORD}")).starts_with("+OK 1") {
            break;
        }
        assert!(Instant::now() < patience);
    }
    assert_eq!(house.inbox("alice").len(), 1);
}

#[test]
fn one_session_has_the_maildrop_and_imap_is_not_kept_out() {
    let house = House::new();
    put(&house, "x\r\n");
    let mut first = log_in(&house);
    let mut second = house.connect(Speak::Pop3, Leg::Tls);
    second.expect("USER alice@waxseal.test", "+OK");
    second.expect(&format!("PASS {PASSWORD}"), "-ERR [IN-USE]");
    let mailbox = house.site.store.mailbox(&address("alice"), None).unwrap();
    let mut folder = mailbox.open(&FolderName::inbox(), Access::ReadWrite).unwrap();
    let uid = folder.messages()[0].uid;
    let flags = [Flag::Deleted].into_iter().collect();
    folder.set_flags(&[uid], FlagChange::Add, &flags, None).unwrap();
    // Renamed under the session's feet, then gone.
    assert_eq!(list(&mut first, "RETR 1"), ["+OK", "x", "."]);
    folder.expunge(None).unwrap();
    first.expect("RETR 1", "-ERR");
    first.expect("QUIT", "+OK");
    second.expect("USER alice@waxseal.test", "+OK");
    second.expect(&format!("PASS {PASSWORD}"), "+OK 0");
}

#[test]
fn passwords_are_taken_inside_tls_only() {
    let house = House::new();
    let mut clear = house.connect(Speak::Pop3, Leg::Clear);
    let offered = list(&mut clear, "CAPA");
    assert!(!offered.iter().any(|line| line.starts_with("USER") || line.starts_with("SASL")));
    clear.expect("USER alice@waxseal.test", "-ERR");
    clear.expect(&format!("PASS {PASSWORD}"), "-ERR");
    clear.expect("STAT", "-ERR");
    let mut client = house.connect(Speak::Pop3, Leg::Tls);
    assert!(list(&mut client, "CAPA").contains(&"SASL PLAIN".to_owned()));
    client.expect("USER alice@waxseal.test", "+OK");
    client.expect("PASS wrong", "-ERR [AUTH]");
    client.expect("AUTH PLAIN AGFsaWNlQHdheHNlYWwudGVzdAB4", "-ERR [AUTH]");
    client.send("AUTH PLAIN\r\n");
    assert_eq!(client.line(), "+ ");
    use base64::Engine;
    let message =
        base64::engine::general_purpose::STANDARD.encode(format!("\0alice@waxseal.test\0{PASSWORD}"));
    client.expect(&message, "+OK");
    client.expect("RETR 0", "-ERR");
    client.expect("NONSENSE", "-ERR");
    client.expect("NOOP", "+OK");
}
