//! `[component."name"]`, and where components are listened for.

use super::common::authority::Wish;
use super::common::client::{Client, ssl};
use super::common::component::{Component, SECRET, listener};
use super::common::server::Server;
use super::common::site::Site;
use super::common::wire::Heard;

const NAME: &str = "irc.example.org";

super::cases! {
    listen_component: "listen.component",
        [
            "[listen]\ncomponent = [\"127.0.0.1:0\"]\n\
             [component.\"irc.example.org\"]\nsecret = \"open, the barley seed\"\n",
            "[listen]\ncomponent = [\"127.0.0.2:0\"]\n\
             [component.\"irc.example.org\"]\nsecret = \"open, the barley seed\"\n",
        ],
        ["127.0.0.1", "127.0.0.2"],
        |server| {
            Component::connect(server, NAME);
            listener(server).unwrap().ip().to_string()
        };
    component_secret: "component.secret",
        [
            "[component.\"irc.example.org\"]\nsecret = \"open, the barley seed\"\n",
            "[component.\"irc.example.org\"]\nsecret = \"open, the rye seed\"\n",
        ],
        ["handshake", "error"],
        |server| match Component::shake(server, NAME, SECRET).hear() {
            Heard::Element(answer) => answer.name.to_string(),
            other => panic!("{other:?}"),
        };
    component_certificate: "component.certificate",
        [
            "[component.\"irc.example.org\"]\nsecret = \"open, the barley seed\"\n\
             certificate = \"\"\n",
            "[component.\"irc.example.org\"]\nsecret = \"open, the barley seed\"\n\
             certificate = \"own/it.crt\"\n",
        ],
        ["irc.example.org", "irc.example.org own.example.org"],
        certificate,
        |site| certify(site, "own/it.crt", "own/it.key");
    // A key fits one certificate, so that the two change together.
    component_key: "component.key",
        [
            "[component.\"irc.example.org\"]\nsecret = \"open, the barley seed\"\n\
             certificate = \"\"\nkey = \"\"\n",
            "[component.\"irc.example.org\"]\nsecret = \"open, the barley seed\"\n\
             certificate = \"own/it.pem\"\nkey = \"secret/it.pem\"\n",
        ],
        ["irc.example.org", "irc.example.org own.example.org"],
        certificate,
        |site| certify(site, "own/it.pem", "secret/it.pem");
    component_stanza_bytes_max: "component.stanza_bytes_max",
        [
            "[component.\"irc.example.org\"]\nsecret = \"open, the barley seed\"\n\
             stanza_bytes_max = 20000\n",
            "[component.\"irc.example.org\"]\nsecret = \"open, the barley seed\"\n\
             stanza_bytes_max = 10000\n",
        ],
        ["iq", "error"],
        |server| {
            let mut component = Component::connect(server, NAME);
            component.send(format!(
                "<iq from='{NAME}' to='example.org' type='get' id='p'>\
                 <ping xmlns='urn:xmpp:ping'>{}</ping></iq>",
                "x".repeat(15_000)
            ));
            component.element().name.to_string()
        };
}

/// One in the usual place, and another.
fn certify(site: &Site, certificate: &str, key: &str) {
    let usual = Wish {
        dns: &[NAME],
        ..Wish::default()
    };
    let path = |ending| site.path(&format!("certs/{NAME}.{ending}"));
    usual.self_signed().write(&path("crt"), &path("key"));
    let other = Wish {
        dns: &[NAME, "own.example.org"],
        ..Wish::default()
    };
    let issued = other.self_signed();
    issued.write(&site.path(certificate), &site.path(key));
}

/// The names in the certificate that is shown for the component.
fn certificate(server: &Server) -> String {
    let client = Client::try_connect_tls(server, ssl(NAME, |_| ())).unwrap();
    let shown = client.tls().peer_certificate().unwrap();
    let names = shown.subject_alt_names().unwrap();
    let mut names: Vec<String> = names
        .iter()
        .filter_map(|name| name.dnsname().map(str::to_owned))
        .collect();
    names.sort();
    names.join(" ")
}
