//! One gateway for one directory: a lock that ends with the process, whatever ends it. Knows no database.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

/// The lock's file.
const FILE: &str = "pulsegate.lock";

/// Why a directory can't be had.
#[derive(Debug)]
pub(crate) enum LockError {
    Held,
    Io(io::Error),
}

/// Held as long as it lives.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    pub(crate) fn acquire(directory: &Path) -> Result<Self, LockError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(directory.join(FILE))
            .map_err(LockError::Io)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Held),
            Err(TryLockError::Error(error)) => Err(LockError::Io(error)),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would leave it held as long as a process that is just being forked has a copy of the
        // descriptor. If this fails, closing has to do.
        let _ = self.file.unlock();
    }
}
