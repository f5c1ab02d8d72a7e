//! What the database's file looked like after the store's own last write into it. If it looks different, somebody else has
//! written into it, or touched it: that is a hint only. Knows no rows.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// What any write changes: the size, and when content and attributes have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The store's own last write into the database's file.
#[derive(Debug)]
pub(crate) struct LastWrite {
    pub(crate) path: PathBuf,
    stamp: Option<Stamp>,
    /// At least this batch is in the file itself, without its log.
    pub(crate) batch: u64,
}

impl LastWrite {
    /// The file at a path, as it is now; at least this batch is in it.
    pub(crate) fn new(path: PathBuf, batch: u64) -> Self {
        let mut last_write = Self { path, stamp: None, batch };
        last_write.stamp = last_write.look();
        last_write
    }

    /// How it looks now; `None` if it can't be seen.
    pub(crate) fn look(&self) -> Option<Stamp> {
        Some(Stamp::from(&std::fs::metadata(&self.path).ok()?))
    }

    /// How it looks now, if that is different from what is known.
    pub(crate) fn change(&self) -> Option<Stamp> {
        self.look().filter(|found| self.stamp.is_some_and(|known| known != *found))
    }

    /// The store has moved its log into the file: all of it up to this batch, or a part.
    pub(crate) fn handle_checkpoint(&mut self, batch: Option<u64>) {
        self.stamp = self.look();
        self.batch = batch.unwrap_or(self.batch);
    }

    /// What looked like this was found to be what it should be.
    pub(crate) const fn accept(&mut self, stamp: Stamp) {
        self.stamp = Some(stamp);
    }
}
