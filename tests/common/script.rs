//! Elements as people write them: indented, with comments, and with the line where each stands.

use stanzad::ns;
use stanzad::xml::{Attribute, Element, Node};
use xml::EventReader;
use xml::common::Position;
use xml::reader::XmlEvent;

/// A top element or a child of one.
pub struct Written {
    /// No namespace is that of stanzas, `jabber:client`; indentation is left out.
    pub element: Element,
    /// Where it starts, from 1.
    pub line: u64,
    /// Its child elements, each with its line.
    pub children: Vec<Written>,
}

/// Parses a document.
///
/// # Errors
/// What is not well-formed, with its place.
pub fn parse(document: &str) -> Result<Written, String> {
    let mut reader = EventReader::from_str(document);
    let mut open: Vec<Written> = Vec::new();
    loop {
        let event = reader.next().map_err(|error| error.to_string())?;
        let line = reader.position().row + 1;
        match event {
            XmlEvent::StartElement {
                name, attributes, ..
            } => {
                let ns = name.namespace.unwrap_or_else(|| ns::CLIENT.to_owned());
                let mut element = Element::new(ns, name.local_name);
                element.attributes = attributes
                    .into_iter()
                    .map(|attribute| Attribute {
                        name: attribute.name.local_name,
                        ns: attribute.name.namespace,
                        value: attribute.value,
                    })
                    .collect();
                open.push(Written {
                    element,
                    line,
                    children: Vec::new(),
                });
            }
            XmlEvent::Characters(text) | XmlEvent::CData(text) | XmlEvent::Whitespace(text) => {
                if let Some(within) = open.last_mut() {
                    within.element.nodes.push(Node::Text(text));
                }
            }
            XmlEvent::EndElement { .. } => {
                let mut done = open.pop().expect("the reader counts the ends");
                done.element = without_indentation(done.element);
                let Some(within) = open.last_mut() else {
                    return Ok(done);
                };
                let child = Node::Element(done.element.clone());
                within.element.nodes.push(child);
                within.children.push(done);
            }
            XmlEvent::EndDocument => return Err("the document ends early".to_owned()),
            _ => {}
        }
    }
}

/// White space between elements is how people write; beside a text it is part of it.
fn without_indentation(mut element: Element) -> Element {
    let has_children = element.elements().next().is_some();
    if has_children && element.text().trim().is_empty() {
        element
            .nodes
            .retain(|node| matches!(node, Node::Element(_)));
    }
    element
}
