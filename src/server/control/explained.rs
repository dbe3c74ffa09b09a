//! What `stanzad explain s2s` is told: the last attempts with another server, and a dry run.

/// Answers [`super::Request::ExplainS2s`].
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Explained {
    /// Theirs, prepared.
    pub remote: String,
    /// The last attempts in both directions, oldest first.
    pub attempts: Vec<AttemptInfo>,
    /// How it says what it has received, for each domain here that has sent something to it lately.
    pub receipts: Vec<ReceiptInfo>,
    /// The key that its certificate had when it was last proven by one, for each domain here.
    pub keys: Vec<KeyInfo>,
    /// What tries just now come to, for all domains here that talk with other servers, or for the one
    /// that was named.
    pub tries: Vec<Try>,
    /// Domains here in whose name nothing was tried, since they are too many.
    pub left_out: Vec<String>,
}

/// How another server says to one domain here what it has received.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ReceiptInfo {
    /// The domain here.
    pub local: String,
    /// `acknowledges`, `answers pings`, `neither` or `not known`.
    pub receipts: String,
    /// The same for people.
    pub text: String,
}

/// A try in the name of the first of some domains here, that are alike to the other server: they have the
/// same options about it and the same certificate.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Try {
    /// The domains; never none.
    pub locals: Vec<String>,
    pub dry_run: DryRun,
}

/// An attempt at a stream with another server, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct AttemptInfo {
    /// When that was known, in RFC 3339, UTC.
    pub at: String,
    /// `accepted` or `dialled`.
    pub direction: String,
    /// The domain here in whose name it was dialled, or that the other side asked for.
    pub local: String,
    /// The domain that was dialled for, or that the other side claimed.
    pub remote: String,
    /// Address and port; none if none was found.
    pub address: Option<String>,
    pub direct_tls: bool,
    /// `TLSv1.3`; none without TLS, as for `cipher` and `group`.
    pub tls_version: Option<String>,
    pub cipher: Option<String>,
    pub group: Option<String>,
    pub certificate: Option<CertificateReport>,
    /// What policy said, and why.
    pub verdict: Option<String>,
    /// Whether stanzas could flow.
    pub success: bool,
    /// What came of it, in the other side's words if those decided.
    pub outcome: String,
}

/// A key that another server has shown, by which a change is noticed (RFC 7590 §3.6).
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct KeyInfo {
    /// The domain here that it was shown to.
    pub local: String,
    /// As `[s2s.peer."name"]` pins it: `sha256:` and hexadecimal digits.
    pub key: String,
    /// When it was seen first, in RFC 3339, UTC.
    pub since: String,
    /// When it was seen last, give or take a day.
    pub seen: String,
    /// The one before it.
    pub previous: Option<String>,
}

/// What is told of a certificate that was shown.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CertificateReport {
    pub subject: String,
    pub issuer: String,
    /// The names that it is for, each with its kind: `DNS-ID example.net`.
    pub names: Vec<String>,
    /// When it ends, or the first of those above it, in RFC 3339, UTC; none if nobody can tell.
    pub ends: Option<String>,
    /// Whether it is for the domain that was asked for.
    pub for_domain: bool,
    /// What is wrong with it and with those above it, a sentence each; none: the chain is valid.
    pub faults: Vec<String>,
    /// Whether the chain was held against the `ca` of `[s2s.peer."name"]`, and no other authorities.
    pub by_pinned_ca: bool,
    /// What proves the peer whatever is wrong with chain and names, in words.
    pub proven_by: Option<String>,
}

/// A try that really resolves, connects and proves us, but sends no stanza.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DryRun {
    /// What was looked up, in the order of the steps.
    pub lookups: Vec<LookupInfo>,
    /// What the lookups come to, if that is no address.
    pub dns_problem: Option<String>,
    /// The addresses, in the order in which they were tried.
    pub addresses: Vec<TriedAddress>,
    /// How it takes our proof, in the order of the steps; nothing if it is refused itself.
    pub proof: Vec<ProofStep>,
    /// Whether the other server would be talked with, as far as that was tried.
    pub would_talk: bool,
    /// Whether it is the other server that does not talk, though policy here would.
    pub refused_by_peer: bool,
    /// Why, or why not.
    pub verdict: String,
    /// What would be decided about a stream that it opens, and on which it shows the same certificate.
    pub inbound: Option<String>,
    /// The one option that would turn a refusal of that.
    pub inbound_remedy: Option<String>,
    /// The one option that would turn a refusal.
    pub remedy: Option<String>,
}

/// One way to prove us to another server.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ProofStep {
    /// `EXTERNAL` or `dialback`.
    pub means: String,
    /// Whether it takes that; none: it was not tried.
    pub accepted: Option<bool>,
    /// The same for people, and why.
    pub text: String,
    /// Whether the stream ended by it, or no answer came.
    pub broken: bool,
}

/// A lookup in the DNS.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LookupInfo {
    pub name: String,
    /// `SRV`, `A`, `AAAA`, `TLSA`.
    pub rtype: String,
    /// As in a zone file.
    pub records: Vec<String>,
    /// Whether DNSSEC proves them.
    pub secure: bool,
    /// Why there are none.
    pub failure: Option<String>,
}

/// What an address was found to be.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TriedAddress {
    /// Address and port.
    pub address: String,
    /// The host that it belongs to.
    pub host: String,
    pub direct_tls: bool,
    /// False: an earlier one decided, or the time was over.
    pub tried: bool,
    pub tls_version: Option<String>,
    pub cipher: Option<String>,
    pub group: Option<String>,
    pub certificate: Option<CertificateReport>,
    /// The key of the certificate, as in [`KeyInfo`].
    pub key: Option<String>,
    /// What the TLSA records of the host come to.
    pub dane: Option<String>,
    /// What it offers behind TLS: `EXTERNAL`, `dialback`, `bidi`.
    pub offers: Vec<String>,
    /// Why it went no further.
    pub stopped: Option<String>,
    /// What policy says of it, and why.
    pub verdict: Option<String>,
}
