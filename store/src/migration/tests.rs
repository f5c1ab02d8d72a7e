//! A file of version 1 becomes one of today, whatever comes between.

use super::*;
use rusqlite::types::Value;
use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

/// As the first version has left it: three sessions with messages, refusals and messages to clients.
const VERSION_1: &[u8] = include_bytes!("../../tests/fixtures/version-1.db");
/// Tells this executable, run again, which file it has to bring up to date until it is killed.
const CHILD: &str = "PULSEGATE_STORE_MIGRATED";
/// Far longer than anything here takes: what fails by it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A step that writes as much as the log must take, and then doesn't end.
const ENDLESS: &str = "
CREATE TABLE copies (payload BLOB);
WITH RECURSIVE numbers (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM numbers LIMIT 2000)
INSERT INTO copies SELECT randomblob(2000) FROM numbers;
DELETE FROM messages;
WITH RECURSIVE numbers (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM numbers LIMIT 1000000000000)
SELECT count(*) FROM numbers;";

fn store_of_version_1() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("pulsegate.db"), VERSION_1).unwrap();
    directory
}

fn migrated(directory: &Path) -> Connection {
    let file = directory.join("pulsegate.db");
    let connection = Connection::open(&file).unwrap();
    migrate(&connection, &file.with_extension("db-wal")).unwrap();
    connection
}

/// The rows of a query, each as a line.
fn lines(connection: &Connection, sql: &str) -> Vec<String> {
    let mut select = connection.prepare(sql).unwrap();
    let columns = select.column_count();
    let cell = |row: &rusqlite::Row<'_>, place| {
        let value: Value = row.get_unwrap(place);
        if let Value::Text(text) = value { text } else { format!("{value:?}") }
    };
    let rows = select.query_map([], |row| Ok((0..columns).map(|place| cell(row, place)).collect::<Vec<_>>()));
    rows.unwrap().map(|row| row.unwrap().join(" ")).collect()
}

/// Tables with their columns and indexes, as SQLite understands them and not as they are written down.
fn shape(connection: &Connection) -> BTreeMap<String, Vec<String>> {
    let names = lines(connection, "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name");
    let mut shape = BTreeMap::new();
    for name in names {
        let mut table = lines(connection, &format!("SELECT * FROM pragma_table_list('{name}')"));
        table.extend(lines(connection, &format!("SELECT * FROM pragma_table_xinfo('{name}')")));
        table.extend(lines(
            connection,
            &format!(
                "SELECT list.name, list.\"unique\", list.partial, info.* FROM pragma_index_list('{name}') AS list,
                 pragma_index_xinfo(list.name) AS info ORDER BY list.name, info.seqno"
            ),
        ));
        shape.insert(name, table);
    }
    let indexes =
        "SELECT name, sql FROM sqlite_schema WHERE type NOT IN ('table') AND sql NOT NULL ORDER BY name";
    shape.insert("others".to_owned(), lines(connection, indexes));
    shape
}

#[test]
fn a_migrated_file_has_the_tables_of_a_new_one() {
    let (old, new) = (store_of_version_1(), tempfile::tempdir().unwrap());
    let [old, new] = [migrated(old.path()), migrated(new.path())];
    assert_eq!(shape(&old), shape(&new));
    assert_eq!(schema_version(&old).unwrap(), SCHEMA_VERSION);
    let rows = "SELECT (SELECT count(*) FROM sessions), (SELECT count(*) FROM messages),
                (SELECT count(*) FROM refusals), (SELECT count(*) FROM outgoing)";
    assert_eq!(lines(&old, rows), ["Integer(3) Integer(62) Integer(1) Integer(2)"]);
    assert_eq!(lines(&old, "PRAGMA integrity_check"), ["ok"]);
    for connection in [&old, &new] {
        let identity = "SELECT typeof(incarnation), octet_length(incarnation) FROM identity";
        assert!(lines(connection, identity)[0].ends_with("Integer(16)"));
    }
}

/// Ends the child whatever becomes of the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_process_killed_in_the_middle_of_a_step_leaves_the_version_before_it() {
    let directory = store_of_version_1();
    for _ in 0..3 {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["migration::tests::work_until_killed", "--exact", "--test-threads=1"])
            .env(CHILD, directory.path())
            .stdout(Stdio::null())
            .spawn();
        let child = Ended(child.unwrap());
        let log = directory.path().join("pulsegate.db-wal");
        let start = Instant::now();
        while std::fs::metadata(&log).map_or(0, |metadata| metadata.len()) < 2 << 20 {
            assert!(start.elapsed() < PATIENCE, "the step writes");
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(child);
        let connection = Connection::open(directory.path().join("pulsegate.db")).unwrap();
        assert_eq!(schema_version(&connection).unwrap(), SCHEMA_VERSION, "the steps before it are done");
        let rows = "SELECT (SELECT count(*) FROM messages), (SELECT count(*) FROM sqlite_schema WHERE name = 'copies')";
        assert_eq!(lines(&connection, rows), ["Integer(62) Integer(0)"]);
        assert_eq!(lines(&connection, "PRAGMA integrity_check"), ["ok"]);
    }
}

/// The process that is killed.
#[test]
fn work_until_killed() {
    let Some(directory) = std::env::var_os(CHILD) else { return };
    let file = Path::new(&directory).join("pulsegate.db");
    let connection = Connection::open(&file).unwrap();
    connection.execute_batch("PRAGMA cache_size = -256").unwrap();
    let steps: Vec<_> = STEPS.into_iter().chain([ENDLESS]).collect();
    let from = schema_version(&connection).unwrap();
    take_steps(&connection, &file.with_extension("db-wal"), from, &steps, PATIENCE, &|_| {}).unwrap();
}

#[test]
fn a_step_that_fails_leaves_the_version_before_it() {
    let directory = store_of_version_1();
    let connection = Connection::open(directory.path().join("pulsegate.db")).unwrap();
    let steps = [STEPS[0], "DELETE FROM messages; INSERT INTO nothing VALUES (1);"];
    let log = directory.path().join("pulsegate.db-wal");
    take_steps(&connection, &log, 1, &steps, PATIENCE, &|_| {}).unwrap_err();
    assert_eq!(schema_version(&connection).unwrap(), 2);
    assert_eq!(lines(&connection, "SELECT count(*) FROM messages"), ["Integer(62)"]);
}

#[test]
fn a_step_that_takes_long_is_told_of_while_it_runs() {
    let connection = Connection::open_in_memory().unwrap();
    let told = Mutex::new(Vec::new());
    let step =
        "WITH RECURSIVE numbers (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM numbers LIMIT 3000000)
                SELECT count(*) FROM numbers;";
    let report = |progress: &Progress| told.lock().unwrap().push((progress.to, progress.elapsed));
    take_steps(&connection, Path::new(""), 1, &[step], Duration::from_millis(1), &report).unwrap();
    let told = told.into_inner().unwrap();
    assert!(told.len() > 1 && told.iter().all(|(to, _)| *to == 2), "{told:?}");
    assert!(told.is_sorted());
}
