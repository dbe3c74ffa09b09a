//! The keys that other servers have shown in their certificates, so that a change is noticed
//! (RFC 7590 §3.6).

use rusqlite::{OptionalExtension, params};

use super::accounts::{from_column, malformed, to_column};
use super::{Db, StoreError};
use crate::clock::Wall;
use crate::jid::Domain;

/// SHA-256 of the key of a certificate.
pub type KeyDigest = [u8; 32];

/// A key that is seen again is written no more often: one write for each server and day.
const SEEN_MICROS: u64 = 24 * 3600 * 1_000_000;

/// What is known of the certificates that the server of a remote domain has shown to a local one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerKey {
    /// The key that was seen last.
    pub key: KeyDigest,
    /// When it was seen first.
    pub since: Wall,
    /// When it was seen last, give or take a day.
    pub seen: Wall,
    /// The one before it.
    pub previous: Option<KeyDigest>,
}

/// Notes that a server that is proven has shown a key. Yields what was known, if that was another key.
/// Of more than `max` servers the one that was not seen for longest is forgotten.
///
/// # Errors
/// Only those of the database, here and below.
pub fn note(
    db: &Db,
    (local, remote): (&Domain, &Domain),
    key: &KeyDigest,
    now: Wall,
    max: usize,
) -> Result<Option<PeerKey>, StoreError> {
    let known = find(db, local, remote)?;
    let write = |since: Wall, previous: Option<KeyDigest>| {
        db.connection()
            .prepare_cached(
                "INSERT OR REPLACE INTO peer_key (remote, local, key, since, seen, previous)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                remote.as_str(),
                local.as_str(),
                key.as_slice(),
                to_column(since),
                to_column(now),
                previous.as_ref().map(KeyDigest::as_slice),
            ])
    };
    match known {
        Some(known) if known.key == *key => {
            if now.micros().abs_diff(known.seen.micros()) >= SEEN_MICROS {
                write(known.since, known.previous)?;
            }
            Ok(None)
        }
        Some(known) => {
            write(now, Some(known.key))?;
            Ok(Some(known))
        }
        None => {
            write(now, None)?;
            forget(db, max)?;
            Ok(None)
        }
    }
}

/// What is known of a server; none if it never was proven with a certificate.
pub fn find(db: &Db, local: &Domain, remote: &Domain) -> Result<Option<PeerKey>, StoreError> {
    let digest = |bytes: Vec<u8>, column| {
        KeyDigest::try_from(bytes).map_err(|_| malformed(column, "(no SHA-256)"))
    };
    let row = db
        .connection()
        .prepare_cached(
            "SELECT key, since, seen, previous FROM peer_key WHERE remote = ?1 AND local = ?2",
        )?
        .query_row(params![remote.as_str(), local.as_str()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .optional()?;
    let row: Option<(Vec<u8>, i64, i64, Option<Vec<u8>>)> = row;
    row.map(|(key, since, seen, previous)| {
        Ok(PeerKey {
            key: digest(key, "peer_key.key")?,
            since: Wall::from_micros(from_column(since, "peer_key.since")?),
            seen: Wall::from_micros(from_column(seen, "peer_key.seen")?),
            previous: previous
                .map(|bytes| digest(bytes, "peer_key.previous"))
                .transpose()?,
        })
    })
    .transpose()
}

fn forget(db: &Db, max: usize) -> Result<(), StoreError> {
    let max = i64::try_from(max).unwrap_or(i64::MAX);
    db.connection()
        .prepare_cached(
            "DELETE FROM peer_key WHERE (remote, local) IN
             (SELECT remote, local FROM peer_key ORDER BY seen DESC LIMIT -1 OFFSET ?1)",
        )?
        .execute([max])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::WriterCore;

    const DAY: u64 = SEEN_MICROS;

    fn domain(name: &str) -> Domain {
        Domain::parse(name).unwrap()
    }

    fn see(db: &Db, remote: &str, key: u8, at: u64) -> Option<PeerKey> {
        let (local, remote) = (domain("example.org"), domain(remote));
        note(db, (&local, &remote), &[key; 32], Wall::from_micros(at), 2).unwrap()
    }

    fn known(db: &Db, remote: &str) -> Option<PeerKey> {
        find(db, &domain("example.org"), &domain(remote)).unwrap()
    }

    #[test]
    fn a_key_that_differs_from_the_one_before_is_told_with_that() {
        let core = WriterCore::memory(&[7; 32]).unwrap();
        let db = core.db();
        assert_eq!(see(db, "example.net", 1, DAY), None);
        assert_eq!(see(db, "example.net", 1, 2 * DAY - 1), None);
        assert_eq!(
            known(db, "example.net").unwrap().seen,
            Wall::from_micros(DAY)
        );
        assert_eq!(see(db, "example.net", 1, 3 * DAY), None);
        let before = see(db, "example.net", 2, 4 * DAY).unwrap();
        assert_eq!(
            (before.key, before.since),
            ([1; 32], Wall::from_micros(DAY))
        );
        assert_eq!(before.seen, Wall::from_micros(3 * DAY));
        let now = known(db, "example.net").unwrap();
        assert_eq!((now.key, now.previous), ([2; 32], Some([1; 32])));
        // Each pair has its own.
        let other = (&domain("example.com"), &domain("example.net"));
        assert_eq!(note(db, other, &[3; 32], Wall::default(), 9).unwrap(), None);
    }

    #[test]
    fn of_too_many_servers_the_one_that_was_not_seen_for_longest_is_forgotten() {
        let core = WriterCore::memory(&[7; 32]).unwrap();
        let db = core.db();
        see(db, "a.example", 1, DAY);
        see(db, "b.example", 1, 2 * DAY);
        see(db, "a.example", 1, 3 * DAY);
        see(db, "c.example", 1, 4 * DAY);
        assert_eq!(known(db, "b.example"), None);
        assert!(known(db, "a.example").is_some() && known(db, "c.example").is_some());
    }

    #[test]
    fn a_damaged_row_is_an_error() {
        let core = WriterCore::memory(&[7; 32]).unwrap();
        see(core.db(), "a.example", 1, DAY);
        let sql = "UPDATE peer_key SET key = x'00'";
        core.db().connection().execute(sql, []).unwrap();
        assert!(find(core.db(), &domain("example.org"), &domain("a.example")).is_err());
    }
}
