//! Reads a configuration file of pulsegate: TOML text becomes a [`Config`](pulsegate::Config) by the tables of keys, and all that is wrong is
//! told at once, each fault with line and column. Knows no flags, and opens nothing but the one file.
//!
//! Modules, each using only those after it: `reference`, `reading`, `document`, `suggestion`, `source`, `error`, `units`, `overview`,
//! `summary`.

mod document;
mod error;
mod overview;
mod reading;
pub mod reference;
mod source;
mod suggestion;
mod summary;
#[cfg(test)]
mod tests;
pub mod units;

pub use error::{FileError, Mark};
pub use overview::Overview;
pub use source::{Settings, Source};
pub use summary::Summary;

use std::io::Read;
use std::path::Path;

/// The largest file that is read, in bytes.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;

const TEXT_EXPECTED: &str = "save the file as UTF-8 text";

/// Reads a configuration file. `sinks` are the names of the sinks that there are.
///
/// # Errors
/// A file that can't be read, is larger than [`FILE_BYTES_MAX`] or is not UTF-8, and whatever [`parse`]
/// refuses.
pub fn read(path: &Path, sinks: &[&str]) -> Result<Settings, FileError> {
    let name = path.display().to_string();
    let unread = |error: std::io::Error| {
        FileError::unread(
            &name,
            &format!("can't be read: {error}"),
            "give the path of a file that may be read",
        )
    };
    let file = std::fs::File::open(path).map_err(unread)?;
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too large from one that just fits, whatever its
    // metadata say; a device or a pipe has no length.
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(unread)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(FileError::unread(
            &name,
            "is larger than 1 MiB",
            "give the path of a configuration file",
        ));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => parse(text, &name, sinks),
        Err(error) => {
            let start = error.valid_up_to();
            let span = start..start + char::REPLACEMENT_CHARACTER.len_utf8();
            let text = String::from_utf8_lossy(&bytes);
            Err(FileError::new(&name, &text, vec![(span, "this is not UTF-8".into(), TEXT_EXPECTED.into())]))
        }
    }
}

/// Reads the text of a configuration file. `name` is what errors call it; `sinks` are the names of the sinks
/// that there are.
///
/// # Errors
/// All that is wrong: what is not TOML, unknown keys, values of the wrong type or out of range, and settings that
/// contradict each other.
pub fn parse(text: &str, name: &str, sinks: &[&str]) -> Result<Settings, FileError> {
    // A byte order mark takes no column.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // TOML refuses a NUL byte too, but may find something else wrong before it.
    if let Some(start) = text.find('\0') {
        let fault = (start..start + 1, "this is not text".into(), TEXT_EXPECTED.into());
        return Err(FileError::new(name, text, vec![fault]));
    }
    reading::read(text, name, sinks)
}
