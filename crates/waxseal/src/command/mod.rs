//! What is typed: the commands and what they print. Data goes to standard output, talk to standard error.

mod account;
pub mod cert;
pub mod check;
mod files;
mod pages;
mod running;
pub mod show;
mod table;

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::config::{self, Format, Level, Loaded, Machine, Report, Style};
use crate::logs::Logs;
use crate::quickstart::{QuickstartError, Started};

/// A mail server's TLS, complete: one door for SMTP, IMAP, POP3, ManageSieve, LMTP and HTTP.
#[derive(Debug, Parser)]
#[command(name = "waxseal", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run in the foreground; SIGHUP reloads, SIGTERM and SIGINT drain and stop
    Serve {
        #[command(flatten)]
        file: ConfigurationFile,
    },
    /// Say everything that is wrong with a configuration, and what it comes to; start nothing
    Check {
        #[command(flatten)]
        file: ConfigurationFile,
        /// Dial every service and say what it expects of the configuration
        #[arg(long)]
        upstreams: bool,
        /// Print one JSON object instead
        #[arg(long)]
        json: bool,
    },
    /// Print the settings in force, each with where it comes from
    Show {
        #[command(flatten)]
        file: ConfigurationFile,
        /// Print one JSON object instead
        #[arg(long)]
        json: bool,
    },
    /// Say how the running server is doing: listeners, services, sessions, certificates
    Status {
        #[command(flatten)]
        file: ConfigurationFile,
        /// Print one JSON object instead
        #[arg(long)]
        json: bool,
    },
    /// Show and renew the certificates of the running server; take over and hand out others' files
    Cert {
        #[command(flatten)]
        file: ConfigurationFile,
        #[command(subcommand)]
        what: Cert,
    },
    /// Serve mail on this machine at once, with a directory, certificates and accounts made for it
    Quickstart {
        /// The directory; made if it is missing, used again if a quickstart made it
        #[arg(long, value_name = "DIR", default_value = "waxseal-quickstart")]
        dir: PathBuf,
        /// Print one line of JSON instead of commands to paste
        #[arg(long)]
        json: bool,
        /// The least that is logged
        #[arg(long, value_name = "LEVEL", default_value = "warn", value_parser = level_words())]
        log_level: String,
    },
    /// Make, list, change and remove the accounts of the built-in mailboxes
    #[command(subcommand)]
    Account(account::Account),
    /// Print a script that completes commands and options in a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    Man {
        /// Write a page for every command into this directory instead
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// What about certificates.
#[derive(Debug, Subcommand)]
enum Cert {
    /// Every certificate: its state, names, issuer, days left, next renewal; and why one is failing
    List {
        /// Print one JSON object a line instead
        #[arg(long)]
        json: bool,
    },
    /// All about one certificate
    Show {
        /// One of its names, or what the list calls it
        name: String,
        /// Print one JSON object a line instead
        #[arg(long)]
        json: bool,
    },
    /// Obtain a new certificate now, and tell step by step how it goes
    Renew {
        /// One of its names, or what the list calls it
        name: String,
        /// Pass the limit of orders a week and the CA's wish to be left alone
        #[arg(long)]
        force: bool,
        /// Print one JSON object a line instead
        #[arg(long)]
        json: bool,
    },
    /// Take over what another program has obtained, so that it is served and renewed here
    Import {
        /// The program
        #[arg(long, value_name = "PROGRAM", value_parser = origin_words())]
        from: String,
        /// Where it keeps them: /etc/letsencrypt, ~/.acme.sh, /var/lib/caddy/.local/share/caddy
        dir: PathBuf,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Keep a certificate from a CA in files, for programs that need them so; the server writes them after each renewal
    Export(files::ExportArguments),
}

/// Which configuration.
#[derive(Debug, Args)]
struct ConfigurationFile {
    /// The configuration file
    #[arg(
        long,
        short,
        global = true,
        value_name = "FILE",
        env = "WAXSEAL_CONFIG",
        default_value = "/etc/waxseal/waxseal.toml"
    )]
    config: PathBuf,
}

impl ConfigurationFile {
    fn load(&self) -> Result<Loaded, Report> {
        config::load(&self.config, &Machine::this())
    }
}

/// Does what the command line asks for.
pub fn run() -> ExitCode {
    match Cli::parse().command {
        Command::Serve { file } => match file.load() {
            Ok(loaded) => serve(loaded, file.config),
            Err(report) => refuse(&report),
        },
        Command::Check { file, upstreams, json } => check::check(file.load(), upstreams, json),
        Command::Show { file, json } => match file.load() {
            Ok(loaded) => {
                tell(&loaded.report);
                print(&show::show(&loaded.model, json));
                ExitCode::SUCCESS
            }
            Err(report) => refuse(&report),
        },
        Command::Status { file, json } => running::status(&file.config, json),
        Command::Cert { file, what } => match what {
            Cert::List { json } => cert::list(&file.config, json),
            Cert::Show { name, json } => cert::show(&file.config, &name, json),
            Cert::Renew { name, force, json } => cert::renew(&file.config, &name, force, json),
            Cert::Import { from, dir, dry_run } => files::import(&file, &from, &dir, dry_run),
            Cert::Export(arguments) => arguments.run(&file),
        },
        Command::Quickstart { dir, json, log_level } => ended(quickstart(&dir, json, &log_level)),
        Command::Account(command) => command.run(),
        Command::Completions { shell } => {
            print(&pages::completions(&mut Cli::command(), shell));
            ExitCode::SUCCESS
        }
        Command::Man { dir } => pages::man(Cli::command(), dir.as_deref()),
    }
}

fn serve(loaded: Loaded, path: PathBuf) -> ExitCode {
    if loaded.model.log.format == Format::Text {
        tell(&loaded.report);
    }
    let logs = Logs::start(loaded.model.log);
    ended(crate::app::serve(loaded, path, logs, || ()))
}

fn quickstart(dir: &Path, as_json: bool, level: &str) -> Result<(), QuickstartError> {
    let started = Started::in_directory(dir)?;
    started.serve(level, |screen| print(&if as_json { screen.json() } else { screen.text() }))
}

fn origin_words() -> PossibleValuesParser {
    PossibleValuesParser::new(waxseal_acme::Origin::ALL.map(waxseal_acme::Origin::as_str))
}

fn level_words() -> PossibleValuesParser {
    PossibleValuesParser::new(Level::ALL.map(|(word, _)| word))
}

/// The exit status, and what went wrong.
fn ended(result: Result<(), impl Display>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

/// Problems, on standard error.
fn tell(report: &Report) {
    let terminal = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    say(&report.render(if terminal { Style::Terminal } else { Style::Plain }));
}

/// Problems, how many they are, and the end.
fn refuse(report: &Report) -> ExitCode {
    tell(report);
    say(&format!("{}; nothing was started\n", summary(report)));
    ExitCode::FAILURE
}

/// `FILE: 2 errors, 1 warning`.
fn summary(report: &Report) -> String {
    let (errors, warnings) = report.problems.count();
    let count = |number: usize, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
    let counts = [(errors, "error"), (warnings, "warning")];
    let counts: Vec<_> = counts
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, word)| count(number, word))
        .collect();
    let counts = if counts.is_empty() { "nothing is wrong".to_owned() } else { counts.join(", ") };
    format!("{}: {counts}", report.source.path().display())
}

/// Writes data. A reader who has gone away (`| head`) is no error.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever reads has had enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            say(&format!("error: standard output: {error}\n"));
            std::process::exit(1);
        }
        _ => {}
    }
}

/// Writes talk.
fn say(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
