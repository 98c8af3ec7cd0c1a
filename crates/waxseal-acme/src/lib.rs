//! How certificates are come by: orders at ACME CAs, challenges, renewal timing, and the source that serves what
//! was obtained.
//!
//! Whoever obtains a certificate does not install it: the renewer writes to storage, and [`waxseal_storage::Watch`]
//! tells every process that has the storage open. Reads no configuration file, and knows of
//! listeners no more than which addresses answer challenges, and which program holds a port.
#![forbid(unsafe_code)]

mod account;
mod bootstrap;
mod bundle;
mod challenge;
mod child;
mod clock;
mod directory;
mod dns;
mod export;
mod hoster;
mod http;
mod import;
mod issuer;
mod ledger;
mod managed;
mod name;
mod order;
pub mod plan;
pub mod ports;
mod preflight;
mod problem;
mod renewer;
mod roots;
mod settings;
mod target;
mod words;

pub use bootstrap::BootstrapError;
pub use bundle::{Bundle, Unfit};
pub use challenge::Answers;
pub use child::{bury_orphans, end_programs};
pub use clock::Clock;
pub use directory::{Directory, DirectoryError, Meta};
pub use dns::{Caa, CaaSet, Dns, DnsError};
pub use export::{Export, ExportError, Exporter, exports, remove_exports};
pub use hoster::{Credentials, Hoster, Want, hosters};
pub use http::{Http, HttpError, Reply};
pub use import::{Import, Origin, Pair, Verdict, import, pairs};
pub use issuer::{
    Brake, Failure, Fault, IssueError, Issued, Issuer, OrderRequest, Progress, RenewalWindow, Replaces,
    Stage, Step,
};
pub use ledger::{Attempts, Begun, HeldOff, LastFailure, PlacedOrder};
pub use managed::{Managed, ManagedError, Publisher};
pub use name::{MAX_NAMES, Name, NameError, NameKind, parse_names};
pub use order::{AcmeIssuer, IssuerError};
pub use preflight::Listening;
pub use problem::{Problem, Subproblem};
pub use renewer::{HeldStatus, Outcome, Renewer, Status, UnknownName, Urgency};
pub use roots::{Roots, RootsError};
pub use settings::{ChallengeKind, DnsProvider, DnsSettings, Eab, KeyType, Settings, TsigAlgorithm};
pub use target::{Target, is_covered, targets};
