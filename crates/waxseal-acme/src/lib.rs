//! How certificates are come by: orders at ACME CAs, challenges, renewal timing, and the source that serves what
//! was obtained.
//!
//! Whoever obtains a certificate does not install it: the renewer writes to storage, and [`waxseal_storage::Watch`]
//! tells every process that has the storage open. Knows no configuration file and no listener.
#![forbid(unsafe_code)]

mod challenge;
mod directory;
mod dns;
mod http;
mod issuer;
mod ledger;
mod name;
pub mod plan;
mod problem;
mod settings;

pub use challenge::{Answers, ChallengeCertificate};
pub use directory::{Directory, DirectoryError, Meta};
pub use dns::{Caa, Dns, DnsError};
pub use http::{Http, HttpError, Reply, Roots, RootsError};
pub use issuer::{
    Brake, Failure, Fault, IssueError, Issued, Issuer, OrderRequest, Progress, RenewalWindow, Replaces,
    Retry, Stage, Step,
};
pub use ledger::{Attempts, Begun, HeldOff, LastFailure, PlacedOrder};
pub use name::{MAX_NAMES, Name, NameError, NameKind, parse_names};
pub use problem::{Problem, Subproblem};
pub use settings::{ChallengeKind, DnsProvider, DnsSettings, Eab, KeyType, Settings, TsigAlgorithm};
