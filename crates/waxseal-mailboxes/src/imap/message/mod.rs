//! What FETCH and SEARCH tell of a message, from its bytes (CRLF line ends).
//!
//! ENVELOPE, BODYSTRUCTURE and the sections of BODY speak of octets as they stand, encoded words and all, so they are read here
//! from the bytes. Where meaning is asked for (transfer encodings, charsets, dates) the work is the library's.
//! Any bytes are a message: nothing here fails, and depth and number of parts are bounded.

mod address;
mod body_structure;
mod decoded;
mod envelope;
mod header;
mod lexer;
mod section;
mod structure;

pub(super) use self::body_structure::{Extensions, write_body_structure};
pub(super) use self::decoded::Decoded;
pub(super) use self::envelope::write_envelope;
pub(super) use self::header::{end_of_header, write_fields};
pub(super) use self::section::{BinaryError, Found, binary, section};
pub(super) use self::structure::{Part, structure};
