//! The tests of the client in Python, with the gateway that was built here.

use std::path::Path;
use std::process::Command;

#[test]
fn the_client_in_python_passes_its_tests() {
    let works = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
    if !works(Command::new("python3").args(["-c", "import sqlite3"])) {
        eprintln!("SKIPPED: there is no python3 with sqlite3 here, so its client is not tested");
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients/python");
    let output = Command::new("python3")
        .args(["-m", "unittest"])
        .env("PULSEGATE_BINARY", env!("CARGO_BIN_EXE_pulsegate"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(folder)
        .output()
        .expect("it was there just now");
    let report = String::from_utf8_lossy(&output.stderr);
    println!("{}{report}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "the tests of clients/python fail");
    assert!(!report.contains("skipped"), "all of them run where there is a gateway");
}
