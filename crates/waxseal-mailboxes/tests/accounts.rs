//! Accounts and logins.

mod support;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use support::{House, PASSWORD, add_account, address};
use waxseal_mailboxes::accounts::{self, Account, Accounts, AccountsError, LoginError};

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

#[tokio::test]
async fn accounts_are_added_changed_and_removed_and_the_change_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("accounts.toml");
    let accounts = Accounts::open(&path).unwrap();
    assert_eq!(
        accounts.login("alice@waxseal.test", PASSWORD.as_bytes(), HERE).await,
        Err(LoginError::Refused)
    );
    add_account(dir.path(), "alice", &["info"], Some(5));
    let alice = accounts.login("Info@waxseal.TEST", PASSWORD.as_bytes(), HERE).await.unwrap();
    assert_eq!((alice.address.as_str(), alice.quota), ("alice@waxseal.test", Some(5)));
    let taken = Account { address: address("info"), aliases: vec![], quota: None };
    assert!(matches!(accounts::add(&path, taken, b"x"), Err(AccountsError::Taken(_))));
    let nobody = Account { address: address("bob"), aliases: vec![], quota: None };
    assert!(matches!(accounts::add(&path, nobody, b""), Err(AccountsError::EmptyPassword)));
    accounts::set_password(&path, &address("alice"), b"other").unwrap();
    assert!(accounts.login("alice@waxseal.test", b"other", HERE).await.is_ok());
    assert!(accounts.login("alice@waxseal.test", PASSWORD.as_bytes(), HERE).await.is_err());
    assert_eq!(accounts::list(&path).unwrap(), [alice]);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("password = \"$argon2id$v=19$m=19456,t=2,p=1$") && !text.contains("other"));
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    // A file that makes no sense changes nothing, and its message names the line and no secret.
    std::fs::write(&path, text.replace("aliases", "alises")).unwrap();
    let error = accounts::list(&path).unwrap_err().to_string();
    assert!(error.contains("line 5") && error.contains("alises") && !error.contains("argon2"), "{error}");
    assert!(accounts.login("alice@waxseal.test", b"other", HERE).await.is_ok());

    std::fs::write(&path, text).unwrap();
    assert!(matches!(accounts::remove(&path, &address("bob")), Err(AccountsError::Unknown(_))));
    accounts::remove(&path, &address("alice")).unwrap();
    assert!(accounts.login("alice@waxseal.test", b"other", HERE).await.is_err());
}

#[test]
fn what_root_changes_stays_readable_for_the_user_who_serves() {
    use std::os::unix::fs::{MetadataExt, chown};
    const NOBODY: u32 = 65534;
    let dir = tempfile::tempdir().unwrap();
    chown(dir.path(), Some(NOBODY), Some(NOBODY)).expect("this test runs as root");
    add_account(dir.path(), "alice", &[], None);
    let path = dir.path().join("accounts.toml");
    accounts::set_password(&path, &address("alice"), b"other").unwrap();
    let file = std::fs::metadata(&path).unwrap();
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o777), (NOBODY, NOBODY, 0o600));
}

#[tokio::test]
async fn a_login_takes_as_long_whether_the_account_exists_or_not() {
    let house = House::new();
    let mut fastest = [Duration::MAX; 2];
    for round in 0..5_u8 {
        for (which, name) in ["alice@waxseal.test", "nobody@waxseal.test"].into_iter().enumerate() {
            // From elsewhere each time: nothing slows down.
            let source = IpAddr::from([192, 0, 2, round * 2 + u8::try_from(which).unwrap()]);
            let began = Instant::now();
            let name = if which == 0 { name.to_owned() } else { format!("{round}{name}") };
            let _ = house
                .site
                .accounts
                .login(&name, if which == 0 { b"correct horse" } else { b"wrong" }, source)
                .await;
            fastest[which] = fastest[which].min(began.elapsed());
        }
    }
    let ratio = fastest[0].as_secs_f64() / fastest[1].as_secs_f64();
    assert!((0.6..1.6).contains(&ratio), "{fastest:?}");
    assert!(fastest[1] > Duration::from_millis(5), "no hash was made: {fastest:?}");
}

#[tokio::test]
async fn guessing_slows_down_and_is_refused_when_it_does_not_wait() {
    let house = House::new();
    for _ in 0..4 {
        assert_eq!(
            house.site.accounts.login("alice@waxseal.test", b"x", HERE).await,
            Err(LoginError::Refused)
        );
    }
    let began = Instant::now();
    assert_eq!(house.site.accounts.login("bob@waxseal.test", b"x", HERE).await, Err(LoginError::Refused));
    assert!(began.elapsed() > Duration::from_millis(900), "the address counts, whatever the account");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let site = house.site.clone();
        tasks.spawn(async move { site.accounts.login("alice@waxseal.test", b"x", HERE).await });
    }
    let first = tasks.join_next().await.unwrap().unwrap();
    assert_eq!(first, Err(LoginError::Busy));
}
