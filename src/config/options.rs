//! The one table of options. The parser, its suggestions, and the test that keeps sample and manual
//! in step all walk it; an option exists exactly when it is here.

mod components;
mod servers;
mod setters;
mod spec;

use ::log::LevelFilter;

use self::components::COMPONENTS;
use self::servers::SERVERS;
use self::setters::{set_control, set_log_to, uris};
pub(super) use self::spec::Draft;
use self::spec::Form::{Choice, Flag, Number, OptionalFile, OptionalPath, Other, Path, Text};
use self::spec::Reload::{NewConnections, Now, Restart};
use self::spec::spec;
pub use self::spec::{Reload, Spec};
use super::{Durability, LogFormat, ResourceConflict, TlsVersion};
use crate::limits::ROSTER_ITEMS_BOUND;
use crate::sasl::{Hash, Mechanism, Storage};

/// The sections in the order of the sample. `domain` stands for `[domain."name"]`, `component`
/// for `[component."name"]`, and `s2s.peer` for `[s2s.peer."name"]`, which may stand where `s2s` may.
pub const SECTIONS: [&str; 14] = [
    "server",
    "listen",
    "tls",
    "c2s",
    "s2s",
    PEER,
    "dns",
    "auth",
    "contact",
    "store",
    "limits",
    "log",
    "domain",
    "component",
];

/// Stands for `[s2s.peer."name"]`.
pub(super) const PEER: &str = "s2s.peer";

/// The sections that may also stand in a domain, where they win over those at top level.
pub const DOMAIN_SECTIONS: [&str; 4] = ["c2s", "s2s", "auth", "contact"];

/// Those that may stand in a component: it has neither clients nor accounts that log in here.
pub const COMPONENT_SECTIONS: [&str; 1] = ["s2s"];

/// Every option, in the order of the sample. Casts to narrower numbers are within the bounds.
pub static OPTIONS: &[Spec] =
    &joined::<{ CLIENTS.len() + SERVERS.len() + ACCOUNTS.len() + COMPONENTS.len() }>();

const fn joined<const N: usize>() -> [Spec; N] {
    let parts = [CLIENTS, SERVERS, ACCOUNTS, COMPONENTS];
    let mut all = [CLIENTS[0]; N];
    let (mut part, mut at, mut filled) = (0, 0, 0);
    while part < parts.len() {
        if at == parts[part].len() {
            (part, at) = (part + 1, 0);
        } else {
            all[filled] = parts[part][at];
            (at, filled) = (at + 1, filled + 1);
        }
    }
    all
}

const CLIENTS: &[Spec] = &[
    // [server]
    spec(
        "server",
        "data",
        r#""/var/lib/stanzad""#,
        Restart(|a, b| a.server.data == b.server.data),
        Path(|d| &mut d.whole.server.data),
    ),
    spec(
        "server",
        "shards",
        "0",
        Restart(|a, b| a.server.shards == b.server.shards),
        Number(0, 256, |d, n| d.whole.server.shards = n as usize),
    ),
    spec(
        "server",
        "control",
        r#""/run/stanzad/control.sock""#,
        Restart(|a, b| a.server.control == b.server.control),
        Other(set_control),
    ),
    // [listen]
    spec(
        "listen",
        "c2s",
        r#"["[::]:5222"]"#,
        Restart(|a, b| a.listen.c2s == b.listen.c2s),
        Other(|d, given| {
            let addresses = given.addresses()?;
            d.whole.listen.c2s = addresses.into_iter().map(|(_, a)| a).collect();
            Ok(())
        }),
    ),
    spec(
        "listen",
        "c2s_tls",
        r#"["[::]:5223"]"#,
        Restart(|a, b| a.listen.c2s_tls == b.listen.c2s_tls),
        Other(|d, given| {
            let addresses = given.addresses()?;
            d.whole.listen.c2s_tls = addresses.into_iter().map(|(_, a)| a).collect();
            Ok(())
        }),
    ),
    spec(
        "listen",
        "s2s",
        r#"["[::]:5269"]"#,
        Restart(|a, b| a.listen.s2s == b.listen.s2s),
        Other(|d, given| {
            let addresses = given.addresses()?;
            d.whole.listen.s2s = addresses.into_iter().map(|(_, a)| a).collect();
            Ok(())
        }),
    ),
    spec(
        "listen",
        "s2s_tls",
        r#"["[::]:5270"]"#,
        Restart(|a, b| a.listen.s2s_tls == b.listen.s2s_tls),
        Other(|d, given| {
            let addresses = given.addresses()?;
            d.whole.listen.s2s_tls = addresses.into_iter().map(|(_, a)| a).collect();
            Ok(())
        }),
    ),
    spec(
        "listen",
        "component",
        r#"["127.0.0.1:5347"]"#,
        Restart(|a, b| a.listen.component == b.listen.component),
        Other(|d, given| {
            let addresses = given.addresses()?;
            d.whole.listen.component = addresses.into_iter().map(|(_, a)| a).collect();
            Ok(())
        }),
    ),
    // [tls]
    spec(
        "tls",
        "certificates",
        r#""/etc/stanzad/certs""#,
        NewConnections,
        Path(|d| &mut d.whole.tls.certificates),
    ),
    spec(
        "tls",
        "min_version",
        r#""1.2""#,
        NewConnections,
        Choice(&[
            ("1.2", |d| d.whole.tls.min_version = TlsVersion::V1_2),
            ("1.3", |d| d.whole.tls.min_version = TlsVersion::V1_3),
        ]),
    ),
    spec(
        "tls",
        "ciphers",
        r#""ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:!aNULL:!aDSS""#,
        NewConnections,
        Text(|d| &mut d.whole.tls.ciphers),
    ),
    spec(
        "tls",
        "ciphersuites",
        r#""TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256""#,
        NewConnections,
        Text(|d| &mut d.whole.tls.ciphersuites),
    ),
    spec(
        "tls",
        "groups",
        "[]",
        NewConnections,
        Other(|d, given| {
            let groups: Vec<String> = given
                .strings()?
                .into_iter()
                .map(|s| s.1.to_owned())
                .collect();
            d.whole.tls.groups = (!groups.is_empty()).then_some(groups);
            Ok(())
        }),
    ),
    spec(
        "tls",
        "dhparam",
        r#""""#,
        NewConnections,
        Other(|d, given| {
            d.whole.tls.dhparam = given.dhparam().map_err(|wrong| vec![wrong])?;
            Ok(())
        }),
    ),
    spec(
        "tls",
        "prefer_server_ciphers",
        "true",
        NewConnections,
        Flag(|d| &mut d.whole.tls.prefer_server_ciphers),
    ),
    spec(
        "tls",
        "ca",
        r#""""#,
        Now,
        OptionalFile(|d| &mut d.whole.tls.ca),
    ),
    // [c2s]
    spec(
        "c2s",
        "require_encryption",
        "true",
        NewConnections,
        Flag(|d| &mut d.domain.c2s.require_encryption),
    ),
    spec(
        "c2s",
        "allow_unencrypted_plain",
        "false",
        NewConnections,
        Flag(|d| &mut d.domain.c2s.allow_unencrypted_plain),
    ),
    spec(
        "c2s",
        "stanza_bytes_max",
        "262144",
        NewConnections,
        // RFC 6120 §13.12: not smaller than 10000 bytes.
        Number(10_000, 16 * 1024 * 1024, |d, n| {
            d.domain.c2s.stanza_bytes_max = n as usize;
        }),
    ),
    spec(
        "c2s",
        "idle_seconds",
        "300",
        NewConnections,
        Number(0, 86_400, |d, n| d.domain.c2s.idle_seconds = n),
    ),
    spec(
        "c2s",
        "ping_timeout_seconds",
        "30",
        NewConnections,
        Number(1, 3_600, |d, n| d.domain.c2s.ping_timeout_seconds = n),
    ),
    spec(
        "c2s",
        "resource_conflict",
        r#""replace""#,
        NewConnections,
        Choice(&[
            ("replace", |d| {
                d.domain.c2s.resource_conflict = ResourceConflict::Replace;
            }),
            ("refuse", |d| {
                d.domain.c2s.resource_conflict = ResourceConflict::Refuse;
            }),
        ]),
    ),
];

const ACCOUNTS: &[Spec] = &[
    // [auth]
    spec(
        "auth",
        "mechanisms",
        r#"["SCRAM-SHA-512-PLUS", "SCRAM-SHA-512", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-1", "PLAIN"]"#,
        NewConnections,
        Other(|d, given| {
            let all: Vec<_> = Mechanism::ALL.iter().map(|m| (m.name(), *m)).collect();
            d.domain.auth.mechanisms = given.choices(&all)?;
            Ok(())
        }),
    ),
    spec(
        "auth",
        "storage",
        r#""scram""#,
        NewConnections,
        Choice(&[
            ("scram", |d| d.domain.auth.storage = Storage::Scram),
            ("bcrypt", |d| d.domain.auth.storage = Storage::Bcrypt),
        ]),
    ),
    spec(
        "auth",
        "hashes",
        r#"["SHA-256", "SHA-512", "SHA-1"]"#,
        NewConnections,
        Other(|d, given| {
            let all = [Hash::Sha256, Hash::Sha512, Hash::Sha1].map(|h| (h.name(), h));
            d.domain.auth.hashes = given.choices(&all)?;
            Ok(())
        }),
    ),
    spec(
        "auth",
        "iterations",
        "10000",
        NewConnections,
        // RFC 7677 §4: at least 4096. Above a million a login takes a client seconds.
        Number(4_096, 1_000_000, |d, n| d.domain.auth.iterations = n as u32),
    ),
    spec(
        "auth",
        "bcrypt_cost",
        "12",
        NewConnections,
        // 10 takes 48 ms and 16 takes three seconds of one core (`Measured` in lib.rs).
        Number(10, 16, |d, n| d.domain.auth.bcrypt_cost = n as u32),
    ),
    spec(
        "auth",
        "anonymous",
        "false",
        NewConnections,
        Flag(|d| &mut d.domain.auth.anonymous),
    ),
    spec(
        "auth",
        "client_ca",
        r#""""#,
        NewConnections,
        OptionalPath(|d| &mut d.domain.auth.client_ca),
    ),
    // [contact]
    spec(
        "contact",
        "abuse",
        "[]",
        Now,
        Other(|d, given| uris(given, &mut d.domain.contact.abuse)),
    ),
    spec(
        "contact",
        "admin",
        "[]",
        Now,
        Other(|d, given| uris(given, &mut d.domain.contact.admin)),
    ),
    spec(
        "contact",
        "feedback",
        "[]",
        Now,
        Other(|d, given| uris(given, &mut d.domain.contact.feedback)),
    ),
    spec(
        "contact",
        "sales",
        "[]",
        Now,
        Other(|d, given| uris(given, &mut d.domain.contact.sales)),
    ),
    spec(
        "contact",
        "security",
        "[]",
        Now,
        Other(|d, given| uris(given, &mut d.domain.contact.security)),
    ),
    spec(
        "contact",
        "status",
        "[]",
        Now,
        Other(|d, given| uris(given, &mut d.domain.contact.status)),
    ),
    spec(
        "contact",
        "support",
        "[]",
        Now,
        Other(|d, given| uris(given, &mut d.domain.contact.support)),
    ),
    // [store]
    spec(
        "store",
        "durability",
        r#""full""#,
        Restart(|a, b| a.store.durability == b.store.durability),
        Choice(&[
            ("full", |d| d.whole.store.durability = Durability::Full),
            ("normal", |d| d.whole.store.durability = Durability::Normal),
        ]),
    ),
    // [limits]
    spec(
        "limits",
        "connections_per_address_max",
        "1000",
        Now,
        Number(1, 1_000_000, |d, n| {
            d.whole.limits.connections_per_address_max = n as u32;
        }),
    ),
    spec(
        "limits",
        "new_connections_per_address_max",
        "2000",
        Now,
        Number(0, 1_000_000, |d, n| {
            d.whole.limits.new_connections_per_address_max = n as u32;
        }),
    ),
    spec(
        "limits",
        "handshakes_per_address_max",
        "2000",
        Now,
        Number(0, 1_000_000, |d, n| {
            d.whole.limits.handshakes_per_address_max = n as u32;
        }),
    ),
    spec(
        "limits",
        "bytes_per_second_max",
        "262144",
        Now,
        Number(0, 1_000_000_000, |d, n| {
            d.whole.limits.bytes_per_second_max = n as u32;
        }),
    ),
    spec(
        "limits",
        "stanzas_per_second_max",
        "200",
        Now,
        Number(0, 1_000_000, |d, n| {
            d.whole.limits.stanzas_per_second_max = n as u32;
        }),
    ),
    spec(
        "limits",
        "server_bytes_per_second_max",
        "4194304",
        Now,
        Number(0, 1_000_000_000, |d, n| {
            d.whole.limits.server_bytes_per_second_max = n as u32;
        }),
    ),
    spec(
        "limits",
        "server_stanzas_per_second_max",
        "2000",
        Now,
        Number(0, 1_000_000, |d, n| {
            d.whole.limits.server_stanzas_per_second_max = n as u32;
        }),
    ),
    spec(
        "limits",
        "unauthenticated_seconds_max",
        "30",
        Now,
        Number(1, 600, |d, n| {
            d.whole.limits.unauthenticated_seconds_max = n;
        }),
    ),
    spec(
        "limits",
        "resources_per_account_max",
        "10",
        Now,
        Number(1, 1_000, |d, n| {
            d.whole.limits.resources_per_account_max = n as u32;
        }),
    ),
    spec(
        "limits",
        "roster_items_max",
        "2000",
        Now,
        // A roster goes out in one stanza: see `limits::ROSTER_TEXT_BYTES_MAX`.
        Number(1, ROSTER_ITEMS_BOUND, |d, n| {
            d.whole.limits.roster_items_max = n as u32;
        }),
    ),
    spec(
        "limits",
        "pending_requests_max",
        "100",
        Now,
        Number(1, 500, |d, n| {
            d.whole.limits.pending_requests_max = n as u32;
        }),
    ),
    spec(
        "limits",
        "login_failures_per_stream_max",
        "5",
        Now,
        // RFC 6120 §6.4.5: two to five retries, so three to six attempts.
        Number(3, 6, |d, n| {
            d.whole.limits.login_failures_per_stream_max = n as u32;
        }),
    ),
    spec(
        "limits",
        "login_failures_per_address_max",
        "20",
        Now,
        Number(1, 1_000_000, |d, n| {
            d.whole.limits.login_failures_per_address_max = n as u32;
        }),
    ),
    spec(
        "limits",
        "login_failures_per_account_max",
        "10",
        Now,
        Number(1, 1_000_000, |d, n| {
            d.whole.limits.login_failures_per_account_max = n as u32;
        }),
    ),
    spec(
        "limits",
        "private_bytes_max",
        "262144",
        Now,
        Number(1024, 1 << 26, |d, n| d.whole.limits.private_bytes_max = n),
    ),
    spec(
        "limits",
        "vcard_bytes_max",
        "131072",
        Now,
        Number(1024, 1 << 26, |d, n| d.whole.limits.vcard_bytes_max = n),
    ),
    spec(
        "limits",
        "offline_messages_max",
        "5000",
        Now,
        // An account's are counted when it is loaded.
        Number(1, 100_000, |d, n| {
            d.whole.limits.offline_messages_max = n;
        }),
    ),
    spec(
        "limits",
        "offline_bytes_max",
        "16777216",
        Now,
        Number(10_000, 10_000_000_000, |d, n| {
            d.whole.limits.offline_bytes_max = n;
        }),
    ),
    // [log]
    spec(
        "log",
        "level",
        r#""info""#,
        Now,
        Choice(&[
            ("off", |d| d.whole.log.level = LevelFilter::Off),
            ("error", |d| d.whole.log.level = LevelFilter::Error),
            ("warn", |d| d.whole.log.level = LevelFilter::Warn),
            ("info", |d| d.whole.log.level = LevelFilter::Info),
            ("debug", |d| d.whole.log.level = LevelFilter::Debug),
            ("trace", |d| d.whole.log.level = LevelFilter::Trace),
        ]),
    ),
    spec("log", "to", r#""stderr""#, Now, Other(set_log_to)),
    spec(
        "log",
        "format",
        r#""text""#,
        Now,
        Choice(&[
            ("text", |d| d.whole.log.format = LogFormat::Text),
            ("json", |d| d.whole.log.format = LogFormat::Json),
        ]),
    ),
    // [domain."name"]
    spec(
        "domain",
        "certificate",
        r#""""#,
        NewConnections,
        OptionalPath(|d| &mut d.domain.certificate),
    ),
    spec(
        "domain",
        "key",
        r#""""#,
        NewConnections,
        OptionalPath(|d| &mut d.domain.key),
    ),
    spec(
        "domain",
        "dhparam",
        r#""""#,
        NewConnections,
        Other(|d, given| {
            d.domain.dhparam = given.dhparam().map_err(|wrong| vec![wrong])?;
            Ok(())
        }),
    ),
];

/// The option of that name.
pub(super) fn find(section: &str, key: &str) -> Option<&'static Spec> {
    OPTIONS
        .iter()
        .find(|spec| spec.section == section && spec.key == key)
}

/// The keys of a section.
pub(super) fn keys(section: &str) -> impl Iterator<Item = &'static str> {
    let of_section = OPTIONS.iter().filter(move |spec| spec.section == section);
    of_section.map(|spec| spec.key)
}
