//! The DNS hosters that the library speaks to, a row each, by name.

use std::time::Duration;

use dns_update::providers::azuredns::{AzureDnsConfig, AzureEnvironment};
use dns_update::providers::bluecatv2::BluecatV2Config;
use dns_update::providers::edgedns::EdgeDnsConfig;
use dns_update::providers::google_cloud_dns::GoogleCloudDnsConfig;
use dns_update::providers::infoblox::InfobloxConfig;
use dns_update::providers::joker::JokerAuth;
use dns_update::providers::lightsail::LightsailConfig;
use dns_update::providers::oraclecloud::OracleCloudConfig;
use dns_update::providers::route53::Route53Config;
use dns_update::providers::volcengine::VolcengineConfig;
use dns_update::providers::yandexcloud::YandexCloudConfig;
use dns_update::{DnsUpdater, Error, Result};

use crate::hoster::{Credentials, Hoster, Want};

/// A hoster and the way to it; each of its answers may take so long.
pub(crate) struct Row {
    pub(crate) hoster: Hoster,
    pub(super) make: fn(&Credentials, Duration) -> Result<DnsUpdater>,
}

const fn must(key: &'static str, what: &'static str) -> Want {
    Want { key, what, optional: false }
}

const fn may(key: &'static str, what: &'static str) -> Want {
    Want { key, what, optional: true }
}

const fn row(
    name: &'static str,
    title: &'static str,
    wants: &'static [Want],
    make: fn(&Credentials, Duration) -> Result<DnsUpdater>,
) -> Row {
    Row { hoster: Hoster { name, title, wants, one_record: false }, make }
}

/// One that keeps one TXT record for a name.
const fn keeping_one(row: Row) -> Row {
    Row { hoster: Hoster { one_record: true, ..row.hoster }, make: row.make }
}

fn owned(value: Option<&str>) -> Option<String> {
    value.map(str::to_owned)
}

const NONE: Option<&str> = None;
const TOKEN: Want = must("secret", "API token");
const API_KEY: Want = must("secret", "API key");
const PASSWORD: Want = must("secret", "password");
const ACCESS_KEY: Want = must("key", "access key");
const SECRET_KEY: Want = must("secret", "secret key");

/// All of them.
pub(crate) static ROWS: [Row; 72] = [
    row("alidns", "Alibaba Cloud DNS", &[ACCESS_KEY, SECRET_KEY, may("region", "region")], |c, t| {
        DnsUpdater::new_alidns(c.get("key"), c.get("secret"), c.may("region"), NONE, NONE, Some(t))
    }),
    row("arvancloud", "ArvanCloud", &[API_KEY], |c, t| DnsUpdater::new_arvancloud(c.get("secret"), Some(t))),
    row(
        "autodns",
        "InterNetX AutoDNS",
        &[must("user", "user"), PASSWORD, may("account", "context, a number")],
        |c, t| {
            let context = c.may("account").map(str::parse).transpose();
            let context = context.map_err(|_| Error::Parse("account must be a number".to_owned()))?;
            DnsUpdater::new_autodns(c.get("user"), c.get("secret"), context, Some(t))
        },
    ),
    row(
        "azuredns",
        "Azure DNS",
        &[
            must("tenant", "tenant ID"),
            must("key", "client ID"),
            must("secret", "client secret"),
            must("subscription", "subscription ID"),
            must("resource-group", "resource group"),
            may("environment", "`public`, `china` or `usgovernment`"),
        ],
        |c, t| {
            let environment = match c.may("environment") {
                None | Some("public") => AzureEnvironment::Public,
                Some("china") => AzureEnvironment::China,
                Some("usgovernment") => AzureEnvironment::UsGovernment,
                Some(_) => {
                    let why = "environment must be public, china or usgovernment";
                    return Err(Error::Parse(why.to_owned()));
                }
            };
            DnsUpdater::new_azuredns(AzureDnsConfig {
                tenant_id: c.get("tenant").to_owned(),
                client_id: c.get("key").to_owned(),
                client_secret: c.get("secret").to_owned(),
                subscription_id: c.get("subscription").to_owned(),
                resource_group: c.get("resource-group").to_owned(),
                environment,
                request_timeout: Some(t),
            })
        },
    ),
    row("baiducloud", "Baidu Cloud DNS", &[ACCESS_KEY, SECRET_KEY], |c, t| {
        DnsUpdater::new_baiducloud(c.get("key"), c.get("secret"), Some(t))
    }),
    row(
        "bluecatv2",
        "BlueCat Address Manager",
        &[
            must("endpoint", "address of the server"),
            must("user", "user"),
            PASSWORD,
            must("configuration", "configuration"),
            must("view", "view"),
        ],
        |c, t| {
            DnsUpdater::new_bluecatv2(BluecatV2Config {
                server_url: c.get("endpoint").to_owned(),
                username: c.get("user").to_owned(),
                password: c.get("secret").to_owned(),
                config_name: c.get("configuration").to_owned(),
                view_name: c.get("view").to_owned(),
                skip_deploy: false,
                request_timeout: Some(t),
            })
        },
    ),
    row("bunny", "Bunny DNS", &[API_KEY], |c, t| DnsUpdater::new_bunny(c.get("secret"), Some(t))),
    row(
        "cloudflare",
        "Cloudflare",
        &[
            must("secret", "API token that may edit the zone's DNS; with `email` the global API key"),
            may("email", "account, for the global API key"),
        ],
        |c, t| DnsUpdater::new_cloudflare(c.get("secret"), Some(t)),
    ),
    row(
        "cloudns",
        "ClouDNS",
        &[may("user", "auth-id"), may("sub-user", "sub-auth-id, in place of `user`"), PASSWORD],
        |c, t| DnsUpdater::new_cloudns(c.may("user"), c.may("sub-user"), c.get("secret"), Some(t)),
    ),
    row("constellix", "Constellix", &[must("key", "API key"), SECRET_KEY], |c, t| {
        DnsUpdater::new_constellix(c.get("key"), c.get("secret"), Some(t))
    }),
    row(
        "cpanel",
        "cPanel",
        &[must("endpoint", "address, as in https://host:2083"), must("user", "user"), TOKEN],
        |c, t| DnsUpdater::new_cpanel(c.get("endpoint"), c.get("user"), c.get("secret"), Some(t)),
    ),
    keeping_one(row("ddnss", "DDNSS.de", &[must("secret", "update key")], |c, t| {
        DnsUpdater::new_ddnss(c.get("secret"), Some(t))
    })),
    row("desec", "deSEC", &[TOKEN], |c, t| DnsUpdater::new_desec(c.get("secret"), Some(t))),
    row("digitalocean", "DigitalOcean", &[TOKEN], |c, t| {
        DnsUpdater::new_digitalocean(c.get("secret"), Some(t))
    }),
    row("dnsimple", "DNSimple", &[TOKEN, must("account", "account ID")], |c, t| {
        DnsUpdater::new_dnsimple(c.get("secret"), c.get("account"), Some(t))
    }),
    row("dnsmadeeasy", "DNS Made Easy", &[must("key", "API key"), SECRET_KEY], |c, t| {
        DnsUpdater::new_dnsmadeeasy(c.get("key"), c.get("secret"), Some(t))
    }),
    row("domeneshop", "Domeneshop", &[must("key", "token"), must("secret", "secret")], |c, t| {
        DnsUpdater::new_domeneshop(c.get("key"), c.get("secret"), Some(t))
    }),
    row("dreamhost", "DreamHost", &[API_KEY], |c, t| DnsUpdater::new_dreamhost(c.get("secret"), Some(t))),
    keeping_one(row("duckdns", "DuckDNS", &[must("secret", "token")], |c, t| {
        DnsUpdater::new_duckdns(c.get("secret"), Some(t))
    })),
    row("dynu", "Dynu", &[API_KEY], |c, t| DnsUpdater::new_dynu(c.get("secret"), Some(t))),
    row("easydns", "easyDNS", &[must("key", "token"), must("secret", "key")], |c, t| {
        DnsUpdater::new_easydns(c.get("key"), c.get("secret"), Some(t))
    }),
    row(
        "edgedns",
        "Akamai Edge DNS",
        &[
            must("endpoint", "host"),
            must("client-token", "client_token"),
            must("secret", "client_secret"),
            must("access-token", "access_token"),
        ],
        |c, t| {
            DnsUpdater::new_edgedns(EdgeDnsConfig {
                host: c.get("endpoint").to_owned(),
                client_token: c.get("client-token").to_owned(),
                client_secret: c.get("secret").to_owned(),
                access_token: c.get("access-token").to_owned(),
                account_switch_key: None,
                request_timeout: Some(t),
            })
        },
    ),
    row("exoscale", "Exoscale", &[must("key", "API key"), must("secret", "API secret")], |c, t| {
        DnsUpdater::new_exoscale(c.get("key"), c.get("secret"), Some(t))
    }),
    keeping_one(row("freemyip", "freemyip.com", &[must("secret", "token")], |c, t| {
        DnsUpdater::new_freemyip(c.get("secret"), Some(t))
    })),
    row("gandiv5", "Gandi LiveDNS", &[must("secret", "personal access token")], |c, t| {
        DnsUpdater::new_gandiv5(c.get("secret"), Some(t))
    }),
    row("gcore", "Gcore", &[TOKEN], |c, t| DnsUpdater::new_gcore(c.get("secret"), Some(t))),
    row("glesys", "GleSYS", &[must("user", "API user"), API_KEY], |c, t| {
        DnsUpdater::new_glesys(c.get("user"), c.get("secret"), Some(t))
    }),
    row("godaddy", "GoDaddy", &[must("key", "API key"), must("secret", "API secret")], |c, t| {
        DnsUpdater::new_godaddy(c.get("key"), c.get("secret"), Some(t))
    }),
    row(
        "google-cloud-dns",
        "Google Cloud DNS",
        &[
            must("secret", "key of a service account, the JSON file's content"),
            must("project", "project ID"),
            may("zone", "managed zone"),
        ],
        |c, t| {
            DnsUpdater::new_google_cloud_dns(GoogleCloudDnsConfig {
                service_account_json: c.get("secret").to_owned(),
                project_id: c.get("project").to_owned(),
                managed_zone: owned(c.may("zone")),
                private_zone: false,
                impersonate_service_account: None,
                request_timeout: Some(t),
            })
        },
    ),
    row("hetzner", "Hetzner DNS", &[TOKEN], |c, t| DnsUpdater::new_hetzner(c.get("secret"), Some(t))),
    row("hostingde", "hosting.de", &[API_KEY], |c, t| DnsUpdater::new_hostingde(c.get("secret"), Some(t))),
    row("hostinger", "Hostinger", &[TOKEN], |c, t| DnsUpdater::new_hostinger(c.get("secret"), Some(t))),
    row("huaweicloud", "Huawei Cloud DNS", &[ACCESS_KEY, SECRET_KEY, must("region", "region")], |c, t| {
        DnsUpdater::new_huaweicloud(c.get("key"), c.get("secret"), c.get("region"), Some(t))
    }),
    keeping_one(row(
        "hurricane",
        "Hurricane Electric",
        &[must("zone", "zone"), must("secret", "key of its dynamic TXT record")],
        |c, t| {
            let keys = [(c.get("zone").to_owned(), c.get("secret").to_owned())];
            DnsUpdater::new_hurricane(keys.into(), Some(t))
        },
    )),
    row("ibmcloud", "IBM Cloud (SoftLayer)", &[must("user", "user"), API_KEY], |c, t| {
        DnsUpdater::new_ibmcloud(c.get("user"), c.get("secret"), Some(t))
    }),
    row(
        "infoblox",
        "Infoblox NIOS",
        &[must("endpoint", "host"), must("user", "user"), PASSWORD, may("view", "DNS view")],
        |c, t| {
            DnsUpdater::new_infoblox(InfobloxConfig {
                host: c.get("endpoint").to_owned(),
                port: None,
                username: c.get("user").to_owned(),
                password: c.get("secret").to_owned(),
                wapi_version: None,
                dns_view: owned(c.may("view")),
                request_timeout: Some(t),
            })
        },
    ),
    row("infomaniak", "Infomaniak", &[TOKEN], |c, t| DnsUpdater::new_infomaniak(c.get("secret"), Some(t))),
    row("inwx", "INWX", &[must("user", "user"), PASSWORD], |c, t| {
        DnsUpdater::new_inwx(c.get("user"), c.get("secret"), false, Some(t))
    }),
    row("ionos", "IONOS", &[must("secret", "API key, as in prefix.secret")], |c, t| {
        DnsUpdater::new_ionos(c.get("secret"), Some(t))
    }),
    row("ipv64", "IPv64", &[API_KEY], |c, t| DnsUpdater::new_ipv64(c.get("secret"), Some(t))),
    row(
        "joker",
        "Joker",
        &[must("secret", "API key; with `user` the password"), may("user", "user")],
        |c, t| {
            let auth = match c.may("user") {
                Some(user) => JokerAuth::username_password(user, c.get("secret")),
                None => JokerAuth::api_key(c.get("secret")),
            };
            DnsUpdater::new_joker(auth, Some(t))
        },
    ),
    row(
        "lightsail",
        "AWS Lightsail",
        &[must("key", "access key ID"), must("secret", "secret access key"), may("region", "region")],
        |c, t| {
            DnsUpdater::new_lightsail(LightsailConfig {
                access_key_id: c.get("key").to_owned(),
                secret_access_key: c.get("secret").to_owned(),
                session_token: None,
                region: owned(c.may("region")),
                domain: None,
                request_timeout: Some(t),
            })
        },
    ),
    row("linode", "Linode", &[TOKEN], |c, t| DnsUpdater::new_linode(c.get("secret"), Some(t))),
    row("luadns", "LuaDNS", &[must("user", "user"), TOKEN], |c, t| {
        DnsUpdater::new_luadns(c.get("user"), c.get("secret"), Some(t))
    }),
    row("mythicbeasts", "Mythic Beasts", &[must("user", "API key ID"), must("secret", "secret")], |c, t| {
        DnsUpdater::new_mythicbeasts(c.get("user"), c.get("secret"), Some(t))
    }),
    row(
        "namecheap",
        "Namecheap",
        &[
            must("user", "API user"),
            API_KEY,
            must("client-ip", "address of this machine, as it is on the hoster's list"),
        ],
        |c, t| DnsUpdater::new_namecheap(c.get("user"), c.get("secret"), c.get("client-ip"), NONE, Some(t)),
    ),
    row("namedotcom", "Name.com", &[must("user", "user"), TOKEN], |c, t| {
        DnsUpdater::new_namedotcom(c.get("user"), c.get("secret"), Some(t))
    }),
    row("namesilo", "NameSilo", &[API_KEY], |c, t| DnsUpdater::new_namesilo(c.get("secret"), Some(t))),
    row(
        "netcup",
        "netcup",
        &[must("account", "customer number"), must("key", "API key"), must("secret", "API password")],
        |c, t| DnsUpdater::new_netcup(c.get("account"), c.get("key"), c.get("secret"), Some(t)),
    ),
    row("netlify", "Netlify", &[TOKEN], |c, t| DnsUpdater::new_netlify(c.get("secret"), Some(t))),
    row("nifcloud", "Nifcloud DNS", &[ACCESS_KEY, SECRET_KEY], |c, t| {
        DnsUpdater::new_nifcloud(c.get("key"), c.get("secret"), Some(t))
    }),
    row("ns1", "NS1", &[API_KEY], |c, t| DnsUpdater::new_ns1(c.get("secret"), Some(t))),
    row(
        "oraclecloud",
        "Oracle Cloud DNS",
        &[
            must("tenant", "OCID of the tenancy"),
            must("user", "OCID of the user"),
            must("key", "fingerprint of the key"),
            must("secret", "private key, PEM"),
            may("passphrase", "its passphrase"),
            must("region", "region"),
            must("compartment", "OCID of the compartment"),
        ],
        |c, t| {
            DnsUpdater::new_oraclecloud(OracleCloudConfig {
                tenancy_ocid: c.get("tenant").to_owned(),
                user_ocid: c.get("user").to_owned(),
                fingerprint: c.get("key").to_owned(),
                private_key_pem: c.get("secret").to_owned(),
                private_key_password: owned(c.may("passphrase")),
                region: c.get("region").to_owned(),
                compartment_ocid: c.get("compartment").to_owned(),
                request_timeout: Some(t),
            })
        },
    ),
    row(
        "ovh",
        "OVH",
        &[
            must("key", "application key"),
            must("secret", "application secret"),
            must("consumer-key", "consumer key"),
            may("endpoint", "`ovh-eu` unless said; `ovh-ca`, `ovh-us`, `kimsufi-eu`, `soyoustart-eu`, ..."),
        ],
        |c, t| {
            let endpoint = c.may("endpoint").unwrap_or("ovh-eu").parse()?;
            DnsUpdater::new_ovh(c.get("key"), c.get("secret"), c.get("consumer-key"), endpoint, Some(t))
        },
    ),
    row(
        "pdns",
        "PowerDNS Authoritative",
        &[
            API_KEY,
            may("endpoint", "address of its web server, http://localhost:8081 unless said"),
            may("server", "server ID, `localhost` unless said"),
        ],
        |c, t| DnsUpdater::new_pdns(c.get("secret"), c.may("endpoint"), c.may("server"), Some(t)),
    ),
    row("plesk", "Plesk", &[must("endpoint", "address, as in https://host:8443"), API_KEY], |c, t| {
        DnsUpdater::new_plesk(c.get("endpoint"), c.get("secret"), Some(t))
    }),
    row("porkbun", "Porkbun", &[must("key", "API key"), must("secret", "secret API key")], |c, t| {
        DnsUpdater::new_porkbun(c.get("key"), c.get("secret"), Some(t))
    }),
    row(
        "route53",
        "AWS Route 53",
        &[
            must("key", "access key ID"),
            must("secret", "secret access key"),
            may("region", "region"),
            may("zone", "hosted zone ID"),
            may("endpoint", "address of the service, where it is not AWS's own"),
        ],
        |c, _| {
            DnsUpdater::new_route53(Route53Config {
                access_key_id: c.get("key").to_owned(),
                secret_access_key: c.get("secret").to_owned(),
                session_token: None,
                region: owned(c.may("region")),
                hosted_zone_id: owned(c.may("zone")),
                private_zone_only: None,
                endpoint: owned(c.may("endpoint")),
            })
        },
    ),
    row("safedns", "ANS SafeDNS", &[TOKEN], |c, t| DnsUpdater::new_safedns(c.get("secret"), Some(t))),
    row("scaleway", "Scaleway", &[SECRET_KEY], |c, t| DnsUpdater::new_scaleway(c.get("secret"), Some(t))),
    row(
        "selectel",
        "Selectel",
        &[
            must("user", "service user"),
            PASSWORD,
            must("account", "account ID"),
            must("project", "project ID"),
        ],
        |c, t| {
            DnsUpdater::new_selectel(
                c.get("user"),
                c.get("secret"),
                c.get("account"),
                c.get("project"),
                Some(t),
            )
        },
    ),
    row("simplycom", "Simply.com", &[must("user", "account name"), API_KEY], |c, t| {
        DnsUpdater::new_simplycom(c.get("user"), c.get("secret"), Some(t))
    }),
    row("spaceship", "Spaceship", &[must("key", "API key"), must("secret", "API secret")], |c, t| {
        DnsUpdater::new_spaceship(c.get("key"), c.get("secret"), Some(t))
    }),
    row(
        "tencentcloud",
        "Tencent Cloud DNSPod",
        &[must("key", "secret ID"), SECRET_KEY, may("region", "region")],
        |c, t| DnsUpdater::new_tencentcloud(c.get("key"), c.get("secret"), c.may("region"), NONE, Some(t)),
    ),
    row(
        "transip",
        "TransIP",
        &[
            must("user", "login"),
            must("secret", "private key, PEM; this machine must be on its list of addresses"),
        ],
        |c, t| DnsUpdater::new_transip(c.get("user"), c.get("secret"), false, Some(t)),
    ),
    row(
        "ultradns",
        "UltraDNS",
        &[must("user", "user"), PASSWORD, may("endpoint", "address of the API")],
        |c, t| DnsUpdater::new_ultradns(c.get("user"), c.get("secret"), owned(c.may("endpoint")), Some(t)),
    ),
    row("vercel", "Vercel", &[TOKEN, may("account", "team ID")], |c, t| {
        DnsUpdater::new_vercel(c.get("secret"), c.may("account"), Some(t))
    }),
    row("volcengine", "Volcano Engine", &[ACCESS_KEY, SECRET_KEY, may("region", "region")], |c, t| {
        DnsUpdater::new_volcengine(VolcengineConfig {
            access_key: c.get("key").to_owned(),
            secret_key: c.get("secret").to_owned(),
            region: owned(c.may("region")),
            host: None,
            scheme: None,
            request_timeout: Some(t),
        })
    }),
    row("vultr", "Vultr", &[API_KEY], |c, t| DnsUpdater::new_vultr(c.get("secret"), Some(t))),
    row("websupport", "Websupport", &[must("key", "API key"), must("secret", "secret")], |c, t| {
        DnsUpdater::new_websupport(c.get("key"), c.get("secret"), Some(t))
    }),
    row(
        "yandexcloud",
        "Yandex Cloud DNS",
        &[
            must("secret", "key of a service account, the JSON file's content in base64"),
            must("account", "folder ID"),
        ],
        |c, t| {
            DnsUpdater::new_yandexcloud(YandexCloudConfig {
                iam_token_b64: c.get("secret").to_owned(),
                folder_id: c.get("account").to_owned(),
                request_timeout: Some(t),
            })
        },
    ),
    row("zoneeu", "Zone.eu", &[must("user", "user"), API_KEY], |c, t| {
        DnsUpdater::new_zoneeu(c.get("user"), c.get("secret"), Some(t))
    }),
];
