//! `stanzad demo`: all that two clients need to chat on this machine, in one directory.
//!
//! The directory has a conf file, a certificate for `localhost`, the data, the server's log, and
//! the passwords of two accounts, so that the next run can tell them again. The conf file is
//! written anew at each start, as the ports may be taken; all else is kept.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use base64::Engine as _;

use super::{Failure, print, run};
use crate::clock::Clock;
use crate::config::{self, Settings};
use crate::jid::BareJid;
use crate::net::certificate;
use crate::net::random::fill_random;
use crate::net::tls::{TlsContexts, TlsSettings};
use crate::server::accounts::apply_offline;
use crate::server::control::{Password, Reply, Request};
use crate::server::privileges;
use crate::storage::{OpenError, WriterCore, accounts};

/// Where everything is, relative to the working directory.
const DIRECTORY: &str = "stanzad-demo";

/// Lower case and digits without those that look alike: 32, so that five random bits choose one.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Makes what is missing, tells how to connect, and serves until Ctrl-C.
pub fn run() -> Result<(), Failure> {
    privileges::restrict_new_files();
    let directory = Path::new(DIRECTORY);
    make_directory(directory)?;
    make_directory(&directory.join("certs"))?;
    let ports = Ports::find()?;
    let config = directory.join("stanzad.toml");
    let text = ports.config();
    let settings = config::parse(&text, &config).map_err(Failure::no)?;
    let accounts = prepare_accounts(&settings, directory)?;
    // Not before it is known that no other demo runs on the file.
    write(&config, &text)?;
    let fingerprint = make_certificate(&settings, &directory.join("certs"))?;
    let greeting = greeting(&accounts, &ports, &fingerprint);
    ports.release();
    let mut greeted = Ok(());
    run::serve(settings, config, |_| greeted = print(&greeting))?;
    greeted?;
    print("\nStopped. The next run goes on from here.\n")
}

fn make_directory(path: &Path) -> Result<(), Failure> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(Failure::no(
            format_args!("{}: cannot make this directory: {error}", path.display()),
        )),
        _ => Ok(()),
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text)
        .map_err(|error| Failure::no(format_args!("{}: cannot write: {error}", path.display())))
}

fn read(path: &Path) -> Result<Option<String>, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::no(format_args!(
            "{}: cannot read: {error}",
            path.display()
        ))),
    }
}

/// The two ports on loopback. While it lives, they are held.
struct Ports {
    starttls: Port,
    direct: Port,
}

/// One port, free on every loopback address that this machine has.
struct Port {
    wanted: u16,
    number: u16,
    held: Vec<TcpListener>,
}

impl Ports {
    fn find() -> Result<Ports, Failure> {
        Ok(Ports {
            starttls: Port::find(5222)?,
            direct: Port::find(5223)?,
        })
    }

    fn config(&self) -> String {
        format!(
            "# Written by `stanzad demo` at each of its starts: changes here are lost.\n\
             \n\
             [server]\n\
             data = \"data\"\n\
             control = \"control.sock\"\n\
             \n\
             [listen]\n\
             c2s = {}\n\
             c2s_tls = {}\n\
             s2s = []\n\
             s2s_tls = []\n\
             \n\
             [tls]\n\
             certificates = \"certs\"\n\
             \n\
             [log]\n\
             to = \"./stanzad.log\"\n\
             \n\
             [domain.\"localhost\"]\n",
            self.starttls.addresses(),
            self.direct.addresses()
        )
    }

    /// Lets go of the ports, for the server to take them.
    fn release(self) {}
}

impl Port {
    fn find(wanted: u16) -> Result<Port, Failure> {
        // Any free port will do if the wanted one is not. One that is free for IPv4 may be taken
        // for IPv6, so try a few.
        let candidates = [wanted].into_iter().chain([0; 16]);
        let mut last = None;
        for candidate in candidates {
            match Port::hold(candidate) {
                Ok((number, held)) => {
                    return Ok(Port {
                        wanted,
                        number,
                        held,
                    });
                }
                Err(error) => last = Some(error),
            }
        }
        let why = last.map_or_else(String::new, |error| format!(": {error}"));
        Err(Failure::no(format_args!(
            "no free port on 127.0.0.1 and [::1] was found{why}"
        )))
    }

    fn hold(number: u16) -> io::Result<(u16, Vec<TcpListener>)> {
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, number))?;
        let number = first.local_addr()?.port();
        let mut held = vec![first];
        match TcpListener::bind((Ipv6Addr::LOCALHOST, number)) {
            Ok(second) => held.push(second),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            // A machine without IPv6.
            Err(_) => {}
        }
        Ok((number, held))
    }

    fn addresses(&self) -> String {
        let ip = |listener: &TcpListener| listener.local_addr().map(|address| address.ip());
        let addresses: Vec<_> = self
            .held
            .iter()
            .map(|listener| ip(listener).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)))
            .map(|ip| format!("\"{}\"", SocketAddr::new(ip, self.number)))
            .collect();
        format!("[{}]", addresses.join(", "))
    }
}

/// Makes the certificate where there is none yet, or an old one, and gives its fingerprint.
fn make_certificate(settings: &Settings, directory: &Path) -> Result<String, Failure> {
    let (certificate, key) = (
        directory.join("localhost.crt"),
        directory.join("localhost.key"),
    );
    if let Some(pem) = read(&certificate)?
        && is_fresh(settings)
    {
        return fingerprint(&pem);
    }
    let (pem, private) = certificate::self_signed(&["localhost"])
        .map_err(|error| Failure::no(format_args!("OpenSSL cannot make a certificate: {error}")))?;
    write(&key, &private)?;
    write(&certificate, &pem)?;
    fingerprint(&pem)
}

/// Whether there is a certificate that can be served for some days to come.
fn is_fresh(settings: &Settings) -> bool {
    let week_seconds = 7 * 86_400;
    let now = i64::try_from(Clock::start().now().wall.micros() / 1_000_000).unwrap_or(i64::MAX);
    match TlsContexts::load(&TlsSettings::for_clients(settings)) {
        Ok((contexts, _)) => contexts
            .certificates()
            .iter()
            .all(|certificate| certificate.not_after.saturating_sub(now) > week_seconds),
        // It cannot be served: its key is lost, say.
        Err(_) => false,
    }
}

/// SHA-256 over the DER form, as clients show it.
fn fingerprint(pem: &str) -> Result<String, Failure> {
    let body: String = pem
        .lines()
        .skip_while(|line| !line.starts_with("-----BEGIN CERTIFICATE"))
        .skip(1)
        .take_while(|line| !line.starts_with("-----"))
        .map(str::trim)
        .collect();
    let der = base64::engine::general_purpose::STANDARD
        .decode(body)
        .map_err(|error| Failure::no(format_args!("the certificate is damaged: {error}")))?;
    let bytes = openssl::sha::sha256(&der).map(|byte| format!("{byte:02X}"));
    Ok(bytes.join(":"))
}

/// One of the two accounts, and what is to be said of its password.
struct DemoAccount {
    jid: String,
    password: String,
}

/// Makes the accounts that are missing. What an operator has changed since is left so.
fn prepare_accounts(settings: &Settings, directory: &Path) -> Result<Vec<DemoAccount>, Failure> {
    let mut store = match WriterCore::open(&settings.server.data, settings.store.durability) {
        Ok(store) => store,
        Err(OpenError::AlreadyRunning { .. }) => {
            return Err(Failure::no(format_args!(
                "a demo runs already in ./{DIRECTORY}; stop it, or start this one elsewhere"
            )));
        }
        Err(error) => return Err(Failure::no(error)),
    };
    let file = directory.join("accounts.txt");
    let known = read(&file)?.unwrap_or_default();
    let mut list = Vec::new();
    for name in ["juliet", "romeo"] {
        let jid = format!("{name}@localhost");
        let password = match remembered(&known, &jid) {
            Some(password) => password.to_string(),
            None => random_password(),
        };
        list.push(DemoAccount { jid, password });
    }
    // Before the accounts are made: a password that is in no file is lost.
    let lines = list
        .iter()
        .map(|account| format!("{} {}\n", account.jid, account.password));
    write(&file, &lines.collect::<String>())?;
    for account in &mut list {
        settle_account(&mut store, settings, account, &known)?;
    }
    store.close();
    Ok(list)
}

fn settle_account(
    store: &mut WriterCore,
    settings: &Settings,
    account: &mut DemoAccount,
    known: &str,
) -> Result<(), Failure> {
    let jid = BareJid::parse(&account.jid).map_err(Failure::no)?;
    let stored = accounts::credentials(store.db(), &jid).map_err(Failure::no)?;
    let given = (account.jid.clone(), Password::new(account.password.clone()));
    let request = match (stored, remembered(known, &account.jid)) {
        (None, _) => Request::AccountAdd {
            jid: given.0,
            password: given.1,
        },
        // The file with the passwords is gone, so nobody knows the old one.
        (Some(_), None) => Request::AccountPasswd {
            jid: given.0,
            password: given.1,
        },
        (Some((_, credentials)), Some(password)) => {
            if !credentials.verify(password) {
                account.password = "(the one that it was given since)".to_string();
            }
            return Ok(());
        }
    };
    match apply_offline(store, settings, &request, Clock::start().now().wall) {
        Reply::Error { text } => Err(Failure::No(text)),
        _ => Ok(()),
    }
}

/// The password of an account in the file of passwords: lines of a JID, a space, a password.
fn remembered<'a>(known: &'a str, jid: &str) -> Option<&'a str> {
    known.lines().find_map(|line| match line.split_once(' ') {
        Some((name, password)) if name == jid && !password.is_empty() => Some(password),
        _ => None,
    })
}

/// Eighty random bits, easy to type on a phone.
fn random_password() -> String {
    let mut bytes = [0; 16];
    fill_random(&mut bytes);
    let mut password = String::new();
    for (index, byte) in bytes.into_iter().enumerate() {
        if index > 0 && index % 4 == 0 {
            password.push('-');
        }
        password.push(char::from(ALPHABET[usize::from(byte % 32)]));
    }
    password
}

fn greeting(accounts: &[DemoAccount], ports: &Ports, fingerprint: &str) -> String {
    let mut text = format!(
        "stanzad {} serves localhost, to this machine only. Log in with two clients and chat:\n\n",
        env!("CARGO_PKG_VERSION")
    );
    for account in accounts {
        text.push_str(&format!(
            "    {:18} password  {}\n",
            account.jid, account.password
        ));
    }
    text.push_str(&format!(
        "\n    Server 127.0.0.1 or ::1, port {} with STARTTLS, or port {} with direct TLS.\n\n",
        ports.starttls.number, ports.direct.number
    ));
    for port in [&ports.starttls, &ports.direct] {
        if port.number != port.wanted {
            text.push_str(&format!(
                "Port {} is taken by another program, so {} is used: enter it in the client's\n\
                 settings, together with the server's address.\n\n",
                port.wanted, port.number
            ));
        }
    }
    text.push_str(&format!(
        "The certificate is signed by nobody but itself, so clients will ask whether to trust\n\
         it. If its SHA-256 fingerprint is this, say yes:\n\n    {fingerprint}\n\n\
         It is the file ./{DIRECTORY}/certs/localhost.crt, for clients that want to be given it.\n\
         Log and data are in ./{DIRECTORY} too. Ctrl-C stops the server, the next run keeps all\n\
         that; to start afresh, delete the directory.\n"
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_password_has_eighty_bits_and_no_lookalikes() {
        let (one, other) = (random_password(), random_password());
        assert_ne!(one, other);
        let letters: Vec<_> = one.bytes().filter(|byte| *byte != b'-').collect();
        assert_eq!(letters.len(), 16);
        assert!(letters.iter().all(|byte| ALPHABET.contains(byte)), "{one}");
        assert!(!ALPHABET.iter().any(|byte| b"lo01".contains(byte)));
    }

    #[test]
    fn a_password_is_remembered_by_the_whole_jid() {
        let known = "juliet@localhost k7fq\nromeo@localhost two words\nbroken\n";
        assert_eq!(remembered(known, "juliet@localhost"), Some("k7fq"));
        assert_eq!(remembered(known, "romeo@localhost"), Some("two words"));
        assert_eq!(remembered(known, "juliet"), None);
        assert_eq!(remembered(known, "broken"), None);
    }

    #[test]
    fn a_taken_port_is_replaced_by_a_free_one() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let wanted = taken.local_addr().unwrap().port();
        let port = Port::find(wanted).unwrap();
        assert_ne!(port.number, wanted);
        assert!(
            port.addresses()
                .contains(&format!("\"127.0.0.1:{}\"", port.number))
        );
    }

    #[test]
    fn the_greeting_tells_of_a_taken_port() {
        let port = |wanted, number| Port {
            wanted,
            number,
            held: Vec::new(),
        };
        let ports = Ports {
            starttls: port(5222, 40_001),
            direct: port(5223, 5223),
        };
        let text = greeting(&[], &ports, "AB:CD");
        assert!(text.contains("Port 5222 is taken"), "{text}");
        assert!(!text.contains("Port 5223 is taken"), "{text}");
    }

    #[test]
    fn a_fingerprint_is_of_the_decoded_certificate() {
        // SHA-256 of the three bytes "abc" (FIPS 180-4, appendix B.1 of 180-2).
        let pem = "-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n";
        let text = fingerprint(pem).unwrap();
        assert!(text.starts_with("BA:78:16:BF:"), "{text}");
        assert!(text.ends_with(":F2:00:15:AD"), "{text}");
    }

    fn settings() -> Settings {
        let path = Path::new("stanzad.toml");
        config::parse("[domain.\"localhost\"]\n", path).unwrap()
    }

    /// Settles juliet's account with `password` at hand and `known` in the file, and tells whether
    /// `accepted` then logs in.
    fn settle(store: &mut WriterCore, password: &str, known: &str, accepted: &str) -> DemoAccount {
        let mut account = DemoAccount {
            jid: "juliet@localhost".to_string(),
            password: password.to_string(),
        };
        settle_account(store, &settings(), &mut account, known).unwrap();
        let jid = BareJid::parse(&account.jid).unwrap();
        let (_, credentials) = accounts::credentials(store.db(), &jid).unwrap().unwrap();
        assert!(credentials.verify(accepted), "{accepted}");
        account
    }

    #[test]
    fn a_known_password_is_kept() {
        let mut store = WriterCore::memory(&[7; 32]).unwrap();
        let known = "juliet@localhost k7fq\n";
        settle(&mut store, "k7fq", known, "k7fq");
        assert_eq!(settle(&mut store, "k7fq", known, "k7fq").password, "k7fq");
    }

    #[test]
    fn an_account_whose_password_is_lost_gets_a_new_one() {
        let mut store = WriterCore::memory(&[7; 32]).unwrap();
        settle(&mut store, "k7fq", "", "k7fq");
        assert_eq!(settle(&mut store, "n3w", "", "n3w").password, "n3w");
    }

    #[test]
    fn a_password_that_was_changed_since_is_left_alone() {
        let mut store = WriterCore::memory(&[7; 32]).unwrap();
        settle(&mut store, "changed", "", "changed");
        let account = settle(&mut store, "k7fq", "juliet@localhost k7fq\n", "changed");
        assert!(account.password.contains("since"), "{}", account.password);
    }
}
