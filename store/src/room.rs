//! The room that the disk has: a reserve for when there is none, and how much can be kept at all. Knows no database.

use crate::config::StoreConfig;
use crate::files;
use nix::fcntl::posix_fallocate;
use nix::sys::statvfs::statvfs;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use tracing::warn;

/// The file that only takes up room.
const RESERVE: &str = "pulsegate.reserve";
/// How often a reserve that is missing is tried to be made again, in milliseconds.
const RESERVE_EVERY_MS: u64 = 60_000;

/// The room for a store in a directory.
#[derive(Debug)]
pub(crate) struct Room {
    directory: PathBuf,
    reserve_bytes: u64,
    /// When the reserve is looked after next, on the gateway's uptime.
    due_ms: u64,
}

impl Room {
    /// `wal_bytes` is the usual size of the write-ahead log.
    pub(crate) fn new(directory: &Path, wal_bytes: u64) -> Self {
        // Enough for the log to take a batch, and for moving it into the database.
        Self { directory: directory.to_owned(), reserve_bytes: 2 * wal_bytes, due_ms: 0 }
    }

    /// Makes the reserve if there is none and the disk has room for several; from time to time.
    pub(crate) fn keep(&mut self, now_ms: u64) {
        if now_ms < self.due_ms {
            return;
        }
        self.due_ms = now_ms + RESERVE_EVERY_MS;
        let file = self.directory.join(RESERVE);
        let has_room = || self.disk().is_ok_and(|(_, available)| available >= 3 * self.reserve_bytes);
        if file.exists() || !has_room() {
            return;
        }
        if let Err(error) = self.make(&file) {
            warn!(%error, "no room can be kept for when the disk is full");
            let _ = std::fs::remove_file(file);
        }
    }

    fn make(&self, file: &Path) -> io::Result<()> {
        let reserve = OpenOptions::new().write(true).create_new(true).open(file)?;
        Ok(posix_fallocate(reserve, 0, i64::try_from(self.reserve_bytes).unwrap_or(i64::MAX))?)
    }

    /// Gives the reserve up, now that the disk is full.
    pub(crate) fn give_up(&mut self, now_ms: u64) {
        self.due_ms = now_ms + RESERVE_EVERY_MS;
        if std::fs::remove_file(self.directory.join(RESERVE)).is_ok() {
            warn!("the disk is full: the store gives up the room that it has kept for that");
        }
    }

    /// Keeps no more messages than the disk has room for.
    pub(crate) fn lower_retention(&self, config: &mut StoreConfig, message_bytes: u64) {
        let retention_bytes = config.retention_bytes;
        if let Some(kept_bytes) = self.affordable(retention_bytes, message_bytes) {
            warn!(
                kept_bytes,
                retention_bytes,
                message_bytes,
                "the disk is too small for retention_bytes_max: fewer messages are kept; lower it, or give the store more room"
            );
            config.retention_bytes = kept_bytes;
        }
    }

    /// How many bytes of messages the disk allows, if that is less than `retention_bytes`; so many are there now.
    fn affordable(&self, retention_bytes: u64, message_bytes: u64) -> Option<u64> {
        let (total, available) = self.disk().ok()?;
        let own = std::fs::metadata(self.directory.join(files::DATABASE)).map_or(0, |file| file.len());
        let mut limit = total / 4 * 3;
        // Where other files fill the disk, it would help nobody to delete ours.
        if own >= total / 4 && message_bytes >= own / 2 {
            limit = limit.min((own + available) / 8 * 7);
        }
        (limit < retention_bytes).then_some(limit)
    }

    /// How large the directory's file system is, and how much of it can still be written; in bytes.
    fn disk(&self) -> io::Result<(u64, u64)> {
        let disk = statvfs(&self.directory)?;
        Ok((disk.blocks() * disk.fragment_size(), disk.blocks_available() * disk.fragment_size()))
    }
}
