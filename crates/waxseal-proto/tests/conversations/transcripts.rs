//! Golden conversations. `transcripts/*.txt` hold them; their format is described in `transcripts/README.md`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::drive::{self, Cuts, DialogueEnd, Guarded, OpeningEnd, WHOLE};
use waxseal_proto::{
    Auth, Client, ClientLeg, Dialogue, Goal, Guard, Opening, OpeningError, OpeningPlan, Protocol, StartTls,
};

/// One conversation: what it is of, its settings, and its lines.
struct Transcript<'a> {
    name: String,
    protocol: Protocol,
    settings: BTreeMap<&'a str, Vec<&'a str>>,
    lines: Vec<(&'a str, &'a str)>,
}

impl<'a> Transcript<'a> {
    fn all_in(name: &str, text: &'a str) -> Vec<Self> {
        let blocks = text.split("\n== ").skip(1);
        blocks.map(|block| Self::parse(name, block)).collect()
    }

    fn parse(file: &str, block: &'a str) -> Self {
        let (title, block) = block.split_once('\n').expect("a title line");
        let (protocol, what) = title.split_once(": ").expect("protocol: what it shows");
        let mut transcript = Self {
            name: format!("{file}: {what}"),
            protocol: protocol.parse().expect("a protocol"),
            settings: BTreeMap::new(),
            lines: Vec::new(),
        };
        for line in block.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.split_once(' ').unwrap_or((line, "")) {
                ("set", setting) => {
                    let (key, value) = setting.split_once(' ').unwrap_or((setting, ""));
                    transcript.settings.entry(key).or_default().push(value);
                }
                said => transcript.lines.push(said),
            }
        }
        transcript
    }

    fn is_set(&self, key: &str) -> bool {
        self.settings.contains_key(key)
    }

    fn value(&self, key: &str) -> Option<&'a str> {
        self.settings.get(key).and_then(|values| values.first().copied())
    }

    fn door(&self) -> Dialogue {
        let starttls = if self.is_set("optional") { StartTls::Optional } else { StartTls::Required };
        drive::door(self.protocol, starttls, self.settings.get("service").map_or(&[], Vec::as_slice))
    }

    fn opening(&self) -> Opening {
        let client = self.value("introduce").map(|source| Client {
            source: source.parse().expect("an address"),
            destination: "192.0.2.25:25".parse().expect("an address"),
            helo: self.value("helo").map(str::to_owned),
            session: "session-1".into(),
        });
        let plan = OpeningPlan {
            hostname: "door.example".into(),
            starttls: self.is_set("starttls"),
            introduce: client,
            hello: self.value("hello").map(bytes),
            goal: if self.is_set("learn") { Goal::Learn } else { Goal::Serve },
        };
        Opening::new(self.protocol, plan).expect("has an opening")
    }

    fn guard(&self) -> Guard {
        let leg = match (self.is_set("clear"), self.is_set("logins")) {
            (false, _) => ClientLeg::Tls,
            (true, true) => ClientLeg::Clear { auth: Auth::Pass },
            (true, false) => ClientLeg::Clear { auth: Auth::Refuse },
        };
        Guard::new(self.protocol, leg, "mx.example")
    }

    /// The conversation as runs of lines under one mark.
    fn runs(&self) -> Vec<(&'a str, Vec<u8>)> {
        let mut runs: Vec<(&str, Vec<u8>)> = Vec::new();
        for &(mark, line) in &self.lines {
            let said = if mark == "=" { line.as_bytes().to_vec() } else { bytes(line) };
            match runs.last_mut() {
                Some((last, run)) if *last == mark && mark != "=" => run.extend(said),
                _ => runs.push((mark, said)),
            }
        }
        runs
    }

    #[track_caller]
    fn compare(&self, is: &[u8], expected: &[u8]) {
        let (is, expected) = (String::from_utf8_lossy(is), String::from_utf8_lossy(expected));
        assert!(is == expected, "{}\nexpected:\n{expected}\ngot:\n{is}", self.name);
    }
}

/// A line of a transcript: CRLF is added, unless it ends in `\c`; `\r`, `\n`, `\0`, `\xNN` and `\\` are escapes, and
/// `x*N` in `\{..}` is repeated.
fn bytes(line: &str) -> Vec<u8> {
    match line.strip_suffix("\\c") {
        Some(line) => unescaped(line),
        None => [&unescaped(line)[..], b"\r\n"].concat(),
    }
}

fn unescaped(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line;
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend(plain.bytes());
        let kind = escape.chars().next().expect("an escape");
        rest = &escape[kind.len_utf8()..];
        match kind {
            'r' => bytes.push(b'\r'),
            'n' => bytes.push(b'\n'),
            '0' => bytes.push(0),
            '\\' => bytes.push(b'\\'),
            'x' => {
                bytes.push(u8::from_str_radix(&rest[..2], 16).expect("two digits"));
                rest = &rest[2..];
            }
            '{' => {
                let (repeated, behind) = rest.split_once('}').expect("a closing brace");
                let (what, times) = repeated.rsplit_once('*').expect("what*times");
                bytes.extend(unescaped(what).repeat(times.parse().expect("a number")));
                rest = behind;
            }
            other => panic!("unknown escape {other:?}"),
        }
    }
    bytes.extend(rest.bytes());
    bytes
}

fn play_dialogue(transcript: &Transcript<'_>, cuts: &Cuts) {
    let mut door = transcript.door();
    let mut said = Vec::new();
    door.greet(&mut said);
    let mut end = DialogueEnd::More;
    for (mark, run) in transcript.runs() {
        match mark {
            "C:" => {
                let (out, step) = drive::talk(&mut door, &run, cuts);
                said.extend(out);
                end = step;
            }
            "S:" => transcript.compare(&std::mem::take(&mut said), &run),
            "=" => transcript.compare(show_dialogue_end(&end).as_bytes(), &run),
            other => panic!("{}: mark {other:?}", transcript.name),
        }
    }
    transcript.compare(&said, b"");
}

/// Bytes in one line, as a transcript has them.
fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string().replace("\\\"", "\"").replace("\\'", "'")
}

fn show_dialogue_end(end: &DialogueEnd) -> String {
    match end {
        DialogueEnd::More => "more".into(),
        DialogueEnd::StartTls(words) => format!("starttls {}", show(words)),
        DialogueEnd::Open { hello, unread } => {
            let hello = hello.as_deref().unwrap_or(b"-");
            format!("open {} | {}", show(hello), show(unread))
        }
        // How many bytes were injected depends on how many had come.
        DialogueEnd::Close(waxseal_proto::Ended::Injection { .. }) => "close injection".into(),
        DialogueEnd::Close(ended) => format!("close {ended:?}"),
    }
}

fn play_opening(transcript: &Transcript<'_>, cuts: &Cuts) {
    let mut opening = transcript.opening();
    let mut said = Vec::new();
    let mut end = OpeningEnd::More;
    for (mark, run) in transcript.runs() {
        match mark {
            "S:" => {
                let (out, step) = drive::open(&mut opening, &run, cuts);
                said.extend(out);
                end = step;
            }
            "C:" => transcript.compare(&std::mem::take(&mut said), &run),
            "=" if run == b"secured" => opening.secured(&mut said),
            "=" => transcript.compare(show_opening_end(&end).as_bytes(), &run),
            other => panic!("{}: mark {other:?}", transcript.name),
        }
    }
    transcript.compare(&said, b"");
}

fn show_opening_end(end: &OpeningEnd) -> String {
    match end {
        OpeningEnd::More => "more".into(),
        OpeningEnd::StartTls => "starttls".into(),
        OpeningEnd::Ready(ready) => {
            let known = ready
                .capabilities
                .as_ref()
                .map_or_else(|| "-".into(), |known| show(known.entries().join(", ").as_bytes()));
            let behind =
                if ready.unread.is_empty() { String::new() } else { format!(" | {}", show(&ready.unread)) };
            format!("ready {} | {known}{behind}", show(&ready.greeting))
        }
        // How many bytes were injected depends on how many had come.
        OpeningEnd::Failed(OpeningError::Injected { .. }) => "failed: injected".into(),
        OpeningEnd::Failed(error) => format!("failed: {error}"),
    }
}

fn play_guard(transcript: &Transcript<'_>, cuts: &Cuts) {
    let mut session = Guarded::new(transcript.guard());
    for (mark, run) in transcript.runs() {
        match mark {
            "C>" => session.client_says(&run, cuts),
            "S>" => session.service_says(&run, cuts),
            ">S" => transcript.compare(&std::mem::take(&mut session.to_service), &run),
            ">C" => transcript.compare(&std::mem::take(&mut session.to_client), &run),
            "=" => {
                let end = match session.cut {
                    Some(cut) => format!("cut {cut:?}"),
                    None if session.guard.is_transparent() => "transparent".into(),
                    None => "watching".into(),
                };
                transcript.compare(end.as_bytes(), &run);
            }
            other => panic!("{}: mark {other:?}", transcript.name),
        }
    }
    transcript.compare(&session.to_service, b"");
    transcript.compare(&session.to_client, b"");
}

/// Plays every conversation of the files whose names begin with `kind`, whole, byte by byte and in odd pieces.
fn play_all(kind: &str, play: fn(&Transcript<'_>, &Cuts)) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut played = 0;
    for entry in fs::read_dir(folder).expect("the folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if !name.starts_with(kind) {
            continue;
        }
        let text = fs::read_to_string(&path).expect("readable");
        for transcript in Transcript::all_in(&name, &format!("\n{text}")) {
            for cuts in [WHOLE, &[1], &[2, 7, 1, 30], &[3]] {
                play(&transcript, cuts);
            }
            played += 1;
        }
    }
    assert!(played > 10, "only {played} conversations of {kind}");
}

#[test]
fn dialogues_are_as_written_down() {
    play_all("dialogue", play_dialogue);
}

#[test]
fn openings_are_as_written_down() {
    play_all("opening", play_opening);
}

#[test]
fn guarded_sessions_are_as_written_down() {
    play_all("guard", play_guard);
}
