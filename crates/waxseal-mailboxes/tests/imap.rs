//! IMAP, command by command, as clients see it.

mod imap_support;
mod support;

use imap_support::{Imap, note};
use support::{DOMAIN, House, Leg, PASSWORD, Speak};

const NESTED: &str = "From: Alice <alice@waxseal.test>\r\nSubject: outer\r\nDate: Mon, 7 Feb 1994 21:52:25 -0800\r\n\
    MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\npreamble\r\n--b\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe\r\n\r\n--b\r\n\
    Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\nAAEC\r\n--b\r\n\
    Content-Type: message/rfc822\r\n\r\nSubject: inner\r\nTo: c@d\r\n\r\nhidden\r\n--b--\r\n";

#[test]
fn a_password_is_taken_over_tls_only() {
    let house = House::new();
    let mut client = Imap::connect(house.listen(Speak::Imap, Leg::Clear));
    let capabilities = client.ok("CAPABILITY").join("");
    assert!(capabilities.contains("LOGINDISABLED") && !capabilities.contains("AUTH="));
    client.expect(format!("LOGIN alice@{DOMAIN} \"{PASSWORD}\""), "NO [PRIVACYREQUIRED]");
    client.expect("AUTHENTICATE PLAIN AGEAYg==", "NO [PRIVACYREQUIRED]");
    client.expect("STARTTLS", "BAD");
    client.expect("SELECT INBOX", "BAD");
}

#[test]
fn a_client_logs_in_by_each_way() {
    use base64::Engine;
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let house = House::new();
    let address = house.listen(Speak::Imap, Leg::Tls);
    let plain = base64(&format!("\0alice@{DOMAIN}\0{PASSWORD}"));
    let mut client = Imap::connect(address);
    client.expect("LOGIN alice@waxseal.test wrong", "NO [AUTHENTICATIONFAILED]");
    client.expect(format!("AUTHENTICATE PLAIN {plain}"), "OK [CAPABILITY IMAP4rev1");
    client.expect("LOGIN a b", "BAD");

    let mut client = Imap::connect(address);
    let tag = client.begin("AUTHENTICATE PLAIN");
    assert_eq!(client.response(), "+ ");
    client.send("*\r\n");
    assert!(client.finish(&tag).1.starts_with("BAD"));
    let tag = client.begin("AUTHENTICATE PLAIN");
    assert_eq!(client.response(), "+ ");
    client.send(format!("{plain}\r\n"));
    assert!(client.finish(&tag).1.starts_with("OK"));

    let mut client = Imap::connect(address);
    let tag = client.begin(format!("AUTHENTICATE LOGIN {}", base64(&format!("alice@{DOMAIN}"))));
    assert_eq!(client.response(), "+ UGFzc3dvcmQ6");
    client.send(format!("{}\r\n", base64(PASSWORD)));
    assert!(client.finish(&tag).1.starts_with("OK"));

    let mut client = Imap::connect(address);
    let name = format!("alice@{DOMAIN}");
    client.expect(format!("LOGIN {{{}+}}\r\n{name} {{{}}}\r\n{PASSWORD}", name.len(), PASSWORD.len()), "OK");
    let untagged = client.ok("LOGOUT");
    assert!(untagged[0].starts_with("BYE"));
    assert_eq!(client.response(), "");
}

#[test]
fn after_some_failed_logins_the_session_ends() {
    let house = House::new();
    let mut client = Imap::connect(house.listen(Speak::Imap, Leg::Tls));
    let mut heard = Vec::new();
    for number in 0..5 {
        client.send(format!("a{number} LOGIN nobody@waxseal.test x\r\n"));
    }
    loop {
        match client.response() {
            end if end.is_empty() => break,
            response => heard.push(response),
        }
    }
    assert!(heard.last().unwrap().starts_with("* BYE"), "{heard:?}");
}

#[test]
fn a_folder_is_described_when_it_is_opened() {
    let house = House::new();
    let mut client = Imap::log_in(house.listen(Speak::Imap, Leg::Tls), "alice");
    client.append("INBOX", "(\\Seen $Known) ", &note("one"));
    client.append("INBOX", "", &note("two"));
    let (untagged, tagged) = client.run("SELECT inbox");
    assert!(tagged.starts_with("OK [READ-WRITE]"), "{tagged}");
    for expected in [
        "FLAGS (\\Draft \\Flagged \\Answered \\Seen \\Deleted $Known)",
        "2 EXISTS",
        "0 RECENT",
        "OK [UNSEEN 2]",
        "OK [UIDVALIDITY ",
        "OK [UIDNEXT 3]",
        "OK [HIGHESTMODSEQ ",
        "OK [PERMANENTFLAGS (\\Draft \\Flagged \\Answered \\Seen \\Deleted $Known \\*)]",
    ] {
        assert!(untagged.iter().any(|line| line.starts_with(expected)), "{expected} in {untagged:?}");
    }
    let (untagged, tagged) = client.run("EXAMINE INBOX");
    assert!(tagged.starts_with("OK [READ-ONLY]"));
    assert!(untagged[0].starts_with("OK [CLOSED]"));
    client.expect("STORE 1 FLAGS ()", "NO");
    client.expect("EXPUNGE", "NO");
    client.ok("FETCH 2 BODY[]");
    assert_eq!(client.ok("FETCH 2 FLAGS"), ["2 FETCH (FLAGS ())"], "EXAMINE changes nothing");
    client.expect("SELECT nowhere", "NO [NONEXISTENT]");
    client.expect("FETCH 1 FLAGS", "BAD");
}

#[test]
fn what_was_appended_is_fetched_byte_for_byte() {
    let house = House::new();
    let mut client = Imap::alice(&house);
    let tagged = client.append("INBOX", "(\\Flagged) \" 7-Feb-1994 21:52:25 -0800\" ", NESTED);
    assert!(tagged.starts_with("OK [APPENDUID "), "{tagged}");
    let fetched = client.ok("UID FETCH 1 (BODY.PEEK[] INTERNALDATE RFC822.SIZE FLAGS)");
    let expected = format!(
        "1 FETCH (UID 1 BODY[] {{{0}}}\r\n{NESTED} INTERNALDATE \" 8-Feb-1994 05:52:25 +0000\" RFC822.SIZE {0} FLAGS (\\Flagged))",
        NESTED.len()
    );
    assert_eq!(fetched, [expected]);
    for (items, expected) in [
        (
            "BODY.PEEK[HEADER.FIELDS (subject x-none)]",
            "BODY[HEADER.FIELDS (subject x-none)] {18}\r\nSubject: outer\r\n\r\n",
        ),
        ("BODY.PEEK[1]", "BODY[1] {17}\r\nGr=C3=BC=C3=9Fe\r\n"),
        ("BODY.PEEK[1]<3.3>", "BODY[1]<3> {3}\r\nC3="),
        ("BODY.PEEK[1]<100.3>", "BODY[1]<100> {0}\r\n"),
        ("BODY.PEEK[2.MIME]<0.12>", "BODY[2.MIME]<0> {12}\r\nContent-Type"),
        ("BODY.PEEK[3.HEADER]", "BODY[3.HEADER] {27}\r\nSubject: inner\r\nTo: c@d\r\n\r\n"),
        ("BODY.PEEK[3.TEXT]", "BODY[3.TEXT] {6}\r\nhidden"),
        ("BODY.PEEK[3.1]", "BODY[3.1] {6}\r\nhidden"),
        ("BODY.PEEK[4]", "BODY[4] NIL"),
        ("BINARY.PEEK[1]", "BINARY[1] {9}\r\nGr\u{fc}\u{df}e\r\n"),
        ("BINARY.SIZE[2]", "BINARY.SIZE[2] 3"),
        ("BINARY.PEEK[2]<1.9>", "BINARY[2]<1> {2}\r\n\u{1}\u{2}"),
        ("BINARY.PEEK[2]", "BINARY[2] ~{3}\r\n\0\u{1}\u{2}"),
        ("RFC822.HEADER", ""),
    ] {
        let fetched = client.ok(&format!("FETCH 1 {items}"));
        assert!(fetched[0].starts_with(&format!("1 FETCH ({expected}")), "{items}: {fetched:?}");
    }
    assert_eq!(client.ok("FETCH 1 FLAGS"), ["1 FETCH (FLAGS (\\Flagged))"], "PEEK leaves \\Seen alone");
    let fetched = client.ok("FETCH 1 BODY[TEXT]");
    assert!(fetched[0].ends_with("FLAGS (\\Flagged \\Seen))"), "{fetched:?}");
    assert!(!client.ok("FETCH 1 BODY[TEXT]")[0].contains("FLAGS"), "told once");
}

#[test]
fn structure_and_envelope_are_those_of_the_bytes() {
    let house = House::new();
    let mut client = Imap::alice(&house);
    client.append("INBOX", "", NESTED);
    assert_eq!(
        client.ok("FETCH 1 (BODYSTRUCTURE ENVELOPE)"),
        [
            "1 FETCH (BODYSTRUCTURE ((\"text\" \"plain\" (\"charset\" \"utf-8\") NIL NIL \"quoted-printable\" 17 1 NIL NIL NIL NIL)\
          (\"application\" \"octet-stream\" NIL NIL NIL \"base64\" 4 NIL NIL NIL NIL)\
          (\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 33 (NIL \"inner\" NIL NIL NIL ((NIL NIL \"c\" \"d\")) NIL NIL NIL NIL) \
          (\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 6 0 NIL NIL NIL NIL) 3 NIL NIL NIL NIL) \
          \"mixed\" (\"boundary\" \"b\") NIL NIL NIL) \
          ENVELOPE (\"Mon, 7 Feb 1994 21:52:25 -0800\" \"outer\" ((\"Alice\" NIL \"alice\" \"waxseal.test\")) \
          ((\"Alice\" NIL \"alice\" \"waxseal.test\")) ((\"Alice\" NIL \"alice\" \"waxseal.test\")) NIL NIL NIL NIL NIL))"
        ]
    );
}

#[test]
fn folders_are_listed_as_patterns_ask() {
    let house = House::new();
    let mut client = Imap::log_in(house.listen(Speak::Imap, Leg::Tls), "alice");
    assert_eq!(client.ok("LIST \"\" \"\""), ["LIST (\\Noselect) \".\" \"\""]);
    client.ok("CREATE work.plans.2026");
    client.ok("CREATE later.");
    client.expect("CREATE later", "NO [ALREADYEXISTS]");
    assert_eq!(
        client.ok("LIST \"\" %"),
        [
            "LIST (\\HasNoChildren) \".\" \"INBOX\"",
            "LIST (\\HasNoChildren \\Archive) \".\" \"Archive\"",
            "LIST (\\HasNoChildren \\Drafts) \".\" \"Drafts\"",
            "LIST (\\HasNoChildren \\Junk) \".\" \"Junk\"",
            "LIST (\\HasNoChildren \\Sent) \".\" \"Sent\"",
            "LIST (\\HasNoChildren \\Trash) \".\" \"Trash\"",
            "LIST (\\HasNoChildren) \".\" \"later\"",
            "LIST (\\Noselect \\HasChildren) \".\" \"work\"",
        ]
    );
    assert_eq!(client.ok("LIST work. %.2*"), ["LIST (\\HasNoChildren) \".\" \"work.plans.2026\""]);
    assert_eq!(client.ok("LIST (SPECIAL-USE) \"\" S%"), ["LIST (\\HasNoChildren \\Sent) \".\" \"Sent\""]);
    client.ok("SUBSCRIBE work.plans.2026");
    client.ok("UNSUBSCRIBE Sent");
    assert_eq!(client.ok("LSUB \"\" work.%"), ["LSUB (\\Noselect) \".\" \"work.plans\""]);
    assert_eq!(client.ok("LSUB \"\" w*"), ["LSUB () \".\" \"work.plans.2026\""]);
    assert_eq!(
        client.ok("LIST (SUBSCRIBED RECURSIVEMATCH) \"\" (work Sent Trash)"),
        [
            "LIST (\\HasNoChildren \\Subscribed \\Trash) \".\" \"Trash\"",
            "LIST (\\NonExistent \\HasChildren) \".\" \"work\" (\"CHILDINFO\" (\"SUBSCRIBED\"))",
        ]
    );
    client.append("later", "", &note("x"));
    assert_eq!(
        client.ok("LIST \"\" l* RETURN (SUBSCRIBED STATUS (MESSAGES UNSEEN SIZE))"),
        [
            "LIST (\\HasNoChildren) \".\" \"later\"".to_owned(),
            format!("STATUS \"later\" (MESSAGES 1 UNSEEN 1 SIZE {})", note("x").len())
        ]
    );
    assert_eq!(client.ok("NAMESPACE"), ["NAMESPACE ((\"\" \".\")) NIL NIL"]);
}

#[test]
fn folders_are_renamed_and_deleted() {
    let house = House::new();
    let mut client = Imap::alice(&house);
    client.ok("CREATE a.b");
    client.append("a.b", "", &note("x"));
    client.ok("RENAME a c");
    assert!(client.ok("STATUS c.b (MESSAGES UIDNEXT)")[0].ends_with("(MESSAGES 1 UIDNEXT 2)"));
    client.expect("STATUS a.b (MESSAGES)", "NO [NONEXISTENT]");
    client.expect("RENAME c.b INBOX", "NO [ALREADYEXISTS]");
    client.expect("RENAME nowhere x", "NO [NONEXISTENT]");
    client.expect("DELETE INBOX", "NO [CANNOT]");
    client.append("INBOX", "", &note("y"));
    client.ok("RENAME INBOX old");
    assert!(client.ok("STATUS old (MESSAGES)")[0].ends_with("(MESSAGES 1)"));
    client.ok("DELETE c.b");
    client.expect("SELECT c.b", "NO [NONEXISTENT]");
    client.ok("SELECT old");
    assert!(client.ok("DELETE Sent").is_empty());
    assert!(client.ok("RENAME old older")[0].starts_with("OK [CLOSED]"));
    client.expect("FETCH 1 FLAGS", "BAD");
    client.ok("SELECT older");
    assert!(client.ok("DELETE older")[0].starts_with("OK [CLOSED]"));
    client.ok("NOOP");
}

#[test]
fn names_that_no_folder_can_have_are_refused() {
    let house = House::new();
    let mut client = Imap::log_in(house.listen(Speak::Imap, Leg::Tls), "alice");
    let long = "x".repeat(400);
    for bad in
        ["a/b", "../x", "a..b", ".a", "&Jjo", "&AGE-", "\"\"", "\"a\u{1}b\"", "gr\u{fc}n", &long, "\"..\""]
    {
        let (_, tagged) = client.run(format!("CREATE {bad}"));
        assert!(tagged.starts_with("NO"), "{bad}: {tagged}");
    }
    client.ok("CREATE \"a b & \\\"c\\\"\"".replace('&', "&-").as_str());
    assert_eq!(client.ok("LIST \"\" a*b*"), ["LIST (\\HasNoChildren) \".\" \"a b &- \\\"c\\\"\""]);
}

#[test]
fn names_are_modified_utf_7_until_rev2_is_enabled() {
    let house = House::new();
    let mut client = Imap::log_in(house.listen(Speak::Imap, Leg::Tls), "alice");
    client.ok("CREATE Entw&APw-rfe");
    assert_eq!(client.ok("LIST \"\" E*"), ["LIST (\\HasNoChildren) \".\" \"Entw&APw-rfe\""]);
    assert_eq!(client.ok("ENABLE imap4rev2 foo CONDSTORE"), ["ENABLED IMAP4rev2 CONDSTORE"]);
    assert_eq!(client.ok("LIST \"\" E*"), ["LIST (\\HasNoChildren) \".\" \"Entw\u{fc}rfe\""]);
    let selected = client.ok("SELECT Entw\u{fc}rfe");
    assert!(selected.contains(&"LIST () \".\" \"Entw\u{fc}rfe\"".to_owned()), "{selected:?}");
    assert!(!selected.iter().any(|line| line.ends_with("RECENT")), "{selected:?}");
    client.append("Entw\u{fc}rfe", "", &note("x"));
    assert_eq!(client.ok("UID SEARCH ALL"), ["ESEARCH (TAG \"t8\") UID ALL 1"]);
}

#[test]
fn search_finds_by_every_key() {
    let house = House::new();
    let mut client = Imap::alice(&house);
    client.append("INBOX", "(\\Seen) \" 7-Feb-1994 21:52:25 -0800\" ", NESTED);
    client.append(
        "INBOX",
        "(\\Flagged $Work) \"01-Mar-2026 12:00:00 +0000\" ",
        &note("=?UTF-8?Q?J=C3=BCrgen?="),
    );
    client.append("INBOX", "(\\Answered \\Deleted \\Draft) \"02-Mar-2026 12:00:00 +0000\" ", &note("three"));
    for (keys, expected) in [
        ("ALL", "1 2 3"),
        ("ANSWERED", "3"),
        ("UNANSWERED", "1 2"),
        ("DELETED DRAFT", "3"),
        ("UNDELETED UNDRAFT", "1 2"),
        ("FLAGGED", "2"),
        ("UNFLAGGED UNSEEN", "3"),
        ("SEEN", "1"),
        ("NEW", ""),
        ("RECENT", ""),
        ("OLD", "1 2 3"),
        ("KEYWORD $work", "2"),
        ("UNKEYWORD $Work", "1 3"),
        ("BEFORE 1-Mar-2026", "1"),
        ("ON 8-Feb-1994", "1"),
        ("SINCE 1-Mar-2026", "2 3"),
        ("SENTON 7-Feb-1994", "1"),
        ("SENTBEFORE 8-Feb-1994 SENTSINCE 6-Feb-1994", "1"),
        ("SENTSINCE 8-Feb-1994", ""),
        ("LARGER 400", "1"),
        ("SMALLER 400", "2 3"),
        ("FROM ALICE", "1 2 3"),
        ("TO bob", "2 3"),
        ("CC bob", ""),
        ("BCC x", ""),
        ("SUBJECT {6+}\r\nj\u{fc}rge", "2"),
        ("CHARSET UTF-8 SUBJECT \"J\u{fc}RG\"", "2"),
        ("HEADER Message-ID \"\"", ""),
        ("HEADER Subject THREE", "3"),
        ("BODY hidden", "1"),
        ("BODY \"gr\u{fc}\u{df}e\"", "1"),
        ("BODY three", "3"),
        ("TEXT outer", "1"),
        ("TEXT inner", "1"),
        ("OR SUBJECT outer SUBJECT three", "1 3"),
        ("NOT 2", "1 3"),
        ("2:*", "2 3"),
        ("UID 3,1", "1 3"),
        ("UID 9:*", "3"),
        ("OR (SEEN) (DELETED NOT FLAGGED)", "1 3"),
        ("1 2", ""),
    ] {
        let (untagged, tagged) = client.run(format!("SEARCH {keys}"));
        assert!(tagged.starts_with("OK"), "{keys}: {tagged}");
        let expected = format!("SEARCH {expected}");
        assert_eq!(untagged, [expected.trim_end()], "{keys}");
    }
    client.expect("SEARCH CHARSET KOI8-R SUBJECT x", "NO [BADCHARSET");
    client.expect("SEARCH RETURN (ALL)", "BAD");
}

#[test]
fn extended_search_returns_what_is_asked() {
    let house = House::new();
    let mut client = Imap::alice(&house);
    for number in 0..5 {
        client.append("INBOX", if number == 2 { "(\\Seen) " } else { "" }, &note("x"));
    }
    client.ok("STORE 1 +FLAGS (\\Deleted)");
    client.ok("EXPUNGE");
    let mut search = |keys: &str| {
        client.ok(keys).join("").split_once(") ").map_or(String::new(), |(_, rest)| rest.to_owned())
    };
    assert_eq!(search("SEARCH RETURN (MIN MAX COUNT ALL) UNSEEN"), "MIN 1 MAX 4 COUNT 3 ALL 1,3:4");
    assert_eq!(search("UID SEARCH RETURN () UNSEEN"), "UID ALL 2,4:5");
    assert_eq!(search("UID SEARCH RETURN (COUNT) FLAGGED"), "UID COUNT 0");
    assert_eq!(search("UID SEARCH RETURN (SAVE) UNSEEN"), "");
    assert_eq!(search("UID SEARCH RETURN (ALL) NOT UID $"), "UID ALL 3");
    assert_eq!(search("UID SEARCH RETURN (SAVE MIN) UNSEEN"), "UID MIN 2");
    assert_eq!(client.ok("FETCH $ UID"), ["1 FETCH (UID 2)"]);
    let (untagged, _) = client.run("SEARCH MODSEQ 1");
    assert!(untagged.iter().any(|line| line.starts_with("SEARCH 1 2 3 4 (MODSEQ ")), "{untagged:?}");
}

#[test]
fn messages_are_copied_and_moved_with_their_uids_told() {
    let house = House::new();
    let mut client = Imap::alice(&house);
    for subject in ["a", "b", "c"] {
        client.append("INBOX", "(\\Flagged) ", &note(subject));
    }
    let (_, tagged) = client.run("COPY 1,3 Archive");
    assert!(tagged.starts_with("OK [COPYUID ") && tagged.contains(" 1,3 1:2]"), "{tagged}");
    client.expect("COPY 1 nowhere", "NO [TRYCREATE]");
    client.expect("COPY 7 Archive", "BAD");
    client.expect("UID COPY 7 Archive", "OK Nothing");
    let (untagged, tagged) = client.run("UID MOVE 1:2 Archive");
    assert!(tagged.starts_with("OK"));
    assert!(untagged[0].starts_with("OK [COPYUID ") && untagged[0].contains(" 1:2 3:4]"), "{untagged:?}");
    assert_eq!(untagged[1..], ["1 EXPUNGE", "1 EXPUNGE"]);
    assert_eq!(client.ok("FETCH 1:* (UID)"), ["1 FETCH (UID 3)"]);
    client.ok("SELECT Archive");
    let subjects: Vec<_> = client.ok("FETCH 1:4 (FLAGS BODY.PEEK[HEADER.FIELDS (Subject)])");
    let order: String =
        subjects.iter().map(|line| line.split("Subject: ").nth(1).unwrap().chars().next().unwrap()).collect();
    assert_eq!(order, "acab");
    assert!(subjects.iter().all(|line| line.contains("\\Flagged")));
}

#[test]
fn uid_expunge_and_close_remove_what_they_should() {
    let house = House::new();
    let mut client = Imap::alice(&house);
    for _ in 0..5 {
        client.append("INBOX", "(\\Deleted) ", &note("x"));
    }
    client.ok("STORE 4 -FLAGS.SILENT (\\Deleted)");
    assert_eq!(client.ok("UID EXPUNGE 2:3"), ["2 EXPUNGE", "2 EXPUNGE"]);
    client.ok("UNSELECT");
    client.ok("SELECT INBOX");
    assert_eq!(client.ok("UID SEARCH ALL"), ["SEARCH 1 4 5"]);
    client.ok("CLOSE");
    assert!(client.ok("STATUS INBOX (MESSAGES)")[0].ends_with("(MESSAGES 1)"));
}

#[test]
fn conditional_store_tells_who_was_changed_before() {
    let house = House::new();
    let mut client = Imap::log_in(house.listen(Speak::Imap, Leg::Tls), "alice");
    client.append("INBOX", "", &note("a"));
    client.append("INBOX", "", &note("b"));
    client.ok("SELECT INBOX (CONDSTORE)");
    let modseq = |line: &str| -> u64 {
        line.split("MODSEQ (").nth(1).unwrap().split(')').next().unwrap().parse().unwrap()
    };
    let before = modseq(&client.ok("FETCH 2 MODSEQ")[0]);
    let stored = client.ok("STORE 1 +FLAGS (\\Seen)");
    let after = modseq(&stored[0]);
    assert!(after > before, "{stored:?}");
    assert!(stored[0].contains("FLAGS (\\Seen)"));
    let (untagged, tagged) =
        client.run(format!("STORE 1:2 (UNCHANGEDSINCE {before}) +FLAGS.SILENT (\\Flagged)"));
    assert!(tagged.starts_with("OK [MODIFIED 1]"), "{tagged}");
    assert!(untagged.len() == 1 && untagged[0].starts_with("2 FETCH (MODSEQ ("), "{untagged:?}");
    let changed = client.ok(&format!("UID FETCH 1:* (FLAGS) (CHANGEDSINCE {after})"));
    assert!(changed.len() == 1 && changed[0].starts_with("2 FETCH (UID 2 MODSEQ ("), "{changed:?}");
    let highest = modseq(&changed[0]);
    assert_eq!(
        client.ok(&format!("SEARCH MODSEQ \"/flags/\\\\Seen\" all {highest}")),
        [format!("SEARCH 2 (MODSEQ {highest})")]
    );
    assert!(client.ok("STATUS INBOX (HIGHESTMODSEQ)")[0].ends_with(&format!("(HIGHESTMODSEQ {highest})")));
}

#[test]
fn a_full_mailbox_says_so_before_the_message_is_sent() {
    let house = House::new();
    let mut client = Imap::log_in(house.listen(Speak::Imap, Leg::Tls), "bob");
    let message = note(&"x".repeat(9_000));
    assert!(client.append("INBOX", "", &message).starts_with("OK"));
    client.expect("APPEND INBOX {19000}", "NO [OVERQUOTA]");
    assert!(
        client.append("INBOX", "", &message).starts_with("NO [OVERQUOTA]"),
        "what was sent unasked is read over"
    );
    client.ok("SELECT INBOX");
    client.expect("COPY 1 Archive", "NO [OVERQUOTA]");
    client.ok("NOOP");
    client.expect("APPEND INBOX {99999999999}", "NO [TOOBIG]");
    client.expect("APPEND nowhere {10}", "NO [TRYCREATE]");
    client.expect("APPEND nowhere {4+}\r\nabcd", "NO [TRYCREATE]");
    client.expect("APPEND INBOX {4+}\r\nab\0d", "BAD");
    client.expect("APPEND INBOX ~{4+}\r\nab\0d", "NO [UNKNOWN-CTE]");
    client.expect("APPEND INBOX (\\Recent) {4+}\r\nabcd", "BAD");
    client.expect("APPEND INBOX {4+}\r\nabcd {3+}\r\nabc", "BAD");
    assert!(client.ok("STATUS INBOX (MESSAGES)")[0].ends_with("(MESSAGES 1)"), "none of these was kept");
}

#[test]
fn after_bad_input_the_session_lives_on() {
    let house = House::new();
    let mut client = Imap::alice(&house);
    client.expect(format!("SEARCH TEXT {}", "x".repeat(200_000)), "BAD");
    client.expect(format!("SEARCH TEXT {{200000+}}\r\n{}", "x".repeat(200_000)), "BAD");
    client.expect("SEARCH TEXT {200000}", "BAD");
    client.expect(format!("FETCH 1 ({})", "BODY[] ".repeat(100).trim_end()), "BAD");
    client.expect("FOO", "BAD");
    client.ok("NOOP");
    for line in ["\r\n", "* OK x\r\n", "a\r\n", "(\r\n", "a NOOP\n", "\0\u{1}\r\n"] {
        client.send(line);
        let heard = client.response();
        assert!(heard.contains(" BAD "), "{line:?}: {heard}");
    }
    client.ok("NOOP");
    client.send("x FOO\r\n".repeat(30));
    let mut last = String::new();
    loop {
        match client.response() {
            end if end.is_empty() => break,
            response => last = response,
        }
    }
    assert!(last.starts_with("* BYE"), "{last}");
}

#[test]
fn a_message_of_any_bytes_is_described() {
    let house = House::new();
    let mut client = Imap::alice(&house);
    let deep = format!("{}end\r\n", "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n".repeat(300));
    let many =
        format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{}", "--b\r\n\r\nx\r\n".repeat(5000));
    for message in [
        "",
        "\r\n",
        "no header",
        ":\r\n\r\n",
        "From: \"\\\r\nTo: (((\r\n\r\n\u{0}".trim_end_matches('\0'),
        &deep,
        &many,
    ] {
        assert!(client.append("INBOX", "", message).starts_with("OK"), "{message:.40}");
        let fetched = client
            .ok("FETCH * (ENVELOPE BODY BODYSTRUCTURE BODY.PEEK[] BODY.PEEK[1.1.1.MIME] BINARY.SIZE[1])");
        assert!(fetched[0].contains(&format!("BODY[] {{{}}}\r\n{message}", message.len())), "{message:.40}");
    }
}

#[test]
fn pipelined_commands_are_answered_in_order() {
    let house = House::new();
    let mut client = Imap::alice(&house);
    client.append("INBOX", "", &note("x"));
    client.send("a NOOP\r\nb STORE 1 +FLAGS (\\Deleted)\r\nc EXPUNGE\r\nd FETCH 1 FLAGS\r\ne IDLE\r\nDONE\r\nf NOOP\r\n");
    let heard: Vec<String> = std::iter::from_fn(|| Some(client.response()))
        .filter(|line| !line.starts_with(['*', '+']))
        .take(6)
        .collect();
    let words: Vec<&str> = heard.iter().map(|line| line.get(..4).unwrap()).collect();
    assert_eq!(words, ["a OK", "b OK", "c OK", "d BA", "e OK", "f OK"]);
}

#[test]
fn a_disk_that_fails_is_told_and_the_session_lives_on() {
    let house = House::new();
    let mut client = Imap::alice(&house);
    client.append("INBOX", "", &note("one"));
    // Where messages are written first is no directory any more: what the disk then says is none of the client's business.
    let tmp = house.maildir("alice").join("tmp");
    std::fs::remove_dir_all(&tmp).unwrap();
    std::fs::write(&tmp, "").unwrap();
    client.expect("APPEND INBOX {1000}", "NO [UNAVAILABLE] The mail cannot be reached");
    let refused = client.append("INBOX", "", &note("two"));
    assert!(refused.starts_with("NO [UNAVAILABLE]") && !refused.contains("tmp"), "{refused}");
    std::fs::remove_file(&tmp).unwrap();
    assert!(client.append("INBOX", "", &note("three")).starts_with("OK"));
    assert_eq!(client.ok("UID SEARCH ALL"), ["SEARCH 1 2"]);
}
