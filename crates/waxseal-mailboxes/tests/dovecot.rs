//! Debian's Dovecot on the same directory: the same UIDs, flags, keywords, folders and subscriptions, there and back.

mod support;

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::address;
use waxseal_mailboxes::store::{
    Access, Flag, FlagChange, Flags, Folder, FolderName, Keyword, Mailbox, Store,
};

struct Dovecot {
    config: PathBuf,
    mail: PathBuf,
}

impl Dovecot {
    /// `doveadm` over a Maildir, as a user that is not root, which Dovecot insists on.
    fn new(dir: &Path, mail: &Path) -> Self {
        let config = dir.join("dovecot.conf");
        let (run, home, log) = (dir.join("run"), dir.join("home"), dir.join("log"));
        let text = format!(
            "base_dir = {}\nlog_path = {}\nprotocols =\nssl = no\nmail_location = maildir:{}\nmail_home = {}\n\
             first_valid_uid = 1\nfirst_valid_gid = 1\nmail_uid = nobody\nmail_gid = nogroup\nnamespace inbox {{\n inbox = yes\n}}\n\
             passdb {{\n driver = static\n args = nopassword=y\n}}\nuserdb {{\n driver = static\n args = uid=nobody gid=nogroup home={}\n}}\n",
            run.display(),
            log.display(),
            mail.display(),
            home.display(),
            home.display(),
        );
        std::fs::write(&config, text).unwrap();
        std::fs::create_dir(&home).unwrap();
        // Down to the Maildir, which is its user's own.
        for above in mail.ancestors().skip(1).take_while(|above| above.starts_with(dir)) {
            std::fs::set_permissions(above, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { config, mail: mail.to_owned() }
    }

    #[track_caller]
    fn adm(&self, input: &str, arguments: &[&str]) -> String {
        self.hand_over();
        self.adm_now(input, arguments)
    }

    /// What we, being root, made is made Dovecot's user's.
    fn hand_over(&self) {
        let home = self.config.parent().unwrap();
        let mut owner = Command::new("chown");
        assert!(
            owner
                .args(["-R", "nobody:nogroup"])
                .arg(&self.mail)
                .arg(home.join("home"))
                .status()
                .unwrap()
                .success()
        );
    }

    #[track_caller]
    fn adm_now(&self, input: &str, arguments: &[&str]) -> String {
        let home = self.config.parent().unwrap();
        let mut child = Command::new("doveadm")
            .arg("-c")
            .arg(&self.config)
            .args(arguments)
            .env("USER", "alice")
            .env("HOME", home.join("home"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("doveadm is installed (Debian: dovecot-core)");
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !errors.contains("Error"), "doveadm {arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// UID and flags of each message of a folder.
    fn listed(&self, folder: &str) -> Vec<(u32, Vec<String>)> {
        let table = self.adm("", &["-f", "tab", "fetch", "uid flags", "mailbox", folder, "all"]);
        let rows = table.lines().skip(1).map(|row| {
            let (uid, flags) = row.split_once('\t').unwrap();
            let mut flags: Vec<String> = flags
                .split(' ')
                .filter(|flag| !flag.is_empty() && *flag != "\\Recent")
                .map(str::to_owned)
                .collect();
            flags.sort();
            (uid.parse().unwrap(), flags)
        });
        rows.collect()
    }

    /// The answer of Dovecot's POP3 to UIDL.
    fn unique_ids(&self) -> Vec<String> {
        self.adm("", &["mailbox", "status", "messages", "INBOX"]);
        let home = self.config.parent().unwrap().join("home");
        let config = home.join("pop3.conf");
        let text = std::fs::read_to_string(&self.config).unwrap().replace("protocols =", "protocols = pop3");
        std::fs::write(&config, text).unwrap();
        let mut child = Command::new("setpriv")
            .args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "doveadm", "-c"])
            .arg(&config)
            .args(["exec", "pop3"])
            .env("USER", "alice")
            .env("HOME", &home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(b"UIDL\r\nQUIT\r\n").unwrap();
        let said = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        let list = said.split_once("+OK\r\n").unwrap().1.split_once(".\r\n").unwrap().0;
        list.lines().map(str::to_owned).collect()
    }

    fn validity(&self, folder: &str) -> u32 {
        let status = self.adm("", &["mailbox", "status", "uidvalidity", folder]);
        status.trim().rsplit_once('=').unwrap().1.parse().unwrap()
    }
}

fn ours(folder: &Folder) -> Vec<(u32, Vec<String>)> {
    let words = |flags: &Flags| {
        let mut words: Vec<String> = flags.iter().map(|flag| flag.as_str().to_owned()).collect();
        words.extend(flags.keywords().iter().map(|keyword| keyword.as_str().to_owned()));
        words.sort();
        words
    };
    folder.messages().iter().map(|message| (message.uid, words(&message.flags))).collect()
}

fn save(mailbox: &Mailbox, folder: &FolderName, text: &str, flags: &Flags) -> u32 {
    let mut draft = mailbox.draft(None).unwrap();
    draft.write_all(text.as_bytes()).unwrap();
    mailbox.save(draft, folder, flags, None).unwrap().uid
}

#[test]
fn dovecot_takes_over_and_hands_back_with_the_same_uids() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("mail")).unwrap();
    let mailbox = store.mailbox(&address("alice"), None).unwrap();
    let (inbox, work) = (FolderName::inbox(), FolderName::from_utf8("Arbeit.Entwürfe").unwrap());
    mailbox.create(&work).unwrap();
    mailbox.subscribe(&work).unwrap();

    // We begin: saved, delivered, changed, expunged in the middle.
    let mut flags: Flags = [Flag::Seen, Flag::Flagged].into_iter().collect();
    flags.insert_keyword(Keyword::new("$Label1").unwrap());
    for number in 0..5 {
        save(&mailbox, &inbox, &format!("Subject: {number}\r\n\r\nbody {number}\r\n"), &Flags::new());
    }
    save(&mailbox, &work, "Subject: w\r\n\r\nw\r\n", &flags);
    let mut draft = mailbox.draft(None).unwrap();
    draft.write_all(b"Subject: delivered\r\n\r\nx\r\n").unwrap();
    mailbox.deliver(draft).unwrap();
    let mut folder = mailbox.open(&inbox, Access::ReadWrite).unwrap();
    folder.set_flags(&[2, 4], FlagChange::Add, &flags, None).unwrap();
    folder.set_flags(&[3], FlagChange::Add, &[Flag::Deleted].into_iter().collect(), None).unwrap();
    assert_eq!(folder.expunge(None).unwrap(), [3]);
    folder.refresh().unwrap();
    let uids: Vec<u32> = folder.messages().iter().map(|message| message.uid).collect();
    assert_eq!(uids, [1, 2, 4, 5, 6]);

    // Dovecot sees the same.
    let mail = dir.path().join("mail/waxseal.test/alice");
    let dovecot = Dovecot::new(dir.path(), &mail);
    assert_eq!(dovecot.listed("INBOX"), ours(&folder));
    assert_eq!(dovecot.listed("Arbeit.Entwürfe"), ours(&mailbox.open(&work, Access::ReadOnly).unwrap()));
    assert_eq!(dovecot.validity("INBOX"), folder.uid_validity());
    let text = dovecot.adm("", &["fetch", "text", "mailbox", "INBOX", "uid", "5"]);
    assert_eq!(text.replace("\r\n", "\n").trim_end(), "text:\nSubject: 4\n\nbody 4");
    let subscribed = dovecot.adm("", &["mailbox", "list", "-s"]);
    let mut subscribed: Vec<&str> = subscribed.lines().collect();
    subscribed.sort_unstable();
    assert_eq!(subscribed, ["Arbeit.Entwürfe", "Archive", "Drafts", "INBOX", "Junk", "Sent", "Trash"]);

    // Dovecot works: saves (with LF line ends), flags, expunges, makes folders; while we have the folder open.
    dovecot.adm("Subject: theirs\n\ntheir\nbody\n", &["save", "-m", "INBOX"]);
    dovecot.adm("", &["flags", "add", "\\Answered $Theirs", "mailbox", "INBOX", "uid", "1,2"]);
    dovecot.adm("", &["expunge", "mailbox", "INBOX", "uid", "4"]);
    dovecot.adm("", &["mailbox", "create", "-s", "Neu.Größer"]);
    dovecot.adm("", &["move", "Neu.Größer", "mailbox", "INBOX", "uid", "5"]);
    let changes = folder.refresh().unwrap();
    assert_eq!(
        (&changes.arrived[..], &changes.vanished[..], &changes.changed[..]),
        (&[7][..], &[4, 5][..], &[1, 2][..])
    );
    assert_eq!(ours(&folder), dovecot.listed("INBOX"));
    assert_eq!(folder.read(7).unwrap(), b"Subject: theirs\r\n\r\ntheir\r\nbody\r\n");
    assert_eq!(folder.size(7).unwrap(), 32);
    assert_eq!(folder.read_range(7, 9, 6).unwrap(), b"theirs");
    let new = FolderName::from_utf8("Neu.Größer").unwrap();
    let entry = mailbox.folders().unwrap().into_iter().find(|entry| entry.name == new).unwrap();
    assert!(entry.exists && entry.subscribed);
    assert_eq!(mailbox.open(&new, Access::ReadWrite).unwrap().messages().len(), 1);

    // And back: what we do now, Dovecot takes as it is.
    let validity = folder.uid_validity();
    assert_eq!(save(&mailbox, &inbox, "Subject: last\r\n\r\nz\r\n", &flags), 8);
    folder.move_to(&[1], &new).unwrap();
    folder.set_flags(&[6], FlagChange::Replace, &flags, None).unwrap();
    folder.refresh().unwrap();
    assert_eq!(dovecot.listed("INBOX"), ours(&folder));
    assert_eq!(dovecot.listed("Neu.Größer"), ours(&mailbox.open(&new, Access::ReadWrite).unwrap()));
    assert_eq!((dovecot.validity("INBOX"), folder.uid_validity()), (validity, validity));
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
    assert!(!log.contains("Error") && !log.contains("Warning"), "{log}");
}

#[test]
fn a_maildir_of_dovecots_is_opened_with_its_uids() {
    let dir = tempfile::tempdir().unwrap();
    let mail = dir.path().join("mail/waxseal.test/alice");
    std::fs::create_dir_all(&mail).unwrap();
    let dovecot = Dovecot::new(dir.path(), &mail);
    for number in 0..4 {
        dovecot.adm(&format!("Subject: {number}\n\n"), &["save", "-m", "INBOX"]);
    }
    dovecot.adm("", &["expunge", "mailbox", "INBOX", "uid", "2,4"]);
    dovecot.adm("", &["mailbox", "update", "--min-next-uid", "100", "INBOX"]);
    dovecot.adm("", &["flags", "add", "\\Draft $A B", "mailbox", "INBOX", "uid", "3"]);
    let store = Store::open(&dir.path().join("mail")).unwrap();
    let mailbox = store.mailbox(&address("alice"), None).unwrap();
    let folder = mailbox.open(&FolderName::inbox(), Access::ReadWrite).unwrap();
    assert_eq!(ours(&folder), dovecot.listed("INBOX"));
    assert_eq!(ours(&folder)[1], (3, ["$A", "B", "\\Draft"].map(str::to_owned).to_vec()));
    assert_eq!((folder.uid_validity(), folder.uid_next()), (dovecot.validity("INBOX"), 100));
    assert_eq!(save(&mailbox, &FolderName::inbox(), "x\r\n", &Flags::new()), 100);
    assert_eq!(dovecot.listed("INBOX").last().unwrap().0, 100);

    // POP3 clients, too, fetch nothing twice.
    support::add_account(dir.path(), "alice", &[], None);
    let site = support::site(dir.path());
    let mut pop3 = support::Client::new(support::listen(site, support::Speak::Pop3, support::Leg::Tls));
    pop3.expect("USER alice@waxseal.test", "+OK");
    pop3.expect(&format!("PASS {}", support::PASSWORD), "+OK 3");
    pop3.expect("UIDL", "+OK");
    let ids: Vec<String> = (0..3).map(|_| pop3.line()).collect();
    assert_eq!(ids, dovecot.unique_ids());
}

const TOGETHER: &str = "WAXSEAL_TEST_TOGETHER";
const ROUNDS: u32 = 60;

#[test]
#[ignore = "started by the test below, as a process of Dovecot's user"]
fn ours_alone() {
    let Some(mail) = std::env::var_os(TOGETHER) else { return };
    let store = Store::open(Path::new(&mail)).unwrap();
    let mailbox = store.mailbox(&address("alice"), None).unwrap();
    let mut inbox = mailbox.open(&FolderName::inbox(), Access::ReadWrite).unwrap();
    let mut flags: Flags = [Flag::Seen].into_iter().collect();
    flags.insert_keyword(Keyword::new("ours").unwrap());
    for round in 0..ROUNDS {
        let uid =
            save(&mailbox, &FolderName::inbox(), &format!("Subject: ours {round}\r\n\r\n"), &Flags::new());
        inbox.refresh().unwrap();
        assert_eq!(inbox.set_flags(&[uid], FlagChange::Add, &flags, None).unwrap().done, [uid]);
        assert!(inbox.read(uid).unwrap().starts_with(format!("Subject: ours {round}\r\n").as_bytes()));
        if round % 3 == 0 {
            let sent = FolderName::from_utf8("Sent").unwrap();
            assert_eq!(inbox.move_to(&[uid], &sent).unwrap().pairs.len(), 1);
        }
    }
}

#[test]
fn dovecot_and_we_work_on_one_folder_at_the_same_time() {
    let dir = tempfile::tempdir().unwrap();
    let mail = dir.path().join("mail");
    let mailbox = Store::open(&mail).unwrap().mailbox(&address("alice"), None).unwrap();
    save(&mailbox, &FolderName::inbox(), "Subject: first\r\n\r\n", &Flags::new());
    let dovecot = Dovecot::new(dir.path(), &mail.join("waxseal.test/alice"));
    dovecot.hand_over();
    let mut ours_alone = Command::new("setpriv")
        .args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "ours_alone", "--nocapture"])
        .env(TOGETHER, &mail)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut theirs = 0;
    while ours_alone.try_wait().unwrap().is_none() || theirs < 20 {
        dovecot.adm_now(&format!("Subject: theirs {theirs}\n\n"), &["save", "-m", "INBOX"]);
        theirs += 1;
        dovecot.adm_now("", &["flags", "add", "$Theirs", "mailbox", "INBOX", "keyword", "ours"]);
        dovecot.adm_now("", &["move", "Trash", "mailbox", "INBOX", "subject", "theirs 3"]);
    }
    assert!(ours_alone.wait().unwrap().success());
    let inbox = mailbox.open(&FolderName::inbox(), Access::ReadWrite).unwrap();
    assert_eq!(dovecot.listed("INBOX"), ours(&inbox));
    let count = |name: &str| {
        let folder = mailbox.open(&FolderName::from_utf8(name).unwrap(), Access::ReadOnly).unwrap();
        let texts: std::collections::BTreeSet<Vec<u8>> =
            folder.messages().iter().map(|message| folder.read(message.uid).unwrap()).collect();
        assert_eq!(texts.len(), folder.messages().len(), "something is there twice");
        texts.len() as u32
    };
    assert_eq!(count("Sent"), ROUNDS / 3);
    assert_eq!(count("INBOX") + count("Trash"), 1 + ROUNDS * 2 / 3 + theirs);
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
    assert!(!log.contains("Error"), "{log}");
}
