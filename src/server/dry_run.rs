//! A try at another server, for `stanzad explain s2s`: it resolves, connects, judges and proves us as a
//! link does, but sends no stanza. It waits, so it has a thread of its own.

pub mod domains;
mod proof;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use self::proof::Proving;
use crate::clock::Clock;
use crate::config::{DomainSettings, Settings};
use crate::dns::{self, Dns, Found, Lookup, Question, Service, Target, Tlsa, srv};
use crate::jid::Domain;
use crate::limits::{DIAL_ATTEMPTS_MAX, PEER_TEXT_CHARS_MAX};
use crate::log::for_people;
use crate::net::certificate::PresentedChain;
use crate::net::probe::{Probe, Secured, Seen, Stop};
use crate::net::random;
use crate::net::tls::TlsContexts;
use crate::router::peers::history::ShownCertificate;
use crate::server::control::{CertificateReport, DryRun, LookupInfo, TriedAddress};
use crate::server::dns_settings;
use crate::server::generation::Loaded;
use crate::shard::turn::question;
use crate::stream::peer_facts::{PeerDns, PeerQuestion};
use crate::stream::policy::s2s::{
    Dane, Dialback, Direction, Facts, Outcome, S2sPolicy, Tls, Verdict, judge, remedy, shut_out,
};

/// How long one address may take.
const ADDRESS_WAIT: Duration = Duration::from_secs(5);

/// How long all of them may take; who asks waits a minute for the answer.
const ALL_WAIT: Duration = Duration::from_secs(15);

/// Who tries, and with what.
pub struct Trier<'a> {
    /// The configuration.
    pub settings: &'a Settings,
    /// Its certificates.
    pub loaded: &'a Loaded,
    /// In the name of this domain.
    pub local: &'a DomainSettings,
    /// What the running server makes dialback keys of; without one dialback is not tried.
    pub secret: Option<&'a [u8]>,
}

struct Answer(Sender<Found>);

impl dns::Answers for Answer {
    fn answer(&self, _shard: usize, _id: u64, found: Found) {
        // Who asked waits for it, or has given up.
        let _ = self.0.send(found);
    }
}

/// Asks the DNS once, with a resolver of its own, and waits.
///
/// # Errors
/// Why it cannot be asked, for people.
pub fn look_up(settings: &Settings, question: Question) -> Result<Found, String> {
    let (sender, receiver) = bounded(1);
    let dns = Dns::start(&dns_settings(settings), Arc::new(Answer(sender)))
        .map_err(|error| error.to_string())?;
    dns.ask(0, 0, question).map_err(|error| error.to_string())?;
    let found = receiver.recv();
    dns.stop();
    found.map_err(|_| "the resolver has ended".to_owned())
}

impl Trier<'_> {
    /// Tries. Takes up to [`DNS_WAIT`](crate::limits::DNS_WAIT), `ALL_WAIT`, and ten seconds for the proof.
    pub fn run(&self, remote: &Domain) -> DryRun {
        let policy = S2sPolicy::of(&self.local.s2s, remote);
        let mut run = DryRun::default();
        if let Some(verdict) = shut_out(&policy, remote) {
            run.verdict = verdict.reason.sentence(remote);
            let nothing = Facts {
                direction: Direction::Dialled,
                tls: Tls::Bare,
                dane: Dane::None,
                dialback: Dialback::NotTried,
            };
            run.remedy = by_name_alone(&policy, remote, &nothing);
            return run;
        }
        let question = Question {
            is_fresh: true,
            ..question(Some(self.local), remote)
        };
        let found = match look_up(self.settings, question) {
            Ok(found) => found,
            Err(problem) => {
                run.verdict = format!("the DNS cannot be asked: {problem}");
                run.dns_problem = Some(problem);
                return run;
            }
        };
        run.lookups = found.lookups.iter().map(lookup_info).collect();
        let attempts = srv::attempts(&found.targets, draw);
        if attempts.is_empty() {
            let (text, _) = found.nowhere();
            run.verdict.clone_from(&text);
            run.dns_problem = Some(text);
            return run;
        }
        self.try_all(remote, &found, &attempts, &mut run);
        run
    }

    /// What policy says of a peer that was seen at a target, and that we have dialled.
    pub fn rule(&self, remote: &Domain, target: &Target, seen: &Seen) -> Verdict {
        let dns = PeerDns::of_target(target);
        let (facts, _) = self.facts(remote, &dns, seen, Direction::Dialled);
        judge(&S2sPolicy::of(&self.local.s2s, remote), remote, &facts)
    }

    /// One address after the other, until one decides.
    fn try_all(&self, remote: &Domain, found: &Found, attempts: &[srv::Attempt], run: &mut DryRun) {
        let deadline = Instant::now() + ALL_WAIT;
        let mut is_decided = false;
        for attempt in attempts.iter().take(DIAL_ATTEMPTS_MAX) {
            let Some(target) = found.targets.get(attempt.target) else {
                continue;
            };
            let is_direct = target.kind == dns::Kind::DirectTls;
            let mut tried = TriedAddress {
                address: attempt.address.to_string(),
                host: target.host.clone(),
                direct_tls: is_direct,
                ..TriedAddress::default()
            };
            if !is_decided && Instant::now() < deadline {
                tried.tried = true;
                let until = deadline.min(Instant::now() + ADDRESS_WAIT);
                let (seen, stream) = self.look(remote, attempt.address, is_direct, until);
                is_decided = self.judge(remote, (found, target), &seen, &mut tried, run);
                self.prove(remote, stream, &seen, run);
            }
            run.addresses.push(tried);
        }
        if !is_decided {
            let stops = run.addresses.iter().filter_map(|tried| {
                let stopped = tried.stopped.as_ref()?;
                Some(format!("{}: {stopped}", tried.address))
            });
            run.verdict = stops.collect::<Vec<_>>().join("; ");
        }
    }

    fn look(
        &self,
        remote: &Domain,
        address: SocketAddr,
        is_direct: bool,
        until: Instant,
    ) -> (Seen, Option<Secured>) {
        let contexts: &Arc<TlsContexts> = &self.loaded.contexts.servers;
        let probe = Probe {
            address,
            service: Service::Server,
            is_direct,
            domain: remote.as_str(),
            ascii: &remote.to_ascii(),
            from: Some(self.local.name.as_str()),
            contexts,
        };
        probe.look_and_stay(until)
    }

    /// Sees how a peer that is accepted takes our proof. One that is not is shown none, as by a link.
    fn prove(&self, remote: &Domain, stream: Option<Secured>, seen: &Seen, run: &mut DryRun) {
        let Some(stream) = stream else {
            if run.would_talk {
                let text = "dialback is not tried on a connection that is not encrypted";
                run.proof.push(proof::untried("dialback", text));
            }
            return;
        };
        if !run.would_talk {
            stream.close();
            return;
        }
        let proving = Proving {
            local: self.local,
            remote,
            has_certificate: (self.loaded.certificates).has_certificate(self.local.name.as_str()),
            secret: self.secret,
        };
        run.proof = proving.prove(stream, seen);
        if let Some(last) = run.proof.last()
            && last.accepted == Some(false)
        {
            let why = last.text.clone();
            refused_by_peer(run, &why);
        }
    }

    /// Notes what was seen at an address. True: it decides, and no other is tried.
    fn judge(
        &self,
        remote: &Domain,
        (found, target): (&Found, &Target),
        seen: &Seen,
        tried: &mut TriedAddress,
        run: &mut DryRun,
    ) -> bool {
        let stop = seen.stop.as_ref().map(ToString::to_string);
        tried.stopped = stop.map(|stop| for_people(&stop, PEER_TEXT_CHARS_MAX));
        let is_unencrypted = seen.tls.is_none() && seen.stop == Some(Stop::NoTls);
        if seen.tls.is_none() && !is_unencrypted {
            // Only a server that does not exist there ends the search (RFC 6120 §4.9.3.6).
            let is_final = matches!(&seen.stop, Some(Stop::StreamError(condition, _))
                if condition == "host-unknown" || condition == "host-gone");
            if is_final {
                run.verdict = tried.stopped.clone().unwrap_or_default();
            }
            return is_final;
        }
        let dns = PeerDns::of_target(target);
        let (facts, key) = self.facts(remote, &dns, seen, Direction::Dialled);
        tried.key = key;
        self.describe(remote, &dns, seen, tried);
        if let (true, Tls::Certificate(shown)) = (self.local.s2s.dane, facts.tls) {
            tried.dane = Some(dane_for_people(target, facts.dane, shown.matches_tlsa));
        }
        let policy = S2sPolicy::of(&self.local.s2s, remote);
        let verdict = judge(&policy, remote, &facts);
        let reason = verdict.reason.sentence(remote);
        tried.verdict = Some(reason.clone());
        run.would_talk = matches!(verdict.outcome, Outcome::Accept(_));
        run.verdict = reason;
        run.remedy = remedy(&policy, remote, &facts).map(|remedy| remedy.sentence(remote));
        (run.inbound, run.inbound_remedy) = self.judge_inbound(remote, found, seen);
        if run.would_talk
            && !is_unencrypted
            && let Some(stopped) = &tried.stopped
        {
            refused_by_peer(run, &format!("it does not talk with us: {stopped}"));
        }
        true
    }

    /// What would be decided about a stream that the peer opens and on which it shows the same, and the
    /// one option that would change it.
    fn judge_inbound(
        &self,
        remote: &Domain,
        found: &Found,
        seen: &Seen,
    ) -> (Option<String>, Option<String>) {
        let dns = PeerDns::of_domain(found);
        let (facts, _) = self.facts(remote, &dns, seen, Direction::Accepted);
        let policy = S2sPolicy::of(&self.local.s2s, remote);
        let verdict = judge(&policy, remote, &facts);
        let reason = verdict.reason.sentence(remote);
        let told = match verdict.outcome {
            Outcome::Accept(_) => format!("proven at once: {reason}"),
            Outcome::NeedDialback => format!("proven by dialback alone: {reason}"),
            Outcome::Refuse => format!("refused: {reason}"),
        };
        let remedy = remedy(&policy, remote, &facts);
        (Some(told), remedy.map(|remedy| remedy.sentence(remote)))
    }

    /// What policy needs to know, and the key of the certificate.
    fn facts(
        &self,
        remote: &Domain,
        dns: &PeerDns,
        seen: &Seen,
        direction: Direction,
    ) -> (Facts, Option<String>) {
        let dns = self.counted(dns);
        let mut facts = Facts {
            direction,
            tls: Tls::None,
            dane: dns.without_certificate(),
            dialback: Dialback::NotTried,
        };
        let chain = seen.tls.as_ref().map(|tls| &tls.peer_chain);
        match chain {
            None => (facts, None),
            Some(chain) if chain.is_empty() => {
                facts.tls = Tls::Bare;
                (facts, None)
            }
            Some(chain) => {
                let chain = PresentedChain::from(chain.clone());
                let question = self.question(remote, &chain, direction, dns);
                let found = self.loaded.certificates.peer(&question);
                facts.dane = found.dane;
                facts.tls = Tls::Certificate(found.shown);
                (facts, found.key.map(|key| key.to_string()))
            }
        }
    }

    /// Notes what TLS agreed on, the certificate, and what was offered.
    fn describe(&self, remote: &Domain, dns: &PeerDns, seen: &Seen, tried: &mut TriedAddress) {
        if let Some(offer) = &seen.offer {
            let external = offer.mechanisms.iter().any(|name| name == "EXTERNAL");
            let known = [
                (external, "EXTERNAL"),
                (offer.dialback, "dialback"),
                (offer.bidi, "bidi"),
            ];
            let offered = known.into_iter().filter(|(is_offered, _)| *is_offered);
            tried.offers = offered.map(|(_, name)| name.to_owned()).collect();
        }
        let Some(tls) = &seen.tls else {
            return;
        };
        tried.tls_version = Some(tls.version.to_owned());
        tried.cipher = Some(tls.cipher.clone());
        tried.group = Some(tls.group.clone()).filter(|group| !group.is_empty());
        if !tls.peer_chain.is_empty() {
            let chain = PresentedChain::from(tls.peer_chain.clone());
            let dns = self.counted(dns);
            let question = self.question(remote, &chain, Direction::Dialled, dns);
            let described = self.loaded.certificates.describe(&question);
            tried.certificate = Some(report(&described));
        }
    }

    /// What the DNS vouches for, if that counts here.
    fn counted<'b>(&self, dns: &'b PeerDns) -> &'b PeerDns {
        match self.local.s2s.dane {
            true => dns,
            false => &PeerDns::Nothing,
        }
    }

    fn question<'b>(
        &'b self,
        remote: &'b Domain,
        chain: &'b PresentedChain,
        direction: Direction,
        dns: &'b PeerDns,
    ) -> PeerQuestion<'b> {
        PeerQuestion {
            chain,
            direction,
            local: self.local,
            remote,
            dns,
            now: Clock::start().now().wall,
        }
    }
}

/// Policy has accepted the peer, which does not accept us.
fn refused_by_peer(run: &mut DryRun, why: &str) {
    run.would_talk = false;
    run.refused_by_peer = true;
    run.verdict = format!("{}, but {why}", run.verdict);
}

/// What the TLSA records of a target come to.
fn dane_for_people(target: &Target, dane: Dane, matches: bool) -> String {
    let count = match &target.tlsa {
        Tlsa::None => 0,
        Tlsa::Secure(records) => records.len(),
    };
    match dane {
        Dane::None => "no TLSA records that DNSSEC proves, so that the chain decides".to_owned(),
        Dane::Unknown => "the DNS gives no answer that can be trusted".to_owned(),
        Dane::Unusable => format!("none of {count} TLSA records can be used"),
        Dane::Usable if matches => format!("one of {count} TLSA records proves the certificate"),
        Dane::Usable => format!("WRONG: none of {count} TLSA records proves the certificate"),
    }
}

/// The option that would let in a peer that is shut out by its name; what its certificate is worth
/// then is not known yet.
fn by_name_alone(policy: &S2sPolicy<'_>, remote: &Domain, facts: &Facts) -> Option<String> {
    let lenient = S2sPolicy {
        require_encryption: false,
        secure_auth: false,
        pinned: false,
        dane: false,
        ..*policy
    };
    remedy(&lenient, remote, facts).map(|remedy| remedy.sentence(remote))
}

/// What is told of a certificate, over the control socket.
pub fn report(shown: &ShownCertificate) -> CertificateReport {
    CertificateReport {
        subject: shown.subject.clone(),
        issuer: shown.issuer.clone(),
        names: shown.names.clone(),
        ends: shown
            .ends
            .and_then(|ends| jiff::Timestamp::from_second(ends).ok())
            .map(|ends| ends.to_string()),
        for_domain: shown.is_for_peer,
        faults: shown.faults.clone(),
        by_pinned_ca: shown.is_by_pinned_ca,
        proven_by: shown.proven_by.map(str::to_owned),
    }
}

/// What is told of a lookup.
pub fn lookup_info(lookup: &Lookup) -> LookupInfo {
    let mut info = LookupInfo {
        name: lookup.name.clone(),
        rtype: lookup.rtype.to_string(),
        ..LookupInfo::default()
    };
    match &lookup.result {
        Ok(records) => {
            info.records = records.records.iter().map(ToString::to_string).collect();
            info.secure = records.is_secure;
        }
        Err(failure) => info.failure = Some(failure.to_string()),
    }
    info
}

fn draw(most: u32) -> u32 {
    let mut bytes = [0; 8];
    random::fill_random(&mut bytes);
    srv::drawn(bytes, most)
}
