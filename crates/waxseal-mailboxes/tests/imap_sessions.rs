//! Several sessions on one folder: what each sees of the other, and when.

mod imap_support;
mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use imap_support::{Imap, note};
use support::{House, Leg, Speak};
use waxseal_mailboxes::store::{Flags, FolderName, Store};

/// Two sessions of Alice with her INBOX open, which has so many messages.
fn two(house: &House, messages: usize) -> (Imap, Imap) {
    let address = house.listen(Speak::Imap, Leg::Tls);
    let mut sessions = [Imap::log_in(address, "alice"), Imap::log_in(address, "alice")];
    for number in 1..=messages {
        sessions[0].append("INBOX", "", &note(&number.to_string()));
    }
    for session in &mut sessions {
        session.ok("SELECT INBOX");
    }
    sessions.into()
}

#[test]
fn what_one_expunges_the_other_is_not_told_while_it_fetches() {
    let house = House::new();
    let (mut one, mut two) = two(&house, 5);
    one.ok("STORE 2,4 +FLAGS.SILENT (\\Deleted)");
    assert_eq!(one.ok("EXPUNGE"), ["2 EXPUNGE", "3 EXPUNGE"]);
    // RFC 9051 section 7.5.1: no EXPUNGE with FETCH, STORE, SEARCH; numbers mean what they meant.
    assert_eq!(two.ok("FETCH 3 UID"), ["3 FETCH (UID 3)"]);
    assert_eq!(two.ok("SEARCH UID 5"), ["SEARCH 5"]);
    let stored = two.ok("STORE 5 +FLAGS (\\Flagged)");
    assert_eq!(stored, ["5 FETCH (FLAGS (\\Flagged))"]);
    two.expect("FETCH 2 BODY.PEEK[]", "NO [EXPUNGEISSUED]");
    two.expect("STORE 4 +FLAGS (\\Seen)", "NO [EXPUNGEISSUED]");
    assert_eq!(two.ok("NOOP"), ["2 EXPUNGE", "3 EXPUNGE"]);
    assert_eq!(two.ok("UID SEARCH ALL"), ["SEARCH 1 3 5"]);
    assert_eq!(one.ok("NOOP"), ["3 FETCH (FLAGS (\\Flagged))"]);
}

#[test]
fn arrivals_and_flags_are_told_with_any_command() {
    let house = House::new();
    let (mut one, mut two) = two(&house, 2);
    one.append("INBOX", "", &note("3"));
    one.ok("STORE 1 FLAGS ($New)");
    let told = two.ok("SEARCH ALL");
    assert_eq!(told[0], "SEARCH 1 2");
    assert!(
        told.contains(&"3 EXISTS".to_owned()) && told.contains(&"1 FETCH (FLAGS ($New))".to_owned()),
        "{told:?}"
    );
    let flags = told.iter().position(|line| line.starts_with("FLAGS (") && line.contains("$New"));
    let fetch = told.iter().position(|line| line.starts_with("1 FETCH"));
    assert!(flags.is_some() && flags < fetch, "a new keyword is told before it is used: {told:?}");
    assert_eq!(two.ok("SEARCH ALL"), ["SEARCH 1 2 3"]);
}

#[test]
fn an_idle_session_hears_of_everything_within_a_second() {
    let house = House::new();
    let (mut one, mut two) = two(&house, 2);
    let tag = two.idle();
    let within_a_second = |client: &mut Imap, expected: &str| {
        let begun = Instant::now();
        while client.response() != format!("* {expected}") {}
        assert!(begun.elapsed() < Duration::from_millis(1500), "{expected}: {:?}", begun.elapsed());
    };
    one.append("INBOX", "", &note("3"));
    within_a_second(&mut two, "3 EXISTS");
    one.ok("STORE 1 +FLAGS.SILENT (\\Deleted)");
    within_a_second(&mut two, "1 FETCH (FLAGS (\\Deleted))");
    one.ok("EXPUNGE");
    within_a_second(&mut two, "1 EXPUNGE");
    // Another process has its own store on the same directory.
    let foreign = Store::open(&house.dir.path().join("mail")).unwrap();
    let mailbox = foreign.mailbox(&support::address("alice"), None).unwrap();
    let mut draft = mailbox.draft(None).unwrap();
    std::io::Write::write_all(&mut draft, note("4").as_bytes()).unwrap();
    mailbox.deliver(draft).unwrap();
    within_a_second(&mut two, "3 EXISTS");
    let mut draft = mailbox.draft(None).unwrap();
    std::io::Write::write_all(&mut draft, note("5").as_bytes()).unwrap();
    mailbox.save(draft, &FolderName::inbox(), &Flags::new(), None).unwrap();
    within_a_second(&mut two, "4 EXISTS");
    two.send("DONE\r\n");
    assert!(two.finish(&tag).1.starts_with("OK"));
}

#[test]
fn whoever_does_not_say_done_is_told() {
    let house = House::new();
    let (mut one, _) = two(&house, 1);
    for line in ["NOOP\r\n", "DONE\n", &format!("{}\r\n", "x".repeat(10_000))] {
        let tag = one.idle();
        one.send(line);
        let (_, tagged) = one.finish(&tag);
        assert!(tagged.starts_with("BAD"), "{line:.20}: {tagged}");
    }
    one.ok("NOOP");
}

#[test]
fn a_deleted_folder_ends_the_session_that_has_it_open() {
    let house = House::new();
    let (mut one, mut two) = two(&house, 0);
    one.ok("CREATE x");
    two.ok("SELECT x");
    one.ok("DELETE x");
    two.begin("NOOP");
    assert!(two.response().starts_with("* BYE"));
    assert_eq!(two.response(), "");
}

#[test]
fn flags_stored_at_once_by_two_are_all_kept() {
    let house = House::new();
    let (mut one, mut two) = two(&house, 10);
    let store = |session: &mut Imap, own: &str| {
        for round in 0..20 {
            session.ok(&format!("STORE {} +FLAGS.SILENT ({own}{})", round % 10 + 1, round % 4));
            session.ok(&format!("STORE {} -FLAGS.SILENT ($other)", round % 10 + 1));
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| store(&mut one, "$one"));
        scope.spawn(|| store(&mut two, "$two"));
    });
    one.ok("NOOP");
    two.ok("NOOP");
    let (seen_by_one, seen_by_two) = (one.ok("FETCH 1:* FLAGS"), two.ok("FETCH 1:* FLAGS"));
    let set = |line: &String| -> BTreeSet<String> {
        line.split(['(', ')', ' ']).filter(|word| word.starts_with('$')).map(str::to_owned).collect()
    };
    for (number, (one, two)) in seen_by_one.iter().zip(&seen_by_two).enumerate() {
        assert_eq!(set(one), set(two));
        let expected: BTreeSet<String> = [number % 4, (number + 10) % 4]
            .iter()
            .flat_map(|round| [format!("$one{round}"), format!("$two{round}")])
            .collect();
        assert_eq!(set(one), expected, "message {}", number + 1);
    }
}

#[test]
fn of_two_who_move_a_message_one_has_it() {
    let house = House::new();
    let (mut one, mut two) = two(&house, 30);
    std::thread::scope(|scope| {
        scope.spawn(|| (1..=30).for_each(|uid| drop(one.run(format!("UID MOVE {uid} Archive")))));
        scope.spawn(|| (1..=30).rev().for_each(|uid| drop(two.run(format!("UID MOVE {uid} Trash")))));
    });
    one.ok("NOOP");
    assert_eq!(one.ok("UID SEARCH ALL"), ["SEARCH"]);
    let count = |client: &mut Imap, folder: &str| -> usize {
        client.ok(&format!("EXAMINE {folder}"));
        client.ok("FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]").len()
    };
    assert_eq!(count(&mut one, "Archive") + count(&mut one, "Trash"), 30);
}

#[test]
fn numbers_stay_right_while_others_append_and_expunge() {
    let house = House::new();
    let (mut one, mut two) = two(&house, 20);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..30 {
                one.append("INBOX", "", &note(&format!("new {round}")));
                one.ok("STORE 3 +FLAGS.SILENT (\\Deleted)");
                one.ok("EXPUNGE");
            }
        });
        // This client keeps its own list by what it is told, as every client does.
        let mut known: Vec<u32> = (1..=20).collect();
        for round in 0..60 {
            let command = if round % 3 == 0 { "NOOP" } else { "FETCH 1:* UID" };
            for line in two.ok(command) {
                let words: Vec<&str> = line.split([' ', '(', ')']).collect();
                let number: usize = words[0].parse().unwrap_or(0);
                match words[1] {
                    "EXPUNGE" => {
                        assert_eq!(command, "NOOP");
                        known.remove(number - 1);
                    }
                    "EXISTS" => known.resize(number, 0),
                    "FETCH" if line.contains("UID") => {
                        let uid: u32 =
                            words[words.iter().position(|word| *word == "UID").unwrap() + 1].parse().unwrap();
                        let slot = &mut known[number - 1];
                        assert!(*slot == 0 || *slot == uid, "message {number} was {slot}, is {uid}");
                        *slot = uid;
                    }
                    _ => {}
                }
            }
        }
    });
}

#[test]
fn a_session_that_goes_in_the_middle_leaves_nothing() {
    let house = House::new();
    let (mut one, mut two) = two(&house, 1);
    two.send("x APPEND INBOX {1000+}\r\nhalf of it");
    drop(two);
    std::thread::sleep(Duration::from_millis(200));
    one.ok("NOOP");
    assert_eq!(one.ok("SEARCH ALL"), ["SEARCH 1"]);
    let left = std::fs::read_dir(house.maildir("alice").join("tmp")).map_or(0, Iterator::count);
    assert_eq!(left, 0);
}
