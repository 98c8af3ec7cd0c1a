//! Every CA asked for its directory, the one thing that it gives to anybody: whether it is a CA, and what it demands.

use std::sync::Arc;
use std::time::Duration;

use waxseal_acme::{Directory, DirectoryError, Dns, Http, HttpError, Roots, Settings};

use crate::config::{Acme, Loaded, Problems};

/// How long all of them together may take; none of them is needed for the check of all else.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks, and adds what is wrong to the problems. A CA that cannot be reached is a warning: it may be tomorrow.
pub(super) fn ask(loaded: &mut Loaded) {
    if loaded.model.acme.is_empty() {
        return;
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            loaded.report.problems.error(None, format!("cannot ask the CAs: {error}"));
            return;
        }
    };
    let dns = match Dns::new(&loaded.model.resolver) {
        Ok(dns) => Arc::new(dns),
        Err(error) => {
            loaded.report.problems.error(None, error.to_string());
            return;
        }
    };
    let answers = runtime.block_on(async {
        let asking: Vec<_> = loaded
            .model
            .acme
            .iter()
            .map(|acme| tokio::spawn(directory(Arc::clone(&acme.settings), Arc::clone(&dns))))
            .collect();
        let mut answers = Vec::with_capacity(asking.len());
        for answer in asking {
            answers.push(answer.await);
        }
        answers
    });
    // A look-up in the system's resolver may still block a thread.
    runtime.shutdown_background();
    for (acme, answer) in loaded.model.acme.iter().zip(answers) {
        match answer {
            Ok(Ok(directory)) => judge(acme, &directory, &mut loaded.report.problems),
            Ok(Err(refusal)) => refusal.tell(acme, &mut loaded.report.problems),
            Err(error) => {
                loaded.report.problems.error(acme.header.clone(), error.to_string());
            }
        }
    }
}

/// Why a CA gives no directory.
enum Refusal {
    /// The configuration, most likely.
    Wrong(String, &'static str),
    /// The way there, or the CA.
    NotNow(String),
}

async fn directory(settings: Arc<Settings>, dns: Arc<Dns>) -> Result<Directory, Refusal> {
    let roots = settings.ca.clone().map_or(Roots::System, Roots::Pem);
    let http = Http::new(&roots, &dns).map_err(|error| Refusal::NotNow(error.to_string()))?;
    let fetched = tokio::time::timeout(PATIENCE, Directory::fetch(&http, &settings.directory)).await;
    let url = &settings.directory;
    match fetched {
        Ok(Ok(directory)) => Ok(directory),
        Ok(Err(error @ DirectoryError::NotOne { .. })) => {
            Err(Refusal::Wrong(error.to_string(), "write the address of the CA's directory"))
        }
        Ok(Err(DirectoryError::Http(HttpError::Status { status, .. }))) if status.as_u16() == 404 => {
            Err(Refusal::Wrong(format!("{url} answers {status}"), "write the address of the CA's directory"))
        }
        Ok(Err(DirectoryError::Http(error @ HttpError::Untrusted { .. }))) => {
            Err(Refusal::Wrong(error.to_string(), "write ca = \"%{file:/path/to/root.pem}%\""))
        }
        Ok(Err(error)) => Err(Refusal::NotNow(error.to_string())),
        Err(_) => Err(Refusal::NotNow(format!("{url} gives no answer within {} s", PATIENCE.as_secs()))),
    }
}

impl Refusal {
    fn tell(self, acme: &Acme, problems: &mut Problems) {
        let span = acme.directory.as_ref().unwrap_or(&acme.header).clone();
        match self {
            Self::Wrong(why, help) => problems.error(span, why).help(help),
            Self::NotNow(why) => problems.warning(span, format!("the CA was not asked what it demands: {why}")).help(
                "nothing is wrong if this machine has no way out just now; the server goes on trying, and serves what it has",
            ),
        };
    }
}

/// What the CA demands, held against what is configured.
fn judge(acme: &Acme, directory: &Directory, problems: &mut Problems) {
    let settings = &acme.settings;
    if directory.meta.external_account_required && settings.eab.is_none() {
        let why = format!("{} takes only accounts that it knows already", settings.directory);
        problems.error(acme.header.clone(), why).help("set eab.kid and eab.hmac-key to what the CA gave you");
    }
    if let Some(Err(why)) = settings.profile.as_ref().map(|profile| directory.profile(profile)) {
        problems.warning(acme.profile.clone(), why);
    }
}
