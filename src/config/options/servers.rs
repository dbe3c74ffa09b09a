//! The options of `[s2s]` and `[dns]`: who is talked with, and how they are found.

use super::PEER;
use super::setters::domains;
use super::spec::Form::{Choice, Flag, Number, OptionalFile, Other};
use super::spec::Reload::{NewConnections, Now};
use super::spec::{Spec, spec};

pub(super) const SERVERS: &[Spec] = &[
    // [s2s]
    spec(
        "s2s",
        "enabled",
        "true",
        Now,
        Flag(|d| &mut d.domain.s2s.enabled),
    ),
    spec(
        "s2s",
        "require_encryption",
        "true",
        Now,
        Flag(|d| &mut d.domain.s2s.require_encryption),
    ),
    spec(
        "s2s",
        "secure_auth",
        "true",
        Now,
        Flag(|d| &mut d.domain.s2s.secure_auth),
    ),
    spec(
        "s2s",
        "secure_domains",
        "[]",
        Now,
        Other(|d, given| domains(given, &mut d.domain.s2s.secure_domains)),
    ),
    spec(
        "s2s",
        "insecure_domains",
        "[]",
        Now,
        Other(|d, given| domains(given, &mut d.domain.s2s.insecure_domains)),
    ),
    spec(
        "s2s",
        "dane",
        "false",
        Now,
        Flag(|d| &mut d.domain.s2s.dane),
    ),
    spec(
        "s2s",
        "allow",
        "[]",
        Now,
        Other(|d, given| domains(given, &mut d.domain.s2s.allow)),
    ),
    spec(
        "s2s",
        "deny",
        "[]",
        Now,
        Other(|d, given| domains(given, &mut d.domain.s2s.deny)),
    ),
    spec(
        "s2s",
        "stanza_bytes_max",
        "524288",
        NewConnections,
        Number(10_000, 16 * 1024 * 1024, |d, n| {
            d.domain.s2s.stanza_bytes_max = n as usize;
        }),
    ),
    spec(
        "s2s",
        "idle_seconds",
        "600",
        Now,
        Number(0, 86_400, |d, n| d.domain.s2s.idle_seconds = n),
    ),
    spec(
        "s2s",
        "message_wait_seconds",
        "3600",
        Now,
        Number(0, 604_800, |d, n| d.domain.s2s.message_wait_seconds = n),
    ),
    spec(
        "s2s",
        "ack_timeout_seconds",
        "60",
        NewConnections,
        Number(1, 3_600, |d, n| d.domain.s2s.ack_timeout_seconds = n),
    ),
    // [s2s.peer."name"]
    spec(
        PEER,
        "address",
        r#""""#,
        Now,
        Other(|d, given| {
            d.peer.address = given.endpoint().map_err(|wrong| vec![wrong])?;
            Ok(())
        }),
    ),
    spec(
        PEER,
        "tls",
        r#""starttls""#,
        Now,
        Choice(&[
            ("starttls", |d| d.peer.is_direct_tls = false),
            ("direct", |d| d.peer.is_direct_tls = true),
        ]),
    ),
    spec(
        PEER,
        "pin",
        "[]",
        Now,
        Other(|d, given| {
            d.peer.pins = given.pins()?;
            Ok(())
        }),
    ),
    spec(PEER, "ca", r#""""#, Now, OptionalFile(|d| &mut d.peer.ca)),
    // [dns]
    spec(
        "dns",
        "servers",
        "[]",
        Now,
        Other(|d, given| {
            let addresses = given.addresses()?;
            d.whole.dns.servers = addresses.into_iter().map(|(_, a)| a).collect();
            Ok(())
        }),
    ),
    spec(
        "dns",
        "dnssec",
        "false",
        Now,
        Flag(|d| &mut d.whole.dns.dnssec),
    ),
    spec(
        "dns",
        "trust_anchor",
        r#""""#,
        Now,
        OptionalFile(|d| &mut d.whole.dns.trust_anchor),
    ),
];
