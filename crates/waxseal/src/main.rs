//! The program: see [`waxseal::command`].

use std::process::ExitCode;

fn main() -> ExitCode {
    waxseal::command::run()
}
