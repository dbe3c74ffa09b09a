//! What a login reads: the account of a name, and the account that the name would resemble if it had
//! none.
//!
//! Both are read for every name, by the same statements and as many rows, so that neither the answer
//! nor its time depends on which of them counts. An account's own answer comes from its own rows
//! alone: nothing that happens to others changes it.
//!
//! An account of a domain has a place, from 0 up without gaps, by which names find the account that
//! they [resemble](resembled). A new account takes the next place; the account at the last place
//! moves to that of a deleted one. An account's place never shows, and its change of place changes
//! nothing but which names resemble it.
//!
//! Salts tell nothing at any time (`sasl::decoy::salt`), but for those of verifiers that were made
//! elsewhere, up to their account's next password.
//!
//! What remains: whoever asks for a name again and again sees its form change when the account that
//! it resembles gets new credentials, and may see it change when an account is made or deleted.
//! Each such event concerns about `1/n` of the names in a domain of `n` accounts (a deletion twice
//! as many), and only if accounts of the domain differ in form at all. Where they do, some names
//! have to change: if all kept their forms while accounts got new ones, a new form would tell an
//! account.

use rusqlite::OptionalExtension;

use super::accounts::{self, AccountRecord};
use super::{Db, StoreError};
use crate::jid::BareJid;
use crate::sasl::Credentials;
use crate::sasl::decoy::{Form, resembled};

/// What is stored for a login.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// The account with what proves its password, if there is one.
    pub account: Option<(AccountRecord, Credentials)>,
    /// The form that a name without an account shows; none in a domain without accounts.
    pub resembles: Option<Form>,
}

/// Names no account: ids count from 1.
const NOBODY: i64 = 0;
/// The account of a name, and how many places its domain has.
const OWN_AND_PLACES: &str = "
    SELECT id, enabled, generation, created, last_seen,
        (SELECT ifnull(max(place) + 1, 0) FROM account WHERE domain = ?2)
    FROM (SELECT 1) LEFT JOIN account ON jid = ?1";
/// The account at a place; that before it if somebody has edited the table and left a gap.
const AT_PLACE: &str =
    "SELECT id FROM account WHERE domain = ?1 AND place <= ?2 ORDER BY place DESC LIMIT 1";

/// Reads what a login as `jid` needs. The cost does not depend on the number of accounts, but for
/// the depth of the indexes.
///
/// # Errors
/// Those of the database.
pub fn login(db: &Db, jid: &BareJid) -> Result<Login, StoreError> {
    let mut statement = db.connection().prepare_cached(OWN_AND_PLACES)?;
    let (record, places) = statement.query_row((jid.as_str(), jid.domain()), |row| {
        let id: Option<i64> = row.get(0)?;
        Ok((id.map(|_| accounts::record(row)), row.get(5)?))
    })?;
    let record = record.transpose()?;
    let other = resembles(db, jid, places)?;
    let id = record.map(|record| record.id).or(other);
    let own = accounts::credentials_of(db, id.unwrap_or(NOBODY))?;
    let form = accounts::credentials_of(db, other.unwrap_or(NOBODY)).map(|other| other.form());
    Ok(match record {
        // That the other's rows could not be read is no matter of this account.
        Some(record) => Login {
            account: Some((record, own)),
            resembles: None,
        },
        None => Login {
            account: None,
            resembles: other.map(|_| form).transpose()?,
        },
    })
}

/// The id of the account that a name resembles, of a domain with so many places.
fn resembles(db: &Db, jid: &BareJid, places: i64) -> Result<Option<i64>, StoreError> {
    let secret = accounts::secret(db)?;
    let place = resembled(&secret, jid.as_str(), places.unsigned_abs());
    // A place is at most the greatest, which is an integer of SQLite.
    let place = place.map_or(NOBODY, |place| i64::try_from(place).unwrap_or(i64::MAX));
    let mut statement = db.connection().prepare_cached(AT_PLACE)?;
    let id = statement.query_row((jid.domain(), place), |row| row.get(0));
    Ok(id.optional()?)
}

#[cfg(test)]
mod tests;
