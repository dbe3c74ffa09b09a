//! Messages that waited for other servers when this one ended, brought to the shards that send them.

use crate::post::Address;
use crate::router::placement::Placement;
use crate::server::ask;
use crate::shard::Post;
use crate::storage::peer_queue::{PeerMessage, Place, page};
use crate::storage::{Store, StoreError};

/// Hands each to the shard of its peer. Before clients are let in, so that nothing newer overtakes them:
/// a mailbox keeps the order. What comes to be in memory at once is what the queues of the shards had in
/// memory before, and a page.
///
/// # Errors
/// The store's.
pub(super) fn restore(
    store: &Store,
    placement: &Placement,
    shards: &[Address<Post>],
) -> Result<(), StoreError> {
    let (mut after, mut restored) = (Place::default(), 0);
    loop {
        let page = ask(store, move |db| page(db, &after))?;
        restored += page.messages.len();
        let mut by_shard: Vec<Vec<PeerMessage>> = shards.iter().map(|_| Vec::new()).collect();
        for message in page.messages {
            let shard = placement.shard_of(message.remote.as_str()) as usize;
            if let Some(messages) = by_shard.get_mut(shard) {
                messages.push(message);
            }
        }
        for (shard, messages) in shards.iter().zip(by_shard) {
            if !messages.is_empty() {
                shard.send(vec![Post::PeerMessages(messages)]);
            }
        }
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    if restored > 0 {
        log::info!(restored; "messages for other servers go on waiting");
    }
    Ok(())
}
