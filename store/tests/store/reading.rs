//! A reader beside a gateway that writes.

use crate::driver::{Driver, message};
use pulsegate_store::{ReadError, Reader};

#[test]
fn a_reader_sees_what_is_committed_while_a_gateway_writes() {
    let directory = tempfile::tempdir().unwrap();
    assert!(matches!(Reader::open(directory.path()), Err(ReadError::Missing(_))));
    let mut driver = Driver::open(directory.path());
    let session = driver.begin("a", 1).session();
    let reader = Reader::open(directory.path()).unwrap();
    assert_eq!((reader.newest().unwrap(), reader.messages_after(0, 10).unwrap().len()), (0, 0));
    let mut seen = 0;
    for round in 0..50_u64 {
        driver.ask((1..=20).map(|number| message(session, 1, 20 * round + number, b"payload")));
        let page = reader.messages_after(seen, 15).unwrap();
        assert!(page.iter().zip(seen + 1..).all(|(message, number)| message.number == number));
        seen += page.len() as u64;
    }
    assert_eq!((seen, reader.newest().unwrap()), (50 * 15, 1000));
    drop(driver);
    assert_eq!(reader.messages_after(seen, usize::MAX).unwrap().len(), 250, "and after its end");
    assert_eq!(reader.messages_after(u64::MAX, 10).unwrap().len(), 0);
}

#[test]
fn an_idle_reader_holds_up_no_log() {
    let directory = tempfile::tempdir().unwrap();
    let config =
        pulsegate_store::StoreConfig { wal_bytes: 256 * 1024, ..pulsegate_store::StoreConfig::default() };
    let mut driver = Driver::open_with(directory.path(), config);
    let session = driver.begin("a", 1).session();
    driver.ask([message(session, 1, 1, b"x")]);
    let reader = Reader::open(directory.path()).unwrap();
    assert_eq!(reader.messages_after(0, 1).unwrap().len(), 1);
    for number in 2..2000 {
        driver.ask([message(session, 1, number, &[7; 1000])]);
    }
    let log = std::fs::metadata(directory.path().join("pulsegate.db-wal")).unwrap().len();
    assert!(log < 1 << 20, "{log}");
    assert_eq!(reader.messages_after(1990, 100).unwrap().len(), 9);
}

#[test]
fn a_reader_notices_that_its_store_is_replaced() {
    let parent = tempfile::tempdir().unwrap();
    let [directory, aside] = ["store", "aside"].map(|name| parent.path().join(name));
    let mut driver = Driver::open(&directory);
    let session = driver.begin("a", 1).session();
    driver.ask([message(session, 1, 1, b"x")]);
    let reader = Reader::open(&directory).unwrap();
    drop(driver);
    drop(Driver::open(&directory));
    assert!(!reader.is_replaced(), "a gateway that ends and another that starts are no new store");
    std::fs::rename(&directory, &aside).unwrap();
    assert!(reader.is_replaced());
    drop(Driver::open(&directory));
    assert!(reader.is_replaced());
    assert_eq!(reader.messages_after(0, 10).unwrap().len(), 1, "it still reads what it had");
    assert_eq!(Reader::open(&directory).unwrap().newest().unwrap(), 0);
    std::fs::remove_dir_all(&directory).unwrap();
    std::fs::rename(&aside, &directory).unwrap();
    assert!(!reader.is_replaced());
}
