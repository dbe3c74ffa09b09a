//! Counts operations on the canonical payload of one chat message a second, and writes of it to one
//! and to 50 recipients.
//!
//! It serves the choice of canonical bytes with an index over a tree
//! (`Canonical stanzas` in lib.rs): a payload is made once, changed rarely, and written for each
//! recipient, so `write` must be next to a copy of its bytes, and building from trees and reading
//! back from the store may cost more.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use stanzad::jid::Jid;
use stanzad::stanza::{Kind, Stanza, Type};
use stanzad::xml::{Element, Payload};

const RECIPIENTS: usize = 50;

fn elements() -> Vec<Element> {
    vec![
        Element::new("jabber:client", "body")
            .with_text("Art thou not Romeo, and a Montague? Wherefore art thou here?"),
        Element::new("http://jabber.org/protocol/chatstates", "active"),
        Element::new("urn:xmpp:receipts", "request"),
        Element::new("urn:xmpp:sid:0", "origin-id").attr("id", "c2b1f7a0-5d4e"),
    ]
}

/// The chat message of these payloads, with addresses.
pub fn chat(from: Option<&str>, to: &str) -> Stanza {
    let payload = Payload::from_elements(&elements());
    let mut stanza = Stanza::new(Kind::Message, Type::Chat, payload);
    stanza.from = from.map(|from| Jid::parse(from).expect("an address"));
    stanza.to = Some(Jid::parse(to).expect("an address"));
    stanza.id = Some("c2b1f7a0-5d4e".into());
    stanza
}

pub fn benches(criterion: &mut Criterion) {
    let elements = elements();
    let payload = Payload::from_elements(&elements);
    let bytes = payload.bytes().to_vec();
    let delay = Element::new("urn:xmpp:delay", "delay")
        .attr("from", "example.org")
        .attr("stamp", "2026-01-01T00:00:00Z");
    assert_eq!(
        Payload::from_canonical(bytes.clone()).as_ref(),
        Some(&payload)
    );
    let is_receipt = |payload: &Payload, child: &_| payload.ns(child) == "urn:xmpp:receipts";
    assert_eq!(payload.without(is_receipt).children().len(), 3);

    let mut group = criterion.benchmark_group("payload");
    group.bench_function("from trees", |b| {
        b.iter(|| Payload::from_elements(&elements))
    });
    group.bench_function("from the store", |b| {
        b.iter(|| Payload::from_canonical(bytes.clone()));
    });
    group.bench_function("with", |b| b.iter(|| payload.with(&delay)));
    group.bench_function("without", |b| b.iter(|| payload.without(is_receipt)));
    group.bench_function("copy of the bytes", |b| b.iter(|| bytes.clone()));

    let mut stanza = chat(Some("juliet@example.org/balcony"), "romeo@example.org");
    let mut out = Vec::new();
    group.throughput(Throughput::Elements(1));
    group.bench_function("write to 1", |b| {
        b.iter(|| {
            out.clear();
            stanza.write(&mut out);
            black_box(&out);
        });
    });
    let recipients: Vec<Jid> = (0..RECIPIENTS)
        .map(|number| Jid::parse(&format!("guest{number}@example.org")).expect("an address"))
        .collect();
    group.throughput(Throughput::Elements(RECIPIENTS as u64));
    group.bench_function("write to 50", |b| {
        b.iter(|| {
            out.clear();
            for recipient in &recipients {
                stanza.to = Some(recipient.clone());
                stanza.write(&mut out);
            }
            black_box(&out);
        });
    });
    group.finish();
}
