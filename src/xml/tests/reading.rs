//! A second parser (quick-xml) reads in what we write just what it, or the author, put in.

use proptest::prelude::*;
use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::{Namespace, ResolveResult};
use quick_xml::reader::NsReader;

use super::corpus::documents;
use super::*;
use crate::ns;
use crate::xml::{Attribute, Element, Node, Top};

/// The tree of a whole document as quick-xml reads it; declarations of namespaces left out.
fn read(document: &str) -> Element {
    let mut reader = NsReader::from_str(document);
    reader.config_mut().expand_empty_elements = true;
    let mut open = vec![Element::new("", "")];
    loop {
        let (resolved, event) = reader.read_resolved_event().expect("quick-xml takes it");
        let space = match resolved {
            ResolveResult::Bound(space) => namespace(space),
            ResolveResult::Unbound => String::new(),
            ResolveResult::Unknown(prefix) => panic!("unbound prefix {prefix} in {document}"),
        };
        let last = open.last_mut().expect("a root");
        match event {
            Event::Start(start) => open.push(element(&reader, &space, &start)),
            Event::End(_) => {
                let closed = open.pop().expect("balanced");
                open.last_mut()
                    .expect("a root")
                    .nodes
                    .push(Node::Element(closed));
            }
            Event::Text(text) => push_text(last, &text.xml10_content()),
            Event::CData(text) => push_text(last, &text.xml10_content()),
            Event::GeneralRef(reference) => {
                let char_ref = reference.resolve_char_ref().expect("a known reference");
                let named = || match reference.xml10_content().as_ref() {
                    "lt" => '<',
                    "gt" => '>',
                    "amp" => '&',
                    "apos" => '\'',
                    "quot" => '"',
                    other => panic!("unknown reference {other}"),
                };
                push_text(last, &char_ref.unwrap_or_else(named).to_string());
            }
            Event::Eof => break,
            Event::Decl(_) => {}
            other => panic!("{other:?} in {document}"),
        }
    }
    assert_eq!(open.len(), 1, "{document}");
    let mut document = open.remove(0);
    document
        .nodes
        .retain(|node| matches!(node, Node::Element(_)));
    match document.nodes.pop() {
        Some(Node::Element(root)) => root,
        other => panic!("{other:?}"),
    }
}

fn element(reader: &NsReader<&[u8]>, space: &str, start: &BytesStart) -> Element {
    let mut element = Element::new(space, start.local_name().as_ref());
    for attribute in start.attributes() {
        let attribute = attribute.expect("well-formed");
        if attribute.key.as_namespace_binding().is_some() {
            continue;
        }
        let (resolved, local) = reader.resolver().resolve_attribute(attribute.key);
        let space = match resolved {
            ResolveResult::Bound(space) => Some(namespace(space)),
            ResolveResult::Unbound => None,
            ResolveResult::Unknown(prefix) => panic!("unbound prefix {prefix}"),
        };
        let value = attribute.normalized_value(XmlVersion::Explicit1_0);
        element.attributes.push(Attribute {
            name: local.as_ref().to_owned(),
            ns: space,
            value: value.expect("known references").into_owned(),
        });
    }
    element
}

/// quick-xml compares and tells namespaces as they are spelled.
fn namespace(spelled: Namespace) -> String {
    let plain = quick_xml::escape::unescape(spelled.0).expect("known references");
    plain.into_owned()
}

fn push_text(element: &mut Element, text: &str) {
    match element.nodes.last_mut() {
        Some(Node::Text(before)) => before.push_str(text),
        _ if text.is_empty() => {}
        _ => element.nodes.push(Node::Text(text.to_owned())),
    }
}

/// Joins neighboring texts, and calls the content namespace by one name where we do.
fn normal(element: &Element, around_is_content: bool) -> Element {
    let is_content = around_is_content && matches!(element.ns.as_str(), ns::CLIENT | ns::SERVER);
    let mut normal_element = Element::new(element.ns.as_str(), element.name.as_str());
    if is_content {
        ns::CLIENT.clone_into(&mut normal_element.ns);
    }
    normal_element.attributes.clone_from(&element.attributes);
    for node in &element.nodes {
        match node {
            Node::Text(text) => push_text(&mut normal_element, text),
            Node::Element(child) => {
                let child = normal(child, is_content);
                normal_element.nodes.push(Node::Element(child));
            }
        }
    }
    normal_element
}

/// What a child of the root becomes: its children are in the content namespace or not.
fn normal_top(top: &Element) -> Element {
    let mut normal_top = normal(
        &Element {
            nodes: Vec::new(),
            ..top.clone()
        },
        false,
    );
    for node in &top.nodes {
        match node {
            Node::Text(text) => push_text(&mut normal_top, text),
            Node::Element(child) => normal_top.nodes.push(Node::Element(normal(child, true))),
        }
    }
    normal_top
}

fn tops(items: Vec<Item>) -> Vec<Top> {
    let tops = items.into_iter().filter_map(|item| match item {
        Item::Top(top) => Some(*top),
        Item::Open(_) | Item::Close => None,
    });
    tops.collect()
}

/// Our bytes of an element, as quick-xml reads them.
fn written_and_read(top: &Top) -> Element {
    let mut out = format!("<r xmlns='{}'>", ns::CLIENT).into_bytes();
    top.write(&mut out);
    out.extend_from_slice(b"</r>");
    let root = read(std::str::from_utf8(&out).expect("UTF-8"));
    root.elements().next().expect("one element").clone()
}

#[test]
fn a_second_parser_reads_in_our_bytes_what_it_reads_in_the_corpus() {
    for (name, bytes) in documents() {
        if name.starts_with("refused-") {
            continue;
        }
        let theirs = read(std::str::from_utf8(&bytes).expect("UTF-8"));
        let (items, _) = parse(&bytes);
        let ours = tops(items);
        let theirs: Vec<Element> = theirs.elements().map(normal_top).collect();
        assert_eq!(
            ours.iter()
                .map(|top| normal_top(&top.to_element()))
                .collect::<Vec<_>>(),
            theirs,
            "{name}"
        );
        let again: Vec<Element> = ours
            .iter()
            .map(|top| normal_top(&written_and_read(top)))
            .collect();
        assert_eq!(again, theirs, "{name}");
    }
}

/// Bytes that choose how a tree is spelled: prefixes, quotes, references, CDATA, white space.
struct Choices<'a>(std::iter::Cycle<std::slice::Iter<'a, u8>>);

impl Choices<'_> {
    fn of(&mut self, ways: u8) -> u8 {
        self.0.next().copied().unwrap_or_default() % ways
    }
}

fn spell(element: &Element, default: &str, choices: &mut Choices, out: &mut String) {
    let blank = [" ", "\n", " \t", "\r\n "];
    let blank = |choices: &mut Choices| blank[usize::from(choices.of(4))];
    let is_content = element.ns == ns::CLIENT;
    let prefixed = !is_content && !element.ns.is_empty() && choices.of(2) == 0;
    let name = if prefixed {
        format!("p:{}", element.name)
    } else {
        element.name.clone()
    };
    out.push_str(&format!("<{name}"));
    let mut default = default.to_owned();
    if prefixed {
        out.push_str(&format!(
            "{}xmlns:p={}",
            blank(choices),
            quoted(&element.ns, choices)
        ));
    } else if element.ns != default || choices.of(4) == 0 {
        out.push_str(&format!(
            "{}xmlns={}",
            blank(choices),
            quoted(&element.ns, choices)
        ));
        default.clone_from(&element.ns);
    }
    for (index, attribute) in element.attributes.iter().enumerate() {
        let prefix = match attribute.ns.as_deref() {
            None => String::new(),
            Some(ns::XML) => "xml:".to_owned(),
            Some(space) => {
                out.push_str(&format!(
                    "{}xmlns:q{index}={}",
                    blank(choices),
                    quoted(space, choices)
                ));
                format!("q{index}:")
            }
        };
        let equals = ["=", " =", "= ", "\n=\t"][usize::from(choices.of(4))];
        let value = quoted(&attribute.value, choices);
        out.push_str(&format!(
            "{}{prefix}{}{equals}{value}",
            blank(choices),
            attribute.name
        ));
    }
    if element.nodes.is_empty() && choices.of(2) == 0 {
        out.push_str(["/>", " />"][usize::from(choices.of(2))]);
        return;
    }
    out.push('>');
    for node in &element.nodes {
        match node {
            Node::Text(text) => spell_text(text, choices, out),
            Node::Element(child) => spell(child, &default, choices, out),
        }
    }
    out.push_str(&format!(
        "</{name}{}>",
        ["", " "][usize::from(choices.of(2))]
    ));
}

fn reference(c: char, choices: &mut Choices) -> String {
    match (choices.of(3), c) {
        (0, '&') => "&amp;".into(),
        (0, '<') => "&lt;".into(),
        (0, '>') => "&gt;".into(),
        (0, '\'') => "&apos;".into(),
        (0, '"') => "&quot;".into(),
        (1, _) => format!("&#{};", u32::from(c)),
        _ => format!("&#x{:x};", u32::from(c)),
    }
}

fn quoted(value: &str, choices: &mut Choices) -> String {
    let quote = ['\'', '"'][usize::from(choices.of(2))];
    let mut out = String::from(quote);
    for c in value.chars() {
        if "&<\t\n\r".contains(c) || c == quote || choices.of(16) == 0 {
            out.push_str(&reference(c, choices));
        } else {
            out.push(c);
        }
    }
    out.push(quote);
    out
}

fn spell_text(text: &str, choices: &mut Choices, out: &mut String) {
    if choices.of(3) == 0 && !text.contains(['\r', ']']) {
        out.push_str(&format!("<![CDATA[{text}]]>"));
        return;
    }
    for c in text.chars() {
        if "&<>\r".contains(c) || choices.of(16) == 0 {
            out.push_str(&reference(c, choices));
        } else if c == '\n' {
            out.push_str(["\n", "\r\n", "\r"][usize::from(choices.of(3))]);
            // A CR of the first kind before an LF of the next would be read as one line end.
            out.push_str("<![CDATA[]]>");
        } else {
            out.push(c);
        }
    }
}

fn tree() -> impl Strategy<Value = Element> {
    let text = "[\\t\\n\\r -~é漢😀\u{85}\u{FFFD}\u{FF21}]{1,12}";
    let space = prop::sample::select(vec![ns::CLIENT, "", "urn:x", "urn:y?a&b='c'", "urn:é"]);
    let attribute_space = prop::sample::select(vec![ns::XML, "urn:x", "urn:z?'&"]);
    let attribute = (
        "[a-z]{1,2}",
        prop::option::of(attribute_space),
        "[\\t\\n\\r -~é漢]{0,12}",
    );
    let leaf = (
        space,
        "[a-zA-Z_][a-z0-9._-]{0,3}",
        prop::collection::vec(attribute, 0..4),
    )
        .prop_map(|(space, name, attributes)| {
            let mut element = Element::new(space, name);
            for (name, space, value) in attributes {
                let taken = |a: &Attribute| a.name == name && a.ns.as_deref() == space;
                // `xml:` names other than these have rules of their own.
                let name = if space == Some(ns::XML) {
                    "lang".to_owned()
                } else {
                    name.clone()
                };
                let is_lang = |a: &Attribute| a.ns.as_deref() == Some(ns::XML);
                if element
                    .attributes
                    .iter()
                    .any(|a| taken(a) || (space == Some(ns::XML) && is_lang(a)))
                {
                    continue;
                }
                element.attributes.push(Attribute {
                    name,
                    ns: space.map(str::to_owned),
                    value,
                });
            }
            element
        });
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let child = prop_oneof![
            text.prop_map(Node::Text),
            inner.clone().prop_map(Node::Element)
        ];
        (inner, prop::collection::vec(child, 0..5)).prop_map(|(mut parent, nodes)| {
            parent.nodes = nodes;
            parent
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn however_a_tree_is_spelled_both_parsers_read_the_tree(tree in tree(), spelling in prop::collection::vec(any::<u8>(), 1..60)) {
        let mut document = HEADER.to_owned();
        spell(&tree, ns::CLIENT, &mut Choices(spelling.iter().cycle()), &mut document);
        let (items, error) = parse(document.as_bytes());
        prop_assert_eq!(error, None, "{}", document);
        let top = &tops(items)[0];
        prop_assert_eq!(normal_top(&top.to_element()), normal_top(&tree), "{}", document);
        prop_assert_eq!(normal_top(&written_and_read(top)), normal_top(&tree), "{}", document);
        // What is written is canonical: reading and writing it once more changes no byte.
        let mut written = HEADER.as_bytes().to_vec();
        top.write(&mut written);
        let (items, error) = parse(&written);
        prop_assert_eq!(error, None);
        let mut again = HEADER.as_bytes().to_vec();
        tops(items)[0].write(&mut again);
        prop_assert_eq!(String::from_utf8(again), String::from_utf8(written));
    }
}

/// RFC 6120 §4.8.3: re-scoping reaches a stanza's own children, not what extensions contain.
#[test]
fn both_content_namespaces_are_one_but_only_outside_of_extensions() {
    let document = format!(
        "{HEADER}<message><body xmlns='jabber:server'>a<b/></body><x xmlns='urn:x'>\
         <body xmlns='jabber:server'/><body xmlns='jabber:client'/></x></message>"
    );
    let (items, _) = parse(document.as_bytes());
    let top = &tops(items)[0];
    assert_eq!(
        std::str::from_utf8(top.payload.bytes()),
        Ok(
            "<body>a<b/></body><x xmlns='urn:x'><body xmlns='jabber:server'/><body xmlns='jabber:client'/></x>"
        )
    );
    assert!(top.payload.find("", "body").is_some());
}
