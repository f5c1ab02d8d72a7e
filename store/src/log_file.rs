//! The write-ahead log's file: whether it still has what the store has written into it. Only its beginning and its last
//! frame are looked at. Knows no rows.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// What the file begins with, in bytes (<https://sqlite.org/fileformat2.html#the_write_ahead_log>).
const HEADER_BYTES: u64 = 32;
/// What each frame has before its page, in bytes.
const FRAME_HEADER_BYTES: u64 = 24;
/// Where the salts stand in the header.
const HEADER_SALTS: u64 = 16;
/// ... and in that of a frame.
const FRAME_SALTS: u64 = 8;
/// How often the log may begin anew between two looks.
const BEGINNINGS_MAX: u32 = 1 << 16;

/// What all frames since the log last began have in common. The first half goes up by one each time, the second is
/// random.
type Salts = [u32; 2];

/// How much of the log is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) frames: u64,
    pub(crate) page_bytes: u64,
}

impl Used {
    /// In bytes.
    pub(crate) const fn bytes(self) -> u64 {
        self.frames * (self.page_bytes + FRAME_HEADER_BYTES)
    }
}

/// The log of an open database.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    /// As the last look has found them, unless the log was empty.
    known: Option<Salts>,
    /// SQLite's word for what others have done to database and log.
    data_version: Option<u64>,
}

impl LogFile {
    /// The log at a path, of which nothing is known yet.
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self { path, known: None, data_version: None }
    }

    /// Whether it is the log that is in use. `data_version` changes whenever somebody else has used it by way of SQLite.
    ///
    /// # Errors
    /// If it can't be looked at.
    pub(crate) fn is_intact(&mut self, used: Used, data_version: u64) -> io::Result<bool> {
        let found = if used.frames == 0 { None } else { Some(self.read(used)?) };
        let is_shared = self.data_version.is_some_and(|known| known != data_version);
        let is_intact = match (self.known, found) {
            (_, Some([begins, ends])) if begins != ends => false,
            (Some(known), Some([found, _])) => is_shared || found == known || follows(found, known),
            (_, None) | (None, _) => true,
        };
        if is_intact {
            self.known = found.map(|[salts, _]| salts);
            self.data_version = Some(data_version);
        }
        Ok(is_intact)
    }

    /// The salts of the header, and of the last frame in use.
    fn read(&self, used: Used) -> io::Result<[Salts; 2]> {
        let file = File::open(&self.path)?;
        let last = Used { frames: used.frames - 1, ..used };
        let salts = |place| -> io::Result<Salts> {
            let mut bytes = [0; 8];
            file.read_exact_at(&mut bytes, place)?;
            let bits = u64::from_be_bytes(bytes);
            Ok([(bits >> 32) as u32, bits as u32])
        };
        Ok([salts(HEADER_SALTS)?, salts(HEADER_BYTES + last.bytes() + FRAME_SALTS)?])
    }
}

/// Whether the log can have begun anew since it had the earlier salts.
const fn follows(found: Salts, earlier: Salts) -> bool {
    let beginnings = found[0].wrapping_sub(earlier[0]);
    beginnings >= 1 && beginnings <= BEGINNINGS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE_BYTES: u64 = 512;

    /// A log whose header and whose second frame have these salts.
    fn write(file: &File, begins: Salts, ends: Salts) {
        let bytes = |[first, second]: Salts| (u64::from(first) << 32 | u64::from(second)).to_be_bytes();
        file.write_all_at(&bytes(begins), 16).unwrap();
        file.write_all_at(&bytes(ends), 32 + 24 + 512 + 8).unwrap();
    }

    #[test]
    fn it_is_the_same_as_long_as_it_begins_anew_by_itself() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let file = File::create(&path).unwrap();
        let used = Used { frames: 2, page_bytes: PAGE_BYTES };
        let mut log = LogFile::new(path);
        assert!(log.is_intact(Used { frames: 0, ..used }, 1).unwrap(), "nothing is asked of an empty one");
        log.is_intact(used, 1).unwrap_err();
        let mut check = |begins, ends, data_version| {
            write(&file, begins, ends);
            log.is_intact(used, data_version).unwrap()
        };
        let (first, second, other) = ([u32::MAX, 5], [1, 77], [900_000_000, 5]);
        assert!(check(first, first, 1) && check(first, first, 1));
        assert!(check(second, second, 1), "it has begun anew twice");
        assert!(!check(first, first, 1), "an older one");
        assert!(!check(other, other, 1), "that of another store");
        assert!(!check(second, other, 1) && !check(other, second, 1), "a part of another one");
        assert!(check(second, second, 1));
        assert!(check(other, other, 2), "another program has emptied it before the store wrote on");
        assert!(check(other, other, 2) && !check(second, second, 2));
    }
}
