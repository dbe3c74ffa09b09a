//! `[auth]`.

use rusqlite::{Connection, OpenFlags};

use super::common::authority::{Wish, write_private};
use super::common::client::{Client, ssl};
use super::common::offer::mechanisms;
use super::common::scram::{Channel, Scram};
use super::common::server::Server;
use super::common::site::Site;

super::cases! {
    mechanisms_: "auth.mechanisms",
        [
            "[auth]\nmechanisms = [\"SCRAM-SHA-256\"]\n",
            "[auth]\nmechanisms = [\"PLAIN\", \"SCRAM-SHA-1\"]\n",
        ],
        ["SCRAM-SHA-256", "PLAIN SCRAM-SHA-1"],
        offered;
    storage: "auth.storage",
        [
            "[auth]\nstorage = \"scram\"\nbcrypt_cost = 10\n",
            "[auth]\nstorage = \"bcrypt\"\nbcrypt_cost = 10\n",
        ],
        ["SHA-1 SHA-256 SHA-512", "bcrypt"],
        stored;
    hashes: "auth.hashes",
        ["[auth]\nhashes = [\"SHA-256\"]\n", "[auth]\nhashes = [\"SHA-512\", \"SHA-256\"]\n"],
        ["SHA-256", "SHA-256 SHA-512"],
        stored;
    iterations: "auth.iterations",
        ["[auth]\niterations = 4096\n", "[auth]\niterations = 5000\n"],
        ["i=4096", "i=5000"],
        told;
    bcrypt_cost: "auth.bcrypt_cost",
        [
            "[auth]\nstorage = \"bcrypt\"\nbcrypt_cost = 10\n",
            "[auth]\nstorage = \"bcrypt\"\nbcrypt_cost = 11\n",
        ],
        ["$2b$10$", "$2b$11$"],
        |server| row(server, "SELECT substr(bcrypt, 1, 7)");
    anonymous: "auth.anonymous",
        [
            "[auth]\nanonymous = false\nhashes = [\"SHA-256\"]\n",
            "[auth]\nanonymous = true\nhashes = [\"SHA-256\"]\n",
        ],
        [
            "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN",
            "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN ANONYMOUS",
        ],
        offered;
    client_ca: "auth.client_ca",
        [
            "[auth]\nclient_ca = \"\"\nhashes = [\"SHA-256\"]\n",
            "[auth]\nclient_ca = \"ca.pem\"\nhashes = [\"SHA-256\"]\n",
        ],
        [
            "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN",
            "SCRAM-SHA-256-PLUS SCRAM-SHA-256 EXTERNAL PLAIN",
        ],
        offered_to_certificate,
        certify_client;
}

fn offered(server: &Server) -> String {
    mechanisms(&Client::connect(server).secure("example.org")).join(" ")
}

fn certify_client(site: &Site) {
    let authority = Wish {
        is_authority: true,
        ..Wish::default()
    };
    let authority = authority.self_signed();
    let pem = authority.certificate.to_pem().unwrap();
    write_private(&site.path("ca.pem"), &pem);
    let client = Wish {
        xmpp: &["juliet@example.org"],
        ..Wish::default()
    };
    let client = client.by(&authority);
    client.write(&site.path("client.crt"), &site.path("client.key"));
}

fn offered_to_certificate(server: &Server) -> String {
    let session = ssl("example.org", |builder| {
        let certificate = std::fs::read(server.site.path("client.crt")).unwrap();
        let certificate = openssl::x509::X509::from_pem(&certificate).unwrap();
        builder.set_certificate(&certificate).unwrap();
        let key = std::fs::read(server.site.path("client.key")).unwrap();
        let key = openssl::pkey::PKey::private_key_from_pem(&key).unwrap();
        builder.set_private_key(&key).unwrap();
    });
    let mut client = Client::try_connect_tls(server, session).unwrap();
    mechanisms(&client.open("example.org")).join(" ")
}

/// A new account, made by the server.
fn made(server: &Server) -> String {
    let user = format!("user{}", super::fresh());
    server.add(&format!("{user}@example.org"), "r0m30myr0m30");
    user
}

/// One value of the credentials of a new account.
fn row(server: &Server, select: &str) -> String {
    let jid = format!("{}@example.org", made(server));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let file = server.site.path("data/stanzad.sqlite");
    let store = Connection::open_with_flags(file, flags).unwrap();
    let from = "FROM credential JOIN account ON account.id = credential.account WHERE jid = ?1";
    let query = format!("{select} {from}");
    store.query_row(&query, [jid], |row| row.get(0)).unwrap()
}

/// In what forms a new password is stored.
fn stored(server: &Server) -> String {
    row(server, "SELECT group_concat(kind, ' ' ORDER BY kind)")
}

/// The iterations that a client of a new account is told.
fn told(server: &Server) -> String {
    let user = made(server);
    let mut client = Client::connect(server);
    client.secure("example.org");
    let scram = Scram::new("SCRAM-SHA-256", &user, "", None, Channel::Unable);
    client.auth("SCRAM-SHA-256", scram.first().as_bytes());
    let challenge = client.challenge().unwrap();
    let field = challenge.split(',').find(|field| field.starts_with("i="));
    field.unwrap().to_owned()
}
