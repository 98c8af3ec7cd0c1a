//! What went wrong at a CA, as an [`IssueError`]: stage, whose fault, and words for each name.

use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use instant_acme::Error as AcmeError;
use waxseal_storage::StorageError;

use crate::directory::DirectoryError;
use crate::http::{HttpError, causes};
use crate::issuer::{Failure, Fault, IssueError, Stage};
use crate::problem::Problem;

/// A step of the library that failed.
pub(crate) fn refused(stage: Stage, error: &AcmeError) -> IssueError {
    if let Some(error) = http_error(error) {
        return unanswered(stage, error);
    }
    match error {
        AcmeError::Api(refusal) => problem(stage, &Problem::from(refusal)),
        AcmeError::Json(_) | AcmeError::Str(_) => IssueError::new(
            stage,
            Fault::Ca,
            format!("the CA gave an answer that is not ACME's: {}", causes(error)),
        ),
        AcmeError::Timeout(_) => IssueError::new(stage, Fault::Ca, "the CA takes too long"),
        other => IssueError::new(stage, Fault::Ca, causes(other)),
    }
}

/// A request without a usable answer.
pub(crate) fn unanswered(stage: Stage, error: &HttpError) -> IssueError {
    let wait = error.retry_after().map(until);
    match error {
        HttpError::Problem { problem: refusal, .. } => problem(stage, refusal).after(wait),
        HttpError::Status { status: StatusCode::TOO_MANY_REQUESTS, .. } => {
            IssueError::new(stage, Fault::RateLimit, error.to_string()).after(wait)
        }
        HttpError::Untrusted { .. } => IssueError::new(stage, Fault::Configuration, error.to_string()),
        _ => IssueError::new(stage, Fault::Ca, error.to_string()).after(wait),
    }
}

/// Our own storage failed, on the way to or after `stage`: what stands at the CA by then counts there.
pub(crate) fn storage(stage: Stage, error: &StorageError) -> IssueError {
    IssueError::new(stage, Fault::Storage, error.to_string())
}

/// No directory.
pub(crate) fn no_directory(error: &DirectoryError) -> IssueError {
    match error {
        DirectoryError::Http(HttpError::Status { url, status, .. })
            if matches!(status.as_u16(), 404 | 410) =>
        {
            let said = format!("{url} answered {status}: is this the address of the CA's directory?");
            IssueError::new(Stage::Directory, fault_of(*status), said)
        }
        DirectoryError::Http(error) => unanswered(Stage::Directory, error),
        DirectoryError::NotOne { .. } => {
            IssueError::new(Stage::Directory, Fault::Configuration, error.to_string())
        }
    }
}

/// A refusal with reasons, told for each name that the CA names.
pub(crate) fn problem(stage: Stage, problem: &Problem) -> IssueError {
    let fault = fault(stage, problem);
    let mut error = IssueError::new(stage, fault, said(stage, problem));
    if !problem.subproblems.is_empty() {
        let each = problem.subproblems.iter();
        error.failures = each.map(|it| Failure { name: it.name.clone(), problem: it.to_string() }).collect();
    }
    error
}

/// Whether the library failed for a nonce, more often than it tries.
pub(crate) fn is_stale_nonce(error: &AcmeError) -> bool {
    match error {
        AcmeError::Api(problem) => Problem::from(problem).is("badNonce"),
        other => http_error(other).is_some_and(HttpError::is_stale_nonce),
    }
}

/// The refusal inside, if the CA gave reasons.
pub(crate) fn reasons(error: &AcmeError) -> Option<Problem> {
    match error {
        AcmeError::Api(problem) => Some(Problem::from(problem)),
        other => match http_error(other)? {
            HttpError::Problem { problem, .. } => Some((**problem).clone()),
            _ => None,
        },
    }
}

/// The status of a refusal without reasons.
pub(crate) fn status(error: &AcmeError) -> Option<StatusCode> {
    match http_error(error)? {
        HttpError::Status { status, .. } => Some(*status),
        _ => None,
    }
}

fn http_error(error: &AcmeError) -> Option<&HttpError> {
    match error {
        AcmeError::Other(inner) => inner.downcast_ref(),
        _ => None,
    }
}

fn said(stage: Stage, problem: &Problem) -> String {
    // The same kind means something else where nothing was validated yet (RFC 8555 section 6.7: "the client lacks
    // sufficient authorization").
    if problem.is("unauthorized") && stage < Stage::Challenge {
        let hint = if stage == Stage::Account { "; are eab.kid and eab.hmac-key right?" } else { "" };
        return format!("the CA does not let our account do this: {}{hint}", problem.detail);
    }
    problem.to_string()
}

fn fault(stage: Stage, problem: &Problem) -> Fault {
    match problem.kind.as_str() {
        "rateLimited" => Fault::RateLimit,
        "unauthorized" if stage < Stage::Challenge => Fault::Configuration,
        "unauthorized" | "dns" | "caa" | "connection" | "tls" | "incorrectResponse" => Fault::Setup,
        "rejectedIdentifier"
        | "unsupportedIdentifier"
        | "externalAccountRequired"
        | "invalidContact"
        | "unsupportedContact"
        | "userActionRequired"
        | "badCSR"
        | "badPublicKey"
        | "invalidProfile" => Fault::Configuration,
        _ => Fault::Ca,
    }
}

fn fault_of(status: StatusCode) -> Fault {
    match status {
        StatusCode::TOO_MANY_REQUESTS => Fault::RateLimit,
        StatusCode::NOT_FOUND | StatusCode::GONE => Fault::Configuration,
        _ => Fault::Ca,
    }
}

fn until(when: SystemTime) -> Duration {
    when.duration_since(SystemTime::now()).unwrap_or_default()
}
