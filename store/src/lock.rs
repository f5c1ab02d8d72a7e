//! One gateway for one directory: locks that end with the process, whatever ends it. Knows no database.

use crate::files::{self, Displaced, Identity};
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// Why a directory can't be had.
#[derive(Debug)]
pub(crate) enum LockError {
    Held,
    Io(io::Error),
}

/// Held as long as it lives.
///
/// The directory itself is locked, since a file in it may be taken for a leftover and removed. The file is locked too: an
/// older pulsegate knows nothing else.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    directory: File,
    file: File,
}

impl Lock {
    pub(crate) fn acquire(directory: &Path) -> Result<Self, LockError> {
        let path = directory.join(files::LOCK);
        let directory = File::open(directory).map_err(LockError::Io)?;
        lock(&directory)?;
        let file = open(&path)?;
        Ok(Self { path, directory, file })
    }

    /// Makes the file again if somebody has removed it. Whether that had to be done. If it can't be made, the
    /// directory's lock has to do.
    pub(crate) fn restore(&mut self) -> Result<bool, Displaced> {
        let held = self.file.metadata().ok().map(|metadata| Identity::from(&metadata));
        if held.is_none() || Identity::of(&self.path).ok() == held {
            return Ok(false);
        }
        match open(&self.path) {
            Ok(file) => {
                self.file = file;
                Ok(true)
            }
            Err(LockError::Held) => Err(Displaced::Locked(self.path.clone())),
            Err(LockError::Io(_)) => Ok(false),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would leave it held as long as a process that is just being forked has a copy of the
        // descriptor. If this fails, closing has to do.
        let _ = self.file.unlock();
        let _ = self.directory.unlock();
    }
}

fn open(path: &Path) -> Result<File, LockError> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).open(path);
    let file = file.map_err(LockError::Io)?;
    lock(&file)?;
    Ok(file)
}

fn lock(file: &File) -> Result<(), LockError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(LockError::Held),
        Err(TryLockError::Error(error)) => Err(LockError::Io(error)),
    }
}
