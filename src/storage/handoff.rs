//! Subscription stanzas between local accounts, from the commit of the sender's change to that of the
//! recipient's (DESIGN §5).

use super::{Db, StoreError};
use crate::stanza::Stanza;

/// A stanza on its way between two accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handoff {
    /// Of the row.
    pub id: i64,
    /// Presence of one of the four subscription types, from one bare JID to another.
    pub stanza: Stanza,
}

/// Deletes a row, if it is there.
///
/// # Errors
/// Only those of the database.
pub fn delete(db: &Db, id: i64) -> Result<(), StoreError> {
    db.connection()
        .prepare_cached("DELETE FROM handoff WHERE id = ?1")?
        .execute([id])?;
    Ok(())
}
