//! The keys of other servers' certificates, whose change an operator is warned of (RFC 7590 §3.6).

use crate::jid::Domain;
use crate::limits::PEER_KEYS_MAX;
use crate::net::certificate::Pin;
use crate::router::feature::value;
use crate::router::{Continuation, Router, Waiter, storage_value};
use crate::storage::ChangeFn;
use crate::storage::peer_keys::{self, PeerKey};

impl Router {
    /// The server of a remote domain is proven to a local one, and has shown a certificate with this
    /// key. It is remembered in the store; [`peer_keys::find`] tells what is known.
    pub fn peer_key_seen(&mut self, local: Domain, remote: Domain, key: Pin) {
        let now = self.now.wall;
        let domains = (local.clone(), remote.clone());
        let change: ChangeFn = Box::new(move |db| {
            let domains = (&domains.0, &domains.1);
            let before = peer_keys::note(db, domains, &key.digest(), now, PEER_KEYS_MAX)?;
            Ok(value(before))
        });
        let then: Continuation = Box::new(move |_, result| {
            match result.and_then(storage_value::<Option<PeerKey>>) {
                Ok(None) => {}
                Ok(Some(before)) => ::log::warn!(
                    peer:% = remote, local:% = local, key:% = key,
                    before:% = Pin::from(before.key), since:% = before.since.date_time();
                    "server shows another certificate key than before"
                ),
                Err(error) => {
                    ::log::log!(error.level(), peer:% = remote, error:%; "key of server not stored");
                }
            }
        });
        self.change(change, Waiter::Router(then));
    }
}
