//! Lists of domains as operators write them: a name stands for itself, `*.` and a name for all below it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::{Domain, JidError};

/// What marks an entry that stands for all domains below its name.
const BELOW: &str = "*.";

/// A list of domains.
///
/// `example.org` is that domain alone. `*.example.org` is every domain below it, at any depth, and not
/// `example.org` itself: another domain, often in other hands than what is below it. There is no other
/// wildcard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainList {
    exact: BTreeSet<Domain>,
    below: BTreeSet<Domain>,
}

/// How closely an entry of a list describes a domain; the closer one is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Closeness {
    /// By an entry with a wildcard; the bytes of its name.
    Below(usize),
    /// By its own name.
    Exact,
}

impl DomainList {
    /// Adds an entry.
    ///
    /// # Errors
    /// [`JidError`] if it is no domain, nor `*.` before one.
    pub fn add(&mut self, entry: &str) -> Result<(), JidError> {
        match entry.strip_prefix(BELOW) {
            Some(name) => self.below.insert(Domain::parse(name)?),
            None => self.exact.insert(Domain::parse(entry)?),
        };
        Ok(())
    }

    /// Whether nothing is on the list.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.below.is_empty()
    }

    /// Whether a domain is on the list.
    pub fn contains(&self, domain: &Domain) -> bool {
        self.closest(domain).is_some()
    }

    /// The closest entry that a domain is on the list by.
    pub fn closest(&self, domain: &Domain) -> Option<Closeness> {
        let mut name = domain.as_str();
        if self.exact.contains(name) {
            return Some(Closeness::Exact);
        }
        if self.below.is_empty() || name.parse::<Ipv4Addr>().is_ok() {
            return None;
        }
        while let Some((_, rest)) = name.split_once('.') {
            if self.below.contains(rest) {
                return Some(Closeness::Below(rest.len()));
            }
            name = rest;
        }
        None
    }

    /// The entries that are on both lists, as they are written.
    pub fn shared(&self, other: &DomainList) -> Vec<String> {
        let exact = self.exact.intersection(&other.exact);
        let below = self.below.intersection(&other.below);
        let exact = exact.map(|domain| domain.as_str().to_owned());
        exact
            .chain(below.map(|domain| format!("{BELOW}{domain}")))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> DomainList {
        let mut list = DomainList::default();
        for entry in entries {
            list.add(entry).unwrap();
        }
        list
    }

    fn closest(list: &DomainList, domain: &str) -> Option<Closeness> {
        list.closest(&Domain::parse(domain).unwrap())
    }

    #[test]
    fn a_name_is_itself_and_a_wildcard_is_all_below_it() {
        let list = list(&["example.org", "*.example.net"]);
        let below = Some(Closeness::Below("example.net".len()));
        for (domain, expected) in [
            ("example.org", Some(Closeness::Exact)),
            ("EXAMPLE.org", Some(Closeness::Exact)),
            ("a.example.org", None),
            ("example.net", None),
            ("a.example.net", below),
            ("a.b.example.net", below),
            ("badexample.net", None),
            ("example.net.org", None),
            ("org", None),
        ] {
            assert_eq!(closest(&list, domain), expected, "{domain}");
        }
    }

    #[test]
    fn the_closest_entry_counts() {
        let list = list(&["*.org", "*.example.org", "a.example.org"]);
        let found = ["a.example.org", "b.example.org", "b.org"].map(|name| closest(&list, name));
        let [exact, near, far] = found.map(Option::unwrap);
        assert!(exact > near && near > far);
    }

    #[test]
    fn names_are_prepared_and_addresses_have_nothing_above_them() {
        let list = list(&["*.bücher.example", "*.2.7"]);
        assert!(list.contains(&Domain::parse("chat.XN--BCHER-KVA.example").unwrap()));
        assert!(!list.contains(&Domain::parse("192.0.2.7").unwrap()));
    }

    #[test]
    fn other_wildcards_are_no_entries() {
        let mut list = DomainList::default();
        for entry in [
            "*",
            "*.",
            "*.*.org",
            "a*.org",
            "a.*.org",
            "",
            "a@example.org",
        ] {
            assert!(list.add(entry).is_err(), "{entry}");
        }
        assert!(list.is_empty());
        assert_eq!(list.closest(&Domain::parse("example.org").unwrap()), None);
    }

    #[test]
    fn shared_entries_are_those_that_are_the_same() {
        let one = list(&["a.org", "*.b.org", "c.org"]);
        let other = list(&["c.org", "*.b.org", "b.org", "*.a.org"]);
        assert_eq!(one.shared(&other), ["c.org", "*.b.org"]);
    }
}
