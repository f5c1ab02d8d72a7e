//! The connection that an event is about, with everything that handling it needs; made once for each event.

use crate::counters::Counts;
use crate::id::ConnectionId;
use crate::shard::agenda::Agenda;
use crate::shard::ends::{Ended, record_end};
use crate::shard::entry::{Entry, Input};
use crate::shard::io::Io;
use crate::shard::listener::Listener;
use crate::shard::outlets::{Outlet, Outlets};
use crate::shard::output::{ConnectionOutput, Undone};
use crate::shard::time::ShardTime;
use pulsegate_core::close::CloseReason;
use pulsegate_core::connection::{Attachment, Connection};
use pulsegate_core::policy::Policy;
use pulsegate_core::time::{Instant, Now};
use pulsegate_core::timer::Before;

/// The connection that is being served.
pub(crate) struct Served<'a, I: Io> {
    pub(crate) id: ConnectionId,
    pub(crate) entry: &'a mut Entry<I::Stream>,
    pub(crate) listener: &'a Listener,
    pub(crate) io: &'a mut I,
    pub(crate) time: &'a mut ShardTime,
    pub(crate) outlets: &'a mut Outlets,
    pub(crate) agenda: &'a mut Agenda<I::Stream>,
    pub(crate) counts: &'a mut Counts,
    /// The shard's one read buffer.
    pub(crate) buffer: &'a mut [u8],
    /// Bytes for the peer; empty between events.
    pub(crate) transmit: &'a mut Vec<u8>,
    pub(crate) fate: Fate,
}

/// What becomes of a connection when the event is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It stays as it is.
    Stays,
    /// Its next deadline may have moved earlier, or is not scheduled.
    Reschedule,
    /// It is over: everything that it held is given back. With `abort` its socket is reset.
    Release {
        /// What is unsent is discarded.
        abort: bool,
    },
}

impl<'a, I: Io> Served<'a, I> {
    /// Reads the clock.
    pub(crate) fn now(&mut self) -> Now {
        self.time.read(self.io)
    }

    /// Whether it is over.
    pub(crate) const fn is_over(&self) -> bool {
        matches!(self.fate, Fate::Release { .. })
    }

    /// Its next deadline is to be scheduled when the event is over.
    pub(crate) const fn reschedule(&mut self) {
        if !self.is_over() {
            self.fate = Fate::Reschedule;
        }
    }

    /// Where its messages go: those of the pulse protocol take the way by a ledger.
    pub(crate) fn outlet(&self) -> &'a Outlet {
        if self.entry.connection.is_pulse() { &self.listener.pulse } else { &self.listener.raw }
    }

    /// Why nothing may be read of it now, if nothing may.
    pub(crate) fn obstacle(&self) -> Option<CloseReason> {
        self.outlets.obstacle(self.outlet())
    }

    /// What it waits for may have moved: then its wait begins anew.
    pub(crate) fn note_progress(&mut self, now: Now) {
        let awaits_answer = self.entry.connection.awaits_welcome();
        if let Some(moved) = self.outlets.moved(self.outlet(), awaits_answer, now.own()) {
            self.entry.connection.handle_sink_progress(moved);
        }
    }

    /// When its next deadline comes.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let deadline = self.entry.connection.poll_timeout(self.time.stalled(), &self.listener.policy);
        deadline.map(|(deadline, _)| deadline)
    }

    /// What has to be tried before it is ended, if a deadline has come.
    pub(crate) fn due(&self, now: Now) -> Option<Before> {
        self.entry.connection.due(now, &self.listener.policy)
    }

    /// Remembers that it has to be read without being told by the poller.
    pub(crate) fn list(&mut self) {
        if self.entry.marks.input != Input::Listed && !self.is_over() {
            self.entry.marks.input = Input::Listed;
            self.agenda.listed.push_back(self.id);
        }
    }

    /// The same, before all others.
    pub(crate) fn list_first(&mut self) {
        if self.entry.marks.input != Input::Listed && !self.is_over() {
            self.entry.marks.input = Input::Listed;
            self.agenda.listed.push_front(self.id);
        }
    }

    /// Tells the sink, if there is one, that it was accepted.
    pub(crate) fn announce(&mut self) {
        if let Some(lane) = self.listener.lane() {
            let from = self.entry.from(self.id);
            self.outlets.lanes[lane].batch.push_opened(from);
        }
        self.reschedule();
    }

    /// Changes it by one call, and does what follows, except at the socket: that is what [`reconcile`](Self::reconcile)
    /// does.
    pub(crate) fn act(
        &mut self,
        now: Now,
        call: impl FnOnce(&mut Connection, &Policy, &mut ConnectionOutput<'_>),
    ) {
        let connection = &mut self.entry.connection;
        let was_newcomer = !connection.lifetime().has_spoken();
        let attachment = connection.attachment();
        let mut output = ConnectionOutput {
            transmit: self.transmit,
            waiting: self.entry.pipe.waiting(),
            has_last_bytes: self.entry.pipe.has_layer(),
            outlets: self.outlets,
            listener: self.listener,
            counts: self.counts,
            id: self.id,
            number: self.entry.number,
            peer: &self.entry.peer,
            attachment,
            instant: now.instant,
            wall_ms: self.time.wall_ms,
            undone: Undone::default(),
        };
        call(connection, &self.listener.policy, &mut output);
        let undone = output.undone;
        if was_newcomer && connection.lifetime().has_spoken() {
            self.listener.limits.speak();
        }
        if undone.is_any() {
            self.follow_up(now, attachment, undone);
        }
    }

    /// Changes it by one call, and reconciles.
    pub(crate) fn change(
        &mut self,
        now: Now,
        call: impl FnOnce(&mut Connection, &Policy, &mut ConnectionOutput<'_>),
    ) {
        self.act(now, call);
        self.reconcile(now);
    }

    /// Ends it. Only the first reason counts.
    pub(crate) fn end(&mut self, now: Now, reason: CloseReason) {
        self.change(now, |connection, policy, output| connection.close(now, policy, reason, output));
    }

    fn follow_up(&mut self, now: Now, attachment: Option<Attachment>, undone: Undone) {
        let Undone { finish, attach, closed } = undone;
        if finish {
            self.act(now, |connection, policy, output| {
                connection.finish(now, policy, output.waiting, output);
            });
        }
        if let Some(reason) = closed {
            self.handle_end(now, attachment, reason);
        }
        if let Some(attach) = attach {
            self.ask_for_session(now, attach);
        }
    }

    /// It has ended, and was attached like that until now.
    fn handle_end(&mut self, now: Now, attachment: Option<Attachment>, reason: CloseReason) {
        let Entry { connection, marks, peer, number, pipe, .. } = &*self.entry;
        let ended = Ended { connection, attachment, unsent: pipe.waiting() };
        let end = record_end(self.listener, self.counts, now, (*number, *peer), reason, Some(&ended));
        if marks.turned_away.is_none()
            && let Some(lane) = self.listener.lane()
        {
            let from = self.entry.from(self.id);
            self.outlets.report_end(lane, &self.listener.pulse, attachment, (from, end));
        }
        if reason == CloseReason::RawListener {
            self.listener.handle_lost_client(*peer);
        }
    }
}
