//! Appendix A, rule by rule: what is routed or delivered, what is pushed, and the state after it.
//!
//! A rule is played by a user and a contact whose rosters begin as the rule needs them. The contact
//! of an outbound rule is in a state in which its server delivers what is routed to it; that of an
//! inbound rule is in one in which its server routes. About the user's subscription both agree in the
//! beginning where a request is sent, since probes and answers would mend it otherwise.

use stanzad::ns;
use stanzad::xml::Element;

use crate::common::cast::Cast;
use crate::common::client::text;
use crate::common::pattern::{Words, matches, stanza};
use crate::common::roster::{self, Seed};
use crate::common::server::{Server, add_offline, site};
use crate::states::{self, Row, Shown, State};

/// A row of a table, with its accounts.
struct Rule {
    row: Row,
    /// False if there is no item for the contact in the beginning.
    is_listed: bool,
    is_approved: bool,
    user: String,
    contact: String,
}

impl Rule {
    fn before(&self) -> State {
        State::named(self.row.0)
    }

    fn after(&self) -> State {
        match self.row.2 {
            "no state change" | "pre-approval" => self.before(),
            name => State::named(name),
        }
    }

    fn is_passed_on(&self) -> bool {
        self.row.1 == "MUST"
    }

    /// What clients see in the beginning.
    fn shown_before(&self) -> Option<Shown> {
        let (subscription, ask) = self.before().shown();
        let shown = (
            subscription.to_owned(),
            ask.map(str::to_owned),
            self.is_approved,
        );
        self.is_listed.then_some(shown)
    }

    /// What clients have to see in the end. An item stays when its subscription ends.
    fn shown_after(&self, approved: bool) -> Option<Shown> {
        let (subscription, ask) = self.after().shown();
        let is_listed = self.is_listed || approved || !self.after().can_be_unlisted();
        let shown = (subscription.to_owned(), ask.map(str::to_owned), approved);
        is_listed.then_some(shown)
    }

    fn told(&self, why: &str) -> String {
        let listed = if self.is_listed {
            ""
        } else {
            " (not in the roster)"
        };
        format!("\"{}\"{listed} to \"{}\": {why}", self.row.0, self.row.2)
    }
}

/// The rules of a table; a state without subscriptions is played with a roster item and without.
fn rules(table: &[Row]) -> Vec<Rule> {
    let mut rules = Vec::new();
    for row in table {
        for is_listed in [true, false] {
            if is_listed || State::named(row.0).can_be_unlisted() {
                let number = rules.len();
                rules.push(Rule {
                    row: *row,
                    is_listed,
                    is_approved: false,
                    user: format!("user{number}@example.org"),
                    contact: format!("contact{number}@example.net"),
                });
            }
        }
    }
    rules
}

/// Plays each rule on one server, and tells of all that fail.
fn play(
    rules: &[Rule],
    contact_state: impl Fn(&Rule) -> State,
    check: impl Fn(&Rule, &Server) -> Result<(), String>,
) {
    let site = site("");
    let mut accounts: Vec<&str> = Vec::new();
    let mut seeds: Vec<Seed> = Vec::new();
    for rule in rules {
        accounts.extend([&*rule.user, &*rule.contact]);
        seeds.push(Seed {
            listed: rule.is_listed,
            approved: rule.is_approved,
            ..rule.before().seed(&rule.user, &rule.contact)
        });
        seeds.push(contact_state(rule).seed(&rule.contact, &rule.user));
    }
    add_offline(&site, &accounts);
    roster::sow(&site, seeds.iter());
    let server = Server::start_in(site);
    let failures: Vec<String> = rules
        .iter()
        .filter_map(|rule| check(rule, &server).err().map(|why| rule.told(&why)))
        .collect();
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
}

/// The subscription stanzas among all that was heard.
fn subscription_stanzas(heard: &[Element]) -> Vec<&Element> {
    let kinds = ["subscribe", "subscribed", "unsubscribe", "unsubscribed"];
    heard
        .iter()
        .filter(|one| one.name == "presence")
        .filter(|one| {
            one.attribute("type")
                .is_some_and(|kind| kinds.contains(&kind))
        })
        .collect()
}

/// The items of the roster pushes among all that was heard.
fn pushes(heard: &[Element]) -> Vec<&Element> {
    heard
        .iter()
        .filter(|one| one.name == "iq" && one.attribute("type") == Some("set"))
        .flat_map(|one| one.find("jabber:iq:roster", "query"))
        .flat_map(Element::elements)
        .collect()
}

/// The stanza that a rule is about, as it is delivered. An automatic answer may have any id.
fn sent(kind: &str, from: &str, to: &str) -> Element {
    stanza(&format!(
        "<presence from='{from}' to='{to}' type='{kind}' id='rule'>\
         <status>because</status></presence>"
    ))
}

fn send(cast: &mut Cast<'_>, by: &str, kind: &str, to: &str) {
    cast.send(
        by,
        format!("<presence to='{to}' type='{kind}' id='rule'><status>because</status></presence>"),
    );
}

/// What was heard has to be these stanzas and no other about subscriptions.
fn heard_exactly(who: &str, heard: &[Element], wanted: &[Element]) -> Result<(), String> {
    let found = subscription_stanzas(heard);
    let list = |all: Vec<String>| all.join(", ");
    let same = found.len() == wanted.len()
        && found
            .iter()
            .zip(wanted)
            .all(|(found, wanted)| matches(wanted, found, who, &mut Words::new()).is_ok());
    if same {
        return Ok(());
    }
    Err(format!(
        "{who} hears [{}] in place of [{}]",
        list(found.into_iter().map(text).collect()),
        list(wanted.iter().map(text).collect())
    ))
}

/// Pushes come exactly if clients see a change, and tell what they see then.
fn pushed(
    who: &str,
    heard: &[Element],
    before: &Option<Shown>,
    after: &Option<Shown>,
) -> Result<(), String> {
    let pushes = pushes(heard);
    if before == after {
        return match pushes.first() {
            Some(push) => Err(format!("{who} gets {} for no change", text(push))),
            None => Ok(()),
        };
    }
    match (pushes.as_slice(), after) {
        ([push], Some(after)) if states::shown(push) == *after => Ok(()),
        (pushes, _) => {
            let pushes: Vec<String> = pushes.iter().map(|push| text(push)).collect();
            Err(format!("{who} gets {pushes:?} in place of {after:?}"))
        }
    }
}

/// The roster says `after`, and a request waits exactly if the state says so: then it comes to a
/// resource that becomes available.
fn ends(rule: &Rule, cast: &mut Cast<'_>, by: &str, after: &Option<Shown>) -> Result<(), String> {
    let result = cast.take_roster(by);
    let query = result.find("jabber:iq:roster", "query");
    let mut items = query.into_iter().flat_map(Element::elements);
    let found = items.next().map(states::shown);
    if found != *after {
        return Err(format!("the roster has {found:?} in place of {after:?}"));
    }
    let late = format!("{}/late", rule.user);
    cast.enter(&late);
    cast.send(&late, "<presence/>");
    let heard = cast.heard(&late);
    let requests = subscription_stanzas(&heard)
        .into_iter()
        .filter(|one| one.attribute("type") == Some("subscribe"))
        .count();
    let wanted = usize::from(rule.after().pending_in);
    if requests != wanted {
        return Err(format!("{requests} requests wait in place of {wanted}"));
    }
    Ok(())
}

/// A rule about what the user sends.
fn outbound(kind: &str, rule: &Rule, server: &Server) -> Result<(), String> {
    let mut cast = Cast::new(server, &[&rule.user, &rule.contact]);
    let contact = format!("{}/phone", rule.contact);
    cast.enter_interested(&contact);
    if kind == "subscribe" {
        // Requests are for those who are available (§3.1.3).
        cast.send(&contact, "<presence/>");
    }
    let (interested, connected) = (
        format!("{}/interested", rule.user),
        format!("{}/connected", rule.user),
    );
    cast.enter_interested(&interested);
    cast.enter(&connected);
    cast.forget();
    send(&mut cast, &connected, kind, &rule.contact);
    let wanted = [sent(kind, &rule.user, &rule.contact)];
    // A request of one who is subscribed is answered for the contact (A.3.1, note 2).
    let is_answered = kind == "subscribe" && rule.before().to;
    let is_heard = rule.is_passed_on() && !is_answered;
    let wanted = if is_heard { &wanted[..] } else { &[] };
    heard_exactly(&contact, &cast.heard(&contact), wanted)?;
    let is_approved = rule.row.2 == "pre-approval" || (rule.is_approved && kind != "unsubscribed");
    let (before, after) = (rule.shown_before(), rule.shown_after(is_approved));
    pushed(&interested, &cast.heard(&interested), &before, &after)?;
    pushed(&connected, &cast.heard(&connected), &None, &None)?;
    ends(rule, &mut cast, &interested, &after)
}

/// A rule about what the contact sends. `answer` is what the user's server says to it by itself.
fn inbound(kind: &str, answer: Option<&str>, rule: &Rule, server: &Server) -> Result<(), String> {
    let mut cast = Cast::new(server, &[&rule.user, &rule.contact]);
    let contact = format!("{}/phone", rule.contact);
    cast.enter_interested(&contact);
    let (interested, other) = (
        format!("{}/interested", rule.user),
        format!("{}/other", rule.user),
    );
    cast.enter_interested(&interested);
    cast.enter(&other);
    if kind == "subscribe" {
        cast.send(&other, "<presence/>");
    }
    cast.forget();
    send(&mut cast, &contact, kind, &rule.user);
    let wanted = [sent(kind, &rule.contact, &rule.user)];
    let wanted = if rule.is_passed_on() {
        &wanted[..]
    } else {
        &[]
    };
    let at_interested = cast.heard(&interested);
    let at_other = cast.heard(&other);
    // Requests come to available resources (§3.1.3), the rest to interested ones (§3.1.6, §3.2.3).
    let (has_it, has_not) = match kind {
        "subscribe" => ((&other, &at_other), (&interested, &at_interested)),
        _ => ((&interested, &at_interested), (&other, &at_other)),
    };
    heard_exactly(has_it.0, has_it.1, wanted)?;
    heard_exactly(has_not.0, has_not.1, &[])?;
    // An approval is used up by the request that it was for, which §3.4.2 leaves to the server.
    let is_approved = rule.is_approved && kind != "subscribe";
    let (before, after) = (rule.shown_before(), rule.shown_after(is_approved));
    pushed(&interested, &at_interested, &before, &after)?;
    pushed(&other, &at_other, &None, &None)?;
    if let Some(first) = at_interested.iter().find(|one| is_push(one)) {
        // §3.1.6, §3.2.3, §3.3.3: "This MUST occur before sending the roster push".
        let is_presence =
            |one: &Element| !subscription_stanzas(std::slice::from_ref(one)).is_empty();
        let late = at_interested
            .iter()
            .skip_while(|one| *one != first)
            .any(is_presence);
        if late {
            return Err("the push comes before the stanza".to_owned());
        }
    }
    let answer = answer.map(|kind| {
        stanza(&format!(
            "<presence from='{}' to='{}' type='{kind}'/>",
            rule.user, rule.contact
        ))
    });
    let mut at_contact = cast.heard(&contact);
    for one in &mut at_contact {
        one.attributes.retain(|one| one.name != "id");
    }
    heard_exactly(&contact, &at_contact, answer.as_slice())?;
    ends(rule, &mut cast, &interested, &after)
}

fn is_push(stanza: &Element) -> bool {
    stanza.is(ns::CLIENT, "iq") && stanza.attribute("type") == Some("set")
}

const NOTHING: &str = "None";

/// A contact that knows of the user's subscription, and of nothing else.
fn agreeing(rule: &Rule) -> State {
    State {
        from: rule.before().to,
        ..State::named(NOTHING)
    }
}

/// [presence-sub-request] RFC 6121 A.2.1.
#[test]
fn outbound_subscribe() {
    play(
        &rules(&states::OUTBOUND_SUBSCRIBE),
        agreeing,
        |rule, server| outbound("subscribe", rule, server),
    );
}

/// [presence-sub-unsubscribe] RFC 6121 A.2.2.
#[test]
fn outbound_unsubscribe() {
    play(
        &rules(&states::OUTBOUND_UNSUBSCRIBE),
        |_| State::named("Both"),
        |rule, server| outbound("unsubscribe", rule, server),
    );
}

/// [presence-sub-approval] [presence-sub-preapproval] RFC 6121 A.2.3, §3.4.2.
#[test]
fn outbound_subscribed() {
    play(
        &rules(&states::OUTBOUND_SUBSCRIBED),
        |_| State::named("None + Pending Out"),
        |rule, server| outbound("subscribed", rule, server),
    );
}

/// [presence-sub-cancel] RFC 6121 A.2.4.
#[test]
fn outbound_unsubscribed() {
    play(
        &rules(&states::OUTBOUND_UNSUBSCRIBED),
        |_| State::named("To"),
        |rule, server| outbound("unsubscribed", rule, server),
    );
}

/// [presence-sub-request] RFC 6121 A.3.1, with its note 2: who is subscribed is answered.
#[test]
fn inbound_subscribe() {
    play(
        &rules(&states::INBOUND_SUBSCRIBE),
        agreeing,
        |rule, server| {
            let answer = rule.before().from.then_some("subscribed");
            inbound("subscribe", answer, rule, server)
        },
    );
}

/// [presence-sub-unsubscribe] RFC 6121 A.3.2. The automatic "unsubscribed" of its note is nothing
/// to a contact that has just unsubscribed (A.3.4), so no client hears of it.
#[test]
fn inbound_unsubscribe() {
    play(
        &rules(&states::INBOUND_UNSUBSCRIBE),
        |_| State::named(NOTHING),
        |rule, server| inbound("unsubscribe", None, rule, server),
    );
}

/// [presence-sub-approval] RFC 6121 A.3.3.
#[test]
fn inbound_subscribed() {
    play(
        &rules(&states::INBOUND_SUBSCRIBED),
        |_| State::named("None + Pending In"),
        |rule, server| inbound("subscribed", None, rule, server),
    );
}

/// [presence-sub-cancel] RFC 6121 A.3.4.
#[test]
fn inbound_unsubscribed() {
    play(
        &rules(&states::INBOUND_UNSUBSCRIBED),
        |_| State::named("From"),
        |rule, server| inbound("unsubscribed", None, rule, server),
    );
}

/// The states that can be pre-approved, with the approval given.
fn approved(table: &[Row]) -> Vec<Rule> {
    let can_be = ["None", "None + Pending Out", "To"];
    let mut rules = rules(table);
    rules.retain(|rule| can_be.contains(&rule.row.0) && rule.is_listed);
    for rule in &mut rules {
        rule.is_approved = true;
    }
    rules
}

/// [presence-sub-preapproval] RFC 6121 §3.2.2, number 2: it is taken back, and nobody hears of it.
#[test]
fn outbound_unsubscribed_takes_an_approval_back() {
    play(
        &approved(&states::OUTBOUND_UNSUBSCRIBED),
        |_| State::named("To"),
        |rule, server| outbound("unsubscribed", rule, server),
    );
}

/// [presence-sub-preapproval] RFC 6121 §3.4.2: what is approved stays so, whatever else is sent.
#[test]
fn outbound_stanzas_of_other_kinds_keep_an_approval() {
    play(
        &approved(&states::OUTBOUND_SUBSCRIBE),
        agreeing,
        |rule, server| outbound("subscribe", rule, server),
    );
    play(
        &approved(&states::OUTBOUND_UNSUBSCRIBE),
        |_| State::named("Both"),
        |rule, server| outbound("unsubscribe", rule, server),
    );
}

/// [presence-sub-preapproval] RFC 6121 §3.4.2, A.3.1 note 1: the request is granted, and not
/// delivered.
#[test]
fn inbound_subscribe_is_granted_if_it_is_approved() {
    const TABLE: [Row; 3] = [
        ("None", "S.N.", "From"),
        ("None + Pending Out", "S.N.", "From + Pending Out"),
        ("To", "S.N.", "Both"),
    ];
    play(&approved(&TABLE), agreeing, |rule, server| {
        inbound("subscribe", Some("subscribed"), rule, server)
    });
}
