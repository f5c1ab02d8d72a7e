//! What sources have, and whether that is their share; what waits for all clients. Knows no session and no message.

use crate::effect::{Effect, Holding, Need};
use crate::reply::Reply;
use crate::resting::Resting;
use crate::rules::Rules;
use crate::seat::Source;
use std::collections::HashMap;

/// The source of what is counted for nobody.
pub const NOBODY: Source = 0;
/// How many sources are kept in memory between batches: some 50 bytes each.
const CACHED_MAX: usize = 4_096;

#[derive(Debug, Default)]
struct Row {
    holding: Holding,
    is_changed: bool,
}

/// All shares, as they are in the running batch.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    rows: HashMap<Source, Row>,
    changed: Vec<Source>,
    pub(crate) resting: Resting,
    /// Payload that waits for all clients together, in bytes.
    pub(crate) outgoing_bytes: u64,
}

impl Shares {
    /// No source is in use yet, and so much waits for all clients together.
    pub(crate) fn new(outgoing_bytes: u64) -> Self {
        Self { outgoing_bytes, ..Self::default() }
    }

    /// What a source has.
    pub(crate) fn of(&self, source: Source) -> Result<Holding, Need<'static>> {
        self.rows.get(&source).map(|row| row.holding).ok_or(Need::Source(source))
    }

    /// What a source has was looked up.
    pub(crate) fn put(&mut self, source: Source, holding: Holding) {
        self.rows.entry(source).or_insert(Row { holding, is_changed: false });
    }

    /// Changes what a source has, which is known. Returns what it has then.
    fn change(&mut self, source: Source, change: impl FnOnce(&mut Holding)) -> Holding {
        let row = self.rows.entry(source).or_default();
        change(&mut row.holding);
        if !row.is_changed {
            row.is_changed = true;
            self.changed.push(source);
        }
        row.holding
    }

    /// Whether a source has as many sessions as it may, where there are so many in all.
    pub(crate) fn has_sessions(
        &self,
        rules: &Rules,
        source: Source,
        count: u64,
    ) -> Result<bool, Need<'static>> {
        let is_open = count < rules.sessions_open;
        let most = if is_open { rules.sessions_of_source_max } else { rules.sessions_few };
        Ok(source != NOBODY && self.of(source)?.sessions >= most.min(rules.sessions_of_source_max))
    }

    /// A session begins.
    pub(crate) fn handle_begin(&mut self, source: Source) {
        self.change(source, |holding| holding.sessions += 1);
    }

    /// A session goes, and with it what waits for its client.
    pub(crate) fn handle_end(&mut self, session: u64, source: Source, outgoing_bytes: u64) {
        self.resting.forget(session);
        self.outgoing_bytes = self.outgoing_bytes.saturating_sub(outgoing_bytes);
        self.change(source, |holding| {
            holding.sessions = holding.sessions.saturating_sub(1);
            holding.outgoing_bytes = holding.outgoing_bytes.saturating_sub(outgoing_bytes);
        });
    }

    /// A client comes back from elsewhere. Its messages stay with the source that they came from.
    pub(crate) fn handle_move(&mut self, from: Source, to: Source, outgoing_bytes: u64) {
        if from == to {
            return;
        }
        self.change(from, |holding| {
            holding.sessions = holding.sessions.saturating_sub(1);
            holding.outgoing_bytes = holding.outgoing_bytes.saturating_sub(outgoing_bytes);
        });
        self.change(to, |holding| {
            holding.sessions += 1;
            holding.outgoing_bytes += outgoing_bytes;
        });
    }

    /// A connection is attached: finds out whether its source has used up its share, if that is not known yet.
    pub(crate) fn observe(&mut self, rules: &Rules, source: Source) {
        if let Some(row) = self.rows.get(&source).filter(|_| source != NOBODY) {
            self.resting.handle_source(source, row.holding.message_bytes, rules.kept_of_source);
        }
    }

    /// A session of this source has so much kept.
    pub(crate) fn observe_session(&mut self, rules: &Rules, source: Source, session: u64, bytes: u64) {
        if source != NOBODY {
            self.resting.handle_session(session, bytes, rules.kept_of_session);
        }
    }

    /// A message is kept. Whether it counts for somebody.
    pub(crate) fn handle_kept(&mut self, rules: &Rules, source: Source, bytes: u64) -> bool {
        let holding = self.change(source, |holding| holding.message_bytes += bytes);
        if source != NOBODY {
            self.resting.handle_source(source, holding.message_bytes, rules.kept_of_source);
        }
        source != NOBODY
    }

    /// Messages of a source are kept no longer.
    pub(crate) fn handle_deleted(&mut self, rules: &Rules, source: Source, bytes: u64) {
        let holding = self.change(source, |holding| {
            holding.message_bytes = holding.message_bytes.saturating_sub(bytes);
        });
        if source != NOBODY {
            self.resting.handle_source(source, holding.message_bytes, rules.kept_of_source);
        }
    }

    /// Whether a message to a client of this source would be too much for the source, or for all.
    pub(crate) fn is_full(&self, rules: &Rules, source: Source, bytes: u64) -> Result<bool, Need<'static>> {
        let holding = self.of(source)?;
        Ok(self.outgoing_bytes + bytes > rules.outgoing_bytes_of_all
            || source != NOBODY && holding.outgoing_bytes + bytes > rules.outgoing_bytes_of_source)
    }

    /// A message waits for a client.
    pub(crate) fn handle_pushed(&mut self, source: Source, bytes: u64) {
        self.outgoing_bytes += bytes;
        self.change(source, |holding| holding.outgoing_bytes += bytes);
    }

    /// Messages wait for a client no longer.
    pub(crate) fn handle_settled(&mut self, source: Source, bytes: u64) {
        if bytes > 0 {
            self.outgoing_bytes = self.outgoing_bytes.saturating_sub(bytes);
            self.change(source, |holding| {
                holding.outgoing_bytes = holding.outgoing_bytes.saturating_sub(bytes);
            });
        }
    }

    /// Who rests, if that has changed.
    pub(crate) fn take_news(&mut self) -> Option<Reply> {
        self.resting.take_news()
    }

    /// Has what has changed saved.
    pub(crate) fn save(&mut self, effects: &mut Vec<Effect>) {
        for source in self.changed.drain(..) {
            let Some(row) = self.rows.get_mut(&source) else { continue };
            row.is_changed = false;
            effects.push(Effect::SaveSource(source, row.holding));
        }
    }

    /// Keeps the memory within its bound; everything has to be saved.
    pub(crate) fn trim(&mut self) {
        if self.rows.len() > CACHED_MAX && self.changed.is_empty() {
            self.rows = HashMap::new();
        }
    }
}
