//! What must survive a restart, or be shared between processes: values under keys, leases, and word of changes.
//!
//! Knows nobody: neither what a certificate is nor what the values mean. The one thing it knows of its users is
//! the name of each of their keys, so that all of them stand in one place ([`keys`]).
//!
//! ```
//! # use waxseal_storage::{keys, Guard, MemoryStorage, Storage};
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let storage = MemoryStorage::new();
//! let key = keys::http_01("token")?;
//! let revision = storage.put(&key, b"answer", Guard::Absent).await?;
//! storage.put(&key, b"another", Guard::Unchanged(revision)).await?;
//! assert!(storage.put(&key, b"too late", Guard::Unchanged(revision)).await.is_err());
//! # Ok::<(), waxseal_storage::StorageError>(()) }).unwrap();
//! ```
#![forbid(unsafe_code)]

mod file;
mod key;
pub mod keys;
mod memory;
mod storage;
mod watch;

pub use file::FileStorage;
pub use key::{Key, KeyError};
pub use memory::MemoryStorage;
pub use storage::{
    BoxFuture, Durability, Guard, Lease, MAX_LEASE, MAX_VALUE, Revision, Storage, StorageError, Stored,
};
pub use watch::Watch;
