//! The start of a store in a directory: its files are found, locked, checked, and begun with for a gateway that has no
//! connections yet. Knows no SQL.

use crate::committer::{Committer, Place};
use crate::config::{ConfigError, StoreConfig};
use crate::database::{self, Database, DatabaseError};
use crate::files::{self, Files};
use crate::lock::{Lock, LockError};
use crate::room::Room;
use crate::store::{OpenError, Store};
use crate::tickets::Tickets;
use crate::working::Working;
use pulsegate_core::frame::Durability;
use pulsegate_sessions::{Figures, Moment, Reply};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

impl Store {
    /// Opens the store in a directory, which is made if there is none. All sessions are without a connection then, and
    /// their times to live begin anew.
    ///
    /// `deliver` gets the replies of each batch on the committer's thread, which commits nothing meanwhile: it has
    /// to hand them over and return. It must not own the store.
    ///
    /// # Errors
    /// If the settings can't be kept, another gateway has the directory, or it can't be used.
    pub fn open(
        directory: &Path,
        mut config: StoreConfig,
        now: Moment,
        deliver: impl Fn(Vec<Reply>) + Send + Sync + 'static,
    ) -> Result<Self, OpenError> {
        config.check()?;
        if !matches!(config.durability, Durability::Os | Durability::Synced) {
            return Err(ConfigError::Directory.into());
        }
        let unusable = |why: String| OpenError::Unusable { directory: directory.to_owned(), why };
        let made = Database::make_directory(directory);
        if let Some(path) = files::forbidden(directory, files::Use::Write) {
            let path = path.display();
            return Err(unusable(format!(
                "the gateway's user may not read and write {path}: change its owner or mode"
            )));
        }
        made.map_err(|error| {
            unusable(if error.kind() == ErrorKind::PermissionDenied {
                "the gateway's user may not make it: make it for that user".to_owned()
            } else {
                error.to_string()
            })
        })?;
        let lock = Lock::acquire(directory).map_err(|error| match error {
            LockError::Held => OpenError::Held(directory.to_owned()),
            LockError::Io(error) => unusable(error.to_string()),
        })?;
        if let Some(why) = files::forsaken_log(directory) {
            return Err(unusable(why));
        }
        let mut room = Box::new(Room::new(directory, config.wal_bytes));
        let opened = start(directory, &mut config, &mut room, now);
        let (working, unstarted) = opened.map_err(|error| {
            let damaged = "; it is damaged: put a copy of the folder back, or move it away to begin with an empty store";
            unusable(format!("{error}{}", if error.is_damaged() { damaged } else { "" }))
        })?;
        let files = Box::new(Files::new(directory).map_err(|error| unusable(error.to_string()))?);
        let (path, incarnation) = (directory.to_owned(), working.database.incarnation);
        let place = Place { path, files, incarnation, room, lock };
        let figures = Figures { stopped: unstarted, ..working.figures(&Tickets::default()) };
        let kept = config.clone();
        let run = move |parts| Committer::new(parts, place, kept, working, unstarted, now).run();
        Self::begin(&config, figures, Arc::new(deliver), run)
    }
}

/// Opens the database for a gateway that has no connections yet. Whether it is still to be started, since there is no room
/// on the disk: that is done as at any fault.
fn start(
    directory: &Path,
    config: &mut StoreConfig,
    room: &mut Room,
    now: Moment,
) -> Result<(Working, bool), DatabaseError> {
    let mut opened = Working::open(directory, config, now, false);
    if opened.as_ref().is_err_and(DatabaseError::is_full) {
        room.give_up(now.uptime_ms);
        opened = Working::open(directory, config, now, false);
    }
    let mut working = opened?;
    room.lower_retention(config, working.state.totals.message_bytes);
    let unstarted = match working.start(now) {
        Ok(()) => false,
        Err(error) if database::is_full(&error) => true,
        Err(error) => return Err(error.into()),
    };
    if !unstarted {
        room.keep(now.uptime_ms);
    }
    Ok((working, unstarted))
}
