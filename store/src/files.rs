//! The files of a store by their paths: whether what is there is still what is open. Knows no database.
//!
//! They are looked at by their names only. Opening and closing the database's file once more in this process would drop
//! the locks that SQLite holds on it.

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tracing::warn;

/// The database's file.
pub(crate) const DATABASE: &str = "pulsegate.db";
/// Its write-ahead log.
pub(crate) const LOG: &str = "pulsegate.db-wal";
/// The log's index, which processes share.
const INDEX: &str = "pulsegate.db-shm";
/// How the names of logs begin that were moved out of the way. SQLite doesn't know them.
const OLD_LOG: &str = "pulsegate.db-wal.old";
/// How many of these are kept. More take the place of the last.
const OLD_LOGS_MAX: u32 = 1_000;
/// The file that is locked.
pub(crate) const LOCK: &str = "pulsegate.lock";

/// What tells a file from another one that takes its place: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity(u64, u64);

impl Identity {
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        Ok(Self::from(&std::fs::metadata(path)?))
    }
}

impl From<&Metadata> for Identity {
    fn from(metadata: &Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }
}

/// What the files of a store are opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Read,
    Write,
}

/// The first of a store's paths that this process may not use so.
pub(crate) fn forbidden(directory: &Path, what_for: Use) -> Option<PathBuf> {
    let (of_directory, of_file) = match what_for {
        Use::Read => (AccessFlags::X_OK, AccessFlags::R_OK),
        Use::Write => (AccessFlags::all(), AccessFlags::R_OK | AccessFlags::W_OK),
    };
    let files =
        [DATABASE, LOG, INDEX, LOCK].into_iter().filter(|name| what_for == Use::Write || *name != LOCK);
    let files = files.map(|name| (directory.join(name), of_file));
    let mut paths = std::iter::once((directory.to_owned(), of_directory)).chain(files);
    paths.find(|(path, flags)| access(path, *flags) == Err(Errno::EACCES)).map(|(path, _)| path)
}

/// A path at which there isn't what is open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Displaced {
    #[error(
        "{} is gone from under the running gateway: put back what was there, not a copy of it, and the store goes on; \
         what was deleted can be copied out of /proc/{}/fd as long as this gateway runs",
        .0.display(), std::process::id()
    )]
    Gone(PathBuf),
    #[error(
        "another file has taken the place of {} under the running gateway: put the old one back and the store goes \
         on, or restart the gateway to use the new one, which may not have what was acknowledged last",
        .0.display()
    )]
    Replaced(PathBuf),
    #[error(
        "{} has been emptied under the running gateway: restart the gateway with a backup in its place; stop the gateway \
         before you restore one",
        .0.display()
    )]
    Emptied(PathBuf),
    #[error(
        "{} has been written over under the running gateway: stop the gateway, and restore once more while it is \
         stopped; what the log had of the old database is in {}",
        .database.display(), .log.display()
    )]
    Overwritten { database: PathBuf, log: PathBuf },
    #[error(
        "{} has been written over under the running gateway: what only it had is lost; what is there now has been moved \
         to {}",
        .log.display(), .to.display()
    )]
    OtherLog { log: PathBuf, to: PathBuf },
    #[error("{} has been cut short under the running gateway: what only it had is lost", .0.display())]
    CutShort(PathBuf),
    #[error("another program holds {}, which had been removed: end that program", .0.display())]
    Locked(PathBuf),
    #[error("{} can't be looked at: {error}; let the gateway's user enter all folders above it", .path.display())]
    Hidden { path: PathBuf, error: io::Error },
}

/// The files of an open store.
#[derive(Debug)]
pub(crate) struct Files {
    directory: PathBuf,
    /// The directory, and the database.
    main: [(PathBuf, Identity); 2],
    /// The database had been written to when it was opened; it never becomes empty by itself.
    has_content: bool,
    /// What was open has no content any more, and nothing brings it back. Its log is there now.
    lost_to: Option<PathBuf>,
    /// What is open beside them; made anew whenever the database is opened.
    beside: Vec<(PathBuf, Identity)>,
}

impl Files {
    /// Remembers what is there; the database has just been opened.
    pub(crate) fn new(directory: &Path) -> io::Result<Self> {
        let known = |path: PathBuf| Identity::of(&path).map(|identity| (path, identity));
        let main = [known(directory.to_owned())?, known(directory.join(DATABASE))?];
        let has_content = std::fs::metadata(&main[1].0)?.len() > 0;
        let mut files =
            Self { directory: directory.to_owned(), main, has_content, lost_to: None, beside: Vec::new() };
        files.handle_opened();
        Ok(files)
    }

    /// The database has been opened once more.
    pub(crate) fn handle_opened(&mut self) {
        // A database behind a symbolic link has them beside its target.
        let known = |path: PathBuf| Identity::of(&path).ok().map(|identity| (path, identity));
        self.beside = [LOG, INDEX].into_iter().filter_map(|name| known(self.directory.join(name))).collect();
    }

    /// Whether directory and database are there.
    ///
    /// A database that somebody writes over in place stays the same file: of that only its emptying is seen here.
    pub(crate) fn check_main(&self) -> Result<(), Displaced> {
        let [_, (database, _)] = &self.main;
        if let Some(log) = &self.lost_to {
            return Err(Displaced::Overwritten { database: database.clone(), log: log.clone() });
        }
        self.main.iter().try_for_each(check)?;
        if self.has_content && std::fs::metadata(database).is_ok_and(|metadata| metadata.len() == 0) {
            return Err(Displaced::Emptied(database.clone()));
        }
        Ok(())
    }

    /// Whether everything is there.
    pub(crate) fn check(&self) -> Result<(), Displaced> {
        self.check_main()?;
        self.beside.iter().try_for_each(check)
    }

    /// Whether the log has all of the bytes that are in use.
    pub(crate) fn check_log(&self, used_bytes: u64) -> Result<(), Displaced> {
        let log = self.directory.join(LOG);
        match std::fs::metadata(&log) {
            Ok(metadata) if metadata.len() < used_bytes => Err(Displaced::CutShort(log)),
            // Whether it is there is not asked here.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// The database has been written over. Its log goes out of the way: with whatever is there now it must not be mixed,
    /// today or at the next start.
    pub(crate) fn handle_overwritten(&mut self) -> Displaced {
        let (Ok(to) | Err(to)) = self.move_log_away();
        self.lost_to = Some(to.clone());
        let [_, (database, _)] = &self.main;
        Displaced::Overwritten { database: database.clone(), log: to }
    }

    /// The log has been written over, and the database has not. What is in its place now goes out of the way.
    pub(crate) fn handle_other_log(&mut self) -> Displaced {
        match self.move_log_away() {
            Ok(to) => Displaced::OtherLog { log: self.directory.join(LOG), to },
            // Opened anew, the database would be mixed with it.
            Err(to) => {
                self.lost_to = Some(to.clone());
                let [_, (database, _)] = &self.main;
                Displaced::Overwritten { database: database.clone(), log: to }
            }
        }
    }

    /// Returns where the log is now, beside those that were moved away before; as an error if it can't be moved.
    fn move_log_away(&self) -> Result<PathBuf, PathBuf> {
        let log = self.directory.join(LOG);
        let names = || old_logs().map(|name| self.directory.join(name));
        let free = names().find(|path| !path.exists()).or_else(|| names().last());
        let Some(to) = free else { return Err(log) };
        match std::fs::rename(&log, &to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(%error, "{} can't be moved away: remove it before the next start", log.display());
                Err(log)
            }
            Ok(()) | Err(_) => Ok(to),
        }
    }

    /// The database at its path turns out to be another one.
    pub(crate) fn other_database(&self) -> Displaced {
        Displaced::Replaced(self.directory.join(DATABASE))
    }

    /// Whether nobody has begun another log in the place of one that is gone.
    pub(crate) fn has_no_other_log(&self) -> bool {
        let log = self.directory.join(LOG);
        match std::fs::metadata(&log) {
            Ok(metadata) => metadata.len() == 0 || self.beside.contains(&(log, Identity::from(&metadata))),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }
}

/// The names for logs that were moved out of the way.
fn old_logs() -> impl Iterator<Item = String> {
    let more = (2..=OLD_LOGS_MAX).map(|number| format!("{OLD_LOG}.{number}"));
    std::iter::once(OLD_LOG.to_owned()).chain(more)
}

/// Why a store must not be begun in this directory although there is no database, or an empty one: a log says that there was
/// one. SQLite would delete it.
pub(crate) fn forsaken_log(directory: &Path) -> Option<String> {
    let length = |name: &str| std::fs::metadata(directory.join(name)).map_or(0, |metadata| metadata.len());
    if length(DATABASE) > 0 {
        return None;
    }
    let log = std::iter::once(LOG.to_owned()).chain(old_logs()).find(|name| length(name) > 0)?;
    Some(format!(
        "its {DATABASE} is empty or gone, but not {log} beside it: put a backup in place of the database and move the log \
         away, or move the folder away to begin with an empty store"
    ))
}

fn check((path, identity): &(PathBuf, Identity)) -> Result<(), Displaced> {
    match Identity::of(path) {
        Ok(found) if found == *identity => Ok(()),
        Ok(_) => Err(Displaced::Replaced(path.clone())),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Err(Displaced::Gone(path.clone()))
        }
        Err(error) => Err(Displaced::Hidden { path: path.clone(), error }),
    }
}
