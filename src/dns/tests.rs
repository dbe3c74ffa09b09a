//! The resolver against a name server on loopback.

use std::net::IpAddr;

use crossbeam_channel::Receiver;
use trust_dns_resolver::proto::op::ResponseCode;
use trust_dns_resolver::proto::rr::RecordType;

use super::testing::{NameServer, UNSIGNED, Zone};
use super::*;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
const DOMAIN: &str = "example.org";
const STARTTLS: &str = "_xmpp-server._tcp.example.org";
const DIRECT: &str = "_xmpps-server._tcp.example.org";
const HOST: &str = "xmpp.example.org";

struct Collect(crossbeam_channel::Sender<(usize, u64, Found)>);

impl Answers for Collect {
    fn answer(&self, shard: usize, id: u64, found: Found) {
        // A test may end before the last answer.
        let _ = self.0.send((shard, id, found));
    }
}

struct Running {
    dns: Dns,
    answers: Receiver<(usize, u64, Found)>,
}

impl Running {
    fn start(settings: &DnsSettings) -> Running {
        let (tx, answers) = crossbeam_channel::unbounded();
        let dns = Dns::start(settings, Arc::new(Collect(tx))).unwrap();
        Running { dns, answers }
    }

    fn ask(&self, question: Question) -> Found {
        self.dns.ask(1, 17, question).unwrap();
        let (shard, id, found) = self.answers.recv_timeout(PATIENCE).unwrap();
        assert_eq!((shard, id), (1, 17));
        found
    }
}

/// Time-outs that only a test of them reaches.
fn settings(server: &NameServer) -> DnsSettings {
    DnsSettings {
        servers: vec![server.address],
        validates: false,
        trust_anchor: None,
        try_timeout: PATIENCE,
        tries: 1,
        question_timeout: PATIENCE,
    }
}

fn about(domain: &str) -> Question {
    Question {
        domain: domain.to_owned(),
        service: Service::Server,
        endpoint: None,
        wants_tlsa: false,
        is_fresh: false,
        sender: 0,
    }
}

fn ask(server: &NameServer) -> Found {
    Running::start(&settings(server)).ask(about(DOMAIN))
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn step<'a>(found: &'a Found, name: &str, rtype: Rtype) -> &'a Result<Records, Failure> {
    let is_it = |lookup: &&Lookup| lookup.name == name && lookup.rtype == rtype;
    let mut of_name = found.lookups.iter().filter(is_it);
    let lookup = of_name
        .next()
        .unwrap_or_else(|| panic!("{name} {rtype}: {found:?}"));
    assert_eq!(of_name.next(), None, "each is looked up once");
    &lookup.result
}

fn usual() -> Zone {
    Zone::default()
        .with(STARTTLS, "SRV", "5 10 5269 xmpp.example.org.")
        .with(HOST, "A", "192.0.2.1")
}

/// XEP-0368 §3, RFC 6120 §3.2.1.
#[test]
fn targets_of_both_services_come_with_their_addresses() {
    let server = usual()
        .with(STARTTLS, "SRV", "20 0 5269 Backup.Example.Org.")
        .with(DIRECT, "SRV", "5 30 443 xmpp.example.org.")
        .with(HOST, "AAAA", "2001:db8::1")
        .with(HOST, "A", "192.0.2.2")
        .with("backup.example.org", "A", "192.0.2.9")
        .serve();
    let found = ask(&server);
    assert_eq!(found.verdict, Verdict::Targets);
    let mut targets = found.targets.clone();
    targets.sort_by_key(|target| (target.priority, target.weight));
    let facts: Vec<_> = targets
        .iter()
        .map(|target| {
            (
                target.kind,
                target.host.as_str(),
                target.port,
                target.weight,
            )
        })
        .collect();
    let wanted = [
        (Kind::StartTls, HOST, 5269, 10),
        (Kind::DirectTls, HOST, 443, 30),
        (Kind::StartTls, "backup.example.org", 5269, 0),
    ];
    assert_eq!(facts, wanted);
    for target in &targets[..2] {
        assert_eq!(target.addresses[0], ips(&["2001:db8::1"])[0]);
        let mut all = target.addresses.clone();
        all.sort();
        assert_eq!(all, ips(&["192.0.2.1", "192.0.2.2", "2001:db8::1"]));
    }
    assert_eq!(targets[2].addresses, ips(&["192.0.2.9"]));
    assert!(
        targets
            .iter()
            .all(|target| !target.is_secure() && target.tlsa == Tlsa::None)
    );
    let absent = step(&found, "backup.example.org", Rtype::Aaaa);
    assert_eq!(*absent, Err(Failure::NoRecords));
    assert_eq!(
        step(&found, STARTTLS, Rtype::Srv)
            .as_ref()
            .unwrap()
            .records
            .len(),
        2
    );
}

/// RFC 2782, "Target"; XEP-0368 §5.
#[test]
fn a_domain_without_the_service_is_not_asked_for_addresses() {
    let server = Zone::default()
        .with(STARTTLS, "SRV", "0 0 0 .")
        .with(DOMAIN, "A", "192.0.2.1")
        .serve();
    let found = ask(&server);
    assert_eq!(
        (found.verdict, found.targets),
        (Verdict::NotOffered, vec![])
    );
    assert_eq!(server.asked(DOMAIN, RecordType::A), (0, 0));
}

#[test]
fn one_service_that_is_not_offered_leaves_the_other() {
    let server = usual().with(DIRECT, "SRV", "0 0 0 .").serve();
    let found = ask(&server);
    assert_eq!(found.verdict, Verdict::Targets);
    assert_eq!(found.targets.len(), 1);
    assert_eq!(found.targets[0].kind, Kind::StartTls);
}

/// RFC 6120 §3.2.2.
#[test]
fn a_domain_without_srv_records_is_tried_itself() {
    let server = Zone::default()
        .with(DOMAIN, "A", "192.0.2.1")
        .with(DOMAIN, "AAAA", "2001:db8::1")
        .serve();
    let found = ask(&server);
    assert_eq!(found.verdict, Verdict::FallBack);
    let [target] = &found.targets[..] else {
        panic!("one target: {found:?}")
    };
    assert_eq!((target.host.as_str(), target.port), (DOMAIN, 5269));
    assert_eq!(target.kind, Kind::StartTls);
    assert_eq!(target.addresses, ips(&["2001:db8::1", "192.0.2.1"]));
    assert_eq!(*step(&found, STARTTLS, Rtype::Srv), Err(Failure::NxDomain));
}

#[test]
fn a_domain_that_does_not_exist_has_no_addresses_and_every_step_says_why() {
    let server = Zone::default().serve();
    let found = ask(&server);
    assert!(!found.has_addresses());
    assert_eq!(found.targets[0].failure, Some(Failure::NxDomain));
    assert_eq!(found.lookups.len(), 4);
    assert!(
        found
            .lookups
            .iter()
            .all(|step| step.result == Err(Failure::NxDomain))
    );
}

#[test]
fn a_name_server_that_is_silent_is_told_as_time_out() {
    let server = usual()
        .silent(DIRECT, RecordType::SRV)
        .silent(HOST, RecordType::AAAA)
        .serve();
    let settings = DnsSettings {
        try_timeout: Duration::from_millis(200),
        ..settings(&server)
    };
    let running = Running::start(&settings);
    // On a busy machine other answers may be late as well; they are known the next time.
    let mut founds = (0..100).map(|_| running.ask(about(DOMAIN)));
    let found = founds
        .find(|found| found.verdict == Verdict::Targets && found.has_addresses())
        .unwrap();
    assert_eq!(*step(&found, DIRECT, Rtype::Srv), Err(Failure::TimedOut));
    assert_eq!(*step(&found, HOST, Rtype::Aaaa), Err(Failure::TimedOut));
    assert_eq!(found.targets[0].addresses, ips(&["192.0.2.1"]));
}

#[test]
fn a_query_is_tried_as_often_as_the_settings_say() {
    let mut server = Zone::default().silent(STARTTLS, RecordType::SRV).serve();
    // Shorter than the library's pause before it repeats a packet within a try.
    let settings = DnsSettings {
        try_timeout: Duration::from_millis(100),
        tries: 3,
        ..settings(&server)
    };
    let found = Running::start(&settings).ask(about(DOMAIN));
    assert_eq!(*step(&found, STARTTLS, Rtype::Srv), Err(Failure::TimedOut));
    server.stop();
    assert_eq!(server.asked(STARTTLS, RecordType::SRV), (3, 0));
}

#[test]
fn a_question_ends_at_its_deadline_whatever_its_queries_wait_for() {
    let server = usual().silent(HOST, RecordType::AAAA).serve();
    let settings = DnsSettings {
        try_timeout: 100 * PATIENCE,
        question_timeout: Duration::from_millis(500),
        ..settings(&server)
    };
    let running = Running::start(&settings);
    let found = running.ask(about(DOMAIN));
    let last = found
        .lookups
        .iter()
        .rev()
        .find(|step| step.rtype == Rtype::Aaaa);
    assert_eq!(last.unwrap().result, Err(Failure::TimedOut));
    assert_eq!(running.dns.open(), 0);
}

#[test]
fn an_error_of_the_name_server_is_told_and_the_fall_back_tried() {
    let server = Zone::default()
        .failing(STARTTLS, RecordType::SRV, ResponseCode::ServFail)
        .failing(DIRECT, RecordType::SRV, ResponseCode::Refused)
        .with(DOMAIN, "A", "192.0.2.1")
        .serve();
    let found = ask(&server);
    assert_eq!(found.verdict, Verdict::FallBack);
    assert!(found.has_addresses());
    for name in [STARTTLS, DIRECT] {
        let failure = step(&found, name, Rtype::Srv).as_ref().unwrap_err();
        assert!(matches!(failure, Failure::Refused(_)), "{failure}");
    }
}

#[test]
fn a_name_server_that_is_not_there_is_no_absence() {
    // Nobody has this port, which a name server of another test could not get either.
    let settings = DnsSettings {
        servers: vec!["127.0.0.1:1".parse().unwrap()],
        try_timeout: Duration::from_millis(200),
        ..DnsSettings::default()
    };
    let found = Running::start(&settings).ask(about(DOMAIN));
    assert!(!found.has_addresses());
    let is_absence = |lookup: &Lookup| lookup.result.as_ref().is_err_and(Failure::is_absence);
    assert!(!found.lookups.iter().any(is_absence), "{found:?}");
}

#[test]
fn a_large_answer_is_fetched_over_tcp_and_cut_by_priority() {
    let mut zone = Zone::default();
    for number in 0..80 {
        let data = format!("{} 0 5269 host{number}.example.org.", 100 - number);
        zone = zone.with(STARTTLS, "SRV", &data);
    }
    let server = zone.serve();
    let found = ask(&server);
    assert_eq!(server.asked(STARTTLS, RecordType::SRV).1, 1);
    let mut hosts: Vec<&str> = found
        .targets
        .iter()
        .map(|target| target.host.as_str())
        .collect();
    hosts.sort_unstable();
    let used = (80 - limits::DNS_RECORDS_MAX)..80;
    let wanted: Vec<String> = used
        .map(|number| format!("host{number}.example.org"))
        .collect();
    assert_eq!(hosts, wanted);
    assert_eq!(server.asked("host0.example.org", RecordType::A), (0, 0));
}

/// RFC 7673 §3.1 has aliases of the SRV records in mind; the library's resolver does not find them.
#[test]
fn srv_records_behind_an_alias_are_found() {
    for is_lazy in [false, true] {
        let zone = Zone::default()
            .with(STARTTLS, "CNAME", "srv.hosting.example.org.")
            .with(
                "srv.hosting.example.org",
                "SRV",
                "5 0 5269 xmpp.example.org.",
            )
            .with(HOST, "CNAME", "web.example.org.")
            .with("web.example.org", "A", "192.0.2.7");
        let server = if is_lazy { zone.lazy() } else { zone }.serve();
        let found = ask(&server);
        assert_eq!(found.verdict, Verdict::Targets, "lazy: {is_lazy}");
        assert_eq!(found.targets[0].host, HOST);
        assert_eq!(found.targets[0].addresses, ips(&["192.0.2.7"]));
    }
}

#[test]
fn aliases_in_a_circle_come_to_an_end() {
    let zone = Zone::default()
        .lazy()
        .with(STARTTLS, "CNAME", "a.example.org.")
        .with("a.example.org", "CNAME", "b.example.org.")
        .with("b.example.org", "CNAME", "a.example.org.");
    let found = ask(&zone.serve());
    let failure = step(&found, STARTTLS, Rtype::Srv).as_ref().unwrap_err();
    assert!(matches!(failure, Failure::Broken(_)), "{failure}");
}

#[test]
fn addresses_that_are_no_hosts_are_left_out() {
    let mut zone = usual();
    for data in ["0.0.0.0", "224.0.0.1", "255.255.255.255"] {
        zone = zone.with(HOST, "A", data);
    }
    let found = ask(&zone.with(HOST, "AAAA", "::").serve());
    assert_eq!(found.targets[0].addresses, ips(&["192.0.2.1"]));
}

#[test]
fn what_is_known_is_not_asked_again_but_by_who_wants_it_fresh() {
    let server = usual().serve();
    let running = Running::start(&settings(&server));
    let counts = || {
        [
            (STARTTLS, RecordType::SRV),
            (DIRECT, RecordType::SRV),
            (HOST, RecordType::A),
        ]
        .map(|(name, rtype)| server.asked(name, rtype).0)
    };
    let first = running.ask(about(DOMAIN));
    assert_eq!(counts(), [1, 1, 1]);
    assert_eq!(running.ask(about("EXAMPLE.org")).targets, first.targets);
    assert_eq!(counts(), [1, 1, 1]);
    let fresh = Question {
        is_fresh: true,
        ..about(DOMAIN)
    };
    assert_eq!(running.ask(fresh).targets, first.targets);
    assert_eq!(counts(), [2, 2, 2]);
}

#[test]
fn an_address_needs_no_dns_and_special_names_are_not_sent() {
    let server = Zone::default().serve();
    let running = Running::start(&settings(&server));
    for (domain, ip) in [("192.0.2.1", "192.0.2.1"), ("[2001:db8::1]", "2001:db8::1")] {
        let found = running.ask(about(domain));
        assert_eq!(found.verdict, Verdict::FallBack);
        assert_eq!(found.targets[0].addresses, ips(&[ip]));
        assert_eq!(found.lookups, []);
    }
    let local = running.ask(about("localhost"));
    assert_eq!(local.targets[0].addresses, ips(&["::1", "127.0.0.1"]));
    for domain in ["any.invalid", "any.onion"] {
        let found = running.ask(about(domain));
        assert!(!found.has_addresses());
        assert_eq!(server.asked(domain, RecordType::A), (0, 0));
    }
}

#[test]
fn what_cannot_be_a_dns_name_is_told_so() {
    let server = Zone::default().serve();
    let running = Running::start(&settings(&server));
    let long = format!("{}.example", ["a".repeat(60).as_str(); 4].join("."));
    for domain in [
        long.as_str(),
        "a..b",
        &"a".repeat(64),
        "",
        "ex\u{e4}mple.org",
    ] {
        let found = running.ask(about(domain));
        assert_eq!(found.verdict, Verdict::Failed(Failure::BadName), "{domain}");
    }
}

#[test]
fn other_settings_hold_for_the_next_question() {
    let (old, new) = (
        usual().serve(),
        usual().with(HOST, "AAAA", "2001:db8::1").serve(),
    );
    let running = Running::start(&settings(&old));
    assert_eq!(
        running.ask(about(DOMAIN)).targets[0].addresses,
        ips(&["192.0.2.1"])
    );
    running.dns.configure(&settings(&new)).unwrap();
    let found = running.ask(about(DOMAIN));
    assert_eq!(
        found.targets[0].addresses,
        ips(&["2001:db8::1", "192.0.2.1"])
    );
}

#[test]
fn more_questions_than_the_bound_are_refused_at_once() {
    let server = Zone::default()
        .silent(STARTTLS, RecordType::SRV)
        .silent(DIRECT, RecordType::SRV)
        .serve();
    let running = Running::start(&settings(&server));
    for id in 0..limits::DNS_QUESTIONS_MAX {
        running.dns.ask(0, id as u64, about(DOMAIN)).unwrap();
    }
    assert_eq!(running.dns.ask(0, 0, about(DOMAIN)), Err(Refused::Full));
    assert_eq!(running.dns.open(), limits::DNS_QUESTIONS_MAX);
    let clone = running.dns.clone();
    running.dns.stop();
    assert!(
        running.answers.try_recv().is_err(),
        "none of them has an answer"
    );
    assert_eq!(clone.open(), limits::DNS_QUESTIONS_MAX);
}

#[test]
fn a_stopped_resolver_refuses_questions() {
    let server = usual().serve();
    let running = Running::start(&settings(&server));
    let clone = running.dns.clone();
    running.dns.stop();
    assert_eq!(clone.ask(0, 0, about(DOMAIN)), Err(Refused::Stopped));
    assert_eq!(clone.open(), 0);
    clone.stop();
}

const TLSA: &str = "_5269._tcp.xmpp.example.org";
const DIGEST: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn with_tlsa() -> Zone {
    usual().with(TLSA, "TLSA", &format!("3 1 1 {DIGEST}"))
}

/// Asks with validation; `anchor` is what the trust anchor file has.
fn ask_validating(server: &NameServer, anchor: &str) -> Found {
    ask_validating_about(server, anchor, DOMAIN)
}

fn ask_validating_about(server: &NameServer, anchor: &str, domain: &str) -> Found {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), anchor).unwrap();
    let settings = DnsSettings {
        validates: true,
        trust_anchor: Some(file.path().to_owned()),
        ..settings(server)
    };
    Running::start(&settings).ask(Question {
        wants_tlsa: true,
        ..about(domain)
    })
}

/// RFC 7673 §3.1: most domains are like this one.
#[test]
fn a_zone_that_is_proven_to_be_unsigned_is_used_and_not_called_secure() {
    let (zone, anchor) = Zone::default()
        .with(UNSIGNED, "NS", "ns.unsigned.example.org.")
        .with(
            "_xmpp-server._tcp.unsigned.example.org",
            "SRV",
            "5 0 5269 xmpp.unsigned.example.org.",
        )
        .with("xmpp.unsigned.example.org", "A", "192.0.2.5")
        .with(
            "_5269._tcp.xmpp.unsigned.example.org",
            "TLSA",
            &format!("3 1 1 {DIGEST}"),
        )
        .signed();
    let server = zone.serve();
    let found = ask_validating_about(&server, &anchor, UNSIGNED);
    assert_eq!(found.verdict, Verdict::Targets, "{found:?}");
    assert_eq!(found.targets[0].addresses, ips(&["192.0.2.5"]));
    assert!(!found.targets[0].is_srv_secure && !found.targets[0].is_address_secure);
    assert_eq!(found.targets[0].tlsa, Tlsa::None);
    let none = step(&found, "xmpp.unsigned.example.org", Rtype::Aaaa);
    assert_eq!(*none, Err(Failure::NoRecords));
    let missing = step(
        &found,
        "_xmpps-server._tcp.unsigned.example.org",
        Rtype::Srv,
    );
    assert_eq!(*missing, Err(Failure::NxDomain));
}

/// RFC 7673 §3.3: the SRV record is proven, its target's zone is not signed.
#[test]
fn a_secure_record_with_a_target_in_an_unsigned_zone_brings_no_tlsa_records() {
    let (zone, anchor) = Zone::default()
        .with(STARTTLS, "SRV", "5 0 5269 xmpp.unsigned.example.org.")
        .with(UNSIGNED, "NS", "ns.unsigned.example.org.")
        .with("xmpp.unsigned.example.org", "A", "192.0.2.5")
        .with(
            "_5269._tcp.xmpp.unsigned.example.org",
            "TLSA",
            &format!("3 1 1 {DIGEST}"),
        )
        .signed();
    let server = zone.serve();
    let found = ask_validating(&server, &anchor);
    let target = &found.targets[0];
    assert!(target.is_srv_secure && !target.is_address_secure && !target.is_secure());
    assert_eq!((target.addresses.len(), &target.tlsa), (1, &Tlsa::None));
    let owner = "_5269._tcp.xmpp.unsigned.example.org";
    assert_eq!(server.asked(owner, RecordType::TLSA), (0, 0));
}

/// RFC 7673 §3.
#[test]
fn records_of_a_signed_zone_are_secure_and_bring_tlsa_records() {
    let (zone, anchor) = with_tlsa()
        .with(DIRECT, "SRV", "9 0 443 xmpp.example.org.")
        .signed();
    let server = zone.serve();
    let mut found = ask_validating(&server, &anchor);
    found.targets.sort_by_key(|target| target.priority);
    let [start_tls, direct] = &found.targets[..] else {
        panic!("two targets: {found:?}")
    };
    assert!(start_tls.is_srv_secure && start_tls.is_address_secure && start_tls.is_secure());
    assert_eq!(start_tls.addresses, ips(&["192.0.2.1"]));
    let Tlsa::Secure(records) = &start_tls.tlsa else {
        panic!("a TLSA record: {found:?}")
    };
    let text: Vec<String> = records
        .iter()
        .map(|record| Record::Tlsa(record.clone()).to_string())
        .collect();
    assert_eq!(text, [format!("3 1 1 {DIGEST}")]);
    // That the other port has none is proven too.
    assert_eq!((&direct.tlsa, direct.addresses.len()), (&Tlsa::None, 1));
    let absent = step(&found, "_443._tcp.xmpp.example.org", Rtype::Tlsa);
    assert_eq!(*absent, Err(Failure::NoRecords));
}

#[test]
fn aliases_of_a_signed_zone_are_secure() {
    let (zone, anchor) = Zone::default()
        .with(STARTTLS, "CNAME", "srv.example.org.")
        .with("srv.example.org", "SRV", "5 0 5269 xmpp.example.org.")
        .with(HOST, "A", "192.0.2.1")
        .with(TLSA, "TLSA", &format!("3 1 1 {DIGEST}"))
        .signed();
    let found = ask_validating(&zone.serve(), &anchor);
    assert!(found.targets[0].is_secure(), "{found:?}");
    assert!(matches!(&found.targets[0].tlsa, Tlsa::Secure(records) if records.len() == 1));
}

#[test]
fn without_validation_nothing_is_secure_and_no_tlsa_record_is_asked_for() {
    let (zone, _) = with_tlsa().signed();
    let server = zone.serve();
    let found = Running::start(&settings(&server)).ask(Question {
        wants_tlsa: true,
        ..about(DOMAIN)
    });
    assert!(found.has_addresses() && !found.targets[0].is_secure());
    assert_eq!(found.targets[0].tlsa, Tlsa::None);
    assert_eq!(server.asked(TLSA, RecordType::TLSA), (0, 0));
}

/// RFC 7673 §3.1, §3.2, §3.4: whatever is spoilt on the way, no connection is made.
#[test]
fn spoilt_records_leave_no_address() {
    for (spoilt, rtype) in [
        (STARTTLS, Rtype::Srv),
        (HOST, Rtype::A),
        (TLSA, Rtype::Tlsa),
    ] {
        let (zone, anchor) = with_tlsa().spoilt(spoilt).signed();
        let found = ask_validating(&zone.serve(), &anchor);
        assert!(!found.has_addresses(), "{spoilt}: {found:?}");
        assert_eq!(*step(&found, spoilt, rtype), Err(Failure::Bogus));
        match rtype {
            Rtype::Srv => assert_eq!(found.verdict, Verdict::Failed(Failure::Bogus)),
            _ => assert_eq!(found.targets[0].failure, Some(Failure::Bogus)),
        }
    }
}

#[test]
fn a_zone_that_is_not_signed_though_its_key_is_known_is_bogus() {
    let (_, anchor) = usual().signed();
    let found = ask_validating(&usual().serve(), &anchor);
    assert_eq!(found.verdict, Verdict::Failed(Failure::Bogus));
}

/// The proof that the zone has no DS record is signed by the zone itself, so that validation goes
/// in a circle: by the bound of the library itself some 20,000 queries long.
#[test]
fn a_zone_signed_by_another_key_is_bogus_and_that_is_found_soon() {
    let (zone, _) = with_tlsa().signed();
    let (_, other) = with_tlsa().signed();
    let server = zone.serve();
    let found = ask_validating(&server, &other);
    assert_eq!(found.verdict, Verdict::Failed(Failure::Bogus));
    assert!(server.queries() < 1_500, "{}", server.queries());
}

#[test]
fn a_trust_anchor_that_cannot_be_used_is_told_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("anchor");
    let start = || {
        let settings = DnsSettings {
            servers: vec!["127.0.0.1:1".parse().unwrap()],
            validates: true,
            trust_anchor: Some(path.clone()),
            ..DnsSettings::default()
        };
        let (tx, _) = crossbeam_channel::unbounded();
        let error = Dns::start(&settings, Arc::new(Collect(tx)))
            .map(|_| ())
            .unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with(&path.display().to_string()), "{text}");
        assert!(matches!(error, DnsError::TrustAnchor { .. }));
    };
    start();
    for text in [
        "",
        "; nothing but words\n",
        "example.org. IN A 192.0.2.1\n",
        "\u{1}\n",
    ] {
        std::fs::write(&path, text).unwrap();
        start();
    }
}
