//! What every storage does, asked of each.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use waxseal_storage::{Durability, FileStorage, Guard, Key, MAX_VALUE, MemoryStorage, Storage, StorageError};

const TTL: Duration = Duration::from_secs(60);
/// How long news may take.
const SOON: Duration = Duration::from_secs(5);

fn key(text: &str) -> Key {
    Key::new(text).expect("a key")
}

async fn value(storage: &dyn Storage, at: &str) -> Option<Vec<u8>> {
    let stored = storage.get(&key(at)).await.expect("readable");
    stored.map(|stored| stored.value.to_vec())
}

/// Everything below, on storages that share their content (or are one).
async fn conforms(storage: &dyn Storage, second: &dyn Storage) {
    values_are_kept_replaced_and_removed(storage, second).await;
    guards_hold(storage, second).await;
    lists_are_sorted_and_whole(storage, second).await;
    leases_have_one_holder(storage, second).await;
    fences_keep_late_holders_out(storage, second).await;
    leases_end(storage, second).await;
    changes_are_told(storage, second).await;
    large_values_are_refused(storage).await;
}

async fn values_are_kept_replaced_and_removed(storage: &dyn Storage, second: &dyn Storage) {
    assert_eq!(value(storage, "basics/a").await, None);
    storage.put(&key("basics/a"), b"one", Guard::Always).await.expect("written");
    assert_eq!(value(second, "basics/a").await.as_deref(), Some(&b"one"[..]));
    storage.put(&key("basics/a"), b"", Guard::Always).await.expect("written");
    assert_eq!(value(second, "basics/a").await.as_deref(), Some(&b""[..]));
    assert!(second.delete(&key("basics/a"), Guard::Always).await.expect("removed"));
    assert_eq!(value(storage, "basics/a").await, None);
    assert!(!storage.delete(&key("basics/a"), Guard::Always).await.expect("nothing to remove"));
    assert_eq!(value(storage, "basics/a/below").await, None);
}

async fn guards_hold(storage: &dyn Storage, second: &dyn Storage) {
    let at = key("guards/a");
    let first = storage.put(&at, b"1", Guard::Absent).await.expect("absent");
    let refused = second.put(&at, b"x", Guard::Absent).await;
    assert!(matches!(refused, Err(StorageError::Conflict(_))), "{refused:?}");

    let read = second.get(&at).await.expect("readable").expect("there");
    let newer = second.put(&at, b"2", Guard::Unchanged(read.revision)).await.expect("unchanged");
    let refused = storage.put(&at, b"x", Guard::Unchanged(first)).await;
    assert!(matches!(refused, Err(StorageError::Conflict(_))), "{refused:?}");
    assert_eq!(value(storage, "guards/a").await.as_deref(), Some(&b"2"[..]));

    let refused = storage.delete(&at, Guard::Unchanged(first)).await;
    assert!(matches!(refused, Err(StorageError::Conflict(_))), "{refused:?}");
    assert!(storage.delete(&at, Guard::Unchanged(newer)).await.expect("unchanged"));
    let refused = storage.put(&at, b"x", Guard::Unchanged(newer)).await;
    assert!(matches!(refused, Err(StorageError::Conflict(_))), "{refused:?}");
}

async fn lists_are_sorted_and_whole(storage: &dyn Storage, second: &dyn Storage) {
    for at in ["lists/b/2", "lists/a/1", "lists/b/1", "listsnot/x"] {
        storage.put(&key(at), b"", Guard::Always).await.expect("written");
    }
    let listed = second.list(&key("lists")).await.expect("listed");
    assert_eq!(listed, [key("lists/a/1"), key("lists/b/1"), key("lists/b/2")]);
    assert_eq!(second.list(&key("lists/b")).await.expect("listed"), [key("lists/b/1"), key("lists/b/2")]);
    assert_eq!(second.list(&key("nothing")).await.expect("listed"), []);
}

async fn leases_have_one_holder(storage: &dyn Storage, second: &dyn Storage) {
    let name = key("one/holder");
    let lease = storage.acquire(&name, TTL).await.expect("asked").expect("free");
    assert_eq!(storage.acquire(&name, TTL).await.expect("asked"), None);
    assert_eq!(second.acquire(&name, TTL).await.expect("asked"), None);
    assert!(second.acquire(&key("one/other"), TTL).await.expect("asked").is_some());
    storage.renew(&lease, TTL).await.expect("still ours");
    assert_eq!(second.acquire(&name, TTL).await.expect("asked"), None);
    storage.release(lease.clone()).await.expect("released");
    let next = second.acquire(&name, TTL).await.expect("asked").expect("free again");
    assert!(next.fence() > lease.fence());
    storage.release(lease).await.expect("no error for the former holder");
    assert_eq!(storage.acquire(&name, TTL).await.expect("asked"), None, "and no harm to the present one");
}

async fn fences_keep_late_holders_out(storage: &dyn Storage, second: &dyn Storage) {
    let (name, at) = (key("fenced/name"), key("fenced/value"));
    let late = storage.acquire(&name, Duration::ZERO).await.expect("asked").expect("free");
    storage.put(&at, b"late", Guard::Held(&late)).await.expect("run out, but nobody took it");
    let lease = second.acquire(&name, TTL).await.expect("asked").expect("run out");
    second.put(&at, b"new", Guard::Held(&lease)).await.expect("ours");
    for refused in [
        storage.put(&at, b"late", Guard::Held(&late)).await.map(drop),
        storage.delete(&at, Guard::Held(&late)).await.map(drop),
        storage.renew(&late, TTL).await,
    ] {
        assert!(matches!(refused, Err(StorageError::LeaseLost(_))), "{refused:?}");
    }
    assert_eq!(value(storage, "fenced/value").await.as_deref(), Some(&b"new"[..]));
    second.release(lease.clone()).await.expect("released");
    let refused = second.put(&at, b"x", Guard::Held(&lease)).await;
    assert!(
        matches!(refused, Err(StorageError::LeaseLost(_))),
        "what was given back holds nothing: {refused:?}"
    );
}

async fn leases_end(storage: &dyn Storage, second: &dyn Storage) {
    let name = key("ends/name");
    storage.acquire(&name, Duration::from_millis(50)).await.expect("asked").expect("free");
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert!(second.acquire(&name, TTL).await.expect("asked").is_some());
}

async fn changes_are_told(storage: &dyn Storage, second: &dyn Storage) {
    let mut watch = storage.watch(&key("told"));
    for writer in [storage, second] {
        writer.put(&key("elsewhere/x"), b"", Guard::Always).await.expect("written");
        writer.put(&key("told/deep/a"), writer_text(writer, storage), Guard::Always).await.expect("written");
        hears(&mut watch, "told/deep/a").await;
        writer.delete(&key("told/deep/a"), Guard::Always).await.expect("removed");
        hears(&mut watch, "told/deep/a").await;
    }
}

fn writer_text(writer: &dyn Storage, first: &dyn Storage) -> &'static [u8] {
    if std::ptr::addr_eq(writer, first) { b"own" } else { b"another's" }
}

async fn hears(watch: &mut waxseal_storage::Watch, expected: &str) {
    let changed = timeout(SOON, watch.changed()).await.expect("told");
    assert_eq!(changed, [key(expected)]);
}

async fn large_values_are_refused(storage: &dyn Storage) {
    let refused = storage.put(&key("large/a"), &vec![0; MAX_VALUE + 1], Guard::Always).await;
    assert!(matches!(refused, Err(StorageError::TooLarge { .. })), "{refused:?}");
    storage.put(&key("large/a"), &vec![0; MAX_VALUE], Guard::Always).await.expect("just fits");
    assert_eq!(value(storage, "large/a").await.map(|value| value.len()), Some(MAX_VALUE));
}

fn open(root: &Path) -> FileStorage {
    FileStorage::open(root).expect("opened")
}

#[tokio::test]
async fn memory_conforms() {
    let storage = MemoryStorage::new();
    conforms(&storage, &storage).await;
    assert!(matches!(storage.durability(), Durability::Fleeting(_)));
}

#[tokio::test]
async fn files_conform() {
    let directory = tempfile::tempdir().expect("a directory");
    let storage = open(&directory.path().join("made/for/it"));
    conforms(&storage, &storage).await;
}

#[tokio::test]
async fn two_openings_of_a_directory_are_one_storage() {
    let directory = tempfile::tempdir().expect("a directory");
    conforms(&open(directory.path()), &open(directory.path())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_increment_is_lost_between_writers() {
    const EACH: usize = 25;
    let directory = tempfile::tempdir().expect("a directory");
    let at = key("counters/a");
    let count = |storage: Arc<dyn Storage>| {
        let at = at.clone();
        tokio::spawn(async move {
            let mut done = 0;
            while done < EACH {
                let read = storage.get(&at).await.expect("readable");
                let number: u64 =
                    read.as_ref().map_or(0, |read| serde_json::from_slice(&read.value).expect("a number"));
                let guard = read.map_or(Guard::Absent, |read| Guard::Unchanged(read.revision));
                match storage.put(&at, (number + 1).to_string().as_bytes(), guard).await {
                    Ok(_) => done += 1,
                    Err(StorageError::Conflict(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        })
    };
    let writers: Vec<_> = (0..4).map(|_| count(Arc::new(open(directory.path())))).collect();
    for writer in writers {
        writer.await.expect("counted");
    }
    let total = value(&open(directory.path()), "counters/a").await.expect("there");
    assert_eq!(total, (4 * EACH).to_string().into_bytes());
}
