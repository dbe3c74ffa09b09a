use super::*;
use crate::clock::Wall;
use crate::jid::BareJid;
use crate::sasl::Credentials;

const SECRET: [u8; 32] = [7; 32];

fn core() -> WriterCore {
    let core = WriterCore::memory(&SECRET).unwrap();
    core.db
        .connection()
        .execute_batch(
            "CREATE TABLE t (x INTEGER PRIMARY KEY, y BLOB) STRICT;
             CREATE TABLE late (x REFERENCES t DEFERRABLE INITIALLY DEFERRED);",
        )
        .unwrap();
    core
}

fn insert(x: i64) -> ChangeFn {
    Box::new(move |db| {
        db.connection()
            .execute("INSERT INTO t (x) VALUES (?1)", [x])?;
        Ok(Box::new(x))
    })
}

fn sql(text: &'static str) -> ChangeFn {
    Box::new(move |db| {
        db.connection().execute_batch(text)?;
        Ok(Box::new(()))
    })
}

fn batch(changes: Vec<ChangeFn>) -> Batch {
    let changes = (1..).zip(changes).collect();
    Batch {
        changes,
        ..Batch::default()
    }
}

fn stored(core: &WriterCore) -> Vec<i64> {
    let mut statement = core
        .db
        .connection()
        .prepare("SELECT x FROM t ORDER BY x")
        .unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

/// The errors of an answer's changes, `None` where one succeeded.
fn errors(answer: &Answer) -> Vec<Option<StoreError>> {
    let Answer::Committed { changes, .. } = answer else {
        panic!("a batch is answered by a commit");
    };
    changes
        .iter()
        .map(|(_, result)| result.as_ref().err().cloned())
        .collect()
}

fn juliet() -> BareJid {
    BareJid::parse("juliet@example.org").unwrap()
}

#[test]
fn an_error_undoes_its_own_change_and_no_other() {
    let mut core = core();
    let half_done: ChangeFn = Box::new(|db| {
        db.connection()
            .execute("INSERT INTO t (x) VALUES (2)", [])?;
        Err(StoreError::Refused("on second thought"))
    });
    let clash = insert(1);
    let answers = core.commit(vec![
        (0, batch(vec![insert(1), half_done])),
        (1, batch(vec![clash, insert(3)])),
    ]);
    assert_eq!(
        errors(&answers[0].1),
        [None, Some(StoreError::Refused("on second thought"))]
    );
    let second = errors(&answers[1].1);
    assert!(
        matches!(second[0], Some(StoreError::Sqlite { .. })),
        "{second:?}"
    );
    assert_eq!(second[1], None);
    assert_eq!(stored(&core), [1, 3]);
}

#[test]
fn answers_keep_shard_order_ids_and_row_numbers() {
    let mut core = core();
    let mut first = batch(vec![insert(1)]);
    first.last_row = 5;
    let answers = core.commit(vec![(4, first), (2, batch(vec![insert(2), insert(3)]))]);
    let shards: Vec<usize> = answers.iter().map(|(shard, _)| *shard).collect();
    assert_eq!(shards, [4, 2]);
    assert!(matches!(
        answers[0].1,
        Answer::Committed { last_row: 5, .. }
    ));
    let Answer::Committed { changes, .. } = &answers[1].1 else {
        panic!("a batch is answered by a commit");
    };
    let ids: Vec<u64> = changes.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, [1, 2]);
}

#[test]
fn rows_are_written_before_the_changes_of_their_batch() {
    let mut core = core();
    core.change(|db| {
        accounts::create(db, &juliet(), &Credentials::default(), Wall::from_micros(1))
    })
    .unwrap();
    let at = Wall::from_micros(77);
    let see: ChangeFn = Box::new(|db| Ok(Box::new(accounts::find(db, &juliet())?)));
    let mut answers = core.commit(vec![(
        0,
        Batch {
            rows: vec![Row::LastSeen {
                account: juliet(),
                at,
            }],
            last_row: 1,
            changes: vec![(1, see)],
        },
    )]);
    let Some((
        _,
        Answer::Committed {
            rows, mut changes, ..
        },
    )) = answers.pop()
    else {
        panic!("a batch is answered by a commit");
    };
    rows.unwrap();
    let seen = changes.pop().unwrap().1.unwrap();
    let seen = seen.downcast::<Option<accounts::AccountRecord>>().unwrap();
    assert_eq!(seen.unwrap().last_seen, Some(at));
}

#[test]
fn a_failed_commit_fails_each_of_its_jobs() {
    let mut core = core();
    // Deferred keys are checked by COMMIT itself.
    let dangling = sql("INSERT INTO late VALUES (99)");
    let answers = core.commit(vec![
        (0, batch(vec![insert(1)])),
        (1, batch(vec![dangling])),
        (0, batch(vec![insert(2)])),
    ]);
    for (_, answer) in &answers {
        let errors = errors(answer);
        assert!(
            matches!(errors[..], [Some(StoreError::Sqlite { .. })]),
            "{errors:?}"
        );
        assert!(matches!(answer, Answer::Committed { rows: Err(_), .. }));
    }
    assert!(stored(&core).is_empty());
    let answers = core.commit(vec![(0, batch(vec![insert(1)]))]);
    assert_eq!(errors(&answers[0].1), [None]);
}

#[test]
fn a_job_that_hides_the_end_of_its_transaction_fails_the_batch() {
    let mut core = core();
    let answers = core.commit(vec![(
        0,
        batch(vec![insert(1), sql("ROLLBACK"), insert(2)]),
    )]);
    assert!(errors(&answers[0].1).iter().all(Option::is_some));
    assert!(stored(&core).is_empty());
    assert!(core.broken().is_none());
}

#[test]
fn a_full_disk_fails_batches_is_told_once_and_serving_goes_on() {
    let mut core = core();
    let pages: i64 = core
        .db
        .connection()
        .query_row("PRAGMA page_count", [], |row| row.get(0))
        .unwrap();
    let limit = |core: &WriterCore, pages: i64| {
        let sql = format!("PRAGMA max_page_count = {pages}");
        core.db
            .connection()
            .query_row(&sql, [], |_| Ok(()))
            .unwrap();
    };
    limit(&core, pages + 1);
    let big = || sql("INSERT INTO t (y) VALUES (zeroblob(100000))");
    for _ in 0..3 {
        let answers = core.commit(vec![(0, batch(vec![insert(1)])), (1, batch(vec![big()]))]);
        for (_, answer) in &answers {
            assert_eq!(errors(answer), [Some(StoreError::Full)]);
        }
        // One that writes nothing succeeds, and is no sign that there is room again.
        core.commit(vec![(0, batch(vec![sql("SELECT 1")]))]);
    }
    assert_eq!(core.trouble.told(), 1);
    assert!(stored(&core).is_empty());
    limit(&core, pages + 1000);
    let answers = core.commit(vec![(1, batch(vec![big()]))]);
    assert_eq!(errors(&answers[0].1), [None]);
}

#[test]
fn after_a_failed_sync_nothing_is_written_any_more() {
    let mut core = core();
    let failing: ChangeFn = Box::new(|_| {
        let code = ffi::Error::new(ffi::SQLITE_IOERR_FSYNC);
        Err(rusqlite::Error::SqliteFailure(code, None).into())
    });
    let answers = core.commit(vec![(0, batch(vec![insert(1), failing]))]);
    assert!(matches!(
        errors(&answers[0].1)[..],
        [Some(StoreError::Broken(_)), Some(StoreError::Broken(_))]
    ));
    assert!(core.broken().is_some());
    let answers = core.commit(vec![(0, batch(vec![insert(1)]))]);
    assert!(matches!(
        errors(&answers[0].1)[..],
        [Some(StoreError::Broken(_))]
    ));
    assert!(stored(&core).is_empty());
}

#[test]
fn a_crash_loses_what_is_not_committed_and_nothing_else() {
    let mut core = core();
    core.queue(0, batch(vec![insert(1)]));
    assert_eq!(core.commit_queued().len(), 1);
    core.queue(0, batch(vec![insert(2)]));
    core.crash().unwrap();
    assert!(core.commit_queued().is_empty());
    assert_eq!(stored(&core), [1]);
}

#[test]
fn a_crash_with_a_file_keeps_what_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut core = WriterCore::open(&data, Durability::Full).unwrap();
    core.change(|db| {
        accounts::create(db, &juliet(), &Credentials::default(), Wall::from_micros(1))
    })
    .unwrap();
    let secret = accounts::secret(core.db()).unwrap();
    core.db.execute("BEGIN IMMEDIATE").unwrap();
    accounts::delete(core.db(), &juliet()).unwrap();
    core.crash().unwrap();
    assert!(accounts::find(core.db(), &juliet()).unwrap().is_some());
    assert_eq!(accounts::secret(core.db()).unwrap(), secret);
}

#[test]
fn a_read_cannot_write() {
    let core = core();
    let write: ReadFn = insert(1);
    assert!(core.read(write).is_err());
    assert!(stored(&core).is_empty());
}
