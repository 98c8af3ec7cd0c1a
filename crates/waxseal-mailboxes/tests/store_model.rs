//! The store against a model of a few lines: whatever is done, by whichever of two sessions in whichever of two
//! processes' caches, both see the same in the end, and what the model says.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use waxseal_mailboxes::store::{
    Access, Figures, Flag, FlagChange, Flags, Folder, FolderName, Keyword, Mailbox, Store, StoreError, Uid,
};

#[derive(Clone, Debug)]
enum Action {
    Append {
        who: usize,
        to: usize,
        text: u8,
        flags: Flags,
    },
    Deliver {
        who: usize,
        text: u8,
    },
    /// Another program puts a file with LF line ends into `cur/`.
    Foreign {
        text: u8,
    },
    Flags {
        who: usize,
        folder: usize,
        pick: usize,
        change: FlagChange,
        flags: Flags,
    },
    Copy {
        who: usize,
        folder: usize,
        pick: usize,
        to: usize,
    },
    Move {
        who: usize,
        folder: usize,
        pick: usize,
        to: usize,
    },
    Expunge {
        who: usize,
        folder: usize,
    },
    Refresh {
        who: usize,
        folder: usize,
    },
    /// The process is started anew.
    Restart {
        who: usize,
    },
}

const FOLDERS: [&str; 2] = ["INBOX", "Work.Äpfel"];

fn flags() -> impl Strategy<Value = Flags> {
    proptest::collection::vec(0..8_usize, 0..4).prop_map(|picks| {
        let mut flags = Flags::new();
        for pick in picks {
            match Flag::ALL.get(pick) {
                Some(flag) => flags.insert(*flag),
                None => flags.insert_keyword(Keyword::new(["$Label1", "NonJunk", "x-y"][pick - 5]).unwrap()),
            }
        }
        flags
    })
}

fn action() -> impl Strategy<Value = Action> {
    let (who, folder) = (|| 0..2_usize, || 0..2_usize);
    let change = prop_oneof![Just(FlagChange::Add), Just(FlagChange::Remove), Just(FlagChange::Replace)];
    prop_oneof![
        (who(), folder(), any::<u8>(), flags()).prop_map(|(who, to, text, flags)| Action::Append {
            who,
            to,
            text,
            flags
        }),
        (who(), any::<u8>()).prop_map(|(who, text)| Action::Deliver { who, text }),
        any::<u8>().prop_map(|text| Action::Foreign { text }),
        (who(), folder(), any::<usize>(), change, flags()).prop_map(|(who, folder, pick, change, flags)| {
            Action::Flags { who, folder, pick, change, flags }
        }),
        (who(), folder(), any::<usize>(), folder()).prop_map(|(who, folder, pick, to)| Action::Copy {
            who,
            folder,
            pick,
            to
        }),
        (who(), folder(), any::<usize>(), folder()).prop_map(|(who, folder, pick, to)| Action::Move {
            who,
            folder,
            pick,
            to
        }),
        (who(), folder()).prop_map(|(who, folder)| Action::Expunge { who, folder }),
        (who(), folder()).prop_map(|(who, folder)| Action::Refresh { who, folder }),
        who().prop_map(|who| Action::Restart { who }),
    ]
}

/// What a folder holds: texts and flags by UID, and files without UIDs yet, in the order in which they will get them.
#[derive(Debug, Default)]
struct Model {
    messages: BTreeMap<Uid, (String, Flags)>,
    waiting: Vec<String>,
    next: Uid,
}

impl Model {
    fn add(&mut self, text: String, flags: Flags) -> Uid {
        self.next += 1;
        self.messages.insert(self.next, (text, flags));
        self.next
    }

    /// Somebody looks.
    fn look(&mut self) {
        for text in std::mem::take(&mut self.waiting) {
            self.add(text, Flags::new());
        }
    }
}

struct Process {
    mailbox: Mailbox,
    open: Vec<Folder>,
}

fn text(n: u8) -> String {
    format!("Subject: {n}\r\n\r\n{}\r\n", "body ".repeat(usize::from(n)))
}

fn start(root: &std::path::Path) -> Process {
    let mailbox = Store::open(root).unwrap().mailbox(&"a@b.test".parse().unwrap(), Some(1 << 20)).unwrap();
    let open = FOLDERS.map(|name| {
        let name = FolderName::from_utf8(name).unwrap();
        match mailbox.create(&name) {
            Ok(()) | Err(StoreError::FolderExists) => {}
            Err(error) => panic!("{error}"),
        }
        mailbox.open(&name, Access::ReadWrite).unwrap()
    });
    Process { mailbox, open: open.into() }
}

fn sorted(flags: &Flags) -> (Vec<Flag>, Vec<String>) {
    let mut keywords: Vec<String> =
        flags.keywords().iter().map(|keyword| keyword.as_str().to_owned()).collect();
    keywords.sort();
    (flags.iter().collect(), keywords)
}

fn check(folder: &Folder, model: &Model) {
    let seen: Vec<Uid> = folder.messages().iter().map(|message| message.uid).collect();
    let expected: Vec<Uid> = model.messages.keys().copied().collect();
    assert_eq!(seen, expected);
    assert_eq!(folder.uid_next(), model.next + 1);
    for message in folder.messages() {
        let (text, flags) = &model.messages[&message.uid];
        assert_eq!(String::from_utf8(folder.read(message.uid).unwrap()).unwrap(), *text);
        assert_eq!(sorted(&message.flags), sorted(flags), "UID {}", message.uid);
        assert_eq!(folder.size(message.uid).unwrap(), text.len() as u64);
        assert_eq!(folder.read_range(message.uid, 3, 9).unwrap(), &text.as_bytes()[3..12]);
        assert!(message.modseq > 0 && message.modseq <= folder.highest_modseq());
    }
}

fn run(actions: Vec<Action>) {
    let dir = tempfile::tempdir().unwrap();
    let mut processes = [start(dir.path()), start(dir.path())];
    let mut models = [Model::default(), Model::default()];
    let names = FOLDERS.map(|name| FolderName::from_utf8(name).unwrap());
    let validity: Vec<u32> = processes[0].open.iter().map(Folder::uid_validity).collect();
    let mut foreign = 0;
    for action in actions {
        let pick_from = |processes: &[Process; 2], who: usize, folder: usize, pick: usize| -> Option<Uid> {
            let view = processes[who].open[folder].messages();
            (!view.is_empty()).then(|| view[pick % view.len()].uid)
        };
        match action {
            Action::Append { who, to, text: n, flags } => {
                let mut draft = processes[who].mailbox.draft(None).unwrap();
                draft.write_all(text(n).as_bytes()).unwrap();
                let date = UNIX_EPOCH + Duration::from_secs(1_000_000_000 + u64::from(n));
                let saved = processes[who].mailbox.save(draft, &names[to], &flags, Some(date)).unwrap();
                // Files that wait for their UIDs get them after this one: nobody has looked.
                assert_eq!(saved.uid, models[to].add(text(n), flags));
                let folder = &mut processes[who].open[to];
                folder.refresh().unwrap();
                models[to].look();
                assert_eq!(folder.internal_date(saved.uid).unwrap(), date);
            }
            Action::Deliver { who, text: n } => {
                let mut draft = processes[who].mailbox.draft(Some(9)).unwrap();
                draft.write_all(text(n).as_bytes()).unwrap();
                processes[who].mailbox.deliver(draft).unwrap();
                models[0].waiting.push(text(n));
            }
            Action::Foreign { text: n } => {
                foreign += 1;
                // Sorts behind everything ours, as our names begin with the time.
                let path = dir.path().join(format!("b.test/a/cur/99999999999.{foreign:09}.other:2,"));
                std::fs::write(path, text(n).replace("\r\n", "\n")).unwrap();
                for process in &mut processes {
                    process.open[0].refresh().unwrap();
                }
                models[0].waiting.push(text(n));
                models[0].look();
            }
            Action::Flags { who, folder, pick, change, flags } => {
                let Some(uid) = pick_from(&processes, who, folder, pick) else { continue };
                models[folder].look();
                let stored = processes[who].open[folder].set_flags(&[uid], change, &flags, None).unwrap();
                let known = models[folder].messages.get_mut(&uid);
                assert_eq!(stored.done.len(), usize::from(known.is_some()));
                if let Some((_, known)) = known {
                    *known = known.changed(change, &flags);
                }
            }
            Action::Copy { who, folder, pick, to } => {
                // The other looks first: this one may have to, as files are under new names, and then UIDs are given.
                processes[1 - who].open[folder].refresh().unwrap();
                models[folder].look();
                let Some(uid) = pick_from(&processes, who, folder, pick) else { continue };
                let copied = processes[who].open[folder].copy_to(&[uid], &names[to]);
                match models[folder].messages.get(&uid).cloned() {
                    None => assert!(matches!(copied, Err(StoreError::Expunged))),
                    Some(_) => {
                        let copied = copied.unwrap();
                        // A copy is made of the message as the session last saw it, or newer.
                        let there = copied.pairs[0].1;
                        processes[who].open[to].refresh().unwrap();
                        let flags = processes[who].open[to].get(there).unwrap().flags.clone();
                        let text = models[folder].messages[&uid].0.clone();
                        assert_eq!(models[to].add(text, flags), there);
                        models[to].look();
                    }
                }
            }
            Action::Move { who, folder, pick, to } => {
                // The other looks first: this one may have to, as files are under new names, and then UIDs are given.
                processes[1 - who].open[folder].refresh().unwrap();
                models[folder].look();
                let Some(uid) = pick_from(&processes, who, folder, pick) else { continue };
                let moved = processes[who].open[folder].move_to(&[uid], &names[to]).unwrap();
                let known = models[folder].messages.remove(&uid);
                assert_eq!(moved.pairs.len(), usize::from(known.is_some()));
                if let Some((text, _)) = known {
                    processes[who].open[to].refresh().unwrap();
                    let there = moved.pairs[0].1;
                    let flags = processes[who].open[to].get(there).unwrap().flags.clone();
                    assert_eq!(models[to].add(text, flags), there);
                    models[to].look();
                }
            }
            Action::Expunge { who, folder } => {
                let view: Vec<Uid> =
                    processes[who].open[folder].messages().iter().map(|message| message.uid).collect();
                models[folder].look();
                let gone = processes[who].open[folder].expunge(None).unwrap();
                let deleted = |uid: &Uid| {
                    models[folder].messages.get(uid).is_some_and(|(_, flags)| flags.contains(Flag::Deleted))
                };
                assert_eq!(gone, view.into_iter().filter(deleted).collect::<Vec<_>>());
                gone.iter().for_each(|uid| {
                    models[folder].messages.remove(uid);
                });
            }
            Action::Refresh { who, folder } => {
                models[folder].look();
                let before: Vec<Uid> =
                    processes[who].open[folder].messages().iter().map(|message| message.uid).collect();
                let changes = processes[who].open[folder].refresh().unwrap();
                let after = processes[who].open[folder].messages();
                assert!(changes.arrived.iter().all(|uid| !before.contains(uid)));
                assert!(changes.vanished.iter().all(|uid| before.contains(uid)));
                assert_eq!(after.len(), before.len() + changes.arrived.len() - changes.vanished.len());
                check(&processes[who].open[folder], &models[folder]);
            }
            Action::Restart { who } => {
                models.iter_mut().for_each(Model::look);
                processes[who] = start(dir.path());
            }
        }
    }
    for (index, model) in models.iter_mut().enumerate() {
        model.look();
        let modseqs = [0, 1].map(|who: usize| {
            let folder = &mut processes[who].open[index];
            folder.refresh().unwrap();
            assert_eq!(folder.uid_validity(), validity[index]);
            check(folder, model);
            folder.messages().iter().map(|message| message.modseq).collect::<Vec<_>>()
        });
        assert_eq!(modseqs[0], modseqs[1]);
        let status = processes[0].mailbox.status(&names[index], Figures::All).unwrap();
        assert_eq!(status.messages as usize, model.messages.len());
        assert_eq!(status.size, model.messages.values().map(|(text, _)| text.len() as u64).sum::<u64>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn two_processes_and_a_model_agree(actions in proptest::collection::vec(action(), 1..40)) {
        run(actions);
    }
}
