//! A backend over rows that writes what is to be done so many batches later. Knows no rule.

use crate::common::rows::{Done, Rows, Write};
use pulsegate_sessions::{Effect, Need, Request, Rules, Sessions, Sums};
use std::collections::VecDeque;

/// A backend over rows.
#[derive(Debug)]
pub(crate) struct Backend {
    rows: Rows,
    sessions: Sessions,
    effects: Vec<Effect>,
    /// The batches that are not written, the oldest first, each with what is left of it.
    pending: VecDeque<(usize, Vec<Write>)>,
    /// What each batch has come to, so far.
    pub(crate) done: Vec<Done>,
    /// How many batches may wait to be written.
    late: usize,
    /// How many sessions stay in use.
    in_use_max: usize,
    uptime_ms: u64,
    expiry_due: bool,
}

impl Backend {
    pub(crate) fn new(rules: Rules, late: usize, in_use_max: usize) -> Self {
        let mut sessions = Sessions::new(rules, Sums::default());
        sessions.set_age(0);
        Self {
            rows: Rows::default(),
            sessions,
            effects: Vec::new(),
            pending: VecDeque::new(),
            done: Vec::new(),
            late,
            in_use_max,
            uptime_ms: 0,
            expiry_due: false,
        }
    }

    pub(crate) fn handle_tick(&mut self, uptime_ms: u64) {
        self.uptime_ms = uptime_ms;
        self.sessions.set_age(uptime_ms);
        self.expiry_due = true;
    }

    /// Carries out a batch, and writes those that have waited long enough.
    pub(crate) fn commit(&mut self, requests: &[Request]) {
        self.pending.push_back((self.done.len(), Vec::new()));
        self.done.push(Done::default());
        for (place, request) in requests.iter().enumerate() {
            while let Err(need) = self.sessions.handle(place, request, &mut self.effects) {
                self.provide(need, requests);
            }
            self.note(requests);
        }
        while self.expiry_due {
            match self.sessions.expire(self.uptime_ms, &mut self.effects) {
                Ok(has_more) => {
                    self.expiry_due = has_more;
                    break;
                }
                Err(need) => self.provide(need, requests),
            }
        }
        self.sessions.save(&mut self.effects);
        self.sessions.finish(&mut self.effects);
        self.note(requests);
        while self.pending.len() > self.late {
            self.write_next();
        }
        if let (Some(news), Some(done)) = (self.sessions.take_news(), self.done.last_mut()) {
            done.news = Some(news);
        }
        if self.pending.is_empty() {
            self.sessions.trim(self.in_use_max);
        }
    }

    /// Writes everything. What is stored is returned.
    pub(crate) fn finish(&mut self) -> Rows {
        while !self.pending.is_empty() {
            self.write_next();
        }
        for done in &mut self.done {
            if let Some(news) = done.news.take() {
                done.replies.insert(0, news);
            }
        }
        self.rows.clone()
    }

    /// Notes what the running batch has to write.
    fn note(&mut self, requests: &[Request]) {
        let Some((_, writes)) = self.pending.back_mut() else { return };
        let effects = self.effects.drain(..);
        writes.extend(effects.filter_map(|effect| Rows::note(effect, &self.sessions, requests)));
    }

    /// Looks something up. What waits is written before, also what there is of the running batch.
    fn provide(&mut self, need: Need<'_>, requests: &[Request]) {
        self.sessions.save_for(&need, &mut self.effects);
        self.note(requests);
        while self.pending.len() > 1 {
            self.write_next();
        }
        if let Some((batch, writes)) = self.pending.front_mut() {
            for write in writes.drain(..) {
                self.rows.apply(write, &mut self.done[*batch]);
            }
        }
        self.rows.provide(need, &mut self.sessions);
    }

    fn write_next(&mut self) {
        let Some((batch, writes)) = self.pending.pop_front() else { return };
        writes.into_iter().for_each(|write| self.rows.apply(write, &mut self.done[batch]));
    }
}
