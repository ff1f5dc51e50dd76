//! The tables of a store.
//!
//! A row of `sub` (requests) and `res` (results) holds a chunk, packed as `chunk.rs` says, and a row
//! of `err` one failure; `format.rs` has their ids. A row of `att` has the earlier attempts at a
//! request without a result. `gone` names the jobs whose rows are still to be removed: of `sub` and
//! `att` alone, or all.

use rusqlite::Connection;

use crate::error::Fault;
use crate::format::VERSION;

/// What SQLite's header says whose file it is: "Gios".
const APPLICATION: i64 = i64::from_be_bytes(*b"\0\0\0\0Gios");

const TABLES: &str = "
    CREATE TABLE meta (home INTEGER NOT NULL);
    CREATE TABLE job (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        owner TEXT NOT NULL,
        pool TEXT NOT NULL,
        key TEXT NOT NULL,
        spec BLOB NOT NULL,
        state INTEGER NOT NULL,
        requests INTEGER NOT NULL,
        succeeded INTEGER NOT NULL,
        failed INTEGER NOT NULL,
        submitted_ms INTEGER NOT NULL,
        ended_ms INTEGER NOT NULL,
        expires_ms INTEGER NOT NULL,
        UNIQUE (owner, pool, key)
    );
    CREATE INDEX job_owner ON job (owner);
    CREATE INDEX job_live ON job (state) WHERE state < 2;
    CREATE INDEX job_expiry ON job (expires_ms, ended_ms) WHERE expires_ms > 0;
    CREATE TABLE sub (id INTEGER PRIMARY KEY, t BLOB NOT NULL, b BLOB NOT NULL);
    CREATE TABLE res (id INTEGER PRIMARY KEY, t BLOB NOT NULL, b BLOB NOT NULL);
    CREATE TABLE err (id INTEGER PRIMARY KEY, b BLOB NOT NULL);
    CREATE TABLE att (id INTEGER PRIMARY KEY, lost INTEGER NOT NULL, failed INTEGER NOT NULL);
    CREATE TABLE gone (job INTEGER PRIMARY KEY, everything INTEGER NOT NULL);
";

/// Whose a file is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// When this version wrote it.
    Ours,
    /// When a newer version wrote it: which.
    Newer(i64),
    /// When an older version wrote it: which.
    Older(i64),
    /// When something else wrote it.
    Foreign,
}

/// Makes the tables of an empty store, in one transaction.
pub(crate) fn make(db: &mut Connection, home: u32) -> Result<(), Fault> {
    let make = db.transaction()?;
    make.execute_batch(TABLES)?;
    make.execute("INSERT INTO meta (home) VALUES (?)", [home])?;
    make.pragma_update(None, "application_id", APPLICATION)?;
    make.pragma_update(None, "user_version", VERSION)?;
    Ok(make.commit()?)
}

/// Finds out whose the file is.
pub(crate) fn whose(db: &Connection) -> Result<Whose, Fault> {
    let number = |pragma| db.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    if number("application_id")? != APPLICATION {
        return Ok(Whose::Foreign);
    }
    match number("user_version")? {
        VERSION => Ok(Whose::Ours),
        newer if newer > VERSION => Ok(Whose::Newer(newer)),
        older if older > 0 => Ok(Whose::Older(older)),
        _ => Err(Fault::Damaged("its format has no number".into())),
    }
}

/// Reads the store's random number.
pub(crate) fn home(db: &Connection) -> Result<u32, Fault> {
    match db.query_row("SELECT home FROM meta", [], |row| row.get(0))? {
        0 => Err(Fault::Damaged("its number is 0".into())),
        home => Ok(home),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_known_by_its_header() {
        let mut db = Connection::open_in_memory().unwrap();
        assert_eq!(whose(&db).unwrap(), Whose::Foreign);
        make(&mut db, 7).unwrap();
        assert_eq!(whose(&db).unwrap(), Whose::Ours);
        assert_eq!(home(&db).unwrap(), 7);
        db.pragma_update(None, "user_version", VERSION + 1).unwrap();
        assert_eq!(whose(&db).unwrap(), Whose::Newer(VERSION + 1));
        db.pragma_update(None, "user_version", VERSION - 1).unwrap();
        assert_eq!(whose(&db).unwrap(), Whose::Older(VERSION - 1));
        db.pragma_update(None, "user_version", 0).unwrap();
        assert!(whose(&db).is_err());
    }
}
