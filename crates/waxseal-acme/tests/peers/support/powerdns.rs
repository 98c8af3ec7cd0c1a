//! PowerDNS Authoritative, from Debian, whose API sets records.

use std::net::SocketAddr;
use std::process::Command;

use super::{Ground, Process};

/// Where it is asked; on port 53 too, where everybody else would.
const PORT: u16 = 15356;
const API: u16 = 15357;
pub(crate) const ZONE: &str = "power.test";
pub(crate) const API_KEY: &str = "power-of-names";

pub(crate) struct PowerDns {
    pub(crate) at: SocketAddr,
    pub(crate) endpoint: String,
    pub(crate) server: Process,
}

impl PowerDns {
    /// Serves [`ZONE`].
    pub(crate) fn start(ground: &Ground) -> Self {
        let dir = ground.dir().display();
        let database = ground.path("pdns.sqlite3");
        let schema = std::fs::File::open("/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql");
        let made = Command::new("sqlite3").arg(&database).stdin(schema.expect("the schema")).status();
        assert!(made.expect("sqlite3; ./test installs it").success());
        let text = format!(
            "launch=gsqlite3\ngsqlite3-database={}\ngsqlite3-pragma-synchronous=0\nlocal-address={}:53,{1}:{PORT}\n\
             socket-dir={dir}\ndaemon=no\nguardian=no\ncache-ttl=0\nquery-cache-ttl=0\nnegquery-cache-ttl=0\n\
             zone-cache-refresh-interval=0\nloglevel=6\nwebserver-loglevel=normal\n\
             api=yes\napi-key={API_KEY}\nwebserver-address={1}\nwebserver-port={API}\nwebserver-allow-from=127.0.0.0/8\n",
            database.display(),
            ground.ip,
        );
        ground.write("pdns.conf", &text);
        let config_dir = format!("--config-dir={dir}");
        let ip = ground.ip.to_string();
        for command in [
            &["create-zone", ZONE, "ns1.power.test"][..],
            &["add-record", ZONE, "ns1", "A", &ip],
            &["add-record", ZONE, "mail", "A", &ip],
        ] {
            let done = Command::new("pdnsutil").arg(&config_dir).args(command).output();
            let done = done.expect("pdnsutil; ./test installs it");
            assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
        }
        let mut command = Command::new("/usr/sbin/pdns_server");
        command.arg(config_dir);
        let mut server = Process::start(ground, "pdns", command);
        server.wait_for(ground.at(API));
        server.wait_for(ground.at(PORT));
        Self { at: ground.at(PORT), endpoint: format!("http://{}", ground.at(API)), server }
    }
}
