//! What clients keep on the server for their account: private XML (XEP-0049) and the vCard (XEP-0054).

use rusqlite::{OptionalExtension, params};

use super::accounts::malformed;
use super::{Db, StoreError};
use crate::jid::BareJid;
use crate::xml::Payload;

/// Private XML elements of one namespace and name, as they are to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Private {
    /// The namespace of the elements.
    pub ns: String,
    /// Their name.
    pub name: String,
    /// Their canonical XML, one after another; none deletes what is stored.
    pub xml: Option<Vec<u8>>,
}

impl Private {
    /// What it counts for the quota.
    fn bytes(&self) -> usize {
        let xml = self.xml.as_ref();
        xml.map_or(0, |xml| self.ns.len() + self.name.len() + xml.len())
    }
}

/// What became of data that an account wants to have stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is.
    Yes,
    /// It is not: the account would have more than it may.
    OverQuota,
}

/// The private elements of a namespace and name.
///
/// # Errors
/// [`StoreError::Malformed`] if what is stored is no XML. Here and below those of the database come on
/// top of what each function names.
pub fn private(
    db: &Db,
    account: &BareJid,
    ns: &str,
    name: &str,
) -> Result<Option<Payload>, StoreError> {
    let mut statement = db.connection().prepare_cached(
        "SELECT xml FROM private_data
         WHERE account = (SELECT id FROM account WHERE jid = ?1) AND ns = ?2 AND name = ?3",
    )?;
    let row = statement.query_row(params![account.as_str(), ns, name], |row| row.get(0));
    let damaged = || {
        malformed(
            "private_data.xml",
            &format!("<{name} xmlns='{ns}'> and no XML"),
        )
    };
    payload(row.optional()?, damaged)
}

/// What a column of canonical XML holds.
fn payload(
    xml: Option<Vec<u8>>,
    damaged: impl FnOnce() -> StoreError,
) -> Result<Option<Payload>, StoreError> {
    let read = |xml| Payload::from_canonical(xml).ok_or_else(damaged);
    xml.map(read).transpose()
}

/// Stores private elements, each in place of those of its namespace and name; all or none of them.
/// `bytes_max` bounds the XML, namespaces and names of the account's private data together.
///
/// # Errors
/// [`StoreError::NotFound`] if there is no such account.
pub fn set_private(
    db: &Db,
    account: &BareJid,
    items: &[Private],
    bytes_max: u64,
) -> Result<Stored, StoreError> {
    let id = super::accounts::find(db, account)?
        .ok_or(StoreError::NotFound)?
        .id;
    let (others, old) = bytes_beside(db, id, items)?;
    let new = items.iter().map(Private::bytes).sum::<usize>() as u64;
    // Who has more than it may since an operator has lowered the bound can still have less.
    if others.saturating_add(new) > bytes_max && new > old {
        return Ok(Stored::OverQuota);
    }
    for item in items {
        db.connection()
            .prepare_cached(
                "DELETE FROM private_data WHERE account = ?1 AND ns = ?2 AND name = ?3",
            )?
            .execute(params![id, item.ns, item.name])?;
        if let Some(xml) = &item.xml {
            db.connection()
                .prepare_cached(
                    "INSERT INTO private_data (account, ns, name, xml) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![id, item.ns, item.name, xml])?;
        }
    }
    Ok(Stored::Yes)
}

/// Bytes of an account's private data that `items` do not replace, and of what they do.
fn bytes_beside(db: &Db, account: i64, items: &[Private]) -> Result<(u64, u64), StoreError> {
    let mut statement = db
        .connection()
        .prepare_cached("SELECT ns, name, length(xml) FROM private_data WHERE account = ?1")?;
    let mut rows = statement.query([account])?;
    let (mut others, mut old) = (0_u64, 0_u64);
    while let Some(row) = rows.next()? {
        let (ns, name, xml): (String, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let bytes = (ns.len() + name.len()) as u64 + u64::try_from(xml).unwrap_or_default();
        if items.iter().any(|item| item.ns == ns && item.name == name) {
            old += bytes;
        } else {
            others += bytes;
        }
    }
    Ok((others, old))
}

/// The vCard of an account that is enabled.
///
/// # Errors
/// [`StoreError::Malformed`] if what is stored is no XML.
pub fn vcard(db: &Db, account: &BareJid) -> Result<Option<Payload>, StoreError> {
    let mut statement = db.connection().prepare_cached(
        "SELECT xml FROM vcard
         WHERE account = (SELECT id FROM account WHERE jid = ?1 AND enabled)",
    )?;
    let row = statement.query_row([account.as_str()], |row| row.get(0));
    payload(row.optional()?, || malformed("vcard.xml", "no XML"))
}

/// Replaces the vCard of an account; none deletes it.
///
/// # Errors
/// [`StoreError::NotFound`] if there is no such account.
pub fn set_vcard(db: &Db, account: &BareJid, xml: Option<&[u8]>) -> Result<(), StoreError> {
    let id = super::accounts::find(db, account)?
        .ok_or(StoreError::NotFound)?
        .id;
    match xml {
        Some(xml) => db
            .connection()
            .prepare_cached("INSERT OR REPLACE INTO vcard (account, xml) VALUES (?1, ?2)")?
            .execute(params![id, xml])?,
        None => db
            .connection()
            .prepare_cached("DELETE FROM vcard WHERE account = ?1")?
            .execute([id])?,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Wall;
    use crate::sasl::Credentials;
    use crate::storage::{WriterCore, accounts};

    fn site() -> (WriterCore, BareJid) {
        let core = WriterCore::memory(&[7; 32]).unwrap();
        let juliet = BareJid::parse("juliet@example.org").unwrap();
        accounts::create(core.db(), &juliet, &Credentials::default(), Wall::default()).unwrap();
        (core, juliet)
    }

    fn item(name: &str, xml: Option<&str>) -> Private {
        Private {
            ns: "storage:bookmarks".to_owned(),
            name: name.to_owned(),
            xml: xml.map(|xml| xml.as_bytes().to_vec()),
        }
    }

    fn kept(core: &WriterCore, juliet: &BareJid, name: &str) -> Option<String> {
        let xml = private(core.db(), juliet, "storage:bookmarks", name).unwrap();
        xml.map(|xml| String::from_utf8(xml.bytes().to_vec()).unwrap())
    }

    #[test]
    fn private_elements_replace_those_of_their_namespace_and_name_only() {
        let (core, juliet) = site();
        let both = [item("a", Some("<a/>")), item("b", Some("<b/>"))];
        assert_eq!(
            set_private(core.db(), &juliet, &both, 1000),
            Ok(Stored::Yes)
        );
        let new = [item("a", Some("<a>1</a>"))];
        assert_eq!(set_private(core.db(), &juliet, &new, 1000), Ok(Stored::Yes));
        assert_eq!(kept(&core, &juliet, "a").as_deref(), Some("<a>1</a>"));
        assert_eq!(kept(&core, &juliet, "b").as_deref(), Some("<b/>"));
        let none = [item("a", None)];
        assert_eq!(
            set_private(core.db(), &juliet, &none, 1000),
            Ok(Stored::Yes)
        );
        assert_eq!(kept(&core, &juliet, "a"), None);
    }

    #[test]
    fn a_quota_counts_all_that_the_account_keeps() {
        let (core, juliet) = site();
        let each = "storage:bookmarks".len() + "a".len() + "<a/>".len();
        let max = 2 * each as u64;
        let two = [item("a", Some("<a/>")), item("b", Some("<b/>"))];
        assert_eq!(set_private(core.db(), &juliet, &two, max), Ok(Stored::Yes));
        let third = [item("c", Some("<c/>"))];
        let verdict = set_private(core.db(), &juliet, &third, max);
        assert_eq!(verdict, Ok(Stored::OverQuota));
        assert_eq!(kept(&core, &juliet, "c"), None);
        let same_size = [item("a", Some("<b/>"))];
        assert_eq!(
            set_private(core.db(), &juliet, &same_size, max),
            Ok(Stored::Yes)
        );
        let longer = [item("a", Some("<bb/>"))];
        let verdict = set_private(core.db(), &juliet, &longer, max);
        assert_eq!(verdict, Ok(Stored::OverQuota));
        assert_eq!(kept(&core, &juliet, "a").as_deref(), Some("<b/>"));
    }

    /// An operator may lower the quota below what is stored.
    #[test]
    fn who_is_over_the_quota_may_store_less_than_before_but_not_more() {
        let (core, juliet) = site();
        let all = [item("a", Some("<a>1</a>")), item("b", Some("<b/>"))];
        assert_eq!(set_private(core.db(), &juliet, &all, 1000), Ok(Stored::Yes));
        let set = |one: Private| set_private(core.db(), &juliet, &[one], 10);
        assert_eq!(set(item("a", Some("<a>22</a>"))), Ok(Stored::OverQuota));
        assert_eq!(set(item("c", Some("<c/>"))), Ok(Stored::OverQuota));
        assert_eq!(set(item("a", Some("<a/>"))), Ok(Stored::Yes));
        assert_eq!(set(item("b", None)), Ok(Stored::Yes));
        assert_eq!(kept(&core, &juliet, "a").as_deref(), Some("<a/>"));
        assert_eq!(kept(&core, &juliet, "b"), None);
    }

    #[test]
    fn a_vcard_of_a_disabled_account_is_not_shown() {
        let (core, juliet) = site();
        set_vcard(core.db(), &juliet, Some(b"<vCard/>")).unwrap();
        let shown = vcard(core.db(), &juliet).unwrap().unwrap();
        assert_eq!(shown.bytes(), b"<vCard/>");
        accounts::set_enabled(core.db(), &juliet, false).unwrap();
        assert_eq!(vcard(core.db(), &juliet).unwrap(), None);
    }

    /// What is damaged is told apart from what is not there, and can be stored anew.
    #[test]
    fn a_damaged_row_is_an_error_that_names_its_kind_and_is_replaced() {
        let (core, juliet) = site();
        let (db, one) = (core.db(), [item("a", Some("<a/>"))]);
        set_vcard(db, &juliet, Some(b"<vCard/>")).unwrap();
        set_private(db, &juliet, &one, 1000).unwrap();
        let damage = "UPDATE vcard SET xml = x'3c'; UPDATE private_data SET xml = x'ff'";
        db.connection().execute_batch(damage).unwrap();
        let error = vcard(db, &juliet).unwrap_err();
        assert!(error.to_string().contains("vcard.xml"), "{error}");
        let error = private(db, &juliet, "storage:bookmarks", "a").unwrap_err();
        let told = error.to_string();
        assert!(matches!(error, StoreError::Malformed(_)), "{told}");
        assert!(
            told.contains("private_data.xml") && told.contains("storage:bookmarks"),
            "{told}"
        );
        set_vcard(db, &juliet, Some(b"<vCard/>")).unwrap();
        set_private(db, &juliet, &one, 1000).unwrap();
        assert!(vcard(db, &juliet).unwrap().is_some());
        assert_eq!(kept(&core, &juliet, "a").as_deref(), Some("<a/>"));
    }

    #[test]
    fn a_deleted_account_leaves_nothing_and_nobody_has_no_data() {
        let (core, juliet) = site();
        set_vcard(core.db(), &juliet, Some(b"<vCard/>")).unwrap();
        set_private(core.db(), &juliet, &[item("a", Some("<a/>"))], 1000).unwrap();
        accounts::delete(core.db(), &juliet).unwrap();
        for table in ["vcard", "private_data"] {
            let sql = format!("SELECT count(*) FROM {table}");
            let rows: i64 = core
                .db()
                .connection()
                .query_row(&sql, [], |row| row.get(0))
                .unwrap();
            assert_eq!(rows, 0, "{table}");
        }
        assert_eq!(
            set_vcard(core.db(), &juliet, None),
            Err(StoreError::NotFound)
        );
        let nobody = set_private(core.db(), &juliet, &[], 1000);
        assert_eq!(nobody, Err(StoreError::NotFound));
    }
}
