//! Why a file can't be opened: which path, which permission, for whom. SQLite says no more than that it can't.

use std::fs::{File, Metadata, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A sentence, if what is missing for a file to be read, written or made is a permission or a directory.
pub(super) fn denied(path: &Path) -> Option<String> {
    if path.is_dir() {
        return Some(format!("{} is a directory; name a file in it", path.display()));
    }
    for file in [path.to_owned(), companion(path, "-wal")] {
        match OpenOptions::new().read(true).write(true).open(&file) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                return Some(sentence(&file, "read and write it", "write the directory that holds it"));
            }
            Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => {
                return Some(format!("{} is on a file system that is read-only", file.display()));
            }
            Ok(_) | Err(_) => {}
        }
    }
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    let directory = directory.unwrap_or_else(|| Path::new("."));
    if let Err(error) = std::fs::metadata(directory)
        && error.kind() == ErrorKind::NotFound
    {
        let (path, directory) = (path.display(), directory.display());
        return Some(format!(
            "the outbox {path} can't be made: there is no directory {directory}; make it first"
        ));
    }
    // The log needs a place beside the file, even where that may be written.
    let probe = companion(path, "-probe");
    match File::create_new(&probe) {
        Ok(_) => {
            // If it stays it is empty.
            let _ = std::fs::remove_file(&probe);
            None
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Some(sentence(directory, "make files in it", "enter it"))
        }
        Err(_) => None,
    }
}

fn companion(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// What is missing at this path: `what`; where it can't even be looked at, `before`.
fn sentence(path: &Path, what: &str, before: &str) -> String {
    // Who runs this, without a call into the system's library.
    let user = std::fs::metadata("/proc/self")
        .map_or_else(|_| "this user".to_owned(), |own| format!("user {}", own.uid()));
    let at = path.display();
    match std::fs::metadata(path) {
        Ok(of) => format!("permission denied: {at} {}, and {user} has to {what}", belongs(&of)),
        Err(_) => format!("permission denied: {user} has to {what}, and to {before}: {at}"),
    }
}

fn belongs(of: &Metadata) -> String {
    format!("belongs to user {} and group {} with mode {:04o}", of.uid(), of.gid(), of.mode() & 0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_missing_is_named() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("none").join("outbox.db");
        let sentence = denied(&path).expect("it can't be made");
        assert!(sentence.contains("there is no directory") && sentence.contains("none"), "{sentence}");
        assert_eq!(denied(&directory.path().join("outbox.db")), None, "nothing is missing");
        assert!(denied(directory.path()).is_some_and(|sentence| sentence.contains("is a directory")));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "and nothing is left");
    }

    #[test]
    fn a_permission_is_named_with_path_and_user() {
        let directory = tempfile::TempDir::new().unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o750);
        std::fs::set_permissions(directory.path(), mode).unwrap();
        let sentence = sentence(directory.path(), "make files in it", "enter it");
        let path = directory.path().display().to_string();
        assert!(sentence.starts_with(&format!("permission denied: {path} belongs to user ")), "{sentence}");
        assert!(sentence.contains("mode 0750") && sentence.contains("has to make files in it"), "{sentence}");
    }
}
