//! `[contact]`: what disco#info of the domain tells (XEP-0157).

use super::common::client::Client;
use super::common::server::Server;
use stanzad::ns;

super::cases! {
    abuse: "contact.abuse",
        [
            "[contact]\nabuse = [\"mailto:a@example.org\"]\n",
            "[contact]\nabuse = [\"xmpp:b@example.org\", \"https://example.org/c\"]\n",
        ],
        ["mailto:a@example.org", "xmpp:b@example.org https://example.org/c"],
        |server| told(server, "abuse-addresses");
    admin: "contact.admin",
        [
            "[contact]\nadmin = [\"mailto:a@example.org\"]\n",
            "[contact]\nadmin = [\"xmpp:b@example.org\", \"https://example.org/c\"]\n",
        ],
        ["mailto:a@example.org", "xmpp:b@example.org https://example.org/c"],
        |server| told(server, "admin-addresses");
    feedback: "contact.feedback",
        [
            "[contact]\nfeedback = [\"mailto:a@example.org\"]\n",
            "[contact]\nfeedback = [\"xmpp:b@example.org\", \"https://example.org/c\"]\n",
        ],
        ["mailto:a@example.org", "xmpp:b@example.org https://example.org/c"],
        |server| told(server, "feedback-addresses");
    sales: "contact.sales",
        [
            "[contact]\nsales = [\"mailto:a@example.org\"]\n",
            "[contact]\nsales = [\"xmpp:b@example.org\", \"https://example.org/c\"]\n",
        ],
        ["mailto:a@example.org", "xmpp:b@example.org https://example.org/c"],
        |server| told(server, "sales-addresses");
    security: "contact.security",
        [
            "[contact]\nsecurity = [\"mailto:a@example.org\"]\n",
            "[contact]\nsecurity = [\"xmpp:b@example.org\", \"https://example.org/c\"]\n",
        ],
        ["mailto:a@example.org", "xmpp:b@example.org https://example.org/c"],
        |server| told(server, "security-addresses");
    status: "contact.status",
        [
            "[contact]\nstatus = [\"mailto:a@example.org\"]\n",
            "[contact]\nstatus = [\"xmpp:b@example.org\", \"https://example.org/c\"]\n",
        ],
        ["mailto:a@example.org", "xmpp:b@example.org https://example.org/c"],
        |server| told(server, "status-addresses");
    support: "contact.support",
        [
            "[contact]\nsupport = [\"mailto:a@example.org\"]\n",
            "[contact]\nsupport = [\"xmpp:b@example.org\", \"https://example.org/c\"]\n",
        ],
        ["mailto:a@example.org", "xmpp:b@example.org https://example.org/c"],
        |server| told(server, "support-addresses");
}

fn told(server: &Server, var: &str) -> String {
    let mut client = Client::login(server, "juliet@example.org");
    client.send("<iq type='get' id='d' to='example.org'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>");
    let reply = client.stanza("iq");
    let query = reply.find(ns::DISCO_INFO, "query").unwrap();
    let form = query.find(ns::DATA_FORMS, "x").unwrap();
    let field = form
        .elements()
        .find(|field| field.attribute("var") == Some(var))
        .unwrap();
    let values: Vec<String> = field.elements().map(|value| value.text()).collect();
    values.join(" ")
}
