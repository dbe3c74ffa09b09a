//! What the server writes: a tree of whatever text is read again as the same tree, by our parser
//! and by another (quick-xml), and as a payload it survives the store and the changes that features
//! make to it.
//!
//! Each line of an input builds: `<name NAMESPACE` opens an element, `>` closes one, `@name
//! NAMESPACE value` adds an attribute, and any other is text. NAMESPACE is a digit, and `|` stands for
//! a line feed in values and texts.

use quick_xml::NsReader;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::ResolveResult;
use stanzad::ns;
use stanzad::xml::{Attribute, Bounds, Element, Item, NO_NAMESPACE, Node, Parser, Payload, Top};
use stanzad_fuzz::run;

// Some have the same length, so that more than that must be right of them.
const SPACES: [&str; 6] = [
    ns::CLIENT,
    "",
    "urn:x",
    "http://a/?b=1&c='2'",
    "urn:xmpp:sm:3",
    "urn:v",
];
const ATTRIBUTE_SPACES: [Option<&str>; 5] = [
    None,
    Some(ns::XML),
    Some("urn:y"),
    Some("urn:z&"),
    Some("urn:w"),
];

const HEADER: &str = "<stream:stream xmlns='jabber:client' \
                      xmlns:stream='http://etherx.jabber.org/streams'>";

/// Trees are built within these; so none may be refused.
const DEPTH_MAX: usize = 12;
const ATTRIBUTES_MAX: usize = 8;
const BOUNDS: Bounds = Bounds {
    element_bytes_max: 1 << 20,
    depth_max: DEPTH_MAX + 2,
    attributes_max: ATTRIBUTES_MAX,
    bindings_max: 200,
    name_bytes_max: 64,
    attribute_bytes_max: 1 << 20,
};

fn main() {
    run(|input| {
        let tree = tree(input);
        let expected = read_as(&tree);
        let written = tree.to_bytes();
        assert_eq!(by_our_parser(&written), expected, "our parser");
        assert_eq!(by_quick_xml(&written), expected, "quick-xml");
        let children: Vec<Element> = tree.elements().cloned().collect();
        check_payload(&children);
    });
}

/// The tree that an input describes, in a stanza.
fn tree(input: &[u8]) -> Element {
    let text = String::from_utf8_lossy(input);
    let mut open = vec![Element::new(ns::CLIENT, "message")];
    for line in text.split('\n') {
        let depth = open.len();
        let Some(top) = open.last_mut() else { break };
        match line.as_bytes().first() {
            Some(b'<') if depth < DEPTH_MAX => {
                let (name, rest) = word(&line[1..]);
                open.push(Element::new(SPACES[digit(rest) % SPACES.len()], name));
            }
            Some(b'>') if depth > 1 => close(&mut open),
            Some(b'@') => {
                let (name, rest) = word(&line[1..]);
                let ns = ATTRIBUTE_SPACES[digit(rest) % ATTRIBUTE_SPACES.len()];
                let is_taken = top
                    .attributes
                    .iter()
                    .any(|a| a.name == name && a.ns.as_deref() == ns);
                if !is_taken && top.attributes.len() < ATTRIBUTES_MAX && name != "xmlns" {
                    top.attributes.push(Attribute {
                        name,
                        ns: ns.map(str::to_owned),
                        value: rest.chars().skip(1).map(line_feed).collect(),
                    });
                }
            }
            _ => {
                let text: String = line.chars().map(line_feed).collect();
                top.nodes.push(Node::Text(text + "\r\n"));
            }
        }
    }
    while open.len() > 1 {
        close(&mut open);
    }
    open.remove(0)
}

fn line_feed(character: char) -> char {
    match character {
        '|' => '\n',
        other => other,
    }
}

fn close(open: &mut Vec<Element>) {
    if let (Some(done), Some(around)) = (open.pop(), open.last_mut()) {
        around.nodes.push(Node::Element(done));
    }
}

/// A name, as names come from the parser, and what follows it.
fn word(text: &str) -> (String, &str) {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let is_of_name = |c: &char| c.is_ascii_alphanumeric() || "_-.".contains(*c);
    let name: String = word.chars().filter(is_of_name).take(20).collect();
    match name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        true => (name, rest),
        false => (format!("a{name}"), rest),
    }
}

fn digit(text: &str) -> usize {
    text.bytes()
        .next()
        .map_or(0, |byte| usize::from(byte.wrapping_sub(b'0')))
}

/// What must be read: neighboring texts as one, and characters that XML does not have replaced.
fn read_as(element: &Element) -> Element {
    let mut read = Element::new(element.ns.as_str(), element.name.as_str());
    for attribute in &element.attributes {
        let value = replaced(&attribute.value);
        read.attributes.push(Attribute {
            value,
            ..attribute.clone()
        });
    }
    for node in &element.nodes {
        match node {
            Node::Text(text) => push_text(&mut read.nodes, &replaced(text)),
            Node::Element(child) => read.nodes.push(Node::Element(read_as(child))),
        }
    }
    read
}

/// XML 1.0 §2.2.
fn replaced(text: &str) -> String {
    let is_char = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..);
    text.chars()
        .map(|c| if is_char(c) { c } else { '\u{FFFD}' })
        .collect()
}

fn push_text(nodes: &mut Vec<Node>, text: &str) {
    match nodes.last_mut() {
        Some(Node::Text(before)) => before.push_str(text),
        _ if text.is_empty() => {}
        _ => nodes.push(Node::Text(text.to_owned())),
    }
}

fn by_our_parser(written: &[u8]) -> Element {
    let mut parser = Parser::new(BOUNDS);
    parser.feed(HEADER.as_bytes());
    parser.feed(written);
    assert!(matches!(parser.next(), Ok(Some(Item::Open(_)))));
    match parser.next() {
        Ok(Some(Item::Top(top))) => {
            check_top(&top, written);
            read_as(&top.to_element())
        }
        other => panic!("{:?} became {other:?}", String::from_utf8_lossy(written)),
    }
}

/// What was read is written as it was, and so is what the store keeps of it, texts included.
fn check_top(top: &Top, written: &[u8]) {
    let mut again = Vec::new();
    top.write(&mut again);
    assert_eq!(again, written, "written again");
    let payload = &top.payload;
    let stored = Payload::from_canonical(payload.bytes().to_vec()).expect("our own bytes");
    assert_eq!(stored.nodes(), payload.nodes(), "the store's tree");
    assert_eq!(stored.children(), payload.children(), "the store's index");
    assert_eq!(top.text(), top.to_element().text(), "the text");
}

/// The tree as quick-xml sees it within a stream.
fn by_quick_xml(written: &[u8]) -> Element {
    let written = std::str::from_utf8(written).expect("UTF-8 is written");
    let document = format!("{HEADER}{written}</stream:stream>");
    let mut reader = NsReader::from_str(&document);
    let mut open = vec![Element::new("", "document")];
    loop {
        let event = reader.read_event().expect("well-formed XML is written");
        match &event {
            Event::Start(start) => open.push(started(&reader, start)),
            Event::Empty(start) => {
                open.push(started(&reader, start));
                close(&mut open);
            }
            Event::End(_) => close(&mut open),
            Event::Text(text) => {
                let text = text.xml10_content();
                push_text(&mut open.last_mut().expect("the document").nodes, &text);
            }
            Event::GeneralRef(reference) => {
                let resolved = reference.resolve_char_ref().expect("a character");
                let text = match resolved {
                    Some(character) => character.to_string(),
                    None => predefined(reference).to_owned(),
                };
                push_text(&mut open.last_mut().expect("the document").nodes, &text);
            }
            Event::Eof => break,
            other => panic!("nothing else is written: {other:?}"),
        }
    }
    let stream = open[0].elements().next().expect("the stream");
    assert_eq!(stream.nodes.len(), 1, "one element is written");
    stream.elements().next().expect("a stanza").clone()
}

fn predefined(name: &str) -> &'static str {
    quick_xml::escape::resolve_predefined_entity(name).expect("only the predefined are written")
}

fn started(reader: &NsReader<&[u8]>, start: &BytesStart) -> Element {
    let space = |resolved: ResolveResult| match resolved {
        ResolveResult::Bound(space) => Some(unescaped(space.0)),
        ResolveResult::Unbound => None,
        ResolveResult::Unknown(prefix) => panic!("a prefix is not declared: {prefix:?}"),
    };
    let (resolved, name) = reader.resolver().resolve_element(start.name());
    let name = AsRef::<str>::as_ref(&name).to_owned();
    let mut element = Element::new(space(resolved).unwrap_or_default(), name);
    for attribute in start.attributes() {
        let attribute = attribute.expect("attributes are written well");
        if attribute.key.as_namespace_binding().is_some() {
            continue;
        }
        let (resolved, name) = reader.resolver().resolve_attribute(attribute.key);
        element.attributes.push(Attribute {
            name: AsRef::<str>::as_ref(&name).to_owned(),
            ns: space(resolved),
            value: unescaped(&attribute.value),
        });
    }
    element
}

/// The value of an attribute after XML 1.0 §3.3.3: bare white space would have become spaces.
fn unescaped(value: &str) -> String {
    let normalized = value.replace(['\t', '\n', '\r'], " ");
    quick_xml::escape::unescape(&normalized)
        .expect("references are right")
        .into_owned()
}

/// What the index calls a namespace.
fn indexed(ns: &str) -> &str {
    match ns {
        ns::CLIENT => "",
        "" => NO_NAMESPACE,
        ns => ns,
    }
}

/// The index, the store's form, and what features take out of payloads and put in.
fn check_payload(children: &[Element]) {
    let read: Vec<Node> = children
        .iter()
        .map(|child| Node::Element(read_as(child)))
        .collect();
    let payload = Payload::from_elements(children);
    assert_eq!(payload.children().len(), children.len());
    let stored = Payload::from_canonical(payload.bytes().to_vec()).expect("our own bytes");
    for payload in [&payload, &stored] {
        for ((child, element), node) in payload.children().iter().zip(children).zip(&read) {
            assert_eq!(payload.name(child), element.name);
            assert_eq!(payload.ns(child), indexed(&element.ns));
            assert_eq!(&Node::Element(read_as(&payload.element(child))), node);
            let mut all = children.iter();
            let first = all.position(|other| other.is(&element.ns, &element.name));
            let first = first.and_then(|first| payload.children().get(first));
            assert_eq!(payload.find(payload.ns(child), &element.name), first);
        }
    }
    let Some((last, before)) = children.split_last() else {
        return;
    };
    assert_eq!(
        Payload::from_elements(before).with(last),
        payload,
        "one more child"
    );
    let kept: Vec<Element> = children
        .iter()
        .filter(|c| c.name != last.name)
        .cloned()
        .collect();
    let fewer = payload.without(|payload, child| payload.name(child) == last.name);
    assert_eq!(
        fewer,
        Payload::from_elements(&kept),
        "without some children"
    );
}
