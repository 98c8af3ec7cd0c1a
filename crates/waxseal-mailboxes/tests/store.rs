//! The store on a disk that others use too.

mod support;

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use support::address;
use waxseal_mailboxes::store::{
    Access, Flag, FlagChange, Flags, FolderName, Keyword, Mailbox, SpecialUse, Store, StoreError,
};

fn mailbox(dir: &Path, quota: Option<u64>) -> Mailbox {
    Store::open(dir).unwrap().mailbox(&address("alice"), quota).unwrap()
}

fn name(text: &str) -> FolderName {
    FolderName::from_utf8(text).unwrap()
}

fn save(mailbox: &Mailbox, folder: &str, text: &str) -> Result<u32, StoreError> {
    let mut draft = mailbox.draft(None)?;
    draft.write_all(text.as_bytes()).unwrap();
    Ok(mailbox.save(draft, &name(folder), &Flags::new(), None)?.uid)
}

#[test]
fn folders_are_made_renamed_and_removed_with_what_is_below() {
    let dir = tempfile::tempdir().unwrap();
    let mailbox = mailbox(dir.path(), None);
    let first = mailbox.folders().unwrap();
    let names: Vec<_> =
        first.iter().map(|entry| (entry.name.as_str(), entry.special_use, entry.subscribed)).collect();
    assert_eq!(names[0], ("INBOX", None, true));
    assert!(names.contains(&("Sent", Some(SpecialUse::Sent), true)));

    mailbox.create(&name("a.b.c")).unwrap();
    assert!(matches!(mailbox.create(&name("a.b.c")), Err(StoreError::FolderExists)));
    assert_eq!(save(&mailbox, "a.b.c", "x\r\n").unwrap(), 1);
    let mut open = mailbox.open(&name("a.b.c"), Access::ReadWrite).unwrap();
    mailbox.rename(&name("a"), &name("z")).unwrap();
    assert!(matches!(open.refresh(), Err(StoreError::NoSuchFolder)));
    let moved = mailbox.open(&name("z.b.c"), Access::ReadWrite).unwrap();
    assert_eq!((moved.messages().len(), moved.uid_validity()), (1, open.uid_validity()));
    let listed = mailbox.folders().unwrap();
    let entry = |name: &str| listed.iter().find(|entry| entry.name.as_str() == name).cloned();
    assert!(entry("z").is_some_and(|entry| !entry.exists && entry.has_children));
    assert_eq!(entry("a"), None);

    assert!(matches!(mailbox.rename(&name("z.b.c"), &name("z.b.c.d")), Err(StoreError::Cannot(_))));
    assert!(matches!(mailbox.rename(&name("z.b.c"), &name("Sent")), Err(StoreError::FolderExists)));
    assert!(matches!(mailbox.rename(&name("nothing"), &name("else")), Err(StoreError::NoSuchFolder)));
    assert!(matches!(mailbox.delete(&FolderName::inbox()), Err(StoreError::Cannot(_))));
    assert!(matches!(mailbox.delete(&name("z")), Err(StoreError::NoSuchFolder)));
    mailbox.delete(&name("z.b.c")).unwrap();
    mailbox.create(&name("z.b.c")).unwrap();
    let again = mailbox.open(&name("z.b.c"), Access::ReadWrite).unwrap();
    assert!(
        again.messages().is_empty() && again.uid_validity() > moved.uid_validity(),
        "a folder that is made anew is another"
    );
}

#[test]
fn what_the_killed_left_behind_is_swept_away_after_a_day_and_a_half() {
    let dir = tempfile::tempdir().unwrap();
    drop(mailbox(dir.path(), None));
    let maildir = dir.path().join("waxseal.test/alice");
    let then = std::time::SystemTime::now() - Duration::from_secs(37 * 3600);
    let left = ["tmp/old", "dovecot-uidlist.x.tmp", "tmp/young", "cur/old"].map(|name| maildir.join(name));
    for (index, path) in left.iter().enumerate() {
        let file = std::fs::File::create(path).unwrap();
        if index != 2 {
            file.set_modified(then).unwrap();
        }
    }
    mailbox(dir.path(), None).open(&FolderName::inbox(), Access::ReadOnly).unwrap();
    let there = left.map(|path| path.exists());
    assert_eq!(there, [false, false, true, true], "messages are not swept");
}

#[test]
fn what_another_program_renames_all_the_time_is_still_changed_moved_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let mailbox = mailbox(dir.path(), None);
    let uids: Vec<u32> = (0..3).map(|n| save(&mailbox, "INBOX", &format!("{n}\r\n")).unwrap()).collect();
    let cur = dir.path().join("waxseal.test/alice/cur");
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = stop.clone();
    let other = std::thread::spawn(move || {
        let mut renames = 0;
        while !stopped.load(std::sync::atomic::Ordering::Acquire) {
            for entry in std::fs::read_dir(&cur).unwrap().flatten() {
                let name = entry.file_name().into_string().unwrap();
                let (base, flags) = name.split_once(":2,").unwrap();
                let flags = flags.strip_prefix('F').map_or_else(|| format!("F{flags}"), str::to_owned);
                renames +=
                    u32::from(std::fs::rename(entry.path(), cur.join(format!("{base}:2,{flags}"))).is_ok());
            }
            std::thread::sleep(Duration::from_micros(300));
        }
        renames
    });
    let mut inbox = mailbox.open(&FolderName::inbox(), Access::ReadWrite).unwrap();
    let seen = [Flag::Seen].into_iter().collect();
    for round in 0..300 {
        let change = if round % 2 == 0 { FlagChange::Add } else { FlagChange::Remove };
        assert_eq!(inbox.set_flags(&uids, change, &seen, None).unwrap().done, uids, "round {round}");
        let changes = inbox.refresh().unwrap();
        assert!(changes.arrived.is_empty() && changes.vanished.is_empty(), "round {round}: {changes:?}");
        assert!(
            inbox.messages().iter().all(|message| message.flags.contains(Flag::Seen) == (round % 2 == 0))
        );
        assert_eq!(inbox.read(uids[1]).unwrap(), b"1\r\n");
    }
    // One that was renamed at the wrong moment comes after the others, and is still told from them.
    let copied = inbox.copy_to(&uids, &name("Sent")).unwrap().pairs;
    assert_eq!(copied.iter().map(|(here, _)| *here).collect::<Vec<_>>(), uids);
    let sent = mailbox.open(&name("Sent"), Access::ReadOnly).unwrap();
    assert!(copied.iter().all(|(here, there)| sent.read(*there).unwrap() == inbox.read(*here).unwrap()));
    assert_eq!(inbox.move_to(&uids[..1], &name("Sent")).unwrap().pairs, [(1, 4)]);
    assert_eq!(inbox.remove_all(&uids).unwrap(), uids[1..]);
    stop.store(true, std::sync::atomic::Ordering::Release);
    assert!(other.join().unwrap() > 300);
    inbox.refresh().unwrap();
    assert_eq!((inbox.messages().len(), inbox.uid_next()), (0, 4), "nothing has come back");
}

#[test]
fn renaming_the_inbox_moves_its_messages() {
    let dir = tempfile::tempdir().unwrap();
    let mailbox = mailbox(dir.path(), None);
    (0..3).for_each(|n| assert_eq!(save(&mailbox, "INBOX", &format!("{n}\r\n")).unwrap(), n + 1));
    mailbox.rename(&FolderName::inbox(), &name("old")).unwrap();
    let inbox = mailbox.open(&FolderName::inbox(), Access::ReadWrite).unwrap();
    assert_eq!((inbox.messages().len(), inbox.uid_next()), (0, 4));
    assert_eq!(mailbox.open(&name("old"), Access::ReadWrite).unwrap().messages().len(), 3);
}

#[test]
fn foreign_and_broken_file_names_are_survived_and_no_message_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mailbox = mailbox(dir.path(), None);
    let maildir = dir.path().join("waxseal.test/alice");
    let long = "x".repeat(250);
    let files: [(&str, &[u8]); 14] = [
        ("cur", b"plain"),
        ("cur", b"plain:2,S"),
        ("new", b"plain"),
        ("cur", b":2,F"),
        ("cur", b"new\nline:2,"),
        ("cur", b"info:1,odd"),
        ("cur", b"letters:2,!Zz9S"),
        ("cur", b"bytes\xff\xfe:2,"),
        ("cur", b"size,S=999999,W=1:2,"),
        ("cur", b"bad,S=x:2,"),
        ("cur", long.as_bytes()),
        ("new", b"in-new:2,S"),
        ("cur", b"25 W3 :uidlist like"),
        ("cur", b".hidden"),
    ];
    for (place, file) in files {
        use std::os::unix::ffi::OsStrExt;
        let path = maildir.join(place).join(std::ffi::OsStr::from_bytes(file));
        std::fs::write(path, [b"Subject: x\n\n", file].concat()).unwrap();
    }
    std::fs::create_dir(maildir.join("cur/directory:2,S")).unwrap();
    std::fs::create_dir(maildir.join(".Bad&Name")).unwrap();
    std::fs::write(maildir.join("dovecot-uidlist"), "3 V77 N5 Gx\n3 :bytes\n4 :plain\nbroken\n").unwrap();
    std::fs::write(maildir.join("dovecot-keywords"), "nonsense\n0\n1 ok\n").unwrap();
    std::fs::write(maildir.join("waxseal-modseq"), b"\xff\xff\n\n").unwrap();
    std::fs::write(maildir.join("subscriptions"), b"V\t2\n\n\xff\n&&\nSent\n").unwrap();

    let mut folder = mailbox.open(&FolderName::inbox(), Access::ReadWrite).unwrap();
    let mut texts: Vec<Vec<u8>> =
        folder.messages().iter().map(|message| folder.read(message.uid).unwrap()).collect();
    let mut expected: Vec<Vec<u8>> = files
        .iter()
        .filter(|(_, file)| !file.starts_with(b"."))
        .map(|(_, file)| {
            let file: Vec<u8> = file
                .iter()
                .flat_map(|byte| if *byte == b'\n' { vec![b'\r', b'\n'] } else { vec![*byte] })
                .collect();
            [b"Subject: x\r\n\r\n", &file[..]].concat()
        })
        .collect();
    texts.sort();
    expected.sort();
    assert_eq!(texts, expected);
    assert_eq!(folder.uid_validity(), 77);
    // It stays so: each has its UID, also in another process.
    let uids: Vec<u32> = folder.messages().iter().map(|message| message.uid).collect();
    assert!(folder.refresh().unwrap().is_empty());
    let mailbox = self::mailbox(dir.path(), None);
    let other = mailbox.open(&FolderName::inbox(), Access::ReadWrite).unwrap();
    assert_eq!(other.messages().iter().map(|message| message.uid).collect::<Vec<_>>(), uids);
    // And each can be changed and removed.
    let flags = [Flag::Deleted].into_iter().collect();
    assert_eq!(folder.set_flags(&uids, FlagChange::Add, &flags, None).unwrap().done, uids);
    assert_eq!(folder.expunge(None).unwrap(), uids);
    assert!(maildir.join("cur/.hidden").exists());
    assert!(mailbox.folders().unwrap().iter().any(|entry| entry.name.as_str() == "Sent" && entry.subscribed));
}

#[test]
fn the_quota_is_kept_by_whatever_way_mail_comes_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let mailbox = mailbox(dir.path(), Some(1000));
    let text = format!("{}\r\n", "x".repeat(398));
    assert_eq!(save(&mailbox, "INBOX", &text).unwrap(), 1);
    assert_eq!(save(&mailbox, "Sent", &text).unwrap(), 1);
    assert_eq!(mailbox.quota().unwrap().used, 800);
    assert!(matches!(save(&mailbox, "INBOX", &text), Err(StoreError::OverQuota)));
    assert!(matches!(mailbox.draft(Some(300)), Err(StoreError::OverQuota)));
    let mut inbox = mailbox.open(&FolderName::inbox(), Access::ReadWrite).unwrap();
    assert!(matches!(inbox.copy_to(&[1], &name("Trash")), Err(StoreError::OverQuota)));
    // A move needs no room.
    inbox.move_to(&[1], &name("Trash")).unwrap();
    // Another program makes room, and tells nobody.
    let sent = dir.path().join("waxseal.test/alice/.Sent/cur");
    std::fs::read_dir(sent).unwrap().for_each(|entry| std::fs::remove_file(entry.unwrap().path()).unwrap());
    assert_eq!(save(&mailbox, "INBOX", &text).unwrap(), 2);
    mailbox.delete(&name("Trash")).unwrap();
    assert_eq!(mailbox.quota().unwrap().used, 400);
    inbox.refresh().unwrap();
    inbox.set_flags(&[2], FlagChange::Add, &[Flag::Deleted].into_iter().collect(), None).unwrap();
    inbox.expunge(Some(&[1])).unwrap();
    assert_eq!(mailbox.quota().unwrap().used, 400);
    inbox.expunge(Some(&[2])).unwrap();
    assert_eq!(mailbox.quota().unwrap().used, 0);
}

#[test]
fn a_conditional_change_leaves_newer_messages_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mailbox = mailbox(dir.path(), None);
    (1..=3).for_each(|n| assert_eq!(save(&mailbox, "INBOX", "x\r\n").unwrap(), n));
    let mut one = mailbox.open(&FolderName::inbox(), Access::ReadWrite).unwrap();
    let mut two = mailbox.open(&FolderName::inbox(), Access::ReadWrite).unwrap();
    let since = one.highest_modseq();
    two.set_flags(&[2], FlagChange::Add, &[Flag::Seen].into_iter().collect(), None).unwrap();
    let stored = one
        .set_flags(&[1, 2, 3], FlagChange::Add, &[Flag::Flagged].into_iter().collect(), Some(since))
        .unwrap();
    assert_eq!((stored.done, stored.modified), (vec![1, 3], vec![2]));
    assert_eq!(one.refresh().unwrap().changed, [2]);
    assert_eq!(two.refresh().unwrap().changed, [1, 3]);
    assert!(one.messages().iter().all(|message| message.modseq > since));
    assert_eq!(one.highest_modseq(), two.highest_modseq());
}

#[test]
fn who_empties_a_folder_after_giving_its_messages_a_new_keyword_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, others) = (mailbox(dir.path(), None), mailbox(dir.path(), None));
    let uid = save(&ours, "INBOX", "x\r\n").unwrap();
    let mut view = ours.open(&FolderName::inbox(), Access::ReadWrite).unwrap();
    let mut theirs = others.open(&FolderName::inbox(), Access::ReadWrite).unwrap();
    let mut flags: Flags = [Flag::Deleted].into_iter().collect();
    flags.insert_keyword(Keyword::new("new").unwrap());
    theirs.set_flags(&[uid], FlagChange::Add, &flags, None).unwrap();
    assert_eq!(theirs.expunge(None).unwrap(), [uid]);
    assert_eq!(view.refresh().unwrap().vanished, [uid]);
}

#[test]
fn a_lock_of_the_dead_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let mailbox = mailbox(dir.path(), None);
    let mut dead = Command::new("true").spawn().unwrap();
    let pid = dead.id();
    dead.wait().unwrap();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let lock = dir.path().join("waxseal.test/alice/dovecot-uidlist.lock");
    std::fs::write(&lock, format!("{pid}:{}", host.trim())).unwrap();
    let began = Instant::now();
    save(&mailbox, "INBOX", "x\r\n").unwrap();
    assert!(began.elapsed() < Duration::from_secs(2) && !lock.exists());
    // Killed before it could say who it was.
    std::fs::write(&lock, "").unwrap();
    let began = Instant::now();
    save(&mailbox, "INBOX", "x\r\n").unwrap();
    assert!(began.elapsed() < Duration::from_secs(4));
    // The living are waited for.
    std::fs::write(&lock, format!("1:{}", host.trim())).unwrap();
    let path = lock;
    let release = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(400));
        std::fs::remove_file(path).unwrap();
    });
    let began = Instant::now();
    save(&mailbox, "INBOX", "x\r\n").unwrap();
    assert!(began.elapsed() >= Duration::from_millis(390));
    release.join().unwrap();
}

#[tokio::test]
async fn who_waits_is_woken_within_a_second_by_another_process() {
    let dir = tempfile::tempdir().unwrap();
    let mailbox = mailbox(dir.path(), None);
    let mut inbox = mailbox.open(&FolderName::inbox(), Access::ReadWrite).unwrap();
    let mut watch = inbox.watch();
    let maildir = dir.path().join("waxseal.test/alice");
    for round in 1..=3_u32 {
        assert!(
            tokio::time::timeout(Duration::from_millis(300), watch.changed()).await.is_err(),
            "woken for nothing"
        );
        let deliver = format!("echo x > tmp/{round} && mv tmp/{round} new/{round}");
        assert!(Command::new("sh").args(["-c", &deliver]).current_dir(&maildir).status().unwrap().success());
        let began = Instant::now();
        tokio::time::timeout(Duration::from_secs(5), watch.changed()).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(1));
        assert_eq!(inbox.refresh().unwrap().arrived, [round]);
        // What we did ourselves wakes us too.
        while tokio::time::timeout(Duration::from_millis(300), watch.changed()).await.is_ok() {
            assert!(inbox.refresh().unwrap().is_empty());
        }
    }
    mailbox.create(&name("gone")).unwrap();
    let mut gone = mailbox.open(&name("gone"), Access::ReadWrite).unwrap();
    let mut watch = gone.watch();
    mailbox.delete(&name("gone")).unwrap();
    tokio::time::timeout(Duration::from_secs(1), watch.changed()).await.unwrap();
    assert!(matches!(gone.refresh(), Err(StoreError::NoSuchFolder)));
}

const PROCESS: &str = "WAXSEAL_TEST_STORE_PROCESS";

#[test]
#[ignore = "started by the test below, as processes of their own"]
fn process() {
    let (Some(dir), Ok(me)) = (std::env::var_os(PROCESS), std::env::var("ME")) else { return };
    let mailbox = mailbox(Path::new(&dir), Some(1 << 30));
    let mut inbox = mailbox.open(&FolderName::inbox(), Access::ReadWrite).unwrap();
    let mut flags = Flags::new();
    flags.insert_keyword(Keyword::new(&format!("by{me}")).unwrap());
    for n in 0..40 {
        let uid = save(&mailbox, "INBOX", &format!("{me} {n}\r\n")).unwrap();
        inbox.refresh().unwrap();
        assert_eq!(inbox.read(uid).unwrap(), format!("{me} {n}\r\n").into_bytes());
        assert_eq!(inbox.set_flags(&[uid], FlagChange::Add, &flags, None).unwrap().done, [uid]);
        if n % 4 == 0 {
            let moved = inbox.move_to(&[uid], &name("Sent")).unwrap();
            assert_eq!(moved.pairs.len(), 1);
        }
        if n % 4 == 1 {
            inbox.set_flags(&[uid], FlagChange::Add, &[Flag::Deleted].into_iter().collect(), None).unwrap();
            assert_eq!(inbox.expunge(Some(&[uid])).unwrap(), [uid]);
        }
    }
}

#[test]
fn processes_that_work_on_one_folder_do_each_other_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    drop(mailbox(dir.path(), None));
    let processes: Vec<_> = ["one", "two", "three"]
        .iter()
        .map(|me| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--ignored", "--exact", "process"])
                .env(PROCESS, dir.path())
                .env("ME", me)
                .spawn()
                .unwrap()
        })
        .collect();
    for mut process in processes {
        assert!(process.wait().unwrap().success());
    }
    let mailbox = mailbox(dir.path(), None);
    let inbox = mailbox.open(&FolderName::inbox(), Access::ReadWrite).unwrap();
    assert_eq!((inbox.messages().len(), inbox.uid_next()), (3 * 20, 3 * 40 + 1));
    for message in inbox.messages() {
        let text = String::from_utf8(inbox.read(message.uid).unwrap()).unwrap();
        let keyword = Keyword::new(&format!("by{}", text.split_once(' ').unwrap().0)).unwrap();
        assert_eq!(message.flags.keywords(), [keyword]);
    }
    assert_eq!(mailbox.open(&name("Sent"), Access::ReadOnly).unwrap().messages().len(), 3 * 10);
}
