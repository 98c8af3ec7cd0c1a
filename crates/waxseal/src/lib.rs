//! What the operator touches: the configuration file, the commands, and the wiring of the rooms.
//!
//! A library only so that tests and the program share it; its items are no interface for other programs.

pub mod app;
pub mod command;
pub mod config;
pub mod control;
pub mod logs;
pub mod obtained;
pub mod privileges;
pub mod quickstart;
pub mod records;
pub mod wiring;
