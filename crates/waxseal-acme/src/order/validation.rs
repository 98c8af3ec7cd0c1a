//! Proving the names of an order: answers in place, the CA asked to look, and the outcome told for each name.

use std::time::Duration;

use instant_acme::{AuthorizationStatus, ChallengeStatus, ChallengeType, Order, OrderStatus};
use tokio::time::Instant;

use super::run::{FIRST_PAUSE, LONGEST_PAUSE, Run, with_fresh_nonce};
use crate::account::MAX_NONCES;
use crate::challenge::{Proofs, Task};
use crate::issuer::{Failure, Fault, IssueError, Stage};
use crate::name::Name;
use crate::problem::Problem;
use crate::settings::ChallengeKind;
use crate::words;

/// How long a CA may look at answers. Boulder takes seconds; others ask again for minutes.
const VALIDATION_TIME: Duration = Duration::from_secs(180);
/// How long the other names are waited for once one has failed, so that each is told with its own reason.
const OTHERS_TIME: Duration = Duration::from_secs(15);

impl Run<'_> {
    /// Proves every name that is not proved yet.
    pub(super) async fn prove(&self, order: &mut Order, proofs: &mut Proofs) -> Result<(), IssueError> {
        let kind = self.issuer.settings.challenge;
        with_fresh_nonce!(fetch(order).await).map_err(|e| words::refused(Stage::Order, &e))?;
        self.post_answers(order, proofs, kind).await?;
        if kind == ChallengeKind::Dns01 {
            let text = "waiting until the name servers show the records".to_owned();
            self.step(Stage::Challenge, text).await;
        }
        proofs.settle().await?;
        self.step(Stage::Validation, "letting the CA look".to_owned()).await;
        let mut failed = ask_to_look(order, kind).await?;
        self.wait_for_outcome(order, kind, &mut failed).await
    }

    /// Notes the TXT records of names that are proved already: whoever set them may have been killed before they were
    /// removed. Those of the others are set again, and noted then.
    pub(super) async fn note_former(&self, order: &mut Order, proofs: &mut Proofs) {
        let kind = self.issuer.settings.challenge;
        if kind != ChallengeKind::Dns01 {
            return;
        }
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let Ok(mut authorization) = authorization else { return };
            let name = Name::parse(&authorization.identifier().to_string());
            if authorization.status == AuthorizationStatus::Pending {
                continue;
            }
            if let (Ok(name), Some(challenge)) = (name, authorization.challenge(kind_of(kind))) {
                proofs.note_record(&name, &challenge.key_authorization().dns_value()).await;
            }
        }
    }

    async fn post_answers(
        &self,
        order: &mut Order,
        proofs: &mut Proofs,
        kind: ChallengeKind,
    ) -> Result<(), IssueError> {
        let mut failures = Failures::default();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(|e| words::refused(Stage::Order, &e))?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let text = authorization.identifier().to_string();
            let offered = offered(&authorization.challenges);
            let Ok(name) = Name::parse(&text) else {
                let said = format!("the CA asks for a proof of {text:?}, which was not ordered");
                return Err(IssueError::new(Stage::Challenge, Fault::Ca, said));
            };
            let Some(challenge) = authorization.challenge(kind_of(kind)) else {
                let said = format!("the CA does not offer {kind} for this name, only {offered}");
                failures.add(&IssueError::new(Stage::Challenge, Fault::Configuration, said).about(&name));
                continue;
            };
            self.step(Stage::Challenge, format!("proving {name} by {kind}")).await;
            let proof = challenge.key_authorization();
            let digest = proof.digest();
            let task = Task {
                name: &name,
                token: &challenge.token,
                key_authorization: proof.as_str(),
                digest: digest.as_ref(),
                dns_value: &proof.dns_value(),
            };
            if let Err(error) = proofs.post(kind, &task).await {
                failures.add(&error);
            }
        }
        failures.into_result(Stage::Challenge)
    }

    /// Until the order is ready, or each name that fails has said why.
    async fn wait_for_outcome(
        &self,
        order: &mut Order,
        kind: ChallengeKind,
        failures: &mut Failures,
    ) -> Result<(), IssueError> {
        let mut deadline = Instant::now() + VALIDATION_TIME;
        let mut pause = FIRST_PAUSE;
        loop {
            let looked = with_fresh_nonce!(order.refresh().await.map(|_| ()));
            looked.map_err(|e| words::refused(Stage::Validation, &e))?;
            let state = order.state();
            let (status, error) = (state.status, state.error.as_ref().map(Problem::from));
            if !matches!(status, OrderStatus::Pending | OrderStatus::Invalid) {
                return Ok(());
            }
            let outcome = with_fresh_nonce!(outcome(order, kind, failures).await);
            let open = outcome.map_err(|e| words::refused(Stage::Validation, &e))?;
            if status == OrderStatus::Invalid || !failures.each.is_empty() {
                deadline = deadline.min(Instant::now() + OTHERS_TIME);
                if open == 0 || Instant::now() + pause > deadline {
                    return Err(failures.clone().told(error));
                }
            }
            if Instant::now() > deadline {
                let said = format!("the CA has not come to an end within {} s", VALIDATION_TIME.as_secs());
                return Err(IssueError::new(Stage::Validation, Fault::Ca, said));
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
    }
}

async fn fetch(order: &mut Order) -> Result<(), instant_acme::Error> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        authorization?;
    }
    Ok(())
}

/// Tells the CA of every answer that it does not know of. Some CAs look at once, and refuse here.
async fn ask_to_look(order: &mut Order, kind: ChallengeKind) -> Result<Failures, IssueError> {
    let mut failures = Failures::default();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(|e| words::refused(Stage::Validation, &e))?;
        if authorization.status != AuthorizationStatus::Pending {
            continue;
        }
        let name = authorization.identifier().to_string();
        let Some(mut challenge) = authorization.challenge(kind_of(kind)) else { continue };
        if challenge.status != ChallengeStatus::Pending {
            continue;
        }
        match with_fresh_nonce!(challenge.set_ready().await) {
            Ok(()) => {}
            Err(error) => {
                let told = words::refused(Stage::Validation, &error);
                match words::reasons(&error).filter(|it| !is_general(it)) {
                    Some(reasons) => failures.add(&about(with_remedy(told, kind, &reasons), &name)),
                    None => return Err(told),
                }
            }
        }
    }
    Ok(failures)
}

/// Notes which names have failed; how many are still looked at.
async fn outcome(
    order: &mut Order,
    kind: ChallengeKind,
    failures: &mut Failures,
) -> Result<usize, instant_acme::Error> {
    let mut open = 0;
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        let name = authorization.identifier().to_string();
        if failures.knows(&name) {
            continue;
        }
        if authorization.status == AuthorizationStatus::Pending {
            authorization.refresh().await?;
        }
        match authorization.status {
            AuthorizationStatus::Valid => {}
            AuthorizationStatus::Pending => open += 1,
            _ => {
                let wanted = kind_of(kind);
                let error = authorization.challenges.iter().find(|it| it.r#type == wanted);
                let problem = error.and_then(|it| it.error.as_ref()).map(Problem::from);
                let told = problem.map_or_else(
                    || {
                        IssueError::new(
                            Stage::Validation,
                            Fault::Ca,
                            "the CA gave the name up without a reason",
                        )
                    },
                    |problem| with_remedy(words::problem(Stage::Validation, &problem), kind, &problem),
                );
                failures.add(&about(told, &name));
            }
        }
    }
    Ok(open)
}

/// What failed so far, name by name.
#[derive(Clone, Default)]
struct Failures {
    each: Vec<Failure>,
    fault: Option<Fault>,
    retry_after: Option<Duration>,
}

impl Failures {
    fn add(&mut self, error: &IssueError) {
        self.each.extend(error.failures.iter().cloned());
        self.fault = self.fault.or(Some(error.fault));
        self.retry_after = self.retry_after.max(error.retry_after);
    }

    fn knows(&self, name: &str) -> bool {
        self.each.iter().any(|failure| failure.name.as_deref() == Some(name))
    }

    fn into_result(self, stage: Stage) -> Result<(), IssueError> {
        let Some(fault) = self.fault else { return Ok(()) };
        Err(IssueError { stage, failures: self.each, fault, retry_after: self.retry_after })
    }

    /// The names with their reasons, or else what the order as a whole says.
    fn told(self, order: Option<Problem>) -> IssueError {
        match (self.into_result(Stage::Validation), order) {
            (Err(error), _) => error,
            (Ok(()), Some(problem)) => words::problem(Stage::Validation, &problem),
            (Ok(()), None) => IssueError::new(
                Stage::Validation,
                Fault::Ca,
                "the order has expired or was given up by the CA; a new one is made next time",
            ),
        }
    }
}

/// Whether a refusal is about us or the CA and not about one name.
fn is_general(problem: &Problem) -> bool {
    matches!(
        problem.kind.as_str(),
        "rateLimited" | "serverInternal" | "badNonce" | "accountDoesNotExist" | "userActionRequired"
    )
}

/// The same, with the one thing to do about it.
fn with_remedy(mut error: IssueError, kind: ChallengeKind, problem: &Problem) -> IssueError {
    if let Some(remedy) = remedy(kind, &problem.kind) {
        for failure in &mut error.failures {
            failure.problem = format!("{}. {remedy}", failure.problem.trim_end_matches('.'));
        }
    }
    error
}

/// What to do where a CA that looked at an answer says that (RFC 8555 section 6.7).
fn remedy(kind: ChallengeKind, problem: &str) -> Option<&'static str> {
    use ChallengeKind::{Dns01, Http01, TlsAlpn01};
    Some(match (kind, problem) {
        (Http01, "connection") => {
            "Open port 80 of this machine to the internet (firewall, provider), or use dns-01; where a web server redirects to \
             https, exempt /.well-known/acme-challenge/ from that"
        }
        (TlsAlpn01, "connection") => {
            "Open port 443 of this machine to the internet (firewall, provider), or use dns-01"
        }
        (Http01, "unauthorized" | "incorrectResponse") => {
            "Nobody answers there, or somebody else: let the name lead to this machine, or whoever has its port 80 pass \
             /.well-known/acme-challenge/ on"
        }
        (TlsAlpn01, "unauthorized" | "incorrectResponse" | "tls") => {
            "Nobody answers there, or somebody else: let the name lead to this machine, and what stands before it pass port \
             443 on without taking off TLS"
        }
        (Dns01, "unauthorized" | "incorrectResponse" | "dns") => {
            "See that every name server of the zone shows the record; raise propagation-timeout where some lag"
        }
        (_, "dns") => "See that the name has an address at its name servers, and that these answer",
        (_, "caa") => "See the CAA records of the name and of the domains above it",
        _ => return None,
    })
}

fn about(mut error: IssueError, name: &str) -> IssueError {
    for failure in &mut error.failures {
        failure.name.get_or_insert_with(|| name.to_owned());
    }
    error
}

fn kind_of(kind: ChallengeKind) -> ChallengeType {
    match kind {
        ChallengeKind::Http01 => ChallengeType::Http01,
        ChallengeKind::TlsAlpn01 => ChallengeType::TlsAlpn01,
        ChallengeKind::Dns01 => ChallengeType::Dns01,
    }
}

fn offered(challenges: &[instant_acme::Challenge]) -> String {
    let names = challenges.iter().map(|challenge| match &challenge.r#type {
        ChallengeType::Http01 => "http-01",
        ChallengeType::TlsAlpn01 => "tls-alpn-01",
        ChallengeType::Dns01 => "dns-01",
        ChallengeType::Unknown(name) => name,
        _ => "others",
    });
    names.collect::<Vec<_>>().join(", ")
}
