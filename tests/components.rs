//! Components (XEP-0114) of the real program, over real sockets: with clients, with each other, and with
//! other servers.

mod common;

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;

use common::client::{Client, error_of};
use common::component::{Component, SECRET, header, listener};
use common::network::{Network, address};
use common::server::{Server, site};
use common::wire::{Wire, text};
use stanzad::xml::Element;

const CONF: &str = r#"
[component."irc.example.org"]
secret = "open, the barley seed"
[component."rooms.example.com"]
secret = "open, the barley seed"
"#;

fn body(stanza: &Element) -> String {
    let body = stanza.elements().find(|child| &*child.name == "body");
    body.expect("it has a body").text()
}

#[test]
fn an_account_and_a_component_write_to_each_other() {
    let server = Server::start(CONF);
    for address in ["juliet@example.org/balcony", "romeo@example.org/orchard"] {
        let mut irc = Component::connect(&server, "irc.example.org");
        let mut client = Client::available(&server, address);
        client.send("<message to='#verona%net@irc.example.org' id='1'><body>hark</body></message>");
        let heard = irc.stanza("message");
        assert_eq!(heard.attribute("from"), Some(address));
        assert_eq!(body(&heard), "hark");
        irc.send(format!(
            "<message from='#verona%net@irc.example.org/nurse' to='{address}' type='groupchat'>\
             <body>so</body></message>"
        ));
        let heard = client.stanza("message");
        assert_eq!(
            heard.attribute("from"),
            Some("#verona%net@irc.example.org/nurse")
        );
        assert_eq!(body(&heard), "so");
        irc.send("</stream:stream>");
        irc.closes();
        client.send("<message to='#verona%net@irc.example.org' id='2'><body>hark</body></message>");
        assert_eq!(error_of(&client.stanza("message")), "remote-server-timeout");
    }
}

/// XEP-0030 §4: those below the domain, and those below none.
#[test]
fn clients_find_components_by_service_discovery() {
    let server = Server::start(CONF);
    let items = |domain: &str, account: &str| {
        let mut client = Client::login(&server, account);
        client.send(format!(
            "<iq type='get' to='{domain}' id='d'>\
             <query xmlns='http://jabber.org/protocol/disco#items'/></iq>"
        ));
        let answer = client.stanza("iq");
        let query = answer.elements().next().unwrap();
        let jids = query.elements().filter_map(|item| item.attribute("jid"));
        jids.map(str::to_owned).collect::<Vec<_>>()
    };
    let of_org = items("example.org", "juliet@example.org");
    assert_eq!(of_org, ["irc.example.org", "rooms.example.com"]);
    assert_eq!(
        items("example.net", "paris@example.net"),
        ["rooms.example.com"]
    );
}

#[test]
fn another_secret_is_refused_and_logged() {
    let server = Server::start(CONF);
    let mut wrong = Component::shake(&server, "irc.example.org", "open, the rye seed");
    wrong.fails("not-authorized");
    let line = server.logs("component handshake failed");
    assert!(
        line.contains("irc.example.org") && line.contains("127.0.0.1"),
        "{line}"
    );
    assert!(!server.log().contains(SECRET));
    Component::connect(&server, "irc.example.org");
    let mut stranger = Wire::connect(listener(&server).unwrap());
    stranger.send(header("sms.example.org"));
    stranger.hear_header();
    stranger.fails("host-unknown");
}

#[test]
fn one_stream_at_a_time_and_status_tells_of_it() {
    let server = Server::start(CONF);
    let mut first = Component::connect(&server, "irc.example.org");
    Component::shake(&server, "irc.example.org", SECRET).fails("conflict");
    let address = |name: &str| {
        let status = server.status();
        let found = status.components.iter().find(|it| it.name == name);
        found.unwrap().address.clone()
    };
    assert!(address("irc.example.org").is_some());
    assert_eq!(address("rooms.example.com"), None);
    let told = server.run(&["status"], "").stdout;
    assert!(
        told.contains("irc.example.org: connected from 127.0.0.1:"),
        "{told}"
    );
    assert!(told.contains("rooms.example.com: not connected"), "{told}");
    first.send("<message from='juliet@example.org' to='romeo@example.org'/>");
    first.fails("invalid-from");
    Component::connect(&server, "irc.example.org");
}

/// The first component of a reload has its addresses listened on; one that is gone is closed, and one that
/// has another secret by now, too.
#[test]
fn a_reload_adds_and_removes_components() {
    let server = Server::start("");
    assert_eq!(listener(&server), None, "there is none");
    server.configure(CONF);
    server.reload();
    let mut irc = Component::connect(&server, "irc.example.org");
    let mut rooms = Component::connect(&server, "rooms.example.com");
    let with_secret =
        |secret: &str| format!("[component.\"rooms.example.com\"]\nsecret = \"{secret}\"\n");
    server.configure(&with_secret(SECRET));
    server.reload();
    irc.fails("host-gone");
    rooms.send("<iq from='rooms.example.com' to='example.org' type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>");
    assert_eq!(rooms.stanza("iq").attribute("type"), Some("result"));
    server.configure(&with_secret("open, the rye seed, please"));
    server.reload();
    rooms.fails("not-authorized");
    Component::shake(&server, "rooms.example.com", SECRET).fails("not-authorized");
}

/// `The store` in lib.rs.
#[test]
fn a_conf_file_with_secrets_that_everybody_can_read_is_refused() {
    let site = site(CONF);
    let path = site.path("stanzad.toml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = site.run(&["check", "config"], b"");
    assert_eq!(refused.status, 1);
    let told = refused.stdout + &refused.stderr;
    assert!(told.contains("chmod o= "), "{told}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let accepted = site.run(&["check", "config"], b"");
    assert_eq!(accepted.status, 0, "{}", accepted.stderr);
}

/// A server of capulet.example with the component irc.capulet.example, and one of montague.example.
fn two_servers(component: &str, other: &str, has_certificate: bool) -> (Network, Server, Server) {
    let network = Network::new();
    let here: Ipv4Addr = address();
    let conf = format!("[component.\"irc.capulet.example\"]\nsecret = \"{SECRET}\"\n{component}");
    let site = network.site(&["capulet.example"], here, &conf);
    if has_certificate {
        let path = |ending| site.path(&format!("certs/irc.capulet.example.{ending}"));
        let issued = network.issue(&["irc.capulet.example"]);
        issued.write(&path("crt"), &path("key"));
    }
    network.announce("capulet.example", here);
    network.announce("irc.capulet.example", here);
    let capulet = network.start(site);
    let montague = network.server("montague.example", other);
    (network, capulet, montague)
}

fn to_and_fro(capulet: &Server, montague: &Server) {
    let mut irc = Component::connect(capulet, "irc.capulet.example");
    let mut romeo = Client::available(montague, "romeo@montague.example/orchard");
    romeo.send("<message to='a@irc.capulet.example' id='1'><body>hark</body></message>");
    let heard = irc.stanza("message");
    let from = heard.attribute("from");
    assert_eq!(from, Some("romeo@montague.example/orchard"));
    assert_eq!(body(&heard), "hark");
    fro(&mut irc, &mut romeo);
}

fn fro(irc: &mut Component, romeo: &mut Client) {
    irc.send(
        "<message from='a@irc.capulet.example' to='romeo@montague.example/orchard' id='2'>\
         <body>so</body></message>",
    );
    let heard = romeo.stanza("message");
    assert_eq!(heard.attribute("from"), Some("a@irc.capulet.example"));
    assert_eq!(body(&heard), "so");
}

/// RFC 6120 §13.7: a component's domain has a certificate of its own.
#[test]
fn other_servers_reach_a_component_by_its_certificate() {
    let (_network, capulet, montague) = two_servers("", "", true);
    to_and_fro(&capulet, &montague);
    let line = montague.logs("stream to server ready");
    assert!(
        line.contains("to=irc.capulet.example means=EXTERNAL"),
        "{line}"
    );
}

#[test]
fn a_component_proves_itself_to_other_servers_by_its_certificate() {
    let (_network, capulet, montague) = two_servers("", "", true);
    let mut irc = Component::connect(&capulet, "irc.capulet.example");
    let mut romeo = Client::available(&montague, "romeo@montague.example/orchard");
    fro(&mut irc, &mut romeo);
    let line = montague.logs("server authenticated");
    assert!(line.contains("from=irc.capulet.example"), "{line}");
    assert!(line.contains("means=EXTERNAL"), "{line}");
}

#[test]
fn without_a_certificate_a_component_is_reached_where_both_allow_dialback() {
    let loose = "[s2s]\nrequire_encryption = false\nsecure_auth = false\n";
    let of_component = "[component.\"irc.capulet.example\".s2s]\nrequire_encryption = false\n\
                        secure_auth = false\n";
    let (_network, capulet, montague) = two_servers(of_component, loose, false);
    to_and_fro(&capulet, &montague);
}

#[test]
fn a_component_that_talks_with_no_server_neither_reaches_nor_is_reached() {
    let alone = "[component.\"irc.capulet.example\".s2s]\nenabled = false\n";
    let (_network, capulet, montague) = two_servers(alone, "", true);
    let mut irc = Component::connect(&capulet, "irc.capulet.example");
    irc.send("<message from='irc.capulet.example' to='romeo@montague.example' id='1'><body>x</body></message>");
    let back = irc.stanza("message");
    assert_eq!(back.attribute("type"), Some("error"));
    assert!(
        text(&back).contains("remote-server-not-found"),
        "{}",
        text(&back)
    );
    let mut romeo = Client::available(&montague, "romeo@montague.example/orchard");
    romeo.send("<message to='a@irc.capulet.example' id='2'><body>x</body></message>");
    assert_eq!(
        error_of(&romeo.stanza("message")),
        "remote-server-not-found"
    );
    let mut juliet = Client::available(&capulet, "juliet@capulet.example/balcony");
    juliet.send("<message to='a@irc.capulet.example' id='3'><body>hark</body></message>");
    assert_eq!(body(&irc.stanza("message")), "hark");
}
