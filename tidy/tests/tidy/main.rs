//! The rules of the house that no lint can check. Reads the repository as text; runs nothing of it.

mod dependencies;
mod order;

use pulsegate_core::close::{CloseReason, Retry};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 500;
const ARCHITECTURE_LINES_MAX: usize = 260;
const README_LINES_MAX: usize = 150;
const CONTRIBUTING_LINES_MAX: usize = 120;

/// The crates whose files stand in the code map, by their folders.
const MAPPED_CRATES: [&str; 9] =
    ["core", "sessions", "shard", "gateway", "config", "store", "client", "bench", "cli"];

/// A text file of the repository.
struct Text {
    /// From the root of the repository, with `/` between the parts.
    path: String,
    text: String,
}

impl Text {
    fn is_test(&self) -> bool {
        self.path.split('/').any(|part| part == "tests" || part == "tests.rs")
    }

    /// The lines, with their numbers.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[track_caller]
fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All text files but those that are made: the build's folder, and hidden ones except `.ci`.
fn texts() -> Vec<Text> {
    let mut texts = Vec::new();
    gather(&root(), "", &mut texts);
    texts.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(texts.len() > 50, "the repository was not found: only {} files", texts.len());
    texts
}

fn gather(folder: &Path, prefix: &str, into: &mut Vec<Text>) {
    for entry in std::fs::read_dir(folder).expect(prefix) {
        let entry = entry.expect(prefix);
        let name = entry.file_name().into_string().expect("file names are UTF-8");
        let path = format!("{prefix}{name}");
        let hidden = name.starts_with('.') && name != ".ci";
        if entry.file_type().expect(&path).is_dir() {
            if !hidden && !entry.path().join("CACHEDIR.TAG").exists() {
                gather(&entry.path(), &format!("{path}/"), into);
            }
        } else if name == ".git" {
            // In a linked worktree it's a file that names the repository.
        } else if let Ok(text) = std::fs::read_to_string(entry.path()) {
            into.push(Text { path, text });
        }
    }
}

fn rust_files() -> Vec<Text> {
    texts().into_iter().filter(|file| file.path.ends_with(".rs")).collect()
}

/// Fails with one line per fault.
#[track_caller]
fn assert_tidy(rule: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{rule}:\n  {}\n", faults.join("\n  "));
}

/// One fault per line that `is_fault`.
fn faults(files: &[Text], is_fault: impl Fn(&str) -> bool) -> Vec<String> {
    let of_file = |file: &Text| {
        let line_of = |(number, line): (usize, &str)| format!("{}:{number}: {}", file.path, line.trim());
        file.lines().filter(|(_, line)| is_fault(line)).map(line_of).collect::<Vec<_>>()
    };
    files.iter().flat_map(of_file).collect()
}

#[test]
fn every_file_begins_with_what_it_is() {
    let bare = rust_files().into_iter().filter(|file| !file.text.starts_with("//! "));
    let faults: Vec<String> = bare.map(|file| format!("{}:1", file.path)).collect();
    assert_tidy("a file begins with //! and what it is", &faults);
}

#[test]
fn no_file_grows_too_long() {
    let limits = BTreeMap::from([
        ("ARCHITECTURE.md", ARCHITECTURE_LINES_MAX),
        ("README.md", README_LINES_MAX),
        ("CONTRIBUTING.md", CONTRIBUTING_LINES_MAX),
    ]);
    let mut faults = Vec::new();
    for file in texts() {
        let default = file.path.ends_with(".rs").then_some(&FILE_LINES_MAX);
        let Some(&most) = limits.get(file.path.as_str()).or(default) else { continue };
        let count = file.text.lines().count();
        if count > most {
            faults.push(format!("{}:{}: {count} lines, at most {most}", file.path, most + 1));
        }
    }
    assert_tidy("a part that grows becomes a file of its own", &faults);
}

#[test]
fn no_code_is_commented_out() {
    let is_code = |line: &str| {
        let Some(comment) = line.trim_start().strip_prefix("//") else { return false };
        !comment.starts_with(['/', '!']) && comment.trim_end().ends_with([';', '{', '}'])
    };
    assert_tidy("code that is not used is deleted", &faults(&rust_files(), is_code));
}

#[test]
fn nothing_is_left_for_later_in_a_comment() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let is_mark = |line: &str| marks.iter().any(|mark| line.contains(mark));
    assert_tidy("what is to be done does not stand in a file", &faults(&texts(), is_mark));
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    let places = [concat!("/ho", "me/"), concat!("/wo", "rk/"), concat!("/ro", "ot/")];
    let temporary = concat!("/tm", "p/");
    let mut faults = Vec::new();
    for file in texts() {
        for (number, line) in file.lines() {
            let named = places.iter().any(|place| line.contains(place));
            if named || (line.contains(temporary) && !file.is_test()) {
                faults.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    assert_tidy("no absolute path of a machine", &faults);
}

#[test]
fn the_rules_wait_for_nothing() {
    let core: Vec<Text> = rust_files().into_iter().filter(|file| file.path.starts_with("core/")).collect();
    let waits = |line: &str| line.contains("thread::sleep");
    assert_tidy("core and its tests run in virtual time", &faults(&core, waits));
}

fn retry_word(retry: Retry) -> String {
    match retry {
        Retry::Never => "never".to_owned(),
        Retry::Now => "now".to_owned(),
        Retry::After(span) => format!("after {} s", span.as_secs_f64()),
    }
}

#[test]
fn every_close_reason_is_documented() {
    let table = read("PROTOCOL.md");
    let rows: BTreeSet<&str> = table.lines().filter(|line| line.starts_with('|')).collect();
    let row = |reason: &CloseReason| {
        let (who, retry) = (reason.who().as_str(), retry_word(reason.retry()));
        format!("| {} | {reason} | {who} | {retry} | {} |", reason.code(), reason.sentence())
    };
    let missing = CloseReason::ALL.iter().map(row).filter(|row| !rows.contains(row.as_str()));
    let faults: Vec<String> = missing.map(|row| format!("PROTOCOL.md: no row {row}")).collect();
    assert_tidy("each close reason stands in the table", &faults);
}

#[test]
fn the_code_in_the_readme_is_the_code_of_the_example() {
    let readme = read("README.md");
    let (_, rest) = readme.split_once("```rust\n").expect("README.md has code in Rust");
    let (code, _) = rest.split_once("```").expect("README.md: the code ends");
    let example = read("gateway/examples/greeter.rs");
    for part in code.split("\n\n").map(str::trim_end) {
        assert!(example.contains(part), "README.md: not in gateway/examples/greeter.rs:\n{part}");
    }
}

#[test]
fn what_operating_says_of_the_log_stands_in_the_log() {
    let guide = read("docs/operating.md");
    let (_, warnings) = guide.split_once("\n## What the log warns of\n").expect("the tables of warnings");
    let rows: Vec<&str> =
        warnings.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert!(rows.len() > 20, "the tables are written in another way than this test reads them: {rows:?}");
    let sources = rust_files().into_iter().filter(is_source).map(|file| file.text);
    // A string may go on in the next line.
    let sources: Vec<String> =
        sources.map(|text| text.split("\\\n").map(str::trim_start).collect()).collect();
    let missing = rows.iter().filter(|row| !sources.iter().any(|text| text.contains(**row)));
    let faults: Vec<String> = missing.map(|row| format!("docs/operating.md: nothing logs {row:?}")).collect();
    assert_tidy("what an operator is told to look for is what the log says", &faults);
}

#[test]
fn the_code_map_names_every_file() {
    let map = read("ARCHITECTURE.md");
    let is_part = |letter: char| !(letter.is_ascii_alphanumeric() || "_/.".contains(letter));
    let is_path =
        |word: &&str| MAPPED_CRATES.iter().any(|folder| word.starts_with(&format!("{folder}/src/")));
    let words: BTreeSet<&str> = map.split(is_part).filter(is_path).collect();
    // A folder stands for what is in it: there the first page of each file says what it is.
    let (folders, named): (BTreeSet<&str>, BTreeSet<&str>) =
        words.iter().partition(|word| word.ends_with('/'));
    let is_covered = |path: &str| folders.iter().any(|folder| path.starts_with(folder));
    let files = rust_files();
    let sources = files.iter().filter(|file| is_source(file)).map(|file| file.path.as_str());
    let sources: BTreeSet<&str> = sources.collect();
    let missing = sources.difference(&named).filter(|path| !is_covered(path));
    let missing = missing.map(|path| format!("ARCHITECTURE.md: {path} is missing"));
    let all: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let is_there = |path: &str| {
        all.contains(path) || all.iter().any(|file| path.ends_with('/') && file.starts_with(path))
    };
    let stale = words
        .iter()
        .filter(|path| !is_there(path))
        .map(|path| format!("ARCHITECTURE.md: there is no {path}"));
    assert_tidy("the code map is complete", &missing.chain(stale).collect::<Vec<_>>());
}

/// What the code map has to name: the sources, but not the tests among them.
fn is_source(file: &Text) -> bool {
    MAPPED_CRATES.iter().any(|folder| file.path.starts_with(&format!("{folder}/src/"))) && !file.is_test()
}
