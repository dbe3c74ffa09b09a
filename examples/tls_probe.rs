//! Makes one TLS handshake with the OpenSSL that stanzad is built with, and tells what was agreed.
//!
//! `tls_probe ADDRESS:PORT NAME CA-FILE GROUPS`: the certificate must be NAME's and issued by the
//! CA in CA-FILE; GROUPS is a colon-separated list of key exchange groups. tests/interop uses it
//! for the groups that Debian's `openssl s_client` does not know.

use std::env;
use std::error::Error;
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::Duration;

use openssl::ssl::{SslConnector, SslMethod};

const STEP: Duration = Duration::from_secs(8);

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [address, name, ca, groups] = arguments.as_slice() else {
        eprintln!("usage: tls_probe ADDRESS:PORT NAME CA-FILE GROUPS");
        return ExitCode::from(2);
    };
    match probe(address, name, ca, groups) {
        Ok(facts) => {
            println!("{facts}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("tls_probe: {address}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn probe(address: &str, name: &str, ca: &str, groups: &str) -> Result<String, Box<dyn Error>> {
    let mut connector = SslConnector::builder(SslMethod::tls_client())?;
    connector.set_ca_file(ca)?;
    connector.set_groups_list(groups)?;
    connector.set_alpn_protos(b"\x0bxmpp-client")?;
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(STEP))?;
    socket.set_write_timeout(Some(STEP))?;
    let stream = connector.build().connect(name, socket)?;
    let ssl = stream.ssl();
    let cipher = ssl.current_cipher().map_or("none", |cipher| cipher.name());
    Ok(format!(
        "{}, {cipher}, {}",
        ssl.version_str(),
        openssl::version::version()
    ))
}
