//! The configuration file as it is written: every key there is, all of them optional.
//!
//! What a key means when it is not there is decided in [`resolve`](super::resolve), never here.

use std::time::Duration;

use waxseal_tls::PemSource;

use super::reader::{Located, Named, table};
use super::values::{Addresses, Command, Roots, Word, Words};

table! {
    /// The whole file.
    File {
        server: Server,
        upstream: Named<Upstream>,
        certificate: Named<Certificate>,
        acme: Named<Acme>,
        mailboxes: Mailboxes,
        log: Log,
    }
}

table! {
    /// `server.*`
    Server {
        hostname: Word,
        max_connections: i64,
        max_connections_per_address: i64,
        run_as: RunAs,
        resolver: Words,
        proxy: Proxy,
        tls: Tls,
        socket: Socket,
        listener: Named<Listener>,
    }
}

table! {
    /// `server.run-as.*`
    RunAs {
        user: Word,
        group: Word,
    }
}

table! {
    /// `server.proxy.*`, `server.listener.ID.proxy.*`
    Proxy {
        trusted_networks: Words,
    }
}

table! {
    /// `server.tls.*`, `server.listener.ID.tls.*`
    Tls {
        enable: bool,
        implicit: bool,
        require: bool,
        timeout: Duration,
        disable_protocols: Words,
        disable_ciphers: Words,
        ignore_client_order: bool,
        ciphers: Words,
        groups: Words,
    }
}

table! {
    /// `server.socket.*`, `server.listener.ID.socket.*`
    Socket {
        reuse_addr: bool,
        reuse_port: bool,
        backlog: i64,
        ttl: i64,
        send_buffer_size: i64,
        recv_buffer_size: i64,
        linger: Duration,
        tos: i64,
        nodelay: bool,
    }
}

table! {
    /// `server.listener.ID.*`
    Listener {
        protocol: Word,
        bind: Words,
        upstream: Word,
        max_connections: i64,
        max_connections_per_address: i64,
        tls: Tls,
        socket: Socket,
        proxy: Proxy,
    }
}

table! {
    /// `upstream.ID.*`
    Upstream {
        address: Words,
        forwarding: Word,
        tls: UpstreamTls,
    }
}

table! {
    /// `upstream.ID.tls.*`
    UpstreamTls {
        mode: Word,
        server_name: Word,
        ca: Roots,
        pin: Word,
        verify: bool,
    }
}

table! {
    /// `mailboxes.*`
    Mailboxes {
        path: Word,
        domains: Words,
    }
}

table! {
    /// `certificate.ID.*`
    Certificate {
        cert: PemSource,
        private_key: PemSource,
        subjects: Words,
        default: bool,
    }
}

table! {
    /// `acme.ID.*`
    Acme {
        directory: Word,
        ca: Roots,
        contact: Addresses,
        domains: Words,
        challenge: Word,
        cache: Word,
        renew_before: Duration,
        eab: Eab,
        default: bool,
        profile: Word,
        key_types: Words,
        reuse_key: bool,
        preflight: bool,
        public_ip: Words,
        fallback: Word,
        provider: Word,
        polling_interval: Duration,
        propagation_timeout: Duration,
        ttl: Duration,
        origin: Word,
        host: Word,
        port: i64,
        protocol: Word,
        tsig_algorithm: Word,
        key: Word,
        secret: Word,
        timeout: Duration,
        command: Command,
        // What the APIs of DNS hosters want besides; see `Acme::credential`.
        access_token: Word,
        account: Word,
        client_ip: Word,
        client_token: Word,
        compartment: Word,
        configuration: Word,
        consumer_key: Word,
        email: Word,
        endpoint: Word,
        environment: Word,
        passphrase: Word,
        project: Word,
        region: Word,
        resource_group: Word,
        server: Word,
        sub_user: Word,
        subscription: Word,
        tenant: Word,
        user: Word,
        view: Word,
        zone: Word,
    }
}

impl Acme {
    /// What a hoster calls `key`; `None` also for a key that no hoster wants.
    pub(crate) fn credential(&self, key: &str) -> &Option<Located<Word>> {
        match key {
            "access-token" => &self.access_token,
            "account" => &self.account,
            "client-ip" => &self.client_ip,
            "client-token" => &self.client_token,
            "compartment" => &self.compartment,
            "configuration" => &self.configuration,
            "consumer-key" => &self.consumer_key,
            "email" => &self.email,
            "endpoint" => &self.endpoint,
            "environment" => &self.environment,
            "key" => &self.key,
            "passphrase" => &self.passphrase,
            "project" => &self.project,
            "region" => &self.region,
            "resource-group" => &self.resource_group,
            "secret" => &self.secret,
            "server" => &self.server,
            "sub-user" => &self.sub_user,
            "subscription" => &self.subscription,
            "tenant" => &self.tenant,
            "user" => &self.user,
            "view" => &self.view,
            "zone" => &self.zone,
            _ => &None,
        }
    }
}

table! {
    /// `acme.ID.eab.*`
    Eab {
        kid: Word,
        hmac_key: Word,
    }
}

table! {
    /// `log.*`
    Log {
        level: Word,
        format: Word,
    }
}

/// What other programs call keys of a table, with the word here.
pub(crate) const STRANGERS: [(&str, &str, &str); 7] = [
    ("acme", "names", "domains"),
    ("acme", "hosts", "domains"),
    ("acme", "contact_email", "contact"),
    ("acme", "ca_url", "directory"),
    ("acme", "token", "secret"),
    ("acme", "api_token", "secret"),
    ("acme", "storage", "cache"),
];

/// Tables that are part of the configuration and not of this version, each with what to do instead.
pub(crate) const LATER: [(&str, &str); 1] = [(
    "admin",
    "the log tells about the running server, `waxseal check` and `waxseal show` about a configuration",
)];
