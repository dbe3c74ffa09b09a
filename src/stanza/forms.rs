//! Data forms that tell something (XEP-0004 §3.4, type `result`, with a FORM_TYPE by XEP-0068).

use crate::ns;
use crate::xml::Element;

/// A form whose fields have values and nobody fills in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultForm {
    element: Element,
}

impl ResultForm {
    /// A form of that FORM_TYPE, without fields.
    pub fn new(form_type: &str) -> ResultForm {
        let element = Element::new(ns::DATA_FORMS, "x")
            .attr("type", "result")
            .child(field("FORM_TYPE", [form_type]).attr("type", "hidden"));
        ResultForm { element }
    }

    /// With a field of any number of values. Its type is optional here (XEP-0004 §3.2), but Gajim
    /// passes over addresses (XEP-0157) that come without.
    #[must_use]
    pub fn list<'a>(self, var: &str, values: impl IntoIterator<Item = &'a str>) -> ResultForm {
        let list = field(var, values).attr("type", "list-multi");
        let element = self.element.child(list);
        ResultForm { element }
    }

    /// The `<x/>`.
    pub fn into_element(self) -> Element {
        self.element
    }
}

fn field<'a>(var: &str, values: impl IntoIterator<Item = &'a str>) -> Element {
    let field = Element::new(ns::DATA_FORMS, "field").attr("var", var);
    values.into_iter().fold(field, |field, value| {
        field.child(Element::new(ns::DATA_FORMS, "value").with_text(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// XEP-0128 §3.1.
    #[test]
    fn a_form_names_its_type_first() {
        let form = ResultForm::new("urn:example:form")
            .list("a", ["1", "2"])
            .into_element();
        let written = String::from_utf8(form.to_bytes()).unwrap();
        let expected = "<x xmlns='jabber:x:data' type='result'>\
                        <field var='FORM_TYPE' type='hidden'><value>urn:example:form</value></field>\
                        <field var='a' type='list-multi'><value>1</value><value>2</value></field></x>";
        assert_eq!(written, expected);
    }
}
