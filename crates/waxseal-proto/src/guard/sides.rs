//! Both sides of a guarded session: whose turn it is, and what the client's next bytes are.

use super::body::{Body, Found};
use crate::line::{Assembler, Line, Literals};

/// The longest line taken from a client once it is connected to its service, CRLF included. RFC 4954
/// section 4 asks for 12288 bytes in an authentication exchange.
pub const MAX_INSIDE_LINE: usize = 16384;

/// What the client's next bytes are.
#[derive(Debug)]
pub(super) enum Turn {
    /// A command line, or the rest of one behind a literal.
    Command,
    /// A line of an authentication exchange.
    AuthLine,
    /// Not the client's turn: the service has to speak first.
    Service,
    /// So many bytes of a literal or chunk, for the service.
    Bytes(u64),
    /// So many bytes of a literal, for nobody.
    Discard(u64),
    /// A message.
    Body(Body),
}

/// Both sides.
#[derive(Debug)]
pub(super) struct Sides {
    pub(super) client: ClientSide,
    pub(super) service: Assembler,
}

impl Sides {
    /// `literals`: whether those of the service belong to its lines.
    pub(super) fn new(literals: Literals) -> Self {
        Self { client: ClientSide::new(), service: Assembler::of_service(literals) }
    }
}

/// The client's side.
#[derive(Debug)]
pub(super) struct ClientSide {
    pub(super) turn: Turn,
    lines: Assembler,
    /// How many malformed lines there were.
    pub(super) malformed: usize,
}

/// What the client was heard to say.
#[derive(Debug)]
pub(super) enum Heard {
    Wait,
    Pass(usize),
    Took(usize),
    Line(usize, Line),
    /// So many bytes, the last ones of a message, were taken and belong to the service.
    BodyEnd(usize),
    LookAlike,
}

impl ClientSide {
    fn new() -> Self {
        Self { turn: Turn::Command, lines: Assembler::of_client(MAX_INSIDE_LINE), malformed: 0 }
    }

    /// Whether what comes next would be passed on as it stands.
    pub(super) fn passes(&self) -> bool {
        matches!(self.turn, Turn::Bytes(_) | Turn::Body(_))
    }

    /// Whether a command may begin.
    pub(super) fn is_at_command(&self) -> bool {
        matches!(self.turn, Turn::Command)
    }

    pub(super) fn hear(&mut self, input: &[u8]) -> Heard {
        if input.is_empty() {
            return Heard::Wait;
        }
        match &mut self.turn {
            Turn::Service => Heard::Wait,
            Turn::Command | Turn::AuthLine => match self.lines.feed(input) {
                (taken, None) => Heard::Took(taken),
                (taken, Some(line)) => Heard::Line(taken, line),
            },
            Turn::Bytes(left) => {
                let count = count_down(left, input.len());
                self.end_of_bytes();
                Heard::Pass(count)
            }
            Turn::Discard(left) => {
                let count = count_down(left, input.len());
                self.end_of_bytes();
                Heard::Took(count)
            }
            Turn::Body(body) => match body.scan(input) {
                Found::Text(count) => Heard::Pass(count),
                Found::Held(count) => Heard::Took(count),
                Found::End(count) => Heard::BodyEnd(count),
                Found::LookAlike => Heard::LookAlike,
            },
        }
    }

    /// A literal or chunk of this length follows, then a line.
    pub(super) fn expect_bytes(&mut self, bytes: u64) {
        self.turn = Turn::Bytes(bytes);
        self.end_of_bytes();
    }

    /// As [`Self::expect_bytes`], for nobody.
    pub(super) fn expect_nothing_of(&mut self, bytes: u64) {
        self.turn = Turn::Discard(bytes);
        self.end_of_bytes();
    }

    fn end_of_bytes(&mut self) {
        if matches!(self.turn, Turn::Bytes(0) | Turn::Discard(0)) {
            self.turn = Turn::Command;
        }
    }

    /// What is held of a line that has not ended.
    pub(super) fn take_held(&mut self) -> Vec<u8> {
        std::mem::replace(&mut self.lines, Assembler::of_client(MAX_INSIDE_LINE)).into_held()
    }

    /// Whether the start of an overlong line was dropped and its end is still to come.
    pub(super) fn has_lost_bytes(&self) -> bool {
        self.lines.is_overlong()
    }
}

/// Takes as many of `available` as are left.
fn count_down(left: &mut u64, available: usize) -> usize {
    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(available);
    *left = left.saturating_sub(count as u64);
    count
}
