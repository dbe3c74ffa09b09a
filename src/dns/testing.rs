//! A name server on loopback for tests: answers over UDP and TCP what it is told to, signs if
//! wanted, and writes down what it was asked.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use trust_dns_resolver::proto::dnssec::crypto::EcdsaSigningKey;
use trust_dns_resolver::proto::dnssec::rdata::{DNSKEY, DNSSECRData, NSEC, RRSIG};
use trust_dns_resolver::proto::dnssec::{Algorithm, DnssecSigner, PublicKey, SigningKey};
use trust_dns_resolver::proto::op::{Message, OpCode, ResponseCode};
use trust_dns_resolver::proto::rr::rdata::SOA;
use trust_dns_resolver::proto::rr::{DNSClass, Name, RData, Record, RecordSet, RecordType};

/// The zone that it serves unless it is told another; what lies outside does not exist.
pub const ZONE: &str = "example.org.";
/// A zone below it that is not signed, whatever is done with the rest.
pub const UNSIGNED: &str = "unsigned.example.org";
/// The time to live of everything.
pub const TTL: u32 = 300;
/// What a UDP answer may have; a longer one has to be fetched over TCP.
const UDP_BYTES_MAX: usize = 1232;

/// What is served.
pub struct Zone {
    apex: Name,
    records: HashMap<Name, Vec<Record>>,
    silent: HashSet<(Name, RecordType)>,
    codes: HashMap<(Name, RecordType), ResponseCode>,
    /// Aliases are answered alone, without the records behind them.
    is_lazy: bool,
    signer: Option<DnssecSigner>,
    /// Names whose signatures are spoilt.
    spoilt: HashSet<Name>,
}

pub fn name(text: &str) -> Name {
    Name::from_ascii(format!("{text}.")).unwrap()
}

impl Default for Zone {
    fn default() -> Zone {
        Zone::of(ZONE)
    }
}

impl Zone {
    /// A zone without records. Its name ends with a dot.
    pub fn of(apex: &str) -> Zone {
        Zone {
            apex: Name::from_ascii(apex).unwrap(),
            records: HashMap::new(),
            silent: HashSet::new(),
            codes: HashMap::new(),
            is_lazy: false,
            signer: None,
            spoilt: HashSet::new(),
        }
    }

    /// Adds a record, as in a zone file.
    pub fn with(mut self, owner: &str, rtype: &str, data: &str) -> Zone {
        let rtype = RecordType::from_str(rtype).unwrap();
        let data = RData::try_from_str(rtype, data).unwrap();
        let record = Record::from_rdata(name(owner), TTL, data);
        self.records.entry(name(owner)).or_default().push(record);
        self
    }

    /// Never answers such a query.
    pub fn silent(mut self, owner: &str, rtype: RecordType) -> Zone {
        self.silent.insert((name(owner), rtype));
        self
    }

    /// Answers such a query with an error.
    pub fn failing(mut self, owner: &str, rtype: RecordType, code: ResponseCode) -> Zone {
        self.codes.insert((name(owner), rtype), code);
        self
    }

    /// Makes whoever asks follow aliases himself.
    pub fn lazy(mut self) -> Zone {
        self.is_lazy = true;
        self
    }

    /// Signs the zone by a new key; yields the trust anchor too, as a file has it.
    pub fn signed(mut self) -> (Zone, String) {
        let der = EcdsaSigningKey::generate_pkcs8(Algorithm::ECDSAP256SHA256).unwrap();
        let key = EcdsaSigningKey::from_pkcs8(&der, Algorithm::ECDSAP256SHA256).unwrap();
        let public = key.to_public_key().unwrap();
        let text = STANDARD.encode(public.public_bytes());
        let dnskey = DNSKEY::from_key(&public);
        let apex = self.apex.clone();
        let data = RData::DNSSEC(DNSSECRData::DNSKEY(dnskey.clone()));
        let record = Record::from_rdata(apex.clone(), TTL, data);
        self.records.entry(apex.clone()).or_default().push(record);
        let day = Duration::from_secs(86_400);
        self.signer = Some(DnssecSigner::new(dnskey, Box::new(key), apex, day));
        let anchor = format!("{} {TTL} IN DNSKEY 257 3 13 {text}\n", self.apex);
        (self, anchor)
    }

    /// Signs the records of a name wrongly.
    pub fn spoilt(mut self, owner: &str) -> Zone {
        self.spoilt.insert(name(owner));
        self
    }

    pub fn serve(self) -> NameServer {
        NameServer::start(self)
    }

    /// None: no answer.
    fn answer(&self, query: &Message) -> Option<Message> {
        let asked = query.queries.first()?.clone();
        let (mut owner, rtype) = (asked.name().to_lowercase(), asked.query_type());
        let mut response = Message::response(query.metadata.id, OpCode::Query);
        response.add_query(asked);
        response.metadata.recursion_desired = true;
        response.metadata.recursion_available = true;
        if self.silent.contains(&(owner.clone(), rtype)) {
            return None;
        }
        if let Some(code) = self.codes.get(&(owner.clone(), rtype)) {
            response.metadata.response_code = *code;
            return Some(response);
        }
        loop {
            let all = self.records.get(&owner).map_or(&[][..], Vec::as_slice);
            let of_type = |rtype| {
                let own = all
                    .iter()
                    .filter(move |record| record.record_type() == rtype);
                own.cloned().collect::<Vec<_>>()
            };
            let found = of_type(rtype);
            if !found.is_empty() {
                response.add_answers(self.sign(found));
                return Some(response);
            }
            let alias = of_type(RecordType::CNAME);
            let Some(RData::CNAME(target)) = alias.first().map(|record| record.data.clone()) else {
                self.deny(&owner, rtype, &mut response);
                return Some(response);
            };
            response.add_answers(self.sign(alias));
            if self.is_lazy {
                return Some(response);
            }
            owner = target.0;
        }
    }

    /// That there are no such records. A signed zone says that the name exists and has none of its
    /// own types but those in an NSEC record, which proves both cases in one way (RFC 4470 has the
    /// idea).
    fn deny(&self, owner: &Name, rtype: RecordType, response: &mut Message) {
        // The parent has the proof that a zone is not signed (RFC 4035 §3.1.4.1).
        let is_of_parent = rtype == RecordType::DS && *owner == name(UNSIGNED);
        let is_signed = self.signer.is_some() && (is_of_parent || !is_unsigned(owner));
        let is_below = is_unsigned(owner) && !is_of_parent;
        let apex = if is_below {
            name(UNSIGNED)
        } else {
            self.apex.clone()
        };
        let soa = SOA::new(apex.clone(), apex.clone(), 1, 3600, 600, 86_400, TTL);
        let soa = Record::from_rdata(apex, TTL, RData::SOA(soa));
        response.add_authorities(self.sign(vec![soa]));
        let all = self.records.get(owner).map_or(&[][..], Vec::as_slice);
        if is_signed {
            let types = all.iter().map(Record::record_type);
            let nsec = NSEC::new_cover_self(owner.prepend_label("0").unwrap(), types);
            let data = RData::DNSSEC(DNSSECRData::NSEC(nsec));
            let nsec = Record::from_rdata(owner.clone(), TTL, data);
            response.add_authorities(self.sign(vec![nsec]));
        } else if all.is_empty() {
            response.metadata.response_code = ResponseCode::NXDomain;
        }
    }

    fn sign(&self, mut records: Vec<Record>) -> Vec<Record> {
        let first = &records[0];
        let is_proof = first.record_type() == RecordType::NSEC;
        let Some(signer) = &self.signer else {
            return records;
        };
        if is_unsigned(&first.name) && !is_proof {
            return records;
        }
        let owner = first.name.clone();
        let mut set = RecordSet::with_ttl(owner.clone(), first.record_type(), TTL);
        for record in &records {
            set.add_rdata(record.data.clone());
        }
        // Signed an hour ago, should this machine's clock be set back.
        let began = SystemTime::now() - Duration::from_secs(3_600);
        let rrsig = RRSIG::from_rrset(&set, DNSClass::IN, began.into(), signer).unwrap();
        let data = RData::DNSSEC(DNSSECRData::RRSIG(rrsig));
        if self.spoilt.contains(&owner) {
            // The signature is of other data than what is sent.
            if let RData::A(a) = &mut records[0].data {
                a.0 = Ipv4Addr::new(203, 0, 113, 66);
            } else if let RData::TLSA(tlsa) = &mut records[0].data {
                tlsa.cert_data.reverse();
            } else if let RData::SRV(srv) = &mut records[0].data {
                srv.port += 1;
            }
        }
        records.push(Record::from_rdata(owner, TTL, data));
        records
    }
}

fn is_unsigned(owner: &Name) -> bool {
    name(UNSIGNED).zone_of(owner)
}

/// The running server. Dropped, it ends.
pub struct NameServer {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    zone: Mutex<Zone>,
    asked: Mutex<Vec<(Name, RecordType, bool)>>,
    is_stopping: AtomicBool,
}

impl NameServer {
    fn start(zone: Zone) -> NameServer {
        let (udp, tcp) = sockets();
        let address = udp.local_addr().unwrap();
        let shared = Arc::new(Shared {
            zone: Mutex::new(zone),
            asked: Mutex::new(Vec::new()),
            is_stopping: AtomicBool::new(false),
        });
        let (by_udp, by_tcp) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            thread::spawn(move || by_udp.serve_udp(&udp)),
            thread::spawn(move || by_tcp.serve_tcp(&tcp)),
        ];
        NameServer {
            address,
            shared,
            threads,
        }
    }

    /// Serves something else from now on.
    #[allow(
        dead_code,
        reason = "tests of the program, which share this file, use it"
    )]
    pub fn change(&self, change: impl FnOnce(Zone) -> Zone) {
        let mut zone = self.shared.zone.lock().unwrap();
        *zone = change(std::mem::take(&mut *zone));
    }

    /// How many queries it got.
    pub fn queries(&self) -> usize {
        self.shared.asked.lock().unwrap().len()
    }

    /// How often it was asked for a name and type, over UDP and over TCP.
    pub fn asked(&self, owner: &str, rtype: RecordType) -> (usize, usize) {
        let asked = self.shared.asked.lock().unwrap();
        let count = |by_tcp| {
            let same = |(name_, rtype_, tcp): &&(Name, RecordType, bool)| {
                *name_ == name(owner) && *rtype_ == rtype && *tcp == by_tcp
            };
            asked.iter().filter(same).count()
        };
        (count(false), count(true))
    }
}

impl NameServer {
    /// Ends it after all that was sent to it; it still tells what that was.
    pub fn stop(&mut self) {
        if self.threads.is_empty() {
            return;
        }
        self.shared.is_stopping.store(true, Ordering::SeqCst);
        // Each thread waits for something to come.
        let knock = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        knock.send_to(&[], self.address).unwrap();
        drop(TcpStream::connect(self.address).unwrap());
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(
                ended.is_ok() || thread::panicking(),
                "the name server panicked"
            );
        }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A free port for both.
fn sockets() -> (UdpSocket, TcpListener) {
    for _ in 0..100 {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
            return (udp, tcp);
        }
    }
    panic!("no port is free for both UDP and TCP");
}

impl Shared {
    fn answer(&self, query: &[u8], by_tcp: bool) -> Option<Vec<u8>> {
        let query = Message::from_vec(query).ok()?;
        let asked = query.queries.first()?;
        let entry = (asked.name().clone(), asked.query_type(), by_tcp);
        self.asked.lock().unwrap().push(entry);
        let response = self.zone.lock().unwrap().answer(&query)?;
        let bytes = response.to_vec().unwrap();
        if by_tcp || bytes.len() <= UDP_BYTES_MAX {
            return Some(bytes);
        }
        let mut short = Message::response(query.metadata.id, OpCode::Query);
        short.add_query(asked.clone());
        short.metadata.truncation = true;
        Some(short.to_vec().unwrap())
    }

    fn serve_udp(&self, socket: &UdpSocket) {
        let mut buffer = [0; 4096];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            if self.is_stopping.load(Ordering::SeqCst) {
                return;
            }
            if let Some(response) = self.answer(&buffer[..length], false) {
                socket.send_to(&response, from).unwrap();
            }
        }
    }

    fn serve_tcp(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            let (stream, _) = listener.accept().unwrap();
            if self.is_stopping.load(Ordering::SeqCst) {
                return;
            }
            let shared = Arc::clone(self);
            // It ends when its client closes the connection.
            thread::spawn(move || drop(shared.serve_stream(stream)));
        }
    }

    fn serve_stream(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut query)?;
            if let Some(response) = self.answer(&query, true) {
                let length = u16::try_from(response.len()).unwrap();
                stream.write_all(&[&length.to_be_bytes()[..], &response].concat())?;
            }
        }
    }
}
