//! Whole conversations with the machines of this crate.

mod drive;
mod injection;
mod service;
mod splits;
mod transcripts;
