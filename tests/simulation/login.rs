//! How a client logs in: SASL, well or with the wrong password, and the binding of a resource.

use stanzad::ns;
use stanzad::xml::Element;

use crate::client::{Stage, condition};
use crate::scram::{Scram, password};
use crate::world::{Event, Phase, World};

impl World {
    pub fn authenticate(&mut self, index: usize) {
        let mechanism = self.chance.pick(&[
            "PLAIN",
            "SCRAM-SHA-1",
            "SCRAM-SHA-256",
            "SCRAM-SHA-256-PLUS",
        ]);
        let secret = password(self.clients[index].password);
        let jid = &self.accounts.all[self.clients[index].account].jid;
        let name = jid.local().unwrap_or_default().to_owned();
        let data = if mechanism == "PLAIN" {
            self.clients[index].stage = Stage::Judged;
            format!("\0{name}\0{secret}")
        } else {
            let nonce = format!("{:016x}", self.chance.next());
            let scram = Scram::new(mechanism, &name, secret, nonce);
            let first = scram.first();
            self.clients[index].scram = Some(scram);
            self.clients[index].stage = Stage::Challenged;
            first
        };
        self.note(|| format!("client {index} logs in as {name} by {mechanism}"));
        let data = openssl::base64::encode_block(data.as_bytes());
        let auth = format!(
            "<auth xmlns='{}' mechanism='{mechanism}'>{data}</auth>",
            ns::SASL
        );
        if mechanism == "PLAIN" && self.chance.one_in(3) {
            self.clients[index].is_hasty = true;
            self.count("hasty logins");
            // In one piece or in several, but all at once.
            let header = self.header(index);
            let bind = self.bind_request();
            let all = auth + &header + &bind;
            return self.send(index, all.as_bytes());
        }
        self.send(index, auth.as_bytes());
    }

    pub fn answer(&mut self, index: usize, element: &Element) {
        if element.is(ns::SASL, "failure") {
            return self.failed(index, element);
        }
        let challenge = decoded(element);
        let Some(mut scram) = self.clients[index].scram.take() else {
            return self.unexpected(index, element);
        };
        match scram.answer(&challenge) {
            Err(error) => self.violated(format!("client {index}: {error}")),
            Ok(answer) => {
                self.clients[index].scram = Some(scram);
                self.clients[index].stage = Stage::Judged;
                // A person may have to be asked for the password meanwhile.
                self.hesitate(index);
                let data = openssl::base64::encode_block(answer.as_bytes());
                let response = format!("<response xmlns='{}'>{data}</response>", ns::SASL);
                self.send(index, response.as_bytes());
            }
        }
    }

    pub fn judged(&mut self, index: usize, element: &Element) {
        if element.is(ns::SASL, "failure") {
            return self.failed(index, element);
        }
        if !element.is(ns::SASL, "success") {
            return self.unexpected(index, element);
        }
        if let Some(scram) = self.clients[index].scram.take()
            && !scram.is_proven_by(&decoded(element))
        {
            self.violated(format!("client {index} got a success that proves nothing"));
        }
        self.count("logins");
        self.clients[index].parser.restart();
        self.clients[index].stage = Stage::Authenticated;
        if self.clients[index].is_hasty {
            return;
        }
        self.hesitate(index);
        self.send_header(index);
    }

    /// Sometimes what a client sends next comes late, and the operator may do something meanwhile.
    fn hesitate(&mut self, index: usize) {
        if self.chance.one_in(4) {
            let pause = self.chance.within(50..=1_500);
            let client = &mut self.clients[index];
            client.arrives_last = client.arrives_last.max(self.now + pause);
        }
    }

    fn failed(&mut self, index: usize, element: &Element) {
        self.count("failed logins");
        let condition = element
            .elements()
            .next()
            .map_or("", |child| child.name.as_str());
        let client = &self.clients[index];
        let account = &self.accounts.all[client.account];
        let was_right = account.state.lets_in(client.password)
            && account.pending.is_empty()
            && account.disturbed < client.started;
        let had_trouble =
            client.had_trouble || self.trouble_at.is_some_and(|at| at >= client.started);
        if was_right && !had_trouble {
            let jid = account.jid.clone();
            self.violated(format!("client {index} was refused as {jid}: {condition}"));
            return;
        }
        self.note(|| format!("client {index} could not log in: {condition}"));
        let client = &mut self.clients[index];
        client.failures += 1;
        client.scram = None;
        if client.is_hasty {
            // What follows is nothing that a stream in this state takes.
            client.is_bad = true;
            client.stage = Stage::Closing;
            return;
        }
        if self.chance.one_in(2) || self.phase != Phase::Busy {
            self.leave(index);
        } else {
            let account = &self.accounts.all[self.clients[index].account];
            self.clients[index].password = account.state.password;
            self.authenticate(index);
        }
    }

    pub fn bind(&mut self, index: usize) {
        self.clients[index].stage = Stage::Binding;
        if self.clients[index].is_hasty {
            return;
        }
        self.hesitate(index);
        let bind = self.bind_request();
        self.send(index, bind.as_bytes());
    }

    fn bind_request(&mut self) -> String {
        let resource = self
            .chance
            .pick(&["", "desk", "phone", "tablet", "car", "watch"]);
        let resource = match resource {
            "" => String::new(),
            name => format!("<resource>{name}</resource>"),
        };
        format!(
            "<iq type='set' id='bind'><bind xmlns='{}'>{resource}</bind></iq>",
            ns::BIND
        )
    }

    pub fn bound(&mut self, index: usize, element: &Element) {
        if element.attribute("type") == Some("error") {
            let condition = condition(element);
            self.note(|| format!("client {index} may not bind: {condition}"));
            let account = &self.accounts.all[self.clients[index].account];
            let is_changed = account.changed_turn >= self.clients[index].admitted_turn;
            match condition.as_str() {
                "resource-constraint" => {}
                "not-allowed" if is_changed => {}
                _ => return self.violated(format!("client {index} may not bind: {condition}")),
            }
            return self.leave(index);
        }
        let jid = element
            .find(ns::BIND, "bind")
            .and_then(|bind| bind.find(ns::BIND, "jid"));
        let Some(jid) = jid.map(Element::text) else {
            return self.unexpected(index, element);
        };
        self.note(|| format!("client {index} is {jid}"));
        self.count("sessions");
        self.ledger.jids.push(jid.clone());
        // What is still sent to its predecessor is too much for this one, too.
        self.clients[index].was_lazy |= self.ledger.flooded.contains(&jid);
        self.clients[index].jid = Some(jid);
        self.clients[index].bound_at = self.now;
        self.clients[index].stage = Stage::Online;
        self.begin_session(index);
        let pause = self.chance.within(1..=300);
        self.after(pause, Event::Act(index));
    }
}

/// The data of a SASL element.
fn decoded(element: &Element) -> String {
    let bytes = openssl::base64::decode_block(element.text().trim()).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
