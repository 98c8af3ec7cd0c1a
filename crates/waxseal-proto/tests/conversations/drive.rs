//! Drives the machines the way a session would, in whatever pieces a test wants.

use std::sync::Arc;

use waxseal_proto::{
    Capabilities, Cut, Dialogue, DoorWords, Ended, Guard, Opening, OpeningError, OpeningStep, Outputs,
    Protocol, Ready, StartTls, Step, Taken,
};

/// Where an input is cut into pieces: lengths, used in turn and over again. Never empty, never 0.
pub(crate) type Cuts = [usize];

/// The input as a single piece.
pub(crate) const WHOLE: &Cuts = &[usize::MAX];

pub(crate) fn pieces<'a>(mut input: &'a [u8], cuts: &'a Cuts) -> impl Iterator<Item = &'a [u8]> {
    let mut cuts = cuts.iter().cycle();
    std::iter::from_fn(move || {
        let cut = *cuts.next().expect("cycles");
        let (piece, rest) = input.split_at(cut.min(input.len()));
        input = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

pub(crate) fn door(protocol: Protocol, starttls: StartTls, service: &[&str]) -> Dialogue {
    let words = DoorWords { hostname: "mx.example".into(), starttls };
    let service = Capabilities::new(protocol, service.iter().map(ToString::to_string).collect());
    Dialogue::new(protocol, words, Arc::new(service)).expect("has STARTTLS")
}

/// How a dialogue ended, comparable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DialogueEnd {
    More,
    /// With the words of the go-ahead.
    StartTls(Vec<u8>),
    /// The line that needed the service and what stood behind it: the rest of the piece, then of the input.
    Open {
        hello: Option<Vec<u8>>,
        unread: Vec<u8>,
    },
    Close(Ended),
}

/// Says `input` to a door in pieces, as a session would that stops at the first step.
pub(crate) fn talk(door: &mut Dialogue, input: &[u8], cuts: &Cuts) -> (Vec<u8>, DialogueEnd) {
    let mut out = Vec::new();
    let mut read = 0;
    for piece in pieces(input, cuts) {
        read += piece.len();
        let unheard = &input[read..];
        match door.receive(piece, &mut out) {
            Step::More => {}
            // The socket is asked once more before the go-ahead is said: what is there was injected.
            Step::StartTls(_) if !unheard.is_empty() => match door.receive(unheard, &mut out) {
                Step::Close(ended) => return (out, DialogueEnd::Close(ended)),
                step => panic!("bytes behind STARTTLS led to {step:?}"),
            },
            Step::StartTls(go_ahead) => return (out, DialogueEnd::StartTls(go_ahead.words)),
            Step::Open(start) => {
                let unread = [&start.unread, unheard].concat();
                return (out, DialogueEnd::Open { hello: start.hello, unread });
            }
            Step::Close(ended) => return (out, DialogueEnd::Close(ended)),
        }
    }
    (out, DialogueEnd::More)
}

/// How an opening ended, comparable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OpeningEnd {
    More,
    StartTls,
    Ready(Ready),
    Failed(OpeningError),
}

/// Says `input` to an opening in pieces. `secure`: go on behind STARTTLS as if TLS stood.
pub(crate) fn open(opening: &mut Opening, input: &[u8], cuts: &Cuts) -> (Vec<u8>, OpeningEnd) {
    let mut out = Vec::new();
    let mut read = 0;
    for piece in pieces(input, cuts) {
        read += piece.len();
        let unheard = &input[read..];
        match opening.receive(piece, &mut out) {
            Ok(OpeningStep::More) => {}
            Ok(OpeningStep::StartTls(_)) if !unheard.is_empty() => {
                let injected = OpeningError::Injected { bytes: unheard.len() };
                return (out, OpeningEnd::Failed(injected));
            }
            Ok(OpeningStep::StartTls(_)) => return (out, OpeningEnd::StartTls),
            Ok(OpeningStep::Ready(mut ready)) => {
                ready.unread.extend(unheard);
                return (out, OpeningEnd::Ready(ready));
            }
            Err(error) => return (out, OpeningEnd::Failed(error)),
        }
    }
    (out, OpeningEnd::More)
}

/// A guarded session whose peers take everything at once.
pub(crate) struct Guarded {
    pub(crate) guard: Guard,
    pub(crate) to_service: Vec<u8>,
    pub(crate) to_client: Vec<u8>,
    pub(crate) cut: Option<Cut>,
    /// What the client said and the guard would not take yet.
    waiting: Vec<u8>,
}

impl Guarded {
    pub(crate) fn new(guard: Guard) -> Self {
        Self { guard, to_service: Vec::new(), to_client: Vec::new(), cut: None, waiting: Vec::new() }
    }

    pub(crate) fn client_says(&mut self, input: &[u8], cuts: &Cuts) {
        for piece in pieces(input, cuts) {
            self.waiting.extend_from_slice(piece);
            self.pump_client();
        }
    }

    pub(crate) fn service_says(&mut self, input: &[u8], cuts: &Cuts) {
        for piece in pieces(input, cuts) {
            let mut piece = piece;
            while !piece.is_empty() && self.cut.is_none() {
                let mut out = Outputs::default();
                let taken = self.guard.from_service(piece, &mut out);
                let passed = self.take(taken, piece, out);
                let count = passed.expect("a service never waits");
                self.to_client
                    .extend_from_slice(&piece[..if matches!(taken, Taken::Pass(_)) { count } else { 0 }]);
                piece = &piece[count..];
            }
            self.pump_client();
        }
    }

    fn pump_client(&mut self) {
        while !self.waiting.is_empty() && self.cut.is_none() {
            let input = std::mem::take(&mut self.waiting);
            let mut out = Outputs::default();
            let taken = self.guard.from_client(&input, &mut out);
            let count = self.take(taken, &input, out);
            if let Taken::Pass(count) = taken {
                self.to_service.extend_from_slice(&input[..count]);
            }
            self.waiting = input[count.unwrap_or(0)..].to_vec();
            if count.is_none() {
                break;
            }
        }
    }

    /// Notes the outputs; gives how much was taken, if anything.
    fn take(&mut self, taken: Taken, input: &[u8], out: Outputs) -> Option<usize> {
        self.to_service.extend(out.to_service);
        self.to_client.extend(out.to_client);
        match taken {
            Taken::Pass(count) | Taken::Took(count) => {
                assert!(count > 0 && count <= input.len(), "{taken:?} of {}", input.len());
                Some(count)
            }
            Taken::Wait => None,
            Taken::Close(cut) => {
                self.cut = Some(cut);
                Some(input.len())
            }
        }
    }
}
