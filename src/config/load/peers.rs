//! `[s2s.peer."name"]`, at top level or in a domain.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Key, Reader, Written};
use crate::config::options::{self, Draft, PEER};
use crate::config::{S2sPeer, suggest};
use crate::jid::Domain;

impl<'a> Reader<'a> {
    /// All of them. What a domain says of a server wins, option by option, over what it inherits.
    pub(super) fn peers(
        &mut self,
        key: &Key<'_>,
        value: &'a Spanned<DeValue<'a>>,
        draft: &mut Draft,
        written: &mut Written,
    ) {
        let Some(table) = value.get_ref().as_table() else {
            self.no_peer(key, "peer", written);
            return;
        };
        let mut in_order: Vec<_> = table.iter().collect();
        in_order.sort_by_key(|(key, _)| key.span().start);
        let mut names = BTreeMap::new();
        for (key, value) in in_order {
            let name = key.get_ref().as_ref();
            let Some(table) = value.get_ref().as_table() else {
                self.no_peer(key, name, written);
                continue;
            };
            let prepared = match Domain::parse(name) {
                Ok(prepared) => prepared,
                Err(error) => {
                    let error = error.to_string();
                    let what = error.split(';').next().unwrap_or_default();
                    let text =
                        format!("s2s.peer {name:?}: {what}; write a name like \"example.net\"");
                    self.found.add(&key.span(), text);
                    written.broken = true;
                    continue;
                }
            };
            if let Some(other) = names.insert(prepared.clone(), name) {
                let text = format!(
                    "s2s.peer {name:?} is the same as {other:?} above; leave one of the two"
                );
                self.found.add(&key.span(), text);
            }
            self.peer(name, prepared, table, draft, written);
        }
    }

    fn peer(
        &mut self,
        name: &str,
        prepared: Domain,
        table: &'a DeTable<'a>,
        draft: &mut Draft,
        written: &mut Written,
    ) {
        let inherited = draft.domain.s2s.peers.remove(&prepared);
        draft.peer = inherited.unwrap_or_default();
        let mut tls = None;
        for (key, value) in table {
            let option = key.get_ref().as_ref();
            if let Some(spec) = options::find(PEER, option) {
                if option == "tls" {
                    tls = Some(value.span());
                }
                let full = format!("s2s.peer.{name:?}.{option}");
                self.named_option(spec, full, value, draft, written);
            } else {
                self.found
                    .add(&key.span(), suggest::in_peer(name, option, value.get_ref()));
                written.broken = true;
            }
        }
        let peer = std::mem::take(&mut draft.peer);
        let is_alone = self.is_whole && peer.is_direct_tls && peer.address.is_none();
        if let Some(span) = tls.filter(|_| is_alone) {
            let text = format!(
                "s2s.peer.{name:?}.tls is about s2s.peer.{name:?}.address, which is not set; the \
                 DNS says how TLS begins elsewhere"
            );
            self.found.add(&span, text);
        }
        if peer != S2sPeer::default() {
            draft.domain.s2s.peers.insert(prepared, peer);
        }
    }

    fn no_peer(&mut self, key: &Key<'_>, name: &str, written: &mut Written) {
        let text = format!(
            "s2s.{name} is a section for each server; write [s2s.peer.\"example.net\"] once, with \
             its options on lines below"
        );
        let text = match name {
            "peer" => text,
            option => format!(
                "s2s.peer.{option} is about no server; write it below [s2s.peer.\"example.net\"]"
            ),
        };
        self.found.add(&key.span(), text);
        written.broken = true;
    }
}
