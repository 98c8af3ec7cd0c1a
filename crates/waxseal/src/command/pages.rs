//! Manual pages and completions, made from the command line's own description.

use std::path::Path;
use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;

use super::{print, say};

/// The script for a shell.
pub(super) fn completions(command: &mut Command, shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, command, "waxseal", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The main page on standard output, or every page into `directory`.
pub(super) fn man(command: Command, directory: Option<&Path>) -> ExitCode {
    let done = match directory {
        Some(directory) => {
            std::fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(command, directory))
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page).map(|()| print(&String::from_utf8_lossy(&page)))
        }
    };
    match (done, directory) {
        (Ok(()), _) => ExitCode::SUCCESS,
        (Err(error), directory) => {
            let place =
                directory.map_or_else(String::new, |directory| format!(" into {}", directory.display()));
            say(&format!("error: cannot write manual pages{place}: {error}\n"));
            ExitCode::FAILURE
        }
    }
}
