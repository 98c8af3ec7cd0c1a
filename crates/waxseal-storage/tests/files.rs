//! What files show that no other storage has: rights, crashes, foreign bodies, a disk that is full.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use waxseal_storage::{FileStorage, Guard, Key, Storage, StorageError};

const TTL: Duration = Duration::from_secs(60);

fn key(text: &str) -> Key {
    Key::new(text).expect("a key")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").permissions().mode() & 0o777
}

#[tokio::test]
async fn nobody_else_may_look_in() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("opened to all");
    let storage = FileStorage::open(directory.path()).expect("opened");
    storage.put(&key("a/b"), b"secret", Guard::Always).await.expect("written");
    assert_eq!(mode(directory.path()), 0o700);
    assert_eq!(mode(&directory.path().join("a")), 0o700);
    assert_eq!(mode(&directory.path().join("a/b")), 0o600);
}

#[tokio::test]
async fn what_a_crash_left_half_written_is_swept_and_never_read() {
    let directory = tempfile::tempdir().expect("a directory");
    drop(FileStorage::open(directory.path()).expect("opened"));
    let half = directory.path().join(".tmp/4711-0");
    fs::write(&half, b"ha").expect("a crash");
    let storage = FileStorage::open(directory.path()).expect("opened");
    assert!(!half.exists());
    assert_eq!(storage.list(&key("a")).await.expect("listed"), []);
}

#[tokio::test]
async fn foreign_files_are_no_values() {
    let directory = tempfile::tempdir().expect("a directory");
    let storage = FileStorage::open(directory.path()).expect("opened");
    storage.put(&key("a/b"), b"", Guard::Always).await.expect("written");
    fs::write(directory.path().join("a/.b.swp"), b"").expect("an editor");
    fs::write(directory.path().join("a/b~"), b"").expect("an editor");
    std::os::unix::fs::symlink("/etc/passwd", directory.path().join("a/link")).expect("a link");
    assert_eq!(storage.list(&key("a")).await.expect("listed"), [key("a/b")]);
}

#[tokio::test]
async fn a_lease_written_by_a_clock_gone_wrong_does_not_last_for_ever() {
    let directory = tempfile::tempdir().expect("a directory");
    let (first, second) = (FileStorage::open(directory.path()), FileStorage::open(directory.path()));
    let (first, second) = (first.expect("opened"), second.expect("opened"));
    first.acquire(&key("a/b"), TTL).await.expect("asked").expect("free");
    let file = directory.path().join(".leases/a~b");
    let mut record: serde_json::Value =
        serde_json::from_slice(&fs::read(&file).expect("there")).expect("JSON");
    record["until"] = serde_json::json!(32_503_680_000_000_u64); // the year 3000
    fs::write(&file, record.to_string()).expect("written");
    assert!(second.acquire(&key("a/b"), TTL).await.expect("asked").is_some());
}

/// Runs this test's program again, as root may look into any directory.
#[tokio::test]
async fn a_directory_that_may_not_be_looked_into_hides_no_other() {
    const ROOT: &str = "WAXSEAL_TEST_DENIED";
    if let Some(root) = std::env::var_os(ROOT) {
        let storage = FileStorage::open(Path::new(&root)).expect("opened");
        storage.put(&key("a/b/c"), b"", Guard::Always).await.expect("written");
        storage.put(&key("a/d/e"), b"", Guard::Always).await.expect("written");
        let closed = Path::new(&root).join("a/b");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("closed");
        assert_eq!(storage.list(&key("a")).await.expect("listed"), [key("a/d/e")]);
        storage.list(&key("a/b")).await.expect_err("asked for itself");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("opened");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).expect("opened to all");
    // Where this program lies somebody else may have no business.
    let program = directory.path().join("program");
    fs::copy(std::env::current_exe().expect("this program"), &program).expect("copied");
    let ran = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(program)
        .args(["--exact", "a_directory_that_may_not_be_looked_into_hides_no_other"])
        .env(ROOT, directory.path().join("cache"))
        .output()
        .expect("setpriv");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stdout));
}

#[tokio::test]
async fn a_lease_that_cannot_be_understood_is_free_and_fences_off_whoever_had_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let storage = FileStorage::open(directory.path()).expect("opened");
    let name = key("certificates/a/x");
    let former = storage.acquire(&name, TTL).await.expect("asked").expect("free");
    fs::write(directory.path().join(".leases/certificates~a~x"), "{\"fence\": 1").expect("garbage");
    let lease = storage.acquire(&name, TTL).await.expect("asked").expect("free");
    storage.put(&name, b"new", Guard::Held(&lease)).await.expect("written");
    let late = storage.put(&name, b"old", Guard::Held(&former)).await;
    assert!(matches!(late, Err(StorageError::LeaseLost(_))), "{late:?}");
}

/// Runs this test's program again as a process of its own, which holds a lease until it is killed.
#[tokio::test]
async fn the_lease_of_a_killed_process_is_free_at_once() {
    const HOLD: &str = "WAXSEAL_TEST_HOLD";
    let name = key("a/b");
    if let Some(root) = std::env::var_os(HOLD) {
        let storage = FileStorage::open(Path::new(&root)).expect("opened");
        storage.acquire(&name, TTL).await.expect("asked").expect("free");
        storage.put(&key("held/now"), b"", Guard::Always).await.expect("written");
        std::future::pending::<()>().await;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let storage = FileStorage::open(directory.path()).expect("opened");
    let mut watch = storage.watch(&key("held"));
    let mut other = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "the_lease_of_a_killed_process_is_free_at_once", "--nocapture"])
        .env(HOLD, directory.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("started");
    tokio::time::timeout(Duration::from_secs(20), watch.changed()).await.expect("the other holds the lease");
    assert_eq!(storage.acquire(&name, TTL).await.expect("asked"), None);
    other.kill().expect("killed");
    other.wait().expect("dead");
    let begun = Instant::now();
    assert!(storage.acquire(&name, TTL).await.expect("asked").is_some());
    assert!(begun.elapsed() < TTL / 10);
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("file"), b"").expect("written");
    let path = directory.path().join("file/acme");
    let error = FileStorage::open(&path).expect_err("a file is in the way");
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
}

#[tokio::test]
async fn somebody_elses_directory_is_neither_taken_nor_closed_to_others() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("opened to all");
    fs::write(directory.path().join("passwd"), b"root").expect("written");
    let error = FileStorage::open(directory.path()).expect_err("somebody else's");
    assert!(error.to_string().contains("name a directory of waxseal's own"), "{error}");
    assert_eq!(mode(directory.path()), 0o755);
    assert_eq!(fs::read_dir(directory.path()).expect("read").count(), 1);
    // What was put back from elsewhere is ours without its dot files, and so is a file system's fresh root.
    fs::rename(directory.path().join("passwd"), directory.path().join("accounts")).expect("renamed");
    fs::create_dir(directory.path().join("lost+found")).expect("made");
    FileStorage::open(directory.path()).expect("ours");
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_open_for_reading_until_it_can() {
    // Mounting is root's.
    let Ok(full) = FullDisk::mount() else { return };
    let (name, ballast) = (key("certificates/a/x"), full.0.join("lost+found"));
    let storage = FileStorage::open(&full.0).expect("opened");
    storage.put(&name, b"old", Guard::Always).await.expect("written");
    drop(storage);
    assert!(fs::write(&ballast, vec![0; 1 << 20]).is_err(), "no room is left");
    let storage = FileStorage::open(&full.0).expect("opened for reading");
    let stored = storage.get(&name).await.expect("readable").expect("there");
    assert_eq!(&**stored.value, b"old");
    assert!(storage.acquire(&name, TTL).await.expect_err("no room").is_full());
    fs::remove_file(ballast).expect("removed");
    assert!(storage.acquire(&name, TTL).await.expect("asked").is_some());
}

#[tokio::test]
async fn a_full_disk_leaves_the_old_value() {
    let Ok(full) = FullDisk::mount() else {
        // Mounting is root's. The same path without it: a directory that cannot be written.
        return unwritable_leaves_the_old_value().await;
    };
    let storage = FileStorage::open(&full.0).expect("opened");
    storage.put(&key("a/b"), b"old", Guard::Always).await.expect("written");
    let error = storage.put(&key("a/b"), &vec![b'x'; 900_000], Guard::Always).await.expect_err("no room");
    assert!(error.is_full(), "{error}");
    let stored = storage.get(&key("a/b")).await.expect("readable").expect("there");
    assert_eq!(&**stored.value, b"old");
    storage.put(&key("a/b"), b"new", Guard::Always).await.expect("nothing half-written takes the room");
}

#[tokio::test]
async fn a_lease_that_cannot_be_given_back_on_a_full_disk_is_ours_again_once_there_is_room() {
    // Mounting is root's.
    let Ok(full) = FullDisk::mount() else { return };
    let storage = FileStorage::open(&full.0).expect("opened");
    let name = key("certificates/a/x");
    let lease = storage.acquire(&name, TTL).await.expect("asked").expect("free");
    let ballast = full.0.join("ballast");
    assert!(fs::write(&ballast, vec![0; 1 << 20]).is_err(), "no room is left");
    let refused = storage.release(lease).await.expect_err("no room");
    assert!(refused.is_full() && refused.to_string().ends_with("Make room there"), "{refused}");
    fs::remove_file(ballast).expect("removed");
    assert!(storage.acquire(&name, TTL).await.expect("asked").is_some());
    assert!(storage.acquire(&name, TTL).await.expect("asked").is_none(), "held again");
}

async fn unwritable_leaves_the_old_value() {
    let directory = tempfile::tempdir().expect("a directory");
    let storage = FileStorage::open(directory.path()).expect("opened");
    storage.put(&key("a/b"), b"old", Guard::Always).await.expect("written");
    let temporary = directory.path().join(".tmp");
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o500)).expect("closed");
    let error = storage.put(&key("a/b"), b"new", Guard::Always).await.expect_err("not writable");
    assert!(error.is_read_only() && matches!(error, StorageError::Io { .. }), "{error}");
    let stored = storage.get(&key("a/b")).await.expect("readable").expect("there");
    assert_eq!(&**stored.value, b"old");
}

/// A file system of half a megabyte.
struct FullDisk(std::path::PathBuf);

impl FullDisk {
    fn mount() -> Result<Self, ()> {
        let path = tempfile::tempdir().expect("a directory").keep();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"])
            .arg(&path)
            .stderr(std::process::Stdio::null())
            .status();
        if mounted.is_ok_and(|status| status.success()) { Ok(Self(path)) } else { Err(()) }
    }
}

impl Drop for FullDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}
