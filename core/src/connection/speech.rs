//! Which protocol a peer speaks, and the state of it between two inputs (PROTOCOL.md section 2).

use super::Connection;
use super::dialogue::Dialogue;
use super::event::Attachment;
use crate::lines::Lines;
use crate::policy::{Policy, Protocol};

/// The state of a peer's protocol between two inputs.
#[derive(Debug)]
pub(super) enum Speech {
    /// The first bytes, too few to tell the protocol.
    Opening(Vec<u8>),
    /// The beginning of a line.
    Lines(Lines),
    /// A connection of the pulse protocol.
    Pulse(Dialogue),
}

/// The protocol that a peer speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Undecided,
    Raw,
    Pulse,
}

impl Connection {
    pub(super) fn dialogue(&self) -> Option<&Dialogue> {
        match self.speech.as_deref()? {
            Speech::Pulse(dialogue) => Some(dialogue),
            Speech::Opening(_) | Speech::Lines(_) => None,
        }
    }

    pub(super) fn dialogue_mut(&mut self) -> Option<&mut Dialogue> {
        match self.speech.as_deref_mut()? {
            Speech::Pulse(dialogue) => Some(dialogue),
            Speech::Opening(_) | Speech::Lines(_) => None,
        }
    }

    /// The session that it is attached to.
    #[must_use]
    pub fn attachment(&self) -> Option<Attachment> {
        self.dialogue()?.attachment()
    }

    /// Whether the client has said HELLO and waits for WELCOME or a BYE.
    #[must_use]
    pub fn awaits_welcome(&self) -> bool {
        self.dialogue().is_some_and(|dialogue| dialogue.pulse.is_attaching())
    }

    /// Whether the client waits for receipts.
    #[must_use]
    pub fn owes_receipts(&self) -> bool {
        self.dialogue().is_some_and(|dialogue| dialogue.pulse.owes_receipts())
    }

    /// Whether the pulse protocol is spoken.
    #[must_use]
    pub fn is_pulse(&self) -> bool {
        self.dialogue().is_some()
    }

    /// Whether the peer's protocol is not known yet.
    #[must_use]
    pub fn is_undecided(&self, policy: &Policy) -> bool {
        self.dialect(policy) == Dialect::Undecided
    }

    #[inline]
    pub(super) fn dialect(&self, policy: &Policy) -> Dialect {
        self.dialect_of(policy, self.speech.as_deref())
    }

    /// Nothing kept means raw as soon as the first message is complete: until then the peer may still become
    /// anything.
    #[inline]
    pub(super) fn dialect_of(&self, policy: &Policy, speech: Option<&Speech>) -> Dialect {
        match (speech, policy.protocol) {
            (Some(Speech::Pulse(_)), _) => Dialect::Pulse,
            (Some(Speech::Opening(_)), _) => Dialect::Undecided,
            (Some(Speech::Lines(_)), _) | (None, Protocol::Raw) => Dialect::Raw,
            (None, Protocol::Pulse | Protocol::Auto) if self.lifetime.has_spoken() => Dialect::Raw,
            (None, Protocol::Pulse | Protocol::Auto) => Dialect::Undecided,
        }
    }
}
