//! The process is killed in the middle of deliveries, again and again: what was answered with 250 is there, whole, once.

mod support;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use support::{Leg, Speak, address};
use waxseal_mailboxes::smtp::Kind;
use waxseal_mailboxes::store::{Access, Flag, FlagChange, FolderName, Store};

const DIRECTORY: &str = "WAXSEAL_TEST_KILLED_DIRECTORY";
const ROUNDS: u64 = 8;
const SENDERS: usize = 4;

/// The process that is killed: takes mail, and changes and removes messages at the same time.
#[test]
#[ignore = "started by the test below, as a process of its own"]
fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let site = support::site(Path::new(&directory));
    let local = support::listen(site.clone(), Speak::Mail(Kind::Smtp), Leg::Clear);
    println!("listening on {local}");
    std::io::stdout().flush().unwrap();
    let mailbox = site.store.mailbox(&address("alice"), None).unwrap();
    loop {
        let mut inbox = mailbox.open(&FolderName::inbox(), Access::ReadWrite).unwrap();
        let uids: Vec<u32> = inbox.messages().iter().map(|message| message.uid).collect();
        let seen = [Flag::Seen].into_iter().collect();
        inbox.set_flags(&uids, FlagChange::Add, &seen, None).unwrap();
        let some: Vec<u32> = uids.into_iter().filter(|uid| uid % 3 == 0).collect();
        inbox.move_to(&some, &FolderName::from_utf8("Archive").unwrap()).unwrap();
    }
}

fn start(directory: &Path) -> (Child, SocketAddr) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let local = lines
        .find_map(|line| line.unwrap().split_once("listening on ").map(|(_, local)| local.parse().unwrap()))
        .expect("the child listens");
    (child, local)
}

/// Sends messages until the connection breaks. Says which were begun to be answered for, and which of these were.
fn send(local: SocketAddr, name: &str) -> Vec<(String, bool)> {
    let mut sent = Vec::new();
    let Ok(stream) = TcpStream::connect(local) else { return sent };
    let mut stream = BufReader::new(stream);
    let mut say = |text: &str, replies: usize| -> Option<String> {
        stream.get_mut().write_all(text.as_bytes()).ok()?;
        let mut line = String::new();
        for _ in 0..replies {
            line.clear();
            stream.read_line(&mut line).ok().filter(|count| *count > 0)?;
        }
        line.ends_with("\r\n").then_some(line)
    };
    if say("HELO there\r\n", 2).is_none() {
        return sent;
    }
    for number in 0.. {
        let id = format!("{name}-{number}");
        let envelope =
            "MAIL FROM:<>\r\nRCPT TO:<alice@waxseal.test>\r\nRCPT TO:<bob@waxseal.test>\r\nDATA\r\n";
        if say(envelope, 4).is_none_or(|reply| !reply.starts_with("354")) {
            break;
        }
        let body = "0123456789\r\n".repeat(1 + number % 400);
        let reply = say(&format!("Subject: {id}\r\n\r\n{body}last line of {id}\r\n.\r\n"), 1);
        let kept = reply.as_ref().is_some_and(|reply| reply.starts_with("250"));
        sent.push((id, kept));
        if !kept {
            break;
        }
    }
    sent
}

#[test]
fn nothing_acknowledged_is_lost_nothing_is_half_there_nothing_is_there_twice() {
    let dir = tempfile::tempdir().unwrap();
    support::add_account(dir.path(), "alice", &[], None);
    support::add_account(dir.path(), "bob", &[], None);
    let mut sent: Vec<(String, bool)> = Vec::new();
    for round in 0..ROUNDS {
        let (mut child, local) = start(dir.path());
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| std::thread::spawn(move || send(local, &format!("r{round}-s{sender}"))))
            .collect();
        std::thread::sleep(Duration::from_millis(120 + 67 * round));
        // SIGKILL.
        child.kill().unwrap();
        child.wait().unwrap();
        sent.extend(senders.into_iter().flat_map(|sender| sender.join().unwrap()));
    }
    let kept = sent.iter().filter(|(_, kept)| *kept).count();
    assert!(
        kept > 50 && sent.iter().any(|(_, kept)| !kept),
        "{kept} of {}: the test shows nothing",
        sent.len()
    );

    let store = Store::open(&dir.path().join("mail")).unwrap();
    for (owner, folders) in [("alice", &["INBOX", "Archive"][..]), ("bob", &["INBOX"])] {
        let mailbox = store.mailbox(&address(owner), None).unwrap();
        let mut found: HashMap<String, usize> = HashMap::new();
        for folder in folders {
            let folder = mailbox.open(&FolderName::from_utf8(folder).unwrap(), Access::ReadWrite).unwrap();
            for message in folder.messages() {
                let text = String::from_utf8(folder.read(message.uid).unwrap()).unwrap();
                let id = text.split_once("\r\nSubject: ").unwrap().1.split_once("\r\n").unwrap().0;
                assert!(text.ends_with(&format!("\r\nlast line of {id}\r\n")), "{id} is half there");
                *found.entry(id.to_owned()).or_default() += 1;
            }
        }
        for (id, kept) in &sent {
            let times = found.remove(id).unwrap_or(0);
            assert!(times <= 1, "{id} is there {times} times for {owner}");
            assert!(times == 1 || !kept, "{id} was acknowledged and is lost for {owner}");
        }
        assert!(found.is_empty(), "{found:?}");
    }
}
