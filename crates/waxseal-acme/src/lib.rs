//! How certificates are come by: orders at ACME CAs, challenges, renewal timing, and the source that serves what
//! was obtained.
//!
//! Whoever obtains a certificate does not install it: the renewer writes to storage, and [`waxseal_storage::Watch`]
//! tells every process that has the storage open. Knows no configuration file and no listener.
#![forbid(unsafe_code)]

mod issuer;
mod name;
mod settings;

pub use issuer::{
    Brake, Failure, Fault, IssueError, Issued, Issuer, OrderRequest, Progress, RenewalWindow, Replaces,
    Retry, Stage, Step,
};
pub use name::{Name, NameError, NameKind, parse_names};
pub use settings::{ChallengeKind, DnsProvider, DnsSettings, Eab, KeyType, Settings, TsigAlgorithm};
